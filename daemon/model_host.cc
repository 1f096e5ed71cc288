#include "daemon/model_host.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace sirocco::daemon {

Result<void> ModelHost::load(const EngineOptions& options) {
  SIROCCO_TRY(PreparedModel prepared, loader_.prepare(options, 0));
  SIROCCO_TRY(engine_, loader_.open(prepared));
  current_ = std::move(prepared);
  return {};
}

Result<void> ModelHost::begin_replacement(const EngineOptions& options) {
  if (next_) return fail(ErrorCode::busy, "another model is being loaded already: try again when that is done");
  const std::uint64_t freed = engine_ ? engine_->status().plan.charged() : 0;
  SIROCCO_TRY(PreparedModel next, loader_.prepare(options, freed));
  if (engine_ && next.fits_beside) {
    SIROCCO_TRY(next_engine_, loader_.open(next));
  }
  next_ = std::move(next);
  service_.hold(fmt::format("{} is being loaded: requests that are there finish first, new ones wait",
                            options.model.filename().string()));
  return {};
}

std::optional<Result<void>> ModelHost::advance() {
  if (!next_ || !service_.held()) return std::nullopt;
  const PreparedModel next = *std::exchange(next_, std::nullopt);
  close_engine();
  Result<void> done;
  if (next_engine_) {
    engine_ = std::move(next_engine_);
    current_ = next;
  } else if (auto opened = loader_.open(next)) {
    engine_ = *std::move(opened);
    current_ = next;
  } else {
    done = put_back(opened.error());
  }
  if (engine_) service_.use(engine_.get());
  service_.resume();
  return done;
}

// The old model, which is still known though its file may be gone. Always an error: why it had to be.
Result<void> ModelHost::put_back(const Error& why) {
  if (!current_) {
    service_.use(nullptr, why.message());
    return fail(why);
  }
  auto again = loader_.open(*current_);
  if (again) {
    engine_ = *std::move(again);
    return fail(why);
  }
  const std::string both =
      fmt::format("{}; and the model before it could not be loaded again: {}", why.message(), again.error().message());
  current_.reset();
  service_.use(nullptr, both);
  return fail(why.code(), "{}", both);
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

// Its memory is free afterwards.
void ModelHost::close_engine() {
  if (!engine_) return;
  service_.use(nullptr);
  end_engine();
  engine_.reset();
}

void ModelHost::close() {
  if (next_engine_) next_engine_->close();
  if (engine_) end_engine();
}

// No text thread uses it any more.
void ModelHost::end_engine() {
  engine_->close();
  // After a failure what was computed may be wrong; what was said is not.
  const bool computed = !engine_->status().failure;
  for (const Error& error : engine_->sessions().save_all(computed)) spdlog::warn("{}", error.message());
  const std::filesystem::path& hot_set = current_->options.hot_set;
  if (hot_set.empty()) return;
  if (const auto saved = engine_->save_hot_set(hot_set); !saved) spdlog::warn("{}", saved.error().message());
}

}  // namespace sirocco::daemon
