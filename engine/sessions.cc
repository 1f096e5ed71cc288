#include "engine/sessions.h"

#include <algorithm>

namespace sirocco {
namespace {

constexpr CacheOwner kOwnOwner = CacheOwner{1} << 40;  // plus the session's id: where requests do not share

tl::unexpected<Error> busy(const std::string& name) {
  return fail(ErrorCode::busy, "session {}: a request of it is under way; wait for its ending", name);
}

}  // namespace

Sessions::Sessions(std::mutex& mutex, KvCache& kv, CacheShare share, const SessionOptions& options, SessionStore* store)
    : mutex_(mutex), kv_(kv), share_(share), options_(options), store_(store) {
  const std::uint64_t all = std::uint64_t{kv.counters().blocks} * kv.block_tokens();
  kv_.prefixes().set_kept_limit(options.kept_tokens_per_uid != 0 ? options.kept_tokens_per_uid : all / 4);
}

// --- the table, with the mutex held

Result<Sessions::Session*> Sessions::find(const Key& key) {
  const auto at = sessions_.find(key);
  if (at == sessions_.end())
    return fail(ErrorCode::not_found, "session {}: there is none; it is to be opened first", key.second);
  if (at->second.busy) return busy(key.second);
  at->second.used = Clock::now();
  return &at->second;
}

Result<Sessions::Session*> Sessions::add(const Key& key) {
  const auto others = [&](const Key& other) { return other.first == key.first && other != key; };
  auto there = std::count_if(sessions_.begin(), sessions_.end(), [&](const auto& s) { return others(s.first); });
  if (store_ != nullptr)
    there += std::count_if(store_->saved().begin(), store_->saved().end(),
                           [&](const auto& s) { return others(s.first) && !sessions_.contains(s.first); });
  if (static_cast<std::size_t>(there) >= options_.max_per_uid)
    return fail(ErrorCode::busy,
                "session {}: this user has {} others, as many as are allowed (sessions.max_per_user); close one",
                key.second, there);
  Session& session = sessions_[key];
  session.id = next_id_++;
  session.owner = share_ == CacheShare::off ? kOwnOwner + session.id : cache_owner(share_, key.first);
  return &session;
}

std::map<Sessions::Key, Sessions::Session>::iterator Sessions::find(std::uint64_t id) {
  return std::find_if(sessions_.begin(), sessions_.end(), [&](const auto& session) { return session.second.id == id; });
}

void Sessions::keep(const Key& key, const Session& session) {
  kv_.prefixes().keep(session.id, {.uid = key.first, .owner = session.owner, .tokens = session.computed});
}

SessionState Sessions::state_of(const Key& key, const Session& session) const {
  return {.uid = key.first,
          .name = key.second,
          .turns = session.content.turns(),
          .tokens = static_cast<std::uint32_t>(session.computed.size()),
          .overflow = session.overflow,
          .busy = session.busy,
          .idle = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - session.used),
          .saved_bytes = bytes_on_disk(key)};
}

// --- the disk

std::uint64_t Sessions::bytes_on_disk(const Key& key) const {
  return store_ == nullptr ? 0 : store_->bytes(key);
}

Result<void> Sessions::load(const Key& key) {
  {
    const std::lock_guard lock(mutex_);
    if (sessions_.contains(key) || bytes_on_disk(key) == 0) return {};
  }
  Session* session = nullptr;
  const auto on_head = [&](SessionHead&& head) -> Result<void> {
    const std::lock_guard lock(mutex_);
    SIROCCO_TRY(session, add(key));
    session->overflow = head.overflow;
    session->content = std::move(head.content);
    session->computed = std::move(head.computed);
    keep(key, *session);
    return {};
  };
  const auto on_block = [&](std::uint32_t index, Bytes block) {
    const std::lock_guard lock(mutex_);
    const std::span<const TokenId> computed = session->computed;
    const std::size_t end = std::min(computed.size(), std::size_t{index + 1} * kv_.block_tokens());
    return kv_.import_block(session->owner, computed.first(end), block);
  };
  SIROCCO_TRY(const std::optional<Error> damage, store_->load(key, on_head, on_block));
  if (damage) warnings_.push_back(*damage);
  return {};
}

Result<void> Sessions::save(const Key& key, const Session& session, bool with_computed,
                            const std::function<void()>& synced) {
  SessionHead head;
  head.uid = key.first;
  head.name = key.second;
  head.overflow = session.overflow;
  head.content = session.content;
  head.computed = session.computed;
  const auto read_block = [&](std::uint32_t index, std::span<std::byte> block) {
    const std::lock_guard lock(mutex_);
    return with_computed && kv_.export_block(session.owner, session.computed, index, block);
  };
  return store_->save(std::move(head), read_block, synced);
}

std::vector<Error> Sessions::save_all(bool with_computed, const std::function<void()>& synced) {
  std::vector<Error> errors;
  if (store_ == nullptr) return errors;
  for (auto& [key, session] : sessions_) {
    if (!session.changed) continue;
    if (const auto saved = save(key, session, with_computed, synced); !saved) errors.push_back(saved.error());
    session.changed = false;
  }
  return errors;
}

// --- what clients ask for

Result<SessionState> Sessions::open(std::uint32_t uid, const std::string& name, SessionOverflow overflow) {
  const Key key(uid, name);
  SIROCCO_CHECK(load(key));
  const std::lock_guard lock(mutex_);
  if (!sessions_.contains(key)) SIROCCO_CHECK(add(key));
  SIROCCO_TRY(Session * session, find(key));
  session->changed |= session->overflow != overflow;
  session->overflow = overflow;
  return state_of(key, *session);
}

Result<SessionState> Sessions::fork(std::uint32_t uid, const std::string& name, const std::string& to) {
  const Key key(uid, to);
  SIROCCO_CHECK(load({uid, name}));
  const std::lock_guard lock(mutex_);
  SIROCCO_TRY(const Session* from, find({uid, name}));
  if (sessions_.contains(key) || bytes_on_disk(key) != 0)
    return fail(ErrorCode::invalid_argument, "session {}: it is there already", to);
  SIROCCO_TRY(Session * session, add(key));
  session->owner = from->owner;  // which finds what was computed for the other
  session->overflow = from->overflow;
  session->content = from->content;
  session->computed = from->computed;
  session->changed = true;
  keep(key, *session);
  return state_of(key, *session);
}

Result<SessionState> Sessions::rewind(std::uint32_t uid, const std::string& name, std::uint32_t turns) {
  const Key key(uid, name);
  SIROCCO_CHECK(load(key));
  const std::lock_guard lock(mutex_);
  SIROCCO_TRY(Session * session, find(key));
  if (const std::uint32_t there = session->content.turns(); turns > there)
    return fail(ErrorCode::invalid_argument, "session {}: it has {} turns, {} cannot be forgotten", name, there, turns);
  session->content.rewind(turns);
  session->changed |= turns > 0;
  return state_of(key, *session);
}

Result<void> Sessions::close(std::uint32_t uid, const std::string& name, bool save) {
  const Key key(uid, name);
  if (save && store_ == nullptr)
    return fail(ErrorCode::unsupported, "session {}: there is no folder to save it in (sessions.directory)", name);
  const bool on_disk = bytes_on_disk(key) != 0;
  {
    const std::lock_guard lock(mutex_);
    if (on_disk && !sessions_.contains(key)) {  // it need not be read for that, and perhaps cannot be
      if (!save) store_->remove(key);
      return {};
    }
    SIROCCO_TRY(Session * session, find(key));
    session->busy = true;
  }
  Session& session = sessions_.at(key);
  const auto saved = save && session.changed ? this->save(key, session, true, [] {}) : Result<void>();
  const std::lock_guard lock(mutex_);
  session.busy = false;
  SIROCCO_CHECK(saved);
  if (!save && on_disk) store_->remove(key);
  kv_.prefixes().forget(session.id);
  sessions_.erase(key);
  return {};
}

// Those in memory, then those that are on disk only.
std::vector<SessionState> Sessions::list(std::optional<std::uint32_t> uid) const {
  const std::lock_guard lock(mutex_);
  std::vector<SessionState> all;
  for (const auto& [key, session] : sessions_)
    if (!uid || key.first == *uid) all.push_back(state_of(key, session));
  if (store_ == nullptr) return all;
  for (const auto& [key, bytes] : store_->saved()) {
    if ((uid && key.first != *uid) || sessions_.contains(key)) continue;
    SessionState& state = all.emplace_back();
    state.uid = key.first;
    state.name = key.second;
    state.saved_bytes = bytes;
  }
  return all;
}

// --- requests

Result<SessionTurn> Sessions::begin_turn(std::uint32_t uid, const std::string& name) {
  SIROCCO_CHECK(load({uid, name}));
  const std::lock_guard lock(mutex_);
  SIROCCO_TRY(Session * session, find({uid, name}));
  session->busy = true;
  return SessionTurn{
      .session = session->id, .owner = session->owner, .overflow = session->overflow, .content = session->content};
}

void Sessions::end_turn(SessionTurn&& turn, std::vector<TokenId> computed) {
  const auto at = find(turn.session);
  Session& session = at->second;
  session.content = std::move(turn.content);
  session.computed = std::move(computed);
  session.busy = false;
  session.changed = true;
  session.used = Clock::now();
  keep(at->first, session);
}

void Sessions::abandon_locked(std::uint64_t session) {
  find(session)->second.busy = false;
}

void Sessions::abandon(std::uint64_t session) {
  const std::lock_guard lock(mutex_);
  abandon_locked(session);
}

}  // namespace sirocco
