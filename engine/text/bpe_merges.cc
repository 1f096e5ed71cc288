#include "engine/text/bpe_merges.h"

#include <algorithm>

#include "engine/base/printable.h"

namespace sirocco {
namespace {

// Splitting a token in two is tried at every byte, so hostile lengths are refused. Tekken's longest has 128 bytes.
constexpr std::size_t kMaxTokenBytes = 1024;

bool comes_later(const BpeMerges::Candidate& a, const BpeMerges::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
}

}  // namespace

Result<BpeMerges> BpeMerges::from_list(std::span<const std::string> merges, const TokenIndex& by_text) {
  BpeMerges out;
  out.merges_.reserve(merges.size());
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string& line = merges[rank];
    const std::size_t space = line.find(' ', 1);
    if (space == std::string::npos) {
      return fail(ErrorCode::corrupt, "tokenizer.ggml.merges[{}]: \"{}\" is not two tokens and a space", rank,
                  printable(line));
    }
    const std::string_view left = std::string_view(line).substr(0, space);
    const std::string_view right = std::string_view(line).substr(space + 1);
    const std::string together = std::string(left).append(right);
    for (const std::string_view token : {left, right, std::string_view(together)}) {
      if (by_text.contains(token)) continue;
      return fail(ErrorCode::corrupt, "tokenizer.ggml.merges[{}]: \"{}\": the vocabulary has no token \"{}\"", rank,
                  printable(line), printable(token));
    }
    out.merges_.insert_or_assign(key(by_text.at(left), by_text.at(right)),
                                 Merge{static_cast<std::uint32_t>(rank), by_text.at(together)});
  }
  return out;
}

Result<BpeMerges> BpeMerges::from_ids(std::span<const std::string> bytes, const TokenIndex& by_bytes) {
  BpeMerges out;
  for (std::size_t id = 0; id < bytes.size(); ++id) {
    const std::string_view token = bytes[id];
    if (token.size() > kMaxTokenBytes) {
      return fail(ErrorCode::corrupt, "tokenizer.ggml.tokens[{}]: {} bytes long, at most {} are possible", id,
                  token.size(), kMaxTokenBytes);
    }
    const auto result = by_bytes.find(token);
    if (result == by_bytes.end() || result->second != static_cast<TokenId>(id)) continue;
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = by_bytes.find(token.substr(0, cut));
      if (left == by_bytes.end()) continue;
      const auto right = by_bytes.find(token.substr(cut));
      if (right == by_bytes.end()) continue;
      out.merges_.emplace(key(left->second, right->second),
                          Merge{static_cast<std::uint32_t>(id), static_cast<TokenId>(id)});
    }
  }
  return out;
}

// Puts the merge of symbol `left` with the one after it on the heap, if there is one.
void BpeMerges::consider(Scratch& scratch, std::int32_t left) const {
  const Symbol& first = scratch.symbols[static_cast<std::size_t>(left)];
  if (first.next < 0) return;
  const Symbol& second = scratch.symbols[static_cast<std::size_t>(first.next)];
  const auto merge = merges_.find(key(first.id, second.id));
  if (merge == merges_.end()) return;
  scratch.heap.push_back({.rank = merge->second.rank,
                          .left = left,
                          .right = first.next,
                          .left_id = first.id,
                          .right_id = second.id,
                          .result = merge->second.result});
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), comes_later);
}

void BpeMerges::apply(std::vector<TokenId>& ids, Scratch& scratch) const {
  auto& [symbols, heap] = scratch;
  const auto count = static_cast<std::int32_t>(ids.size());
  symbols.clear();
  heap.clear();
  for (std::int32_t i = 0; i < count; ++i) {
    symbols.push_back({.id = ids[static_cast<std::size_t>(i)], .previous = i - 1, .next = i + 1 < count ? i + 1 : -1});
  }
  for (std::int32_t i = 0; i + 1 < count; ++i) consider(scratch, i);

  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), comes_later);
    const Candidate top = heap.back();
    heap.pop_back();
    Symbol& left = symbols[static_cast<std::size_t>(top.left)];
    Symbol& right = symbols[static_cast<std::size_t>(top.right)];
    const bool stale = left.merged_away || right.merged_away || left.next != top.right || left.id != top.left_id ||
                       right.id != top.right_id;
    if (stale) continue;

    left.id = top.result;
    left.next = right.next;
    right.merged_away = true;
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = top.left;
    if (left.previous >= 0) consider(scratch, left.previous);
    consider(scratch, top.left);
  }

  ids.clear();
  for (const Symbol& symbol : symbols) {
    if (!symbol.merged_away) ids.push_back(symbol.id);
  }
}

}  // namespace sirocco
