#include "daemon/config.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "daemon/check_config.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_directory.h"

namespace sirocco::daemon {
namespace {

constexpr std::array<std::string_view, 2> kBackends = {"ref", "cpu"};
constexpr std::array<std::string_view, 2> kIsas = {"avx512_vnni", "avx2"};
constexpr Choices kChoices = {.backends = kBackends, .isas = kIsas};

Config parsed(std::string_view text) {
  const Result<Config> config =
      parse_config(std::vector<ConfigText>{{.name = "c", .text = std::string(text)}}, kChoices);
  if (!config) ADD_FAILURE() << config.error().message();
  return config ? *config : Config{};
}

std::string errors(std::string_view text) {
  const Result<Config> config =
      parse_config(std::vector<ConfigText>{{.name = "c", .text = std::string(text)}}, kChoices);
  if (config) return "none";
  EXPECT_EQ(config.error().code(), ErrorCode::invalid_argument);
  return config.error().message();
}

TEST(Config, DocumentedFileIsTheDefaults) {
  const auto path = test::source_dir() / "config" / "siroccod.yaml";
  const Result<Config> config = load_config(path.string(), {.backends = kBackends, .isas = kIsas});
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(*config, Config{});
}

// The allowed keys that an error lists are all there are.
TEST(Config, DocumentedFileHasEveryKey) {
  std::ifstream file(test::source_dir() / "config" / "siroccod.yaml");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::vector<std::pair<std::string, std::string>> maps = {
      {"x: 1", "\n"},
      {"model: {x: 1}", "\n  "},
      {"engine: {x: 1}", "\n  "},
      {"memory: {x: 1}", "\n  "},
      {"device: {x: 1}", "\n  "},
      {"power: {x: 1}", "\n  "},
      {"lossy: {x: 1}", "\n  "},
      {"cache: {x: 1}", "\n  "},
      {"sessions: {x: 1}", "\n  "},
      {"server: {x: 1}", "\n  "},
      {"server: {limits: {x: 1}}", "\n    "},
      {"clients: {x: 1}", "\n  "},
      {"clients: {default: {x: 1}}", "\n    "},
      {"log: {x: 1}", "\n  "},
      {"metrics: {x: 1}", "\n  "},
  };
  std::size_t keys = 0;
  for (const auto& [unknown, indent] : maps) {
    const std::string message = errors(unknown);
    std::istringstream names(message.substr(message.find("allowed: ") + 9));
    for (std::string name; std::getline(names >> std::ws, name, ','); ++keys) {
      EXPECT_NE(text.find(indent + name + ":"), std::string::npos) << name;
    }
  }
  EXPECT_EQ(keys, 60U + 15U);  // and 15 maps
}

TEST(Config, EmptyFileIsTheDefaults) {
  for (const std::string_view text : {"", "# nothing\n", "---\n", "{}", "model:\nserver: {limits: }\nlog: {}\n"}) {
    EXPECT_EQ(parsed(text), Config{}) << text;
  }
}

TEST(Config, EveryKeyReachesItsField) {
  Config expected;
  expected.model = {.path = "/m/a b.gguf", .context = 8192};
  expected.engine = {.backend = "cpu",
                     .isa = "avx2",
                     .threads = 3,
                     .pin_threads = true,
                     .max_rows_per_step = 128,
                     .max_running = 20,
                     .max_queued = 5,
                     .max_step_ms = 90,
                     .idle_after_ms = 600'000};
  expected.memory = {.budget = 6 * GiB,
                     .headroom = 100'000'000,
                     .eviction = "layer-lru",
                     .foresight = true,
                     .hot_set = "/s/hot",
                     .kv_type = TensorType::q8_0,
                     .kv_tokens = 1ULL << 32,
                     .kv_swap_directory = "/k",
                     .kv_swap_bytes = 3 * GiB};
  expected.device = {.memory = 20 * GiB, .on_failure = DeviceFailure::fail};
  expected.power = {.max_duty = 0.75F, .hot_duty = 0.25F, .hot_celsius = 85};
  expected.lossy = {.skip_below = 0.25F, .substitute = true};
  expected.cache = {.share = CacheShare::all};
  expected.sessions = {
      .directory = "/var/s", .disk_bytes_per_user = 1 * GiB, .max_per_user = 5, .kept_tokens_per_user = 4096};
  expected.server = {.socket = "/tmp/s",
                     .mode = 0600,
                     .group = "audio",
                     .admin_socket = "/tmp/a",
                     .admin_mode = 0660,
                     .admin_group = "adm",
                     .limits = {.connections = 10,
                                .admin_connections = 9,
                                .queued_bytes = 2 * MiB,
                                .frame_bytes = 1 * MiB,
                                .hello_timeout_ms = 50,
                                .frame_timeout_ms = 60,
                                .flush_timeout_ms = 70}};
  expected.clients.others = {.allowed = false,
                             .realtime = false,
                             .weight = 2,
                             .connections = 3,
                             .in_flight_per_connection = 4,
                             .in_flight = 5,
                             .max_queued = 6,
                             .tokens_per_minute = 7};
  expected.log = {
      .level = LogLevel::trace, .file = "/l", .prompts = true, .slow_step_factor = 2.5F, .slow_step_ms = 80};
  expected.metrics = {.file = "/m", .interval_s = 60};
  EXPECT_EQ(parsed(R"(
model: {path: /m/a b.gguf, context: 8192}
engine: {backend: cpu, isa: avx2, threads: 3, pin_threads: true, max_rows_per_step: 128, max_running: 20, max_queued: 5,
  max_step_ms: 90, idle_after: 10min}
memory: {budget: 6GiB, headroom: 100MB, eviction: layer-lru, foresight: true, hot_set: /s/hot, kv_type: q8_0, kv_tokens: 4294967296,
  kv_swap_directory: /k, kv_swap_bytes: 3GiB}
device: {memory: 20GiB, on_failure: fail}
power: {max_duty: 0.75, hot_duty: 0.25, hot_celsius: 85}
lossy: {skip_below: 0.25, substitute: true}
cache: {share: all}
sessions: {directory: /var/s, disk_bytes_per_user: 1GiB, max_per_user: 5, kept_tokens_per_user: 4096}
server:
  socket: '/tmp/s'
  mode: 0600
  group: "audio"
  admin_socket: /tmp/a
  admin_mode: "0660"
  admin_group: adm
  limits:
    connections: 10
    admin_connections: 9
    queued_bytes: 2097152
    frame_bytes: 1MiB
    hello_timeout_ms: 50
    frame_timeout_ms: 60
    flush_timeout_ms: 70
clients: {default: {allowed: false, classes: interactive batch, weight: 2, connections: 3, in_flight_per_connection: 4,
  in_flight: 5, max_queued: 6, tokens_per_minute: 7}}
log: {level: trace, file: /l, prompts: true, slow_step_factor: 2.5, slow_step_ms: 80}
metrics: {file: /m, interval_s: 60}
)"),
            expected);
}

TEST(Config, RulesForClientsKeepTheirOrderAndBeginAsTheDefaultIs) {
  const Config config = parsed(R"(
clients:
  rules:
    robots: {group: robots, weight: 4}
    a: {user: "1000", group: audio, classes: batch}
  default: {weight: 2, max_queued: 5}
)");
  ASSERT_EQ(config.clients.rules.size(), 2U);
  EXPECT_EQ(config.clients.rules[0],
            (ClientRule{.name = "robots", .user = "", .group = "robots", .policy = {.weight = 4, .max_queued = 5}}));
  EXPECT_EQ(config.clients.rules[1],
            (ClientRule{.name = "a",
                        .user = "1000",
                        .group = "audio",
                        .policy = {.realtime = false, .interactive = false, .weight = 2, .max_queued = 5}}));
}

TEST(Config, ARuleForClientsThatCannotWorkIsAnError) {
  EXPECT_EQ(errors("clients: {rules: {all: {weight: 3}}}"),
            "c:1:19: clients.rules.all: says nobody whom it is for; allowed: with user, group or both; what is for all "
            "others stands in clients.default");
  EXPECT_EQ(errors("clients: {rules: {all: }}"), errors("clients: {rules: {all: {}}}"));
  EXPECT_EQ(errors("clients: {rules: {a: {user: b, wieght: 3}}}"),
            "c:1:32: clients.rules.a.wieght: unknown key; allowed: user, group, allowed, classes, weight, connections, "
            "in_flight_per_connection, in_flight, max_queued, tokens_per_minute");
  EXPECT_EQ(errors("clients: {rules: {a: 1}}"),
            "c:1:22: clients.rules.a: \"1\" is not a map; allowed: a map of user, group, allowed, classes, weight, "
            "connections, in_flight_per_connection, in_flight, max_queued, tokens_per_minute");
  EXPECT_EQ(
      errors("clients: {default: {classes: batch fast}}"),
      "c:1:30: clients.default.classes: \"batch fast\" is not possible; allowed: some of realtime, interactive and "
      "batch, with a space between two");
  EXPECT_EQ(errors("clients: {default: {classes: \"\"}}"),
            "c:1:30: clients.default.classes: \"\" is not possible; allowed: at least one of realtime, interactive and "
            "batch");
}

TEST(Config, UnknownKeyNamesItsPlaceAndTheAllowedOnes) {
  EXPECT_EQ(errors("log:\n  levle: info\n"),
            "c:2:3: log.levle: unknown key; allowed: level, file, prompts, "
            "slow_step_factor, slow_step_ms");
  EXPECT_EQ(
      errors("modle: {path: x, deep: {er: 1}}"),
      "c:1:1: modle: unknown key; allowed: model, engine, memory, device, power, lossy, cache, sessions, server, log, "
      "metrics, "
      "clients");
  EXPECT_EQ(errors("engine.threads: 1"),
            "c:1:1: \"engine.threads\" is not a key; keys are lower-case words, in maps within each other");
}

TEST(Config, WrongTypeNamesItsPlaceAndWhatIsAllowed) {
  EXPECT_EQ(errors("engine:\n  threads: many\n"),
            "c:2:12: engine.threads: \"many\" is not possible; allowed: a whole number from 0 to 1024");
  EXPECT_EQ(errors("engine: {threads: \"4\"}"),
            "c:1:19: engine.threads: \"4\" is not possible; allowed: a whole number from 0 to 1024");
  EXPECT_EQ(errors("log: {prompts: yes}"), "c:1:16: log.prompts: \"yes\" is not possible; allowed: true or false");
  EXPECT_EQ(errors("log: {level: loud}"),
            "c:1:14: log.level: \"loud\" is not possible; allowed: trace, debug, info, warning, error");
  EXPECT_EQ(errors("log: {level: {a: 1}}"), "c:1:7: log.level: is a map; allowed: trace, debug, info, warning, error");
  EXPECT_EQ(errors("log:\n  file:\n"),
            "c:2:3: log.file: has no value; allowed: 0 to 4095 bytes without control characters");
  EXPECT_EQ(errors("log: 5"),
            "c:1:6: log: \"5\" is not a map; allowed: a map of level, file, prompts, slow_step_factor, "
            "slow_step_ms");
  EXPECT_EQ(errors("just words"), "c:1:1: \"just words\" is not a map of keys and values");
}

TEST(Config, ImpossibleValueNamesItsPlaceAndTheRange) {
  const auto value = [](std::string_view text) {
    const std::string message = errors(text);
    return message.substr(message.find(" is not possible; ") + 1);
  };
  EXPECT_EQ(value("engine: {max_running: 0}"), "is not possible; allowed: a whole number from 1 to 65536");
  EXPECT_EQ(value("engine: {threads: -1}"), "is not possible; allowed: a whole number from 0 to 1024");
  EXPECT_EQ(value("engine: {threads: 4294967297}"), "is not possible; allowed: a whole number from 0 to 1024");
  EXPECT_EQ(value("engine: {threads: 99999999999999999999999}"),
            "is not possible; allowed: a whole number from 0 to 1024");
  EXPECT_EQ(value("engine: {backend: cuda}"), "is not possible; allowed: auto, ref, cpu");
  EXPECT_EQ(value("engine: {isa: neon}"), "is not possible; allowed: auto, avx512_vnni, avx2");
  EXPECT_EQ(value("memory: {budget: 12}"),
            "is not possible; allowed: auto, or a size from 1.00 MiB to 1024 TiB, such as 512MiB");
  for (const std::string share : {"1.01", "-0.1", "nan", "inf", "5 %", "\"0.5\""})
    EXPECT_EQ(value("lossy: {skip_below: " + share + "}"), "is not possible; allowed: a number from 0 to 1") << share;
  EXPECT_EQ(value("server: {limits: {queued_bytes: 1}}"),
            "is not possible; allowed: a size from 64.0 KiB to 64.0 MiB, such as 512MiB");
  EXPECT_EQ(value("server: {socket: \"\"}"), "is not possible; allowed: 1 to 107 bytes without control characters");
  EXPECT_EQ(value("server: {socket: \"/a\\0b\"}"),
            "is not possible; allowed: 1 to 107 bytes without control characters");
  EXPECT_EQ(value("server: {socket: " + std::string(108, 'a') + "}"),
            "is not possible; allowed: 1 to 107 bytes without control characters");
  for (const std::string mode : {"0080", "01660", "0x1ff", "0066", "-0660", "rw"}) {
    EXPECT_EQ(
        value("server: {mode: \"" + mode + "\"}"),
        "is not possible; allowed: octal permissions from \"0600\" to \"0777\" that let the owner read and write");
  }
}

TEST(Config, StepMustHoldTheRunningSequences) {
  EXPECT_EQ(errors("engine:\n  max_rows_per_step: 8\n"),
            "c:2:22: engine.max_running: 16 sequences do not fit in a step of 8 rows; allowed: at most "
            "engine.max_rows_per_step");
  EXPECT_EQ(parsed("engine: {max_rows_per_step: 8, max_running: 8}").engine.max_running, 8U);
}

TEST(Config, KeyGivenTwiceNamesBothLines) {
  EXPECT_EQ(errors("log:\n  level: info\n  level: info\n"),
            "c:3:3: log.level: given twice, first in line 2; allowed: once");
  EXPECT_EQ(errors("log: {level: info}\n\nlog: {level: trace}\n"),
            "c:3:1: log: given twice, first in line 1; allowed: once");
}

TEST(Config, AllErrorsAreReportedInTheOrderOfTheFile) {
  EXPECT_EQ(
      errors("engine:\n  threads: x\n  speed: 9\nlog: [1, {a: 2}]\nmodel:\n  path: a\n  path: b\n  context: -1\n"),
      "c:2:12: engine.threads: \"x\" is not possible; allowed: a whole number from 0 to 1024\n"
      "c:3:3: engine.speed: unknown key; allowed: backend, isa, threads, pin_threads, max_rows_per_step, max_running, "
      "max_queued, max_step_ms, idle_after\n"
      "c:4:6: log: lists are not allowed; the configuration is made of maps only\n"
      "c:7:3: model.path: given twice, first in line 6; allowed: once\n"
      "c:8:12: model.context: \"-1\" is not possible; allowed: a whole number from 0 to 16777216");
}

TEST(Config, ErrorsBeforeASyntaxErrorAreReportedToo) {
  EXPECT_EQ(errors("log:\n  level: loud\n  file: b: c\n"),
            "c:2:10: log.level: \"loud\" is not possible; allowed: trace, debug, info, warning, error\n"
            "c:3:10: not YAML: illegal map value");
}

// yaml-cpp reads a missing quote as if it stood at the end of the file.
TEST(Config, ValueDoesNotSwallowTheNextLines) {
  for (const std::string_view value : {"\"a", "'a", "a", "|\n   a", "\"a\\\"", "'a''"}) {
    EXPECT_EQ(errors(fmt::format("log:\n  file: {}\n   level\n", value)),
              "c:2:9: log.file: the value does not end in this line; put it in one line, between two quotes")
        << value;
  }
  EXPECT_EQ(parsed("log: {file: 'it''s', level: \"in\\x66o\"}").log.file, "it's");
  EXPECT_EQ(parsed("\xEF\xBB\xBFlog: {file: \"\xC3\xA9 # \\\" \"}\r\n").log.file, "\xC3\xA9 # \" ");
}

TEST(Config, OtherEncodingsAreRefused) {
  const std::string no_text = "not text: it must be UTF-8 without zero bytes";
  EXPECT_EQ(errors(std::string_view("\xFF\xFEl\0o\0g\0", 8)), "c:1:1: " + no_text);
  EXPECT_EQ(errors("\xFF\xFE"), "c:1:1: " + no_text);
  EXPECT_EQ(errors("\xFE\xFFlog: {}\n"), "c:1:1: " + no_text);
  EXPECT_EQ(errors("log:\n  file: a\xFF\n"), "c:2:10: " + no_text);
  EXPECT_EQ(errors(std::string_view("log:\n\0", 6)), "c:2:1: " + no_text);
  EXPECT_EQ(errors("log: {file: \"\xC3\"}\n"), "c:1:14: " + no_text);
}

TEST(Config, ManyErrorsAreCutShort) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "k" + std::to_string(i) + ": 1\n";
  const std::string message = errors(text);
  EXPECT_TRUE(message.ends_with("\nc: and 950 more errors")) << message.substr(message.size() - 100);
}

TEST(Config, AnchorsAliasesTagsAndFurtherDocumentsAreRefused) {
  EXPECT_EQ(errors("model: &m {path: x}\n"),
            "c:1:8: model: anchors are not allowed; write the value out where it is needed");
  EXPECT_EQ(errors("model: {path: &p x}\nlog: {file: *p}\n"),
            "c:1:15: model.path: anchors are not allowed; write the value out where it is needed\n"
            "c:2:13: log.file: aliases are not allowed; write the value out");
  EXPECT_EQ(errors("engine: {threads: !!int 5}"),
            "c:1:19: engine.threads: the tag \"tag:yaml.org,2002:int\" is not allowed");
  EXPECT_EQ(errors("log: {level: info}\n---\nlog: {level: info}\n"),
            "c:2:1: a second document begins; one file is one document");
}

TEST(Config, DeepNestingIsRefusedWithoutRecursion) {
  for (const std::string open : {"[", "{", "{a: ", "[a, ", "? "}) {
    std::string text;
    while (text.size() < 1'000'000) text += open;
    EXPECT_NE(errors(text), "none") << open;
  }
  EXPECT_EQ(errors("a: {a: {a: {a: {a: {a: {a: {a: {a: 1}}}}}}}}").substr(0, 10), "c:1:1: a: ");
}

TEST(Config, FileLargerThanTheLimitIsRefused) {
  std::string text(1 * MiB + 1, '#');
  text[10] = '\n';
  EXPECT_EQ(errors(text), "c:2:1048566: the file goes on beyond 1.00 MiB; a configuration is a page or two");
  text.resize(1 * MiB);
  EXPECT_EQ(parsed(text), Config{});
}

TEST(Config, FileThatCannotBeReadSaysWhy) {
  const Result<Config> missing = load_config("/nowhere/c.yaml", {.backends = kBackends, .isas = kIsas});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ErrorCode::not_found);
  EXPECT_EQ(
      missing.error().message(),
      "/nowhere/c.yaml: cannot read the configuration: No such file or directory; name another file with --config");
  const Result<Config> directory = load_config("/", {.backends = kBackends, .isas = kIsas});
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().message(),
            "/: cannot read the configuration: Is a directory; name another file with --config");
}

// --- several files

class ConfigFolder : public testing::Test {
 protected:
  void write(const std::string& name, std::string_view text) const {
    const auto path = folder_.path() / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  Result<Config> load() const { return load_config((folder_.path() / "siroccod.yaml").string(), kChoices); }
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }

 private:
  test::TemporaryDirectory folder_;
};

TEST_F(ConfigFolder, FilesBesideItAreLaidOverItKeyByKeyInTheOrderOfTheirNames) {
  write("siroccod.yaml", "model: {path: /a.gguf, context: 1024}\nlog: {level: debug}\n");
  write("siroccod.d/20-b.yaml", "model: {path: /c.gguf}\n");
  write("siroccod.d/10-a.yaml", "model: {path: /b.gguf}\nengine: {threads: 3}\n");
  const Config config = load().value();
  EXPECT_EQ(config.model.path, "/c.gguf");
  EXPECT_EQ(config.model.context, 1024U);
  EXPECT_EQ(config.engine.threads, 3U);
  EXPECT_EQ(config.log.level, LogLevel::debug);
}

TEST_F(ConfigFolder, ThereNeedBeNoFolderAndOtherFilesInItAreNotRead) {
  write("siroccod.yaml", "model: {path: /a.gguf}\n");
  EXPECT_EQ(load().value().model.path, "/a.gguf");
  for (const std::string name : {"x.yaml~", "x.yaml.dpkg-old", ".x.yaml", "README"})
    write("siroccod.d/" + name, "nonsense: 1\n");
  EXPECT_EQ(load().value().model.path, "/a.gguf");
}

TEST_F(ConfigFolder, EveryFileIsAsStrictAsTheFirstAndNamedInItsErrors) {
  write("siroccod.yaml", "log: {level: loud}\n");
  write("siroccod.d/a.yaml", "\nmodel: {paht: x}\n");
  write("siroccod.d/b.yaml", "log: {level: info}\n");
  EXPECT_EQ(load().error().message(),
            path("siroccod.yaml") +
                ":1:14: log.level: \"loud\" is not possible; allowed: trace, debug, info, warning, "
                "error\n" +
                path("siroccod.d/a.yaml") + ":2:9: model.paht: unknown key; allowed: path, context");
}

TEST_F(ConfigFolder, WhatDoesNotGoTogetherIsAnErrorOfTheLaterFile) {
  write("siroccod.yaml", "engine: {max_running: 16}\n");
  write("siroccod.d/a.yaml", "engine: {max_rows_per_step: 8}\n");
  EXPECT_TRUE(load().error().message().starts_with(path("siroccod.d/a.yaml") + ":1:29: engine.max_running: 16"))
      << load().error().message();
}

TEST_F(ConfigFolder, ARuleOfAnEarlierFileIsChangedAndNewOnesFollowIt) {
  write("siroccod.yaml", "clients:\n  rules:\n    robots: {group: robots, weight: 4}\n    guests: {user: guest}\n");
  write("siroccod.d/a.yaml",
        "clients:\n  default: {max_queued: 7}\n  rules:\n    kiosk: {user: kiosk}\n    robots: {in_flight: 2}\n");
  const Config config = load().value();
  ASSERT_EQ(config.clients.rules.size(), 3U);
  EXPECT_EQ(config.clients.rules[0].name, "robots");
  EXPECT_EQ(config.clients.rules[0].group, "robots");
  EXPECT_EQ(config.clients.rules[0].policy.weight, 4U);
  EXPECT_EQ(config.clients.rules[0].policy.in_flight, 2U);
  EXPECT_EQ(config.clients.rules[0].policy.max_queued, 7U);  // the default, wherever it stands
  EXPECT_EQ(config.clients.rules[1].name, "guests");
  EXPECT_EQ(config.clients.rules[2].name, "kiosk");
  write("siroccod.d/b.yaml", "clients: {rules: {nobody: {weight: 2}}}\n");
  EXPECT_TRUE(
      load().error().message().starts_with(path("siroccod.d/b.yaml") + ":1:19: clients.rules.nobody: says nobody"))
      << load().error().message();
}

TEST_F(ConfigFolder, AFileThatCannotBeReadIsAnErrorThatNamesIt) {
  write("siroccod.yaml", "");
  std::filesystem::create_directories(path("siroccod.d/a.yaml"));
  EXPECT_EQ(
      load().error().message(),
      path("siroccod.d/a.yaml") + ": cannot read the configuration: Is a directory; make it readable, or move it away");
}

// --- what only the machine knows

TEST_F(ConfigFolder, UsersGroupsAndPathsThatAreNotThereAreAllNamed) {
  Config config;
  EXPECT_TRUE(problems_of(config).empty());
  config.model.path = path("none.gguf");
  config.server.group = "no-such-group";
  config.clients.rules = {{.name = "a", .user = "no-such-user", .group = "", .policy = {}},
                          {.name = "b", .user = "", .group = "no-such-group", .policy = {}},
                          {.name = "c", .user = "0", .group = "", .policy = {}}};
  config.log.file = path("no-folder/log");
  EXPECT_EQ(
      problems_of(config),
      (std::vector<std::string>{
          "model.path: " + path("none.gguf") + ": No such file or directory",
          "server.group: there is no group \"no-such-group\": create it (groupadd --system no-such-group)",
          "clients.rules.a.user: there is no user \"no-such-user\": create it, or name another",
          "clients.rules.b.group: there is no group \"no-such-group\": create it, or name another",
          "log.file: " + path("no-folder/log") + ": its folder " + path("no-folder") + ": No such file or directory"}));
  config = {};
  config.model.path = path("");
  EXPECT_EQ(problems_of(config), std::vector<std::string>{"model.path: " + path("") + ": is no file"});
  write("m.gguf", "GGUF");
  config.model.path = path("m.gguf");
  EXPECT_TRUE(problems_of(config).empty());
}

}  // namespace
}  // namespace sirocco::daemon
