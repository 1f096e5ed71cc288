// What daemon, socket and client add to an engine that computes nothing: microseconds to the first token, and processor
// time for each token of many streams. Daemon and clients are processes of their own, as they are in use.
//
//   ipc_bench [--requests 5000] [--streams 64] [--tokens 5000] [--rounds 7] [--json FILE]
#include <poll.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "daemon/service.h"
#include "engine/base/heap.h"
#include "ipc/client/client.h"
#include "tests/support/fake_engine.h"
#include "tests/support/temporary_directory.h"

namespace sirocco {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kTokensPerSecond = 100'000;

struct Options {
  std::uint32_t requests = 5000;
  std::uint32_t streams = 64;
  std::uint32_t tokens = 5'000;  // of each stream
  std::uint32_t rounds = 7;
  std::string json;
};

// One token for every row: at once for one stream, at kTokensPerSecond for many, so that each token is sent by itself.
class InstantBackend final : public Backend {
 public:
  std::string_view name() const override { return "instant"; }
  std::string_view isa() const override { return "none"; }
  std::size_t threads() const override { return 1; }
  Result<void> step(const Step& step, std::span<float> logits, StepReport&) override {
    if (step.sequences.size() > 1) {
      std::this_thread::sleep_until(next_);
      const auto interval =
          std::chrono::duration<double>(static_cast<double>(step.sequences.size()) / kTokensPerSecond);
      next_ = std::max(next_ + std::chrono::duration_cast<Clock::duration>(interval), Clock::now());
    }
    std::fill(logits.begin(), logits.end(), 0.0F);
    for (std::size_t row = 0; row < step.logit_rows(); ++row) logits[row * test::kVocabulary + 1] = 1;
    return {};
  }
  // Nothing is in its blocks.
  std::size_t block_bytes() const override { return 0; }
  Result<void> copy_block(BlockId, BlockId) override { return {}; }
  Result<void> export_block(BlockId, std::span<std::byte>) const override { return {}; }
  Result<void> import_block(BlockId, std::span<const std::byte>) override { return {}; }

 private:
  Clock::time_point next_;
};

void instant(EngineParts& parts, const Options& options) {
  parts.backend = std::make_unique<InstantBackend>();
  parts.kv_block_tokens = 64;
  parts.context = 1U << 20;
  parts.kv_blocks = options.streams * (parts.context / parts.kv_block_tokens);
  parts.max_running = options.streams;
  parts.max_rows_per_step = options.streams;
  parts.max_queued = parts.max_queued_per_uid = options.streams;
}

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "ipc_bench: %s\n", why.c_str());
  std::exit(1);
}

double microseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

double percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<std::size_t>(share * static_cast<double>(values.size())))];
}

double processor_seconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// --- of the client's process

struct ClientRound {
  double first_p50_us = 0;
  double first_p99_us = 0;
  double streams_s = 0;
  double streams_processor_s = 0;
};

ClientRound client_round(const std::string& path, const Options& options) {
  ClientRound round;
  auto connected = Client::connect(path);
  if (!connected) give_up(connected.error().message);
  std::vector<double> first;
  for (std::uint32_t i = 0; i < options.requests; ++i) {
    const auto begin = Clock::now();
    double at = 0;
    const auto done = connected->generate({.prompt = wire::TextPrompt{"hello"}, .raw = true, .max_tokens = 1},
                                          {.batch = [&](const wire::TokenBatch&) {
                                            if (at == 0) at = microseconds_since(begin);
                                            return true;
                                          }});
    if (!done) give_up(done.error().message);
    first.push_back(at);
  }
  round.first_p50_us = percentile(first, 0.5);
  round.first_p99_us = percentile(first, 0.99);

  std::vector<Client> clients;
  std::vector<pollfd> polled;
  for (std::uint32_t i = 0; i < options.streams; ++i) {
    auto client = Client::connect(path);
    if (!client) give_up(client.error().message);
    clients.push_back(*std::move(client));
    polled.push_back({.fd = clients.back().descriptor(), .events = POLLIN, .revents = 0});
  }
  const auto begin = Clock::now();
  const double processor = processor_seconds();
  for (Client& client : clients)
    if (!client.send(1, wire::Generate{.prompt = wire::TextPrompt{"hello"}, .raw = true, .max_tokens = options.tokens}))
      give_up("a request could not be sent");
  std::uint64_t tokens = 0;
  for (std::uint32_t running = options.streams; running > 0;) {
    poll(polled.data(), polled.size(), -1);
    for (std::size_t i = 0; i < clients.size(); ++i) {
      if (polled[i].revents == 0) continue;
      while (true) {
        const auto received = clients[i].receive(std::chrono::milliseconds(0));
        if (!received) give_up(received.error().message);
        if (!*received) break;
        if (const auto* batch = std::get_if<wire::TokenBatch>(&(*received)->message)) tokens += batch->ids.size();
        if (const auto* error = std::get_if<wire::Error>(&(*received)->message)) give_up(error->message);
        if (std::holds_alternative<wire::Done>((*received)->message)) --running;
      }
    }
  }
  round.streams_s = microseconds_since(begin) * 1e-6;
  round.streams_processor_s = processor_seconds() - processor;
  if (tokens != std::uint64_t{options.streams} * options.tokens) give_up("tokens are missing");
  return round;
}

// --- of the daemon's process

// To the first token, without daemon, socket and client.
std::vector<double> engine_alone(const Options& options) {
  std::mutex mutex;
  std::condition_variable changed;
  double at = 0;
  bool ended = false;
  Clock::time_point begin;
  test::FakeEngine fake([&](EngineParts& parts) { instant(parts, options); },
                        [&](RequestId, Event&& event) {
                          const std::lock_guard lock(mutex);
                          if (std::holds_alternative<TokensEvent>(event)) {
                            if (at == 0) at = microseconds_since(begin);
                            return;
                          }
                          ended = true;
                          changed.notify_one();
                        });
  std::vector<double> first;
  for (std::uint32_t i = 0; i < options.requests; ++i) {
    std::unique_lock lock(mutex);
    at = 0;
    ended = false;
    begin = Clock::now();
    lock.unlock();
    if (!fake.engine->submit({.prompt = TextPrompt{"hello"}, .sampling = {}, .max_tokens = 1, .stops = {}}))
      give_up("the engine refuses");
    lock.lock();
    changed.wait(lock, [&] { return ended; });
    first.push_back(at);
  }
  return first;
}

int bench(const Options& options) {
  spdlog::set_default_logger(spdlog::basic_logger_mt("daemon", "/dev/null"));  // its lines cost what they cost
  const test::TemporaryDirectory directory;
  const std::string path = (directory.path() / "socket").string();
  int ready[2] = {};
  int results[2] = {};
  if (pipe(ready) != 0 || pipe(results) != 0) give_up("no pipe");
  const pid_t child = fork();
  if (child == 0) {
    char go = 0;
    while (read(ready[0], &go, 1) == 1) {
      const ClientRound round = client_round(path, options);
      if (write(results[1], &round, sizeof round) != sizeof round) _exit(1);
      if (go == 'l') _exit(0);
    }
    _exit(1);
  }
  const double tokens = static_cast<double>(options.streams) * options.tokens;
  std::vector<double> engine_p50, engine_p99, p50, p99, rate, daemon_us, client_us;
  for (std::uint32_t i = 0; i < options.rounds; ++i) {
    const std::vector<double> alone = engine_alone(options);
    daemon::Service service;
    daemon::ClientsConfig clients;
    clients.others.connections = clients.others.in_flight = clients.others.max_queued = options.streams + 1;
    service.set_clients(*daemon::ClientPolicies::resolve(clients));
    test::FakeEngine fake([&](EngineParts& parts) { instant(parts, options); }, service.sink());
    auto socket = ListeningSocket::bind({.path = path, .mode = 0600, .group = ""});
    if (!socket) give_up(socket.error());
    Server server(*std::move(socket), {}, service);
    service.connect(fake.engine.get(), &server);
    server.start();
    const double processor = processor_seconds();
    ClientRound round;
    if (write(ready[1], i + 1 == options.rounds ? "l" : "g", 1) != 1 ||
        read(results[0], &round, sizeof round) != sizeof round)
      give_up("the clients are gone");
    // The requests before the streams cost something, too: some 2 % of it.
    const double used = processor_seconds() - processor;
    server.stop();
    fake.engine->close();
    service.stop();
    engine_p50.push_back(percentile(alone, 0.5));
    engine_p99.push_back(percentile(alone, 0.99));
    p50.push_back(round.first_p50_us);
    p99.push_back(round.first_p99_us);
    rate.push_back(tokens / round.streams_s);
    daemon_us.push_back(used * 1e6 / (tokens + options.requests));
    client_us.push_back(round.streams_processor_s * 1e6 / tokens);
    std::fprintf(stderr,
                 "round %u: first token %.1f us (p99 %.1f), engine alone %.1f (%.1f); %.0f tokens/s, %.2f + %.2f us\n",
                 i + 1, p50.back(), p99.back(), engine_p50.back(), engine_p99.back(), rate.back(), daemon_us.back(),
                 client_us.back());
  }
  int status = 0;
  waitpid(child, &status, 0);
  const auto three = [](const std::vector<double>& values) {
    return nlohmann::ordered_json{
        {"median", percentile(values, 0.5)}, {"least", percentile(values, 0)}, {"most", percentile(values, 1)}};
  };
  const nlohmann::ordered_json report = {{"rounds", options.rounds},
                                         {"first_token_p50_us", three(p50)},
                                         {"first_token_p99_us", three(p99)},
                                         {"engine_alone_p50_us", three(engine_p50)},
                                         {"engine_alone_p99_us", three(engine_p99)},
                                         {"added_p50_us", percentile(p50, 0.5) - percentile(engine_p50, 0.5)},
                                         {"added_p99_us", percentile(p99, 0.5) - percentile(engine_p99, 0.5)},
                                         {"streams", options.streams},
                                         {"tokens_per_s", three(rate)},
                                         {"daemon_us_per_token", three(daemon_us)},
                                         {"client_us_per_token", three(client_us)}};
  std::printf("%s\n", report.dump(2).c_str());
  if (!options.json.empty()) std::ofstream(options.json) << report.dump(2) << "\n";
  return 0;
}

}  // namespace
}  // namespace sirocco

int main(int argc, char** argv) {
  sirocco::share_heap();  // as the daemon does
  sirocco::Options options;
  CLI::App app("What daemon, socket and client add to the engine", "ipc_bench");
  app.add_option("--requests", options.requests, "To measure the first token by")->capture_default_str();
  app.add_option("--streams", options.streams, "At the same time")->capture_default_str();
  app.add_option("--tokens", options.tokens, "Of each stream")->capture_default_str();
  app.add_option("--rounds", options.rounds)->capture_default_str();
  app.add_option("--json", options.json, "Write the report there, too");
  CLI11_PARSE(app, argc, argv);
  return sirocco::bench(options);
}
