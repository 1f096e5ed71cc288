#include "engine/kv/prefix_cache.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <queue>

namespace sirocco {
namespace {

// Where attention over the tokens before costs a row about as much as all the rest of it.
constexpr double kAttentionParity = 8192;

std::uint32_t common(std::span<const TokenId> a, std::span<const TokenId> b) {
  const std::size_t most = std::min(a.size(), b.size());
  return static_cast<std::uint32_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(most), b.begin()).first - a.begin());
}

}  // namespace

PrefixCache::~PrefixCache() {
  const std::vector<Node*> nodes = all_nodes();
  std::for_each(nodes.rbegin(), nodes.rend(), [](Node* node) { node->children.clear(); });
}

// Where among the children the tokens belong.
PrefixCache::Children::iterator PrefixCache::place(Node& parent, std::span<const TokenId> tokens) {
  return std::lower_bound(parent.children.begin(), parent.children.end(), tokens,
                          [](const std::unique_ptr<Node>& child, std::span<const TokenId> t) {
                            return std::lexicographical_compare(child->tokens.begin(), child->tokens.end(), t.begin(),
                                                                t.end());
                          });
}

// The child with which the tokens agree longest stands beside that place. Null: they agree with none.
PrefixCache::Node* PrefixCache::closest(Node& parent, std::span<const TokenId> tokens, std::uint32_t& agree) {
  Node* best = nullptr;
  agree = 0;
  const auto consider = [&](Node& child) {
    const std::uint32_t here = common(child.tokens, tokens);
    if (here <= agree) return;
    best = &child;
    agree = here;
  };
  const auto after = place(parent, tokens);
  if (after != parent.children.end()) consider(**after);
  if (after != parent.children.begin()) consider(**std::prev(after));
  return best;
}

// The nodes from the root on, without it; of the last one perhaps only partial_tokens agree.
std::vector<PrefixCache::Node*> PrefixCache::path(CacheOwner owner, std::span<const TokenId> tokens,
                                                  std::uint32_t& partial_tokens) const {
  std::vector<Node*> nodes;
  partial_tokens = 0;
  const auto root = roots_.find(owner);
  if (root == roots_.end()) return nodes;
  for (Node* at = root->second.get(); !tokens.empty();) {
    std::uint32_t agree = 0;
    Node* const best = closest(*at, tokens, agree);
    if (best == nullptr) break;
    nodes.push_back(best);
    if (agree < block_tokens_) {
      partial_tokens = agree;
      break;
    }
    tokens = tokens.subspan(agree);
    at = best;
  }
  return nodes;
}

PrefixCache::Match PrefixCache::match(const std::vector<Node*>& path, std::uint32_t partial_tokens) const {
  Match match;
  for (const Node* node : path) match.blocks.push_back(node->block);
  if (partial_tokens > 0) {
    match.partial_tokens = partial_tokens;
    match.partial_block = match.blocks.back();
    match.blocks.pop_back();
  }
  return match;
}

PrefixCache::Match PrefixCache::find(CacheOwner owner, std::span<const TokenId> tokens) const {
  std::uint32_t partial = 0;
  const std::vector<Node*> nodes = path(owner, tokens, partial);
  return match(nodes, partial);
}

PrefixCache::Match PrefixCache::use(CacheOwner owner, std::span<const TokenId> tokens) {
  std::uint32_t partial = 0;
  const std::vector<Node*> nodes = path(owner, tokens, partial);
  for (Node* const node : nodes) touch(*node);
  return match(nodes, partial);
}

void PrefixCache::touch(Node& node) {
  node.value = clock_ + 1 + node.position / kAttentionParity;
}

void PrefixCache::replace_block(Node& node, BlockId block, std::span<const TokenId> tokens) {
  pool_.uncache(node.block);
  pool_.cache(block);
  node.block = block;
  node.tokens.assign(tokens.begin(), tokens.end());
}

void PrefixCache::insert(CacheOwner owner, std::span<const TokenId> tokens, std::span<BlockId> blocks) {
  assert(blocks.size() == (tokens.size() + block_tokens_ - 1) / block_tokens_);
  if (tokens.empty()) return;
  ++version_;
  auto& root = roots_[owner];
  if (!root) root = std::make_unique<Node>();
  Node* at = root.get();
  std::uint32_t position = 0;
  for (BlockId& block : blocks) {
    const auto part = tokens.subspan(position, std::min<std::size_t>(block_tokens_, tokens.size() - position));
    std::uint32_t agree = 0;
    Node* next = closest(*at, part, agree);
    const bool there = next != nullptr && agree == part.size();
    if (block == kNoBlock && !there) return;
    if (next == nullptr || agree < std::min(part.size(), next->tokens.size())) {
      pool_.cache(block);
      next = at->children.insert(place(*at, part), std::make_unique<Node>())->get();
      next->parent = at;
      next->block = block;
      next->position = position;
      next->tokens.assign(part.begin(), part.end());
    } else if (next->tokens.size() < part.size()) {
      replace_block(*next, block, part);
    } else if (part.size() == block_tokens_ && next->block != block && block != kNoBlock) {
      pool_.hold(next->block);
      pool_.release(block);
      block = next->block;
    }
    touch(*next);
    position += static_cast<std::uint32_t>(part.size());
    at = next;
  }
}

void PrefixCache::evict(Node& leaf) {
  assert(leaf.children.empty());
  if (!pool_.held(leaf.block)) ++evictions_;
  pool_.uncache(leaf.block);
  ++version_;
  leaf.parent->children.erase(place(*leaf.parent, leaf.tokens));
}

std::vector<PrefixCache::Node*> PrefixCache::all_nodes() const {
  std::vector<Node*> nodes;
  for (const auto& [owner, root] : roots_)
    for (const auto& child : root->children) nodes.push_back(child.get());
  for (std::size_t i = 0; i < nodes.size(); ++i)
    for (const auto& child : nodes[i]->children) nodes.push_back(child.get());
  return nodes;
}

void PrefixCache::mark_kept() {
  std::map<std::uint32_t, std::uint64_t> tokens_of;  // by uid
  for (auto at = kept_.rbegin(); at != kept_.rend(); ++at) {
    const Kept& kept = at->second;
    std::uint32_t partial = 0;
    for (Node* const node : path(kept.owner, kept.tokens, partial)) {
      if (node->kept) continue;
      std::uint64_t& of_uid = tokens_of[kept.uid];
      if (of_uid + node->tokens.size() > kept_limit_) break;
      of_uid += node->tokens.size();
      node->kept = true;
    }
  }
}

bool PrefixCache::make_room(std::uint32_t blocks) {
  if (pool_.free() >= blocks) return true;
  if (pool_.available() < blocks) return false;
  const std::vector<Node*> nodes = all_nodes();
  for (Node* const node : nodes) node->kept = false;
  mark_kept();
  // Held leaves give no room, but are in the way of what is behind a window.
  const auto later = [&](const Node* a, const Node* b) {
    const bool held = pool_.held(a->block);
    if (held != pool_.held(b->block)) return held;
    return a->kept != b->kept ? a->kept : a->value > b->value;
  };
  std::priority_queue<Node*, std::vector<Node*>, decltype(later)> leaves(later);
  const auto consider = [&](Node* node) {
    if (node->children.empty()) leaves.push(node);
  };
  for (Node* const node : nodes) consider(node);
  while (pool_.free() < blocks && !leaves.empty()) {
    Node* const leaf = leaves.top();
    leaves.pop();
    clock_ = std::max(clock_, leaf->value);
    Node* const parent = leaf->parent;
    evict(*leaf);
    if (parent->parent != nullptr) consider(parent);
  }
  std::erase_if(roots_, [](const auto& root) { return root.second->children.empty(); });
  return pool_.free() >= blocks;
}

}  // namespace sirocco
