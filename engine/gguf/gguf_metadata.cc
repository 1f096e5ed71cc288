#include <limits>
#include <type_traits>

#include "engine/gguf/gguf_header.h"

namespace sirocco {
namespace {

template <class T>
inline constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;
template <class T>
inline constexpr bool kIsNumber = kIsInteger<T> || std::is_floating_point_v<T>;

template <class T>
constexpr std::string_view element_text() {
  if constexpr (std::is_same_v<T, bool>)
    return "boolean";
  else if constexpr (std::is_same_v<T, std::string>)
    return "string";
  else if constexpr (std::is_same_v<T, float>)
    return "f32";
  else if constexpr (std::is_same_v<T, double>)
    return "f64";
  else if constexpr (sizeof(T) == 1)
    return std::is_signed_v<T> ? "i8" : "u8";
  else if constexpr (sizeof(T) == 2)
    return std::is_signed_v<T> ? "i16" : "u16";
  else if constexpr (sizeof(T) == 4)
    return std::is_signed_v<T> ? "i32" : "u32";
  else
    return std::is_signed_v<T> ? "i64" : "u64";
}

tl::unexpected<Error> wrong_type(std::string_view key, const GgufValue& value, std::string_view wanted) {
  const bool is_array = std::holds_alternative<GgufArray>(value);
  return fail(ErrorCode::corrupt, "metadata key {} is {}{}, expected {}", key, is_array ? "an array of " : "of type ",
              type_text(value), wanted);
}

Result<const GgufValue*> require(const GgufMetadata& metadata, std::string_view key) {
  const GgufValue* const value = metadata.find(key);
  if (value == nullptr) return fail(ErrorCode::corrupt, "metadata key {} is missing", key);
  return value;
}

// The scalar or array at `key`, if it is exactly a T.
template <class T>
Result<T> exactly(const GgufMetadata& metadata, std::string_view key, std::string_view wanted) {
  SIROCCO_TRY(const GgufValue* const value, require(metadata, key));
  if (const T* const found = std::get_if<T>(value)) return *found;
  return wrong_type(key, *value, wanted);
}

}  // namespace

std::string_view type_text(const GgufValue& value) {
  return std::visit(
      []<class T>(const T& v) -> std::string_view {
        if constexpr (std::is_same_v<T, GgufArray>) {
          return std::visit([]<class E>(const std::vector<E>&) { return element_text<E>(); }, v);
        } else {
          return element_text<T>();
        }
      },
      value);
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

void GgufMetadata::erase(std::string_view key) {
  if (const auto found = values_.find(key); found != values_.end()) values_.erase(found);
}

Result<std::uint64_t> GgufMetadata::integer(std::string_view key) const {
  SIROCCO_TRY(const GgufValue* const value, require(*this, key));
  return std::visit(
      [&]<class T>(const T& v) -> Result<std::uint64_t> {
        if constexpr (kIsInteger<T>) {
          if constexpr (std::is_signed_v<T>) {
            if (v < 0) return fail(ErrorCode::corrupt, "metadata key {} is {}, expected 0 or more", key, v);
          }
          return static_cast<std::uint64_t>(v);
        } else {
          return wrong_type(key, *value, "an integer");
        }
      },
      *value);
}

Result<double> GgufMetadata::number(std::string_view key) const {
  SIROCCO_TRY(const GgufValue* const value, require(*this, key));
  return std::visit(
      [&]<class T>(const T& v) -> Result<double> {
        if constexpr (kIsNumber<T>)
          return static_cast<double>(v);
        else
          return wrong_type(key, *value, "a number");
      },
      *value);
}

Result<bool> GgufMetadata::boolean(std::string_view key) const {
  return exactly<bool>(*this, key, "a boolean");
}

Result<std::string> GgufMetadata::string(std::string_view key) const {
  return exactly<std::string>(*this, key, "a string");
}

Result<std::vector<std::string>> GgufMetadata::strings(std::string_view key) const {
  SIROCCO_TRY(const GgufValue* const value, require(*this, key));
  if (const auto* const array = std::get_if<GgufArray>(value)) {
    if (const auto* const found = std::get_if<std::vector<std::string>>(array)) return *found;
  }
  return wrong_type(key, *value, "an array of strings");
}

Result<std::vector<std::int64_t>> GgufMetadata::integers(std::string_view key) const {
  SIROCCO_TRY(const GgufValue* const value, require(*this, key));
  const auto* const array = std::get_if<GgufArray>(value);
  if (array == nullptr) return wrong_type(key, *value, "an array of integers");
  return std::visit(
      [&]<class T>(const std::vector<T>& elements) -> Result<std::vector<std::int64_t>> {
        if constexpr (kIsInteger<T>) {
          std::vector<std::int64_t> integers;
          integers.reserve(elements.size());
          for (const T element : elements) {
            if (std::cmp_greater(element, std::numeric_limits<std::int64_t>::max())) {
              return fail(ErrorCode::corrupt, "metadata key {} holds {}, more than 63 bits", key, element);
            }
            integers.push_back(static_cast<std::int64_t>(element));
          }
          return integers;
        } else {
          return wrong_type(key, *value, "an array of integers");
        }
      },
      *array);
}

Result<std::vector<float>> GgufMetadata::numbers(std::string_view key) const {
  SIROCCO_TRY(const GgufValue* const value, require(*this, key));
  const auto* const array = std::get_if<GgufArray>(value);
  if (array == nullptr) return wrong_type(key, *value, "an array of numbers");
  return std::visit(
      [&]<class T>(const std::vector<T>& elements) -> Result<std::vector<float>> {
        if constexpr (kIsNumber<T>) {
          std::vector<float> numbers;
          numbers.reserve(elements.size());
          for (const T element : elements) numbers.push_back(static_cast<float>(element));
          return numbers;
        } else {
          return wrong_type(key, *value, "an array of numbers");
        }
      },
      *array);
}

std::string shape_text(const GgufTensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.shape.begin(), tensor.shape.begin() + tensor.dimensions, ", "));
}

}  // namespace sirocco
