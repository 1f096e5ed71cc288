// The sessions of an engine: what was said in each, and which tokens of it the KV cache keeps as long as there is room.
// The keys and values themselves are ordinary beginnings of texts in the prefix cache: where they have left it, they
// are computed again. A session on disk is read when it is first asked for, a block at a time, so that requests go on.
//
// Open, list, fork, rewind, close, save_all and begin_turn may come from any thread, one at a time; end_turn comes from
// the engine thread, with the Engine's mutex held, under which the table stands. Part of the engine; Engine::sessions()
// hands it out.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/result.h"
#include "engine/kv/kv_cache.h"
#include "engine/session/session_store.h"

namespace sirocco {

struct SessionOptions {
  std::filesystem::path folder = {};  // where they are on disk; empty: nowhere
  std::uint64_t disk_bytes_per_uid = 4 * GiB;
  std::uint32_t max_per_uid = 32;         // in memory and on disk
  std::uint64_t kept_tokens_per_uid = 0;  // of the KV cache, as long as there is room; 0: a quarter of it
};

// As others see it.
struct SessionState {
  std::uint32_t uid = 0;
  std::string name;
  std::uint32_t turns = 0;
  std::uint32_t tokens = 0;  // that were computed
  SessionOverflow overflow = SessionOverflow::fail;
  bool busy = false;
  std::chrono::milliseconds idle{0};
  std::uint64_t saved_bytes = 0;  // on disk; 0: it has not been saved
};

// A request of a session, from its beginning to its ending.
struct SessionTurn {
  std::uint64_t session = 0;
  CacheOwner owner = kNobody;
  SessionOverflow overflow = SessionOverflow::fail;
  SessionContent content;           // with the prompt of this turn, once it is appended
  std::uint32_t dropped_turns = 0;  // to make it fit
};

class Sessions {
 public:
  // store: null where there is no folder.
  Sessions(std::mutex& mutex, KvCache& kv, CacheShare share, const SessionOptions& options, SessionStore* store);

  // Makes it, or finds it. Errors: BUSY, the user has as many as are allowed. This, and whatever else finds a session
  // on disk: CORRUPT, UNSUPPORTED, IO, of its file.
  Result<SessionState> open(std::uint32_t uid, const std::string& name, SessionOverflow overflow);
  // Errors of these: NOT_FOUND; BUSY, a request of it is under way.
  Result<SessionState> fork(std::uint32_t uid, const std::string& name, const std::string& to);
  Result<SessionState> rewind(std::uint32_t uid, const std::string& name, std::uint32_t turns);
  // Forgets it; or writes it to disk, where it is found by its name. UNSUPPORTED: there is no folder for that.
  Result<void> close(std::uint32_t uid, const std::string& name, bool save);
  // Writes what is not on disk as it is, with what was computed or without. After Engine::close(); what could not be
  // written, one error each. `synced` as SessionStore::save's.
  std::vector<Error> save_all(
      bool with_computed, const std::function<void()>& synced = [] {});
  // What was found damaged, and repaired, since this was asked last.
  std::vector<Error> warnings() { return std::exchange(warnings_, {}); }

  // Of one user, or of all.
  std::vector<SessionState> list(std::optional<std::uint32_t> uid) const;
  std::size_t size() const { return sessions_.size(); }  // with the Engine's mutex held

  // The session is busy from here on, until end_turn or abandon.
  Result<SessionTurn> begin_turn(std::uint32_t uid, const std::string& name);
  // The turn's content is what the session is from now on, and `computed` what is kept of it in the KV cache.
  void end_turn(SessionTurn&& turn, std::vector<TokenId> computed);
  // The session stays as it was before the turn. The first with the Engine's mutex held, the second without.
  void abandon_locked(std::uint64_t session);
  void abandon(std::uint64_t session);

 private:
  using Clock = std::chrono::steady_clock;
  using Key = std::pair<std::uint32_t, std::string>;  // uid and name
  struct Session {
    std::uint64_t id = 0;
    CacheOwner owner = kNobody;
    SessionOverflow overflow = SessionOverflow::fail;
    SessionContent content;
    std::vector<TokenId> computed;
    bool busy = false;
    bool changed = false;  // since it was written to disk
    Clock::time_point used = Clock::now();
  };

  std::uint64_t bytes_on_disk(const Key& key) const;
  Result<void> load(const Key& key);
  Result<void> save(const Key& key, const Session& session, bool with_computed, const std::function<void()>& synced);
  Result<Session*> find(const Key& key);
  Result<Session*> add(const Key& key);
  std::map<Key, Session>::iterator find(std::uint64_t id);
  void keep(const Key& key, const Session& session);
  SessionState state_of(const Key& key, const Session& session) const;

  std::mutex& mutex_;
  KvCache& kv_;
  const CacheShare share_;
  const SessionOptions options_;
  SessionStore* const store_;
  std::vector<Error> warnings_;
  std::map<Key, Session> sessions_;
  std::uint64_t next_id_ = 1;
};

}  // namespace sirocco
