// The model that is served, and its replacement by another while clients stay connected: requests that are there finish
// on the old one, those that come meanwhile wait (Service::hold). A model that cannot be served changes nothing. Where
// there is memory for both, the new one is loaded before anybody has to wait; else in the place of the old one, which
// is loaded again if that fails.
//
// Main thread only.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "daemon/service.h"
#include "engine/engine.h"

namespace sirocco::daemon {

class ModelHost {
 public:
  // How a model becomes an engine; tests bring their own.
  struct Loader {
    std::function<Result<PreparedModel>(const EngineOptions&, std::uint64_t freed)> prepare;
    std::function<Result<std::unique_ptr<Engine>>(const PreparedModel&)> open;
  };

  ModelHost(Service& service, Loader loader) : service_(service), loader_(std::move(loader)) {}

  // At the start, before the server.
  Result<void> load(const EngineOptions& options);

  // Begins; goes on with advance(). Error: it cannot be, and nothing has changed.
  Result<void> begin_replacement(const EngineOptions& options);
  bool replacing() const { return next_.has_value(); }
  // As far as it can at this moment; how it has ended, once. To be called whenever the Service asks for attention.
  std::optional<Result<void>> advance();

  // Whether a file of the model that is served has been replaced by another of its name.
  bool file_replaced() const;

  Engine* engine() const { return engine_.get(); }  // null: none

  // Ends it, after the server and then the Service have stopped. Its sessions, and which experts were in memory, are
  // saved.
  void close();

 private:
  void close_engine();
  void end_engine();
  Result<void> put_back(const Error& why);

  Service& service_;
  const Loader loader_;
  std::optional<PreparedModel> current_;
  std::unique_ptr<Engine> engine_;
  std::optional<PreparedModel> next_;
  std::unique_ptr<Engine> next_engine_;  // where there is memory for both
};

}  // namespace sirocco::daemon
