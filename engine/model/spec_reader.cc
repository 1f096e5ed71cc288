#include "engine/model/spec_reader.h"

#include <algorithm>

namespace sirocco {
namespace {

constexpr std::uint64_t kMaxLayers = 1024;  // far above any model known

template <class T>
Result<T> in_range(const std::string& key, T value, T low, T high) {
  if (value >= low && value <= high) return value;  // false of NaN
  return fail(ErrorCode::corrupt, "{} is {}, expected {} to {}", key, value, low, high);
}

}  // namespace

Result<SpecReader> SpecReader::create(const GgufMetadata& metadata) {
  SIROCCO_TRY(std::string architecture, metadata.string("general.architecture"));
  SpecReader reader(metadata, std::move(architecture));
  const std::string key = reader.full("block_count");
  SIROCCO_TRY(const std::uint64_t layers, metadata.integer(key));
  SIROCCO_TRY(const std::uint64_t checked, in_range<std::uint64_t>(key, layers, 1, kMaxLayers));
  reader.layers_ = static_cast<std::uint32_t>(checked);
  return reader;
}

Result<std::uint32_t> SpecReader::integer(std::string_view key, std::uint64_t low, std::uint64_t high) const {
  const std::string full_key = full(key);
  SIROCCO_TRY(const std::uint64_t value, one_integer(full_key));
  SIROCCO_TRY(const std::uint64_t checked, in_range(full_key, value, low, high));
  return static_cast<std::uint32_t>(checked);
}

Result<float> SpecReader::number(std::string_view key, double low, double high) const {
  const std::string full_key = full(key);
  SIROCCO_TRY(const double value, metadata_->number(full_key));
  SIROCCO_TRY(const double checked, in_range(full_key, value, low, high));
  return static_cast<float>(checked);
}

Result<double> SpecReader::setting(std::string_view key) const {
  const std::string full_key = full(key);
  const GgufValue* const value = metadata_->find(full_key);
  if (value != nullptr && std::holds_alternative<bool>(*value)) return std::get<bool>(*value) ? 1.0 : 0.0;
  if (value == nullptr || !std::holds_alternative<GgufArray>(*value)) return metadata_->number(full_key);
  SIROCCO_TRY(const std::vector<float> values, metadata_->numbers(full_key));
  SIROCCO_TRY(const float common, common_value(full_key, values));
  return double{common};
}

Result<std::uint64_t> SpecReader::one_integer(const std::string& full_key) const {
  const GgufValue* const value = metadata_->find(full_key);
  if (value == nullptr || !std::holds_alternative<GgufArray>(*value)) return metadata_->integer(full_key);
  SIROCCO_TRY(const std::vector<std::int64_t> values, metadata_->integers(full_key));
  SIROCCO_TRY(const std::int64_t common, common_value(full_key, values));
  if (common < 0) return fail(ErrorCode::corrupt, "{} is {}, expected 0 or more", full_key, common);
  return static_cast<std::uint64_t>(common);
}

template <class T>
Result<T> SpecReader::common_value(const std::string& full_key, const std::vector<T>& values) const {
  if (values.size() != layers_)
    return fail(ErrorCode::corrupt, "{} has {} values, expected one for each of the {} layers", full_key, values.size(),
                layers_);
  if (std::any_of(values.begin(), values.end(), [&](T v) { return v != values.front(); }))
    return fail(ErrorCode::unsupported, "{} differs from layer to layer, which this build does not compute", full_key);
  return values.front();
}

}  // namespace sirocco
