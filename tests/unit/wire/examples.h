// One message of every type, with every field set to something that is not its default.
#pragma once

#include <vector>

#include "ipc/wire/messages.h"

namespace sirocco::wire::test {

inline ModelCard example_card() {
  return {.name = "Mixtral 8x7B",
          .architecture = "llama",
          .parameters = 46'702'792'704,
          .context = 32768,
          .chat_format = "mistral-v1",
          .tokenizer = "sentencepiece",
          .experts = 8,
          .experts_used = 2,
          .quantisation = "Q4_K",
          .file_bytes = 28'448'468'384};
}

inline Generate example_generate(Prompt prompt) {
  return {.prompt = std::move(prompt),
          .raw = false,
          .sampling = {.temperature = 0.7F,
                       .top_k = 40,
                       .top_p = 0.9F,
                       .min_p = 0.05F,
                       .repetition_penalty = 1.1F,
                       .frequency_penalty = 0.5F,
                       .presence_penalty = -0.5F,
                       .seed = 0xFFFFFFFFFFFFFFFF,
                       .logit_bias = {{1, -5.0F}, {2, 5.5F}}},
          .stop = {"\n\n", "Ende"},
          .max_tokens = 256,
          .omit_ids = true,
          .priority = Priority::realtime,
          .deadline_ms = 1500,
          .latest_wins_key = "robot:left-arm",
          .session = "kitchen.1",
          .partial = true,
          .max_queue_ms = 300,
          .prefill_only = true};
}

inline StatusReport example_report() {
  return {.daemon_version = "0.1.0",
          .state = State::degraded,
          .reasons = {"memory: locking was refused", "disk: slow"},
          .model = example_card(),
          .memory = {{"dense", 1'700'000'000, "locked"}, {"kv", 4'294'967'296, ""}},
          .requests_running = 1,
          .requests_queued = 2,
          .requests_done = 3,
          .requests_failed = 4,
          .tokens_prefilled = 5,
          .tokens_generated = 6,
          .prefill_tokens_per_s = 71.25,
          .decode_tokens_per_s = 8.5,
          .uptime_ms = 9,
          .backend = "cpu",
          .isa = "avx2",
          .threads = 10,
          .connections = 11,
          .active = {{12, 1000, 4242, RequestState::prefill, 13, 14, Priority::batch, 37, 38},
                     {15, 0, 1, RequestState::queued, 16, 0, Priority::interactive, 0, 0}},
          .experts = ExpertReport{17,
                                  18,
                                  19,
                                  20,
                                  21,
                                  22,
                                  23,
                                  24,
                                  "io_uring",
                                  25,
                                  26,
                                  {{27, 28, 29, 30, 31, 32}, {0, 0, 0, 0, 0, 33}},
                                  39,
                                  40},
          .memory_released = true,
          .cache = CacheReport{41, 42, 43, 44, 45, 46, 47, 48, 49},
          .power = PowerReport{0.5, "gpu-thermal", 50.5, 51.5},
          .device = DeviceReport{"NVIDIA Thor", "580.00", "sm_110", true, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61.5,
                                 "heat", "its power", 62}};
}

inline std::vector<Message> example_messages() {
  Generate raw = example_generate(TextPrompt{"Il était une fois", true});
  raw.raw = true;
  const ChatPrompt chat{
      .messages = {{.role = Role::system, .content = "Sois bref."},
                   {.role = Role::user, .content = "Quelle heure est-il ? 🕐"},
                   {.role = Role::assistant,
                    .content = "",
                    .tool_calls = {{"call_1", "clock", "{\"zone\": \"Europe/Paris\"}"}, {"", "b", "{}"}},
                    .tool_call_id = ""},
                   {.role = Role::tool, .content = "12:00", .tool_calls = {}, .tool_call_id = "call_1"}},
      .tools = "[]"};
  return {
      Hello{1, 3, "sirocco 0.1.0"},
      Welcome{1, "0.1.0", {"tokenize", "status"}, 4194304, 8, State::ready, example_card()},
      Welcome{1, "0.1.0", {}, 4194304, 8, State::no_model, std::nullopt},
      raw,
      example_generate(chat),
      example_generate(TokenPrompt{{1, 2, 131071}}),
      Accepted{17, 3},
      TokenBatch{{5, 6}, "Bon"},
      Done{DoneReason::stop_string, "Ende", 17, 42, 1000, 2'000'000, 5'000'000'000, 6'000'000'000, 43, 44},
      Error{ErrorCode::busy, "the queue is full", 250},
      Cancel{},
      Tokenize{"<s>naïve", true, true},
      Tokenized{{1, 2, 3}},
      Detokenize{{3, 2, 1}},
      Detokenized{"texte"},
      Status{},
      example_report(),
      SetBudget{4294967296, true},
      BudgetReport{4294967296, 34, 35, 36},
      Drain{false, true},
      DrainReport{true, 41},
      Reload{"/models/a b.gguf"},
      ReloadReport{example_card(), true, {"server", "metrics"}},
      Evict{},
      EvictReport{42, 4294967297},
      Session{SessionAction::fork, "kitchen", "cellar", 2, SessionOverflow::drop_oldest, true},
      Session{},
      SessionReport{{{"kitchen", 1000, 3, 4096, SessionOverflow::drop_oldest, true, 5'000'000'000, 6'000'000'000}}},
  };
}

}  // namespace sirocco::wire::test
