#include "cli/model_inspect.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "cli/model_support.h"
#include "engine/base/printable.h"

namespace sirocco {
namespace {

constexpr std::array<std::string_view, 8> kGroups = {"embedding", "attention", "dense ffn", "experts",
                                                     "router",    "norms",     "output",    "other"};

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// blk.3.ffn_gate.5.weight: one tensor per expert, as the first Mixtral files had them.
bool is_single_expert(std::string_view name) {
  for (const std::string_view part : {"ffn_gate.", "ffn_up.", "ffn_down."}) {
    const std::size_t at = name.find(part);
    if (at != std::string_view::npos && name[at + part.size()] >= '0' && name[at + part.size()] <= '9') return true;
  }
  return false;
}

// The value of an integer key of this architecture ("block_count" is llama.block_count), if it is there.
std::optional<std::uint64_t> architecture_integer(const GgufMetadata& metadata, std::string_view key) {
  const auto architecture = metadata.string("general.architecture");
  if (!architecture) return std::nullopt;
  const auto value = metadata.integer(fmt::format("{}.{}", *architecture, key));
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<double> architecture_number(const GgufMetadata& metadata, std::string_view key) {
  const auto architecture = metadata.string("general.architecture");
  if (!architecture) return std::nullopt;
  const auto value = metadata.number(fmt::format("{}.{}", *architecture, key));
  return value ? std::optional(*value) : std::nullopt;
}

// What the file says, fit for a terminal.
std::string text_or(const GgufMetadata& metadata, std::string_view key, std::string_view otherwise) {
  return printable(metadata.string(key).value_or(std::string(otherwise)));
}

std::uint64_t vocabulary_size(const GgufMetadata& metadata) {
  const auto tokens = metadata.strings("tokenizer.ggml.tokens");
  return tokens ? tokens->size() : 0;
}

template <class T>
nlohmann::ordered_json json_or_null(const std::optional<T>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

// "46.7 B", "135 M"
std::string count_text(std::uint64_t count) {
  const auto value = static_cast<double>(count);
  if (value >= 1e9) return fmt::format("{:.1f} B", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.1f} M", value / 1e6);
  return fmt::format("{}", count);
}

nlohmann::ordered_json totals_json(std::string_view label, std::string_view name, const TensorTotals& totals) {
  return {{label, name}, {"tensors", totals.tensors}, {"parameters", totals.parameters}, {"bytes", totals.bytes}};
}

double bits_per_weight(const TensorTotals& totals) {
  return totals.parameters == 0 ? 0 : static_cast<double>(totals.bytes) * 8 / static_cast<double>(totals.parameters);
}

std::uint64_t file_bytes(const GgufFile& file) {
  std::uint64_t bytes = 0;
  for (const GgufFile::Part& part : file.parts()) bytes += part.mapping.size();
  return bytes;
}

// Two columns: what it is, what it says.
class Table {
 public:
  void line(std::string_view label, std::string_view text) { text_ += fmt::format("{:<14} {}\n", label, text); }
  void totals(std::string_view label, const TensorTotals& t) {
    line(label, fmt::format("{:>10}  {:>9} parameters in {} tensors, {:.2f} bits each", format_bytes(t.bytes),
                            count_text(t.parameters), t.tensors, bits_per_weight(t)));
  }
  void gap() { text_ += '\n'; }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

std::string dimensions_text(const GgufMetadata& m) {
  std::string text;
  const auto add = [&](std::string_view name, std::string_view key) {
    if (const auto value = architecture_integer(m, key))
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, *value);
  };
  add("layers", "block_count");
  add("width", "embedding_length");
  add("heads", "attention.head_count");
  add("KV heads", "attention.head_count_kv");
  add("feed-forward", "feed_forward_length");
  add("of an expert", "expert_feed_forward_length");
  return text;
}

std::string context_text(const GgufMetadata& m) {
  std::string text = "unknown";
  if (const auto length = architecture_integer(m, "context_length")) text = fmt::format("{} tokens", *length);
  if (const auto window = architecture_integer(m, "attention.sliding_window"))
    text += fmt::format(", window {}", *window);
  if (const auto base = architecture_number(m, "rope.freq_base")) text += fmt::format(", RoPE base {:g}", *base);
  const auto factor = architecture_number(m, "rope.scaling.factor");
  const auto kind = m.string(m.string("general.architecture").value_or("") + ".rope.scaling.type");
  if (kind || factor) text += fmt::format(", scaled {} x {:g}", printable(kind.value_or("linear")), factor.value_or(1));
  return text;
}

}  // namespace

std::string_view tensor_group(std::string_view name) {
  if (contains(name, "norm")) return "norms";
  if (name.starts_with("token_embd")) return "embedding";
  if (name.starts_with("output")) return "output";
  if (contains(name, "ffn_gate_inp") || contains(name, "exp_probs")) return "router";
  if (contains(name, "_exps") || is_single_expert(name)) return "experts";
  if (contains(name, ".ffn_")) return "dense ffn";  // shared experts too: every token computes them
  if (contains(name, ".attn_")) return "attention";
  return "other";
}

ModelSummary::ModelSummary(const GgufFile& file) {
  for (const GgufTensor& tensor : file.tensors()) {
    for (TensorTotals* const totals :
         {&groups[tensor_group(tensor.name)], &types[tensor_type_info(tensor.type)->name], &total}) {
      totals->tensors += 1;
      totals->parameters += tensor.elements();
      totals->bytes += tensor.bytes;
    }
  }
  active_parameters = total.parameters;
  const std::uint64_t experts = architecture_integer(file.metadata(), "expert_count").value_or(0);
  const std::uint64_t used = architecture_integer(file.metadata(), "expert_used_count").value_or(experts);
  if (experts > 0 && used <= experts && groups.contains("experts")) {
    const std::uint64_t all = groups["experts"].parameters;
    active_parameters = total.parameters - all + all / experts * used;
  }
}

nlohmann::ordered_json inspect_json(const std::shared_ptr<const GgufFile>& file_handle) {
  const GgufFile& file = *file_handle;
  const GgufMetadata& m = file.metadata();
  const ModelSummary summary(file);
  const ModelSupport support = model_support(file_handle);
  const std::string architecture = m.string("general.architecture").value_or("");
  nlohmann::ordered_json json = {
      {"path", file.path().string()},
      {"gguf_version", file.version()},
      {"architecture", printable(architecture)},
      {"name", text_or(m, "general.name", "")},
      {"file_bytes", file_bytes(file)},
      {"parameters", {{"total", summary.total.parameters}, {"active", summary.active_parameters}}},
      {"bits_per_weight", bits_per_weight(summary.total)}};
  for (const std::string_view key :
       {"block_count", "embedding_length", "attention.head_count", "attention.head_count_kv", "feed_forward_length",
        "expert_feed_forward_length", "expert_count", "expert_used_count", "context_length",
        "attention.sliding_window"}) {
    std::string name(key.substr(key.rfind('.') + 1));
    json[name] = json_or_null(architecture_integer(m, key));
  }
  const auto scaling = m.string(architecture + ".rope.scaling.type");
  json["rope"] = {
      {"freq_base", json_or_null(architecture_number(m, "rope.freq_base"))},
      {"dimension_count", json_or_null(architecture_integer(m, "rope.dimension_count"))},
      {"scaling_type", scaling ? nlohmann::ordered_json(printable(*scaling)) : nlohmann::ordered_json(nullptr)},
      {"scaling_factor", json_or_null(architecture_number(m, "rope.scaling.factor"))}};
  json["tokenizer"] = {{"model", text_or(m, "tokenizer.ggml.model", "")},
                       {"pre", text_or(m, "tokenizer.ggml.pre", "")},
                       {"tokens", vocabulary_size(m)}};
  json["chat_format"] = support.chat_format;
  json["chat_problem"] = support.chat_problem;
  json["chat_template"] = text_or(m, "tokenizer.chat_template", "");
  json["can_be_served"] = support.problems.empty();
  json["problems"] = support.problems;
  json["groups"] = nlohmann::ordered_json::array();
  for (const auto& [name, totals] : summary.groups) json["groups"].push_back(totals_json("group", name, totals));
  json["types"] = nlohmann::ordered_json::array();
  for (const auto& [name, totals] : summary.types) json["types"].push_back(totals_json("type", name, totals));
  json["parts"] = nlohmann::ordered_json::array();
  for (const GgufFile::Part& part : file.parts()) {
    json["parts"].push_back({{"path", part.path.string()}, {"bytes", part.mapping.size()}});
  }
  return json;
}

std::string inspect_text(const std::shared_ptr<const GgufFile>& file_handle) {
  const GgufFile& file = *file_handle;
  const GgufMetadata& m = file.metadata();
  const ModelSummary summary(file);
  const ModelSupport support = model_support(file_handle);
  Table table;
  table.line("name", text_or(m, "general.name", "(none)"));
  table.line("architecture", text_or(m, "general.architecture", "(none)"));
  table.line("dimensions", dimensions_text(m));
  table.line("parameters", fmt::format("{}, {} active per token", count_text(summary.total.parameters),
                                       count_text(summary.active_parameters)));
  if (const auto experts = architecture_integer(m, "expert_count"); experts.value_or(0) > 0) {
    table.line("experts", fmt::format("{}, {} used per token", *experts,
                                      architecture_integer(m, "expert_used_count").value_or(0)));
  }
  table.line("context", context_text(m));
  const std::string pre = text_or(m, "tokenizer.ggml.pre", "");
  table.line("tokenizer", fmt::format("{}{}{}, {} tokens", text_or(m, "tokenizer.ggml.model", "none"),
                                      pre.empty() ? "" : "/", pre, vocabulary_size(m)));
  table.line("chat format", support.chat_format.empty() ? "none: " + support.chat_problem : support.chat_format);
  if (support.problems.empty()) table.line("can be served", "yes");
  for (const std::string& problem : support.problems) table.line("can be served", "no: " + problem);
  table.line("file", fmt::format("{} in {} part{}, GGUF version {}", format_bytes(file_bytes(file)),
                                 file.parts().size(), file.parts().size() == 1 ? "" : "s", file.version()));
  if (file.parts().size() > 1) {
    for (const GgufFile::Part& part : file.parts()) {
      table.line("", fmt::format("{:>10}  {}", format_bytes(part.mapping.size()), printable(part.path.string(), 4096)));
    }
  }
  table.gap();
  for (const std::string_view group : kGroups) {
    if (const auto found = summary.groups.find(group); found != summary.groups.end())
      table.totals(group, found->second);
  }
  table.gap();
  for (const auto& [name, totals] : summary.types) table.totals(name, totals);
  return table.take();
}

}  // namespace sirocco
