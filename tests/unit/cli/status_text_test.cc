#include "cli/status_text.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "ipc/client/status_json.h"

namespace sirocco {
namespace {

wire::StatusReport report() {
  wire::StatusReport report;
  report.daemon_version = "0.1.0";
  report.state = wire::State::ready;
  report.model = wire::ModelCard{.name = "Demo",
                                 .architecture = "llama",
                                 .parameters = 691'000'000,
                                 .context = 8192,
                                 .chat_format = "chatml",
                                 .tokenizer = "bpe/smollm",
                                 .experts = 8,
                                 .experts_used = 2,
                                 .quantisation = "Q4_1",
                                 .file_bytes = 453'000'000};
  report.memory = {{.name = "dense weights", .bytes = 64 << 20, .note = "mapped from the file"},
                   {.name = "KV cache", .bytes = 90 << 20, .note = "f16"}};
  report.requests_running = 1;
  report.requests_done = 12;
  report.tokens_generated = 345;
  report.prefill_tokens_per_s = 123.45;
  report.decode_tokens_per_s = 12.34;
  report.uptime_ms = 3'723'000;
  report.backend = "ref";
  report.isa = "x86-64";
  report.threads = 2;
  report.connections = 2;
  report.active = {{.id = 7,
                    .uid = 1000,
                    .pid = 4321,
                    .state = wire::RequestState::decode,
                    .prompt_tokens = 31,
                    .generated = 5,
                    .priority = wire::Priority::interactive,
                    .age_ms = 3000,
                    .queued_ms = 500}};
  return report;
}

TEST(StatusText, ShowsEveryPartOfTheReportOnOneScreen) {
  EXPECT_EQ(status_text(report()),
            "siroccod 0.1.0: READY, up 1 h 2 min\n"
            "\n"
            "model      Demo\n"
            "           llama, 691 M parameters, Q4_1, 432 MiB\n"
            "           8 experts, 2 used for each token\n"
            "           context 8192 tokens, chat format chatml, tokenizer bpe/smollm\n"
            "backend    ref (x86-64), 2 threads\n"
            "speed      prompts 123.5 tokens/s, answers 12.3 tokens/s\n"
            "tokens     0 read, 345 generated\n"
            "\n"
            "memory plan\n"
            "  dense weights   64.0 MiB  mapped from the file\n"
            "  KV cache        90.0 MiB  f16\n"
            "\n"
            "requests   1 running, 0 queued, 12 done, 0 failed; 2 connections\n"
            "   request     uid       pid  class        state      prompt  generated       age    queued  tokens/s\n"
            "         7    1000      4321  INTERACTIVE  DECODE         31          5     3.0 s     0.5 s       2.0\n");
}

TEST(StatusText, ExpertsAreShownWhereNotAllAreInMemory) {
  wire::StatusReport slotted = report();
  slotted.experts = wire::ExpertReport{.slots = 55,
                                       .experts = 120,
                                       .hits = 60,
                                       .misses = 20,
                                       .evictions = 3,
                                       .bytes_read = 2'000'000'000,
                                       .failures = 0,
                                       .waited_ms = 1234,
                                       .reads = "io_uring",
                                       .skipped = 0,
                                       .substituted = 0};
  EXPECT_NE(status_text(slotted).find("experts    55 of 120 in memory, 75.0 % of those wanted were there\n"
                                      "           1.86 GiB read from disk (io_uring), 1.2 s waited\n"),
            std::string::npos);
  slotted.experts->failures = 2;
  EXPECT_NE(status_text(slotted).find("1.2 s waited, 2 reads failed\n"), std::string::npos);
  EXPECT_EQ(status_text(slotted).find("skipped"), std::string::npos);
  slotted.experts->skipped = 4;
  slotted.experts->substituted = 5;
  EXPECT_NE(status_text(slotted).find("reads failed\n           4 skipped, 5 replaced: answers are not exact\n"),
            std::string::npos);
  EXPECT_EQ(status_json(slotted).at("experts").at("misses"), 20);
  EXPECT_EQ(status_json(slotted).at("experts").at("skipped"), 4);
  EXPECT_EQ(status_json(slotted).at("experts").at("substituted"), 5);
}

TEST(StatusText, AStateThatIsNotReadyComesWithItsReasonsAndNeedsNoModel) {
  wire::StatusReport failed;
  failed.daemon_version = "0.1.0";
  failed.state = wire::State::failed;
  failed.reasons = {"model.gguf: truncated"};
  const std::string text = status_text(failed);
  EXPECT_EQ(text.substr(0, text.find("backend")),
            "siroccod 0.1.0: FAILED, up 0 s\n  model.gguf: truncated\n\nmodel      none\n");
}

TEST(StatusText, MemoryThatIsGivenBackIsSaid) {
  wire::StatusReport resting = report();
  EXPECT_EQ(status_text(resting).find("at rest"), std::string::npos);
  resting.memory_released = true;
  EXPECT_NE(status_text(resting).find("at rest    the memory of experts is given back until the next request\n"),
            std::string::npos);
}

TEST(StatusText, AGpuIsShownWithWhatIsKnownOfIt) {
  wire::StatusReport on_gpu = report();
  EXPECT_EQ(status_text(on_gpu).find("device "), std::string::npos);
  EXPECT_TRUE(status_json(on_gpu).at("device").is_null());
  on_gpu.device = wire::DeviceReport{.name = "NVIDIA \033H100",
                                     .driver = "580.65.06",
                                     .architecture = "sm_90",
                                     .memory_bytes = 80ULL << 30,
                                     .used_bytes = 60ULL << 30,
                                     .arena_bytes = 50ULL << 30,
                                     .slots = 100,
                                     .planned_slots = 120,
                                     .hits = 3,
                                     .misses = 1,
                                     .clock_mhz = 1200,
                                     .max_clock_mhz = 1980,
                                     .celsius = 83.4,
                                     .throttled = "heat",
                                     .experts = 200};
  EXPECT_NE(
      status_text(on_gpu).find("device     NVIDIA  H100 (sm_90), driver 580.65.06\n"
                               "           60.0 GiB of 80.0 GiB used, 50.0 GiB by this daemon\n"
                               "           100 of 200 experts in it (120 planned), 75.0 % of those wanted were there\n"
                               "           1200 of 1980 MHz, held down by heat\n"
                               "           83 °C\n"),
      std::string::npos)
      << status_text(on_gpu);
  EXPECT_EQ(status_json(on_gpu).at("device").at("throttled"), "heat");
  on_gpu.device = wire::DeviceReport{.name = "NVIDIA Thor", .unknown = "clock: no NVML"};
  EXPECT_NE(status_text(on_gpu).find("           not known: clock: no NVML\n"), std::string::npos);
  EXPECT_EQ(status_text(on_gpu).find("MHz"), std::string::npos);
}

TEST(StatusText, HeatIsSaidAndWhatItCosts) {
  wire::StatusReport warm = report();
  warm.power = wire::PowerReport{.duty = 1, .zone = "gpu\033-thermal", .celsius = 61.4, .limit_celsius = 0};
  EXPECT_NE(status_text(warm).find("heat       61 °C (gpu -thermal)\n"), std::string::npos) << status_text(warm);
  EXPECT_EQ(status_text(warm).find("duty "), std::string::npos);
  warm.power = wire::PowerReport{.duty = 0.5, .zone = "cpu", .celsius = 91, .limit_celsius = 90};
  EXPECT_NE(status_text(warm).find("duty       steps take at most 50 % of the time\n"
                                   "heat       91 °C (cpu), limit 90 °C\n"),
            std::string::npos);
  EXPECT_EQ(status_json(warm).at("power").at("celsius"), 91);
  EXPECT_TRUE(status_json(report()).at("power").is_null());
}

TEST(StatusText, KvThatWasMovedOutIsShownOnceSomeWas) {
  wire::StatusReport swapping = report();
  swapping.cache = wire::CacheReport{.blocks = 8, .block_tokens = 32};
  EXPECT_EQ(status_text(swapping).find("moved out"), std::string::npos);
  swapping.cache->moved_out = 3;
  swapping.cache->moved_out_bytes = 5 << 20;
  EXPECT_NE(status_text(swapping).find("           moved out for realtime requests: 3 times, 5.00 MiB now\n"),
            std::string::npos);
}

TEST(StatusText, EscapeSequencesInAModelsNameDoNotReachTheTerminal) {
  wire::StatusReport hostile = report();
  hostile.model->name = "x\033[2J\ny";
  hostile.memory[0].note = "\a";
  const std::string text = status_text(hostile);
  EXPECT_EQ(text.find('\033'), std::string::npos);
  EXPECT_EQ(text.find('\a'), std::string::npos);
  EXPECT_NE(text.find("model      x [2J y\n"), std::string::npos);
}

TEST(StatusJson, HasEveryFieldUnderTheProtocolsNames) {
  const nlohmann::ordered_json json = status_json(report());
  EXPECT_EQ(json.at("state"), "READY");
  EXPECT_EQ(json.at("model").at("experts_used"), 2);
  EXPECT_EQ(json.at("memory").at(1).at("bytes"), 90 << 20);
  EXPECT_EQ(json.at("active").at(0).at("state"), "DECODE");
  EXPECT_EQ(json.at("decode_tokens_per_s"), 12.34);
  EXPECT_EQ(json.size(), 24U);
  EXPECT_EQ(json.at("memory_released"), false);
  EXPECT_TRUE(json.at("experts").is_null());
  wire::StatusReport with_cache = report();
  with_cache.cache = wire::CacheReport{.blocks = 8, .block_tokens = 32, .available = 6, .cached = 4, .hit_tokens = 77};
  with_cache.cache->moved_out_bytes = 5 << 20;
  EXPECT_EQ(status_json(with_cache).at("cache").at("moved_out_bytes"), 5 << 20);
  EXPECT_EQ(status_json(with_cache).at("cache").at("hit_tokens"), 77);
  EXPECT_NE(status_text(with_cache).find("KV cache   192 of 256 tokens free, 128 of texts"), std::string::npos);
  EXPECT_TRUE(status_json(wire::StatusReport{}).at("model").is_null());
}

}  // namespace
}  // namespace sirocco
