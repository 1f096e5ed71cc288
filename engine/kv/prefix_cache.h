// Which beginnings of texts have their keys and values in blocks of the KV cache: for each owner a tree, in which a
// node is one block and its children are the blocks that went on from there. A block is found by the tokens it holds
// below the very node they followed, so that no two texts can be taken for one another. The last block of a text may be
// partly filled; who goes on from there, or from the middle of a full block, works on a copy.
//
// What leaves when blocks are needed (`make_room`): leaves of the trees, those that are not kept first, then by
// GreedyDual (Young, 1994): what it would take to compute the block again, and how long nobody has asked for it. What
// is kept (a session's text, a prefix that a client has registered) is named by its tokens, and each user may keep so
// many.
//
// Part of KvCache; only the numbers of blocks are handled here, never their memory.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/ids.h"
#include "engine/kv/block_pool.h"

namespace sirocco {

// Whose texts may be found by whom: users, sessions or everybody, as the engine numbers them.
using CacheOwner = std::uint64_t;
inline constexpr CacheOwner kNobody = UINT64_MAX;  // finds nothing, and nothing is kept for it

class PrefixCache {
 public:
  PrefixCache(BlockPool& pool, std::uint32_t block_tokens) : pool_(pool), block_tokens_(block_tokens) {}
  ~PrefixCache();  // the trees are deep: not by recursion
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // The longest beginning of `tokens` that is there: whole blocks, then the beginning of one more.
  struct Match {
    std::vector<BlockId> blocks;
    BlockId partial_block = 0;
    std::uint32_t partial_tokens = 0;  // 0: there is none

    std::uint32_t tokens(std::uint32_t block_tokens) const {
      return static_cast<std::uint32_t>(blocks.size()) * block_tokens + partial_tokens;
    }
  };
  Match find(CacheOwner owner, std::span<const TokenId> tokens) const;
  // Likewise, and its blocks have just been of use.
  Match use(CacheOwner owner, std::span<const TokenId> tokens);

  // Caches the blocks of a text that the caller holds. Where the same tokens are there already, the caller is given
  // that block to hold in place of its own. `blocks` has one for each block_tokens of `tokens`, the last perhaps partly
  // filled. A text is cached up to a kNoBlock whose tokens are not there any more.
  void insert(CacheOwner owner, std::span<const TokenId> tokens, std::span<BlockId> blocks);

  // Drops cached blocks that nobody holds, until so many are free. False if there are not enough. A block behind which
  // a text goes on that somebody holds (he is told the blocks of his window only) is dropped after all others.
  bool make_room(std::uint32_t blocks);

  // What is to stay as long as there is room. Under the id that it has already, it replaces the other.
  struct Kept {
    std::uint32_t uid = 0;
    CacheOwner owner = 0;
    std::vector<TokenId> tokens;
  };
  void keep(std::uint64_t id, Kept kept) { kept_[id] = std::move(kept); }
  void forget(std::uint64_t id) { kept_.erase(id); }
  // Of one user, in tokens; what was kept last counts first.
  void set_kept_limit(std::uint64_t tokens) { kept_limit_ = tokens; }

  std::uint64_t evictions() const { return evictions_; }
  // Another number once anything might be found that was not, or not be found that was.
  std::uint64_t version() const { return version_; }

 private:
  struct Node {
    Node* parent = nullptr;
    BlockId block = 0;                            // not of a root
    std::uint32_t position = 0;                   // of its first token
    std::vector<TokenId> tokens;                  // block_tokens of them; fewer only without children
    std::vector<std::unique_ptr<Node>> children;  // in the order of their tokens; none is the beginning of another
    double value = 0;                             // of GreedyDual
    bool kept = false;
  };

  using Children = std::vector<std::unique_ptr<Node>>;
  static Children::iterator place(Node& parent, std::span<const TokenId> tokens);
  static Node* closest(Node& parent, std::span<const TokenId> tokens, std::uint32_t& agree);
  std::vector<Node*> path(CacheOwner owner, std::span<const TokenId> tokens, std::uint32_t& partial_tokens) const;
  Match match(const std::vector<Node*>& path, std::uint32_t partial_tokens) const;
  void touch(Node& node);
  void replace_block(Node& node, BlockId block, std::span<const TokenId> tokens);
  void evict(Node& leaf);
  void mark_kept();
  std::vector<Node*> all_nodes() const;

  BlockPool& pool_;
  const std::uint32_t block_tokens_;
  std::map<CacheOwner, std::unique_ptr<Node>> roots_;
  std::map<std::uint64_t, Kept> kept_;
  std::uint64_t kept_limit_ = UINT64_MAX;
  double clock_ = 0;  // the value of what left last
  std::uint64_t evictions_ = 0;
  std::uint64_t version_ = 0;
};

}  // namespace sirocco
