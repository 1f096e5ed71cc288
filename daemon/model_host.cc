#include "daemon/model_host.h"

#include <fmt/format.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "engine/base/heap.h"

namespace sirocco::daemon {
namespace {

constexpr std::chrono::seconds kPatience(2);  // at the end, with a model that is being read: some hundred MiB

// No text thread uses it any more. Its memory is free when it is destroyed.
void end_engine(Engine& engine, const PreparedModel& model, std::atomic<std::uint64_t>& synced) {
  engine.close();
  // After a failure what was computed may be wrong; what was said is not.
  const bool computed = !engine.status().failure;
  for (const Error& error : engine.sessions().save_all(computed, [&] { ++synced; }))
    spdlog::warn("{}", error.message());
  const std::filesystem::path& hot_set = model.options.hot_set;
  if (hot_set.empty()) return;
  if (const auto saved = engine.save_hot_set(hot_set); !saved) spdlog::warn("{}", saved.error().message());
}

}  // namespace

ModelHost::~ModelHost() {
  if (thread_.joinable()) thread_.join();
}

template <class Task>
void ModelHost::run(Phase phase, Task task) {
  if (thread_.joinable()) thread_.join();
  phase_ = phase;
  std::packaged_task<Work()> packaged(std::move(task));
  work_ = packaged.get_future();
  thread_ = std::thread([this, packaged = std::move(packaged)]() mutable {
    pthread_setname_np(pthread_self(), "loader");
    packaged();
    return_free_heap();  // of what was only needed to load, of what was there before
    attention_();
  });
}

// Throws what the thread has thrown: no memory, as a rule.
std::optional<ModelHost::Work> ModelHost::finished() {
  if (work_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return std::nullopt;
  return work_.get();
}

Result<void> ModelHost::begin(const EngineOptions& options) {
  if (loading()) return fail(ErrorCode::busy, "another model is being loaded already: try again when that is done");
  progress_ = std::make_shared<LoadProgress>();
  EngineOptions wanted = options;
  wanted.progress = progress_;
  next_name_ = options.model.filename().string();
  const bool alone = engine_ == nullptr;
  const std::uint64_t freed = alone ? 0 : engine_->status().plan.charged();
  if (alone) service_.hold(next_name_, progress_);
  run(Phase::preparing, [this, wanted = std::move(wanted), freed, alone]() -> Work {
    auto prepared = loader_.prepare(wanted, freed);
    if (!prepared) return {.done = fail(prepared.error())};
    Work work = {.model = *std::move(prepared)};
    if (alone || !work.model->fits_beside) return work;
    auto opened = loader_.open(*work.model);
    if (!opened) return {.done = fail(opened.error())};
    work.engine = *std::move(opened);
    return work;
  });
  return {};
}

void ModelHost::recover(const Recovery& recovery) {
  progress_ = std::make_shared<LoadProgress>();
  next_name_ = current_->options.model.filename().string();
  failed_ = {.error = *engine_->status().failure,
             .backend = std::string(engine_->parts().backend->name()),
             .recovery = recovery};
  next_ = current_;
  next_->options.progress = progress_;
  service_.hold(next_name_, progress_);
  phase_ = Phase::holding;
  attention_();
}

std::optional<Result<void>> ModelHost::advance() {
  if (phase_ == Phase::preparing) {
    auto work = finished();
    if (!work) return std::nullopt;
    if (!work->done && engine_ == nullptr) return ended(*std::move(work));
    phase_ = Phase::idle;
    if (!work->done) return work->done;  // nobody has noticed
    next_ = std::move(work->model);
    next_engine_ = std::move(work->engine);
    service_.hold(next_name_, progress_);
    phase_ = Phase::holding;
  }
  if (phase_ == Phase::holding) {
    if (!service_.held()) return std::nullopt;
    service_.use(nullptr);
    if (engine_) {
      run(Phase::saving, [this, engine = std::move(engine_), model = *current_]() mutable -> Work {
        end_engine(*engine, model, synced_);
        engine.reset();
        return {};
      });
      return std::nullopt;
    }
    open_next();
  }
  if (phase_ == Phase::saving) {
    if (!finished()) return std::nullopt;
    if (next_engine_) return ended({.model = std::exchange(next_, std::nullopt), .engine = std::move(next_engine_)});
    open_next();
  }
  if (phase_ != Phase::opening) return std::nullopt;
  auto work = finished();
  if (!work) return std::nullopt;
  return ended(*std::move(work));
}

void ModelHost::open_next() {
  if (failed_) {
    run(Phase::opening, [this, next = *std::exchange(next_, std::nullopt), failed = *std::exchange(failed_, {})] {
      return open_recovered(loader_, next, failed);
    });
    return;
  }
  std::optional<PreparedModel> old = std::exchange(current_, std::nullopt);
  if (old) old->options.progress = progress_;
  run(Phase::opening, [this, next = *std::exchange(next_, std::nullopt), old = std::move(old)] {
    return open_or_put_back(loader_, next, old);
  });
}

ModelHost::Work ModelHost::open_recovered(const Loader& loader, PreparedModel model, const Failed& failed) {
  Error why = failed.error;
  if (failed.recovery.again) {
    PreparedModel again = model;
    again.options.backend = failed.backend;  // auto could choose the processor, and nobody would be told
    auto opened = loader.open(again);
    if (opened) return {.model = std::move(model), .engine = *std::move(opened)};
    why = Error(why.code(),
                fmt::format("{}; and it could not be set up again: {}", why.message(), opened.error().message()));
  }
  if (!failed.recovery.processor) return {.done = fail(why)};
  model.options.backend = host_backend().name();
  model.options.degraded.push_back(
      fmt::format("the processor computes instead of the GPU, until `sirocco reload`: {}", why.message()));
  auto opened = loader.open(model);
  if (opened) return {.model = std::move(model), .engine = *std::move(opened)};
  return {.done = fail(opened.error().code(), "{}; and the processor cannot compute the model either: {}",
                       why.message(), opened.error().message())};
}

// The old model is still known, though its file may be gone.
ModelHost::Work ModelHost::open_or_put_back(const Loader& loader, const PreparedModel& next,
                                            std::optional<PreparedModel> old) {
  auto opened = loader.open(next);
  if (opened) return {.model = next, .engine = *std::move(opened)};
  const Error why = opened.error();
  if (!old) return {.done = fail(why)};
  auto again = loader.open(*old);
  if (again) return {.model = std::move(old), .engine = *std::move(again), .done = fail(why)};
  return {.done = fail(why.code(), "{}; and the model before it could not be loaded again: {}", why.message(),
                       again.error().message())};
}

// Somebody answers again, or nobody for the reason that is told to all.
Result<void> ModelHost::ended(Work work) {
  phase_ = Phase::idle;
  current_ = std::move(work.model);
  engine_ = std::move(work.engine);
  service_.use(engine_.get(), work.done ? "" : work.done.error().message());
  service_.resume();
  return work.done;
}

bool ModelHost::file_replaced() const {
  if (!current_ || !current_->model) return false;
  const auto parts = current_->model->file().parts();
  return std::any_of(parts.begin(), parts.end(), [](const GgufFile::Part& part) {
    struct stat held = {};
    struct stat found = {};
    if (part.descriptor < 0 || fstat(part.descriptor, &held) != 0) return false;
    return stat(part.path.c_str(), &found) != 0 || held.st_dev != found.st_dev || held.st_ino != found.st_ino;
  });
}

bool ModelHost::close() {
  if (progress_) progress_->stop();
  bool over = true;
  if (phase_ == Phase::saving) work_.wait();  // what was said in it is worth any time that systemd gives us
  if (phase_ == Phase::preparing || phase_ == Phase::opening) {
    over = work_.wait_for(kPatience) == std::future_status::ready;
    if (over) next_engine_ = work_.get().engine;  // nobody has said anything in it
  }
  if (over) phase_ = Phase::idle;
  if (next_engine_) next_engine_->close();
  if (engine_) end_engine(*engine_, *current_, synced_);
  return over;
}

}  // namespace sirocco::daemon
