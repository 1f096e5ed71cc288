// The model that is served, from the first loading on, and its replacement by another while clients stay connected. All
// that takes long happens on a thread of its own, so that the main thread goes on answering signals, clients and
// systemd: it calls advance() whenever something has ended.
//
// Requests that come while there is nobody to answer them wait (Service::hold). Those that are there when another model
// is wanted finish on the old one. A model that cannot be served changes nothing. Where there is memory for both, the
// new one is loaded before anybody has to wait; else in the place of the old one, which is loaded again if that fails.
//
// Main thread only.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "daemon/service.h"
#include "engine/engine.h"

namespace sirocco::daemon {

class ModelHost {
 public:
  // How a model becomes an engine; tests bring their own. Called on the thread that loads, one at a time.
  struct Loader {
    std::function<Result<PreparedModel>(const EngineOptions&, std::uint64_t freed)> prepare;
    std::function<Result<std::unique_ptr<Engine>>(const PreparedModel&)> open;
  };

  // attention: asks the main thread to call advance(). From any thread.
  ModelHost(Service& service, Loader loader, std::function<void()> attention)
      : service_(service), loader_(std::move(loader)), attention_(std::move(attention)) {}
  ~ModelHost();  // waits for what is under way
  ModelHost(const ModelHost&) = delete;
  ModelHost& operator=(const ModelHost&) = delete;

  // Begins to load this model, the first or another; goes on with advance(). Error: BUSY, one is being loaded.
  Result<void> begin(const EngineOptions& options);
  // The engine's device has failed. It is taken down, and the same model opened anew: on the device, if `again`; where
  // that is not to be or fails, on the processor, if that may be. Goes on with advance(); not while loading. After an
  // error there is no model.
  struct Recovery {
    bool again = false;
    bool processor = false;
    bool operator==(const Recovery&) const = default;
  };
  void recover(const Recovery& recovery);
  // Whether the processor computes because a device has failed.
  bool recovered_on_processor() const { return current_ && !current_->options.degraded.empty(); }
  bool loading() const { return phase_ != Phase::idle; }
  // How far it is; null unless it is loading.
  const LoadProgress* progress() const { return loading() ? progress_.get() : nullptr; }

  // As far as it can at this moment; how it has ended, once. After an error the model is the one before, if there was
  // one that could be loaded again.
  std::optional<Result<void>> advance();

  // Whether a file of the model that is served has been replaced by another of its name.
  bool file_replaced() const;

  Engine* engine() const { return engine_.get(); }  // null: none

  // Ends it, after the server and then the Service have stopped. Its sessions, and which experts were in memory, are
  // saved; as long as that goes on synced() rises. False: a model is still being read, from a disk that does not
  // answer; nothing of it is worth waiting for, so the process is to end without its destructors.
  bool close();
  // How often something that the end waits for has reached the disk. From any thread.
  std::uint64_t synced() const { return synced_; }

 private:
  enum class Phase {
    idle,
    preparing,  // the next model: checked and planned, and loaded where there is memory for both
    holding,    // until the requests that are there have ended
    saving,     // what the old engine knows
    opening     // the next one in its place
  };
  // What the thread has done.
  struct Work {
    std::optional<PreparedModel> model = {};
    std::unique_ptr<Engine> engine = {};  // of that model
    Result<void> done = {};
  };

  // The engine that failed, and what is to be done about it.
  struct Failed {
    Error error;
    std::string backend;
    Recovery recovery;
  };

  template <class Task>
  void run(Phase phase, Task task);
  std::optional<Work> finished();
  void open_next();
  Result<void> ended(Work work);
  static Work open_recovered(const Loader& loader, PreparedModel model, const Failed& failed);
  static Work open_or_put_back(const Loader& loader, const PreparedModel& next, std::optional<PreparedModel> old);

  Service& service_;
  const Loader loader_;
  const std::function<void()> attention_;
  std::optional<PreparedModel> current_;
  std::unique_ptr<Engine> engine_;
  std::optional<PreparedModel> next_;
  std::unique_ptr<Engine> next_engine_;  // where there is memory for both
  std::string next_name_;
  std::optional<Failed> failed_;  // while it is recovered from
  std::shared_ptr<LoadProgress> progress_;
  Phase phase_ = Phase::idle;
  std::future<Work> work_;
  std::atomic<std::uint64_t> synced_ = 0;
  std::thread thread_;
};

}  // namespace sirocco::daemon
