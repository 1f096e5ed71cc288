#include "engine/gguf/gguf_header.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <set>
#include <type_traits>

#include "engine/base/printable.h"

namespace sirocco {
namespace {

// The smallest an entry can be: a count that promises more entries than the bytes left can hold is a lie.
constexpr std::uint64_t kSmallestKey = 8 + 1 + 4 + 1;             // key length, key, type, value
constexpr std::uint64_t kSmallestTensor = 8 + 1 + 4 + 8 + 4 + 8;  // name length, name, dimensions, shape, type, offset
constexpr std::uint32_t kArrayType = 9;

// Reads forward through the bytes and never past their end.
class Cursor {
 public:
  explicit Cursor(Bytes bytes) : bytes_(bytes) {}

  std::uint64_t position() const { return position_; }
  std::uint64_t remaining() const { return bytes_.size() - position_; }

  Result<Bytes> take(std::uint64_t count) {
    if (count > remaining()) {
      return fail(ErrorCode::corrupt, "truncated: {} bytes wanted at byte {}, {} are there", count, position_,
                  remaining());
    }
    const Bytes taken = bytes_.subspan(position_, count);
    position_ += count;
    return taken;
  }

  template <class T>
  Result<T> read() {
    SIROCCO_TRY(const Bytes bytes, take(sizeof(T)));
    T value;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }

  Result<std::string_view> text(std::uint64_t limit = GgufLimits::header_bytes) {
    SIROCCO_TRY(const std::uint64_t length, read<std::uint64_t>());
    if (length > limit) {
      return fail(ErrorCode::corrupt, "a text of {} bytes at byte {}, at most {} are allowed", length, position_,
                  limit);
    }
    SIROCCO_TRY(const Bytes bytes, take(length));
    SIROCCO_CHECK(charge(length, 1));
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  // Called before `count` elements of `size` bytes are allocated. `count` is no larger than the file.
  Result<void> charge(std::uint64_t count, std::uint64_t size) {
    decoded_ += count * size;
    if (decoded_ <= GgufLimits::decoded_bytes) return {};
    return fail(ErrorCode::corrupt, "the metadata would take more than {} of memory, far more than any known model's",
                format_bytes(GgufLimits::decoded_bytes));
  }

 private:
  Bytes bytes_;
  std::uint64_t position_ = 0;
  std::uint64_t decoded_ = 0;
};

Result<bool> read_bool(Cursor& in) {
  SIROCCO_TRY(const std::uint8_t value, in.read<std::uint8_t>());
  if (value > 1) return fail(ErrorCode::corrupt, "a boolean of value {}, expected 0 or 1", value);
  return value == 1;
}

// One scalar or array element.
template <class T>
Result<T> read_one(Cursor& in) {
  if constexpr (std::is_same_v<T, bool>) {
    return read_bool(in);
  } else if constexpr (std::is_same_v<T, std::string>) {
    SIROCCO_TRY(const std::string_view text, in.text());
    return std::string(text);
  } else {
    return in.read<T>();
  }
}

template <class T>
Result<std::vector<T>> read_elements(Cursor& in, std::uint64_t count) {
  constexpr bool kText = std::is_same_v<T, std::string>;
  constexpr std::uint64_t kSmallest = kText ? 8 : sizeof(T);
  if (count > in.remaining() / kSmallest) {
    return fail(ErrorCode::corrupt, "truncated: an array of {} elements at byte {}, {} bytes are left", count,
                in.position(), in.remaining());
  }
  SIROCCO_CHECK(in.charge(count, sizeof(T)));
  std::vector<T> elements;
  if constexpr (kText || std::is_same_v<T, bool>) {
    elements.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      SIROCCO_TRY(auto element, read_one<T>(in));
      elements.push_back(std::move(element));
    }
  } else if (count > 0) {
    elements.resize(count);
    SIROCCO_TRY(const Bytes bytes, in.take(count * sizeof(T)));
    std::memcpy(elements.data(), bytes.data(), bytes.size());
  }
  return elements;
}

// Calls f.operator()<T>() for the C++ type of a metadata type number of the format; R is a Result.
template <class R, class F>
R with_type(std::uint32_t type, F&& f) {
  switch (type) {
    case 0:
      return f.template operator()<std::uint8_t>();
    case 1:
      return f.template operator()<std::int8_t>();
    case 2:
      return f.template operator()<std::uint16_t>();
    case 3:
      return f.template operator()<std::int16_t>();
    case 4:
      return f.template operator()<std::uint32_t>();
    case 5:
      return f.template operator()<std::int32_t>();
    case 6:
      return f.template operator()<float>();
    case 7:
      return f.template operator()<bool>();
    case 8:
      return f.template operator()<std::string>();
    case 10:
      return f.template operator()<std::uint64_t>();
    case 11:
      return f.template operator()<std::int64_t>();
    case 12:
      return f.template operator()<double>();
    default:
      return fail(ErrorCode::corrupt, "unknown metadata type {}", type);
  }
}

Result<GgufValue> read_array(Cursor& in) {
  SIROCCO_TRY(const std::uint32_t type, in.read<std::uint32_t>());
  SIROCCO_TRY(const std::uint64_t count, in.read<std::uint64_t>());
  if (type == kArrayType) return fail(ErrorCode::unsupported, "an array of arrays, which no known model needs");
  return with_type<Result<GgufValue>>(type, [&]<class T>() -> Result<GgufValue> {
    SIROCCO_TRY(auto elements, read_elements<T>(in, count));
    return GgufValue(GgufArray(std::move(elements)));
  });
}

Result<GgufValue> read_value(Cursor& in) {
  SIROCCO_TRY(const std::uint32_t type, in.read<std::uint32_t>());
  if (type == kArrayType) return read_array(in);
  return with_type<Result<GgufValue>>(type, [&]<class T>() -> Result<GgufValue> {
    SIROCCO_TRY(auto value, read_one<T>(in));
    return GgufValue(std::move(value));
  });
}

// A key or a tensor's name: short, not empty, printable.
Result<std::string> read_name(Cursor& in, std::uint64_t limit) {
  SIROCCO_TRY(const std::string_view name, in.text(limit));
  if (name.empty()) return fail(ErrorCode::corrupt, "an empty name at byte {}", in.position());
  if (!is_printable(name))
    return fail(ErrorCode::corrupt, "a name with control characters or broken UTF-8 before byte {}: \"{}\"",
                in.position(), printable(name));
  return std::string(name);
}

Result<void> read_metadata(Cursor& in, std::uint64_t count, GgufMetadata& metadata) {
  for (std::uint64_t i = 0; i < count; ++i) {
    auto key = read_name(in, GgufLimits::key_bytes);
    if (!key) return fail(key.error().at(fmt::format("metadata entry {} of {}", i, count)));
    if (metadata.contains(*key)) return fail(ErrorCode::corrupt, "metadata key {} appears twice", *key);
    auto value = read_value(in);
    if (!value) return fail(value.error().at(fmt::format("metadata key {}", *key)));
    metadata.set(std::move(*key), std::move(*value));
  }
  return {};
}

// Shape and type as they stand in the table; sets tensor.bytes.
Result<void> read_shape_and_type(Cursor& in, GgufTensor& tensor) {
  SIROCCO_TRY(tensor.dimensions, in.read<std::uint32_t>());
  if (tensor.dimensions < 1 || tensor.dimensions > tensor.shape.size()) {
    return fail(ErrorCode::corrupt, "{} dimensions, expected 1 to 4", tensor.dimensions);
  }
  std::uint64_t elements = 1;
  for (std::uint32_t i = 0; i < tensor.dimensions; ++i) {
    SIROCCO_TRY(tensor.shape[i], in.read<std::uint64_t>());
    if (tensor.shape[i] == 0) return fail(ErrorCode::corrupt, "dimension {} is 0", i);
    if (__builtin_mul_overflow(elements, tensor.shape[i], &elements)) {
      return fail(ErrorCode::corrupt, "shape {} has more elements than 64 bits count", shape_text(tensor));
    }
  }
  SIROCCO_TRY(const std::uint32_t number, in.read<std::uint32_t>());
  const TensorTypeInfo* const info = tensor_type_info(number);
  if (info == nullptr) {
    return fail(ErrorCode::unsupported,
                "type number {} is not a known tensor type; convert the model to a standard one", number);
  }
  if (tensor.shape[0] % info->block_size != 0) {
    return fail(ErrorCode::corrupt, "shape {}: rows of {} are no whole number of {} blocks of {}", shape_text(tensor),
                tensor.shape[0], info->name, info->block_size);
  }
  tensor.type = info->type;
  if (__builtin_mul_overflow(elements / info->block_size, std::uint64_t{info->block_bytes}, &tensor.bytes)) {
    return fail(ErrorCode::corrupt, "shape {} has more bytes than 64 bits count", shape_text(tensor));
  }
  return {};
}

Result<void> read_tensors(Cursor& in, std::uint64_t count, std::vector<GgufTensor>& tensors) {
  tensors.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    GgufTensor tensor;
    auto name = read_name(in, GgufLimits::name_bytes);
    if (!name) return fail(name.error().at(fmt::format("tensor {} of {}", i, count)));
    tensor.name = std::move(*name);
    if (auto read = read_shape_and_type(in, tensor); !read) return fail(read.error().at("tensor " + tensor.name));
    const auto offset = in.read<std::uint64_t>();
    if (!offset) return fail(offset.error().at("tensor " + tensor.name));
    tensor.offset = *offset;
    tensors.push_back(std::move(tensor));
  }
  return {};
}

Result<void> check_unique_names(const std::vector<GgufTensor>& tensors) {
  std::set<std::string_view> seen;
  for (const GgufTensor& tensor : tensors) {
    if (!seen.insert(tensor.name).second) return fail(ErrorCode::corrupt, "tensor {} appears twice", tensor.name);
  }
  return {};
}

// Turns offsets within the data into offsets within the file and checks that every tensor lies inside it.
Result<void> place_tensors(GgufHeader& header, std::uint64_t file_size) {
  for (GgufTensor& tensor : header.tensors) {
    if (tensor.offset % header.alignment != 0) {
      return fail(ErrorCode::corrupt, "tensor {}: offset {} is no multiple of the alignment {}", tensor.name,
                  tensor.offset, header.alignment);
    }
    std::uint64_t end = 0;
    if (__builtin_add_overflow(tensor.offset, header.data_offset, &tensor.offset) ||
        __builtin_add_overflow(tensor.offset, tensor.bytes, &end) || end > file_size) {
      return fail(ErrorCode::corrupt,
                  "tensor {}: its {} bytes at byte {} end after the file, which has {}: truncated; fetch it again",
                  tensor.name, tensor.bytes, tensor.offset, file_size);
    }
  }
  std::vector<const GgufTensor*> order(header.tensors.size());
  std::transform(header.tensors.begin(), header.tensors.end(), order.begin(), [](const GgufTensor& t) { return &t; });
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (order[i]->offset < order[i - 1]->offset + order[i - 1]->bytes) {
      return fail(ErrorCode::corrupt, "tensor {} overlaps tensor {}", order[i]->name, order[i - 1]->name);
    }
  }
  return {};
}

Result<std::uint32_t> read_version(Cursor& in) {
  const auto magic = in.read<std::array<char, 4>>();
  if (!magic || std::string_view(magic->data(), magic->size()) != "GGUF") {
    return fail(ErrorCode::corrupt, "not a GGUF file (it does not begin with \"GGUF\")");
  }
  SIROCCO_TRY(const std::uint32_t version, in.read<std::uint32_t>());
  if (version == 2 || version == 3) return version;
  if ((version & 0xFFFFU) == 0 && version != 0) {
    return fail(ErrorCode::unsupported,
                "a big-endian GGUF file; convert it with gguf_convert_endian.py of the gguf package");
  }
  return fail(ErrorCode::unsupported, "GGUF version {}; versions 2 and 3 are read, convert the model again", version);
}

Result<void> check_count(std::string_view what, std::uint64_t count, std::uint64_t limit, std::uint64_t smallest,
                         const Cursor& in) {
  if (count > limit) return fail(ErrorCode::corrupt, "{} {}, at most {} are allowed", count, what, limit);
  if (count > in.remaining() / smallest) {
    return fail(ErrorCode::corrupt, "{} {} do not fit in the {} bytes that follow", count, what, in.remaining());
  }
  return {};
}

}  // namespace

Result<std::uint64_t> gguf_alignment(const GgufMetadata& metadata) {
  if (!metadata.contains("general.alignment")) return 32;  // the format's default
  SIROCCO_TRY(const std::uint64_t alignment, metadata.integer("general.alignment"));
  if (alignment < GgufLimits::alignment_min || alignment > GgufLimits::alignment_max ||
      (alignment & (alignment - 1)) != 0) {
    return fail(ErrorCode::corrupt, "general.alignment is {}, expected a power of two from {} to {}", alignment,
                GgufLimits::alignment_min, GgufLimits::alignment_max);
  }
  return alignment;
}

Result<GgufHeader> parse_gguf_header(Bytes file) {
  Cursor in(file.first(std::min<std::uint64_t>(file.size(), GgufLimits::header_bytes)));
  GgufHeader header;
  SIROCCO_TRY(header.version, read_version(in));
  SIROCCO_TRY(const std::uint64_t tensor_count, in.read<std::uint64_t>());
  SIROCCO_TRY(const std::uint64_t key_count, in.read<std::uint64_t>());
  SIROCCO_CHECK(check_count("metadata keys", key_count, GgufLimits::keys, kSmallestKey, in));
  SIROCCO_CHECK(check_count("tensors", tensor_count, GgufLimits::tensors, kSmallestTensor, in));

  SIROCCO_CHECK(read_metadata(in, key_count, header.metadata));
  SIROCCO_TRY(header.alignment, gguf_alignment(header.metadata));
  SIROCCO_CHECK(check_count("tensors", tensor_count, GgufLimits::tensors, kSmallestTensor, in));
  SIROCCO_CHECK(read_tensors(in, tensor_count, header.tensors));
  SIROCCO_CHECK(check_unique_names(header.tensors));

  header.data_offset = (in.position() + header.alignment - 1) / header.alignment * header.alignment;
  SIROCCO_CHECK(place_tensors(header, file.size()));
  return header;
}

}  // namespace sirocco
