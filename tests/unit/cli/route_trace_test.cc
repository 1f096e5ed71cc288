// Traces of routing: what is one, and whose experts a token gets.
#include "cli/route_trace.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/cli/run_sirocco.h"

namespace sirocco {
namespace {

// 3 tokens, 2 layers of 4 experts, 2 used; the second token lacks the last layer.
constexpr std::string_view kTrace =
    "# a comment\n"
    "turn,phase,step,layer,slot,expert,weight\n"
    "0,0,0,0,0,3,0.7\n"
    "0,0,0,0,1,1,0.3\n"
    "0,0,0,1,0,0,0.7\n"
    "0,0,0,1,1,2,0.3\n"
    "0,0,1,0,0,0,0.7\n"
    "0,0,1,0,1,1,0.3\n"
    "\n"
    "0,1,1,0,0,2,0.7\r\n"
    "0,1,1,0,1,3,0.3\n"
    "0,1,1,1,0,1,0.7\n"
    "0,1,1,1,1,0,0.3\n";

class RouteTraces : public testing::Test {
 protected:
  Result<RouteTrace> read(std::string_view text) {
    std::ofstream(path_) << text;
    return read_route_trace(path_);
  }
  std::string error(std::string_view text) {
    const auto trace = read(text);
    return trace ? "none" : trace.error().message();
  }
  static ModelSpec spec(std::uint32_t experts, std::uint32_t used) {
    ModelSpec spec;
    spec.moe = MoeSpec{.experts = experts, .used = used, .width = 1, .route = {}};
    return spec;
  }

  test::TemporaryFolder folder_;
  std::string path_ = folder_ / "t.csv";
};

using Experts = std::vector<std::uint32_t>;

Experts at(const RouteTraceReplay& replay, std::uint32_t position, std::uint32_t layer) {
  const auto experts = replay.experts(position, layer);
  return {experts.begin(), experts.end()};
}

TEST_F(RouteTraces, AreReadByTheNamesOfTheColumns) {
  const RouteTrace trace = read(kTrace).value();
  EXPECT_EQ(trace.name, path_);
  EXPECT_EQ(trace.layers, 2U);
  EXPECT_EQ(trace.experts, 4U);
  const std::vector<std::vector<Experts>> tokens = {{{1, 3}, {0, 2}}, {{0, 1}, {}}, {{2, 3}, {0, 1}}};
  EXPECT_EQ(trace.tokens, tokens);
  EXPECT_EQ(read("expert,layer,step,phase,turn\n5,0,0,0,0\n").value().experts, 6U);
}

TEST_F(RouteTraces, WhatIsNoneIsSaidByItsLine) {
  EXPECT_EQ(read_route_trace(folder_ / "none").error().message(), std::string(folder_ / "none") + ": cannot be read");
  EXPECT_EQ(error(""), path_ + ": no token is in it");
  EXPECT_EQ(error("turn,phase,step,layer,expert\n"), path_ + ": no token is in it");
  EXPECT_EQ(error("turn,phase,step,layer,slot\n"),
            path_ +
                ": line 1: no column \"expert\" in the first line that is no comment: a trace of routing in CSV has "
                "turn, phase, step, layer, expert");
  const std::string head = "#\nturn,phase,step,layer,expert\n0,0,0,0,1\n";
  EXPECT_EQ(error(head + "0,0,0,0\n"), path_ + ": line 4: there are 4 cells, \"expert\" is missing");
  EXPECT_EQ(error(head + "0,0,0,0,-1\n"), path_ + ": line 4: expert is \"-1\", not a number below 1048576");
  EXPECT_EQ(error(head + "0,0,0,,1\n"), path_ + ": line 4: layer is \"\", not a number below 4096");
  EXPECT_EQ(error(head + "0,0,0,4096,1\n"), path_ + ": line 4: layer is \"4096\", not a number below 4096");
  EXPECT_EQ(error(head + "0,0,0,0,99999999999\n"),
            path_ + ": line 4: expert is \"99999999999\", not a number below 1048576");
  EXPECT_EQ(error(head + "0,0,0,0,1\n"), path_ + ": line 4: expert 1 of layer 0 is there twice for one token");
}

TEST_F(RouteTraces, TokensAndLayersBeginAgainAtTheEnd) {
  auto replay = RouteTraceReplay::create(read(kTrace).value(), spec(4, 2)).value();
  EXPECT_EQ(replay.tokens(), 3U);
  EXPECT_EQ(at(replay, 0, 0), (Experts{1, 3}));
  EXPECT_EQ(at(replay, 0, 1), (Experts{0, 2}));
  EXPECT_EQ(at(replay, 0, 2), (Experts{1, 3}));
  EXPECT_EQ(at(replay, 0, 5), (Experts{0, 2}));
  EXPECT_EQ(at(replay, 2, 0), (Experts{2, 3}));
  EXPECT_EQ(at(replay, 3, 0), (Experts{1, 3}));
  EXPECT_EQ(at(replay, 1, 1), (Experts{0, 1}));  // the next token's
  replay.set(100, 1);                            // an answer goes on
  EXPECT_EQ(at(replay, 100, 0), (Experts{0, 1}));
  EXPECT_EQ(at(replay, 101, 0), (Experts{2, 3}));
  EXPECT_EQ(at(replay, 102, 0), (Experts{1, 3}));
  replay.set(2, 3'000'000'000'000);
  EXPECT_EQ(at(replay, 2, 0), (Experts{1, 3}));
}

TEST_F(RouteTraces, OfAnotherModelAreRefused) {
  const RouteTrace trace = read(kTrace).value();
  const auto refusal = [&](const ModelSpec& model) {
    return RouteTraceReplay::create(trace, model).error().message().substr(path_.size());
  };
  EXPECT_EQ(refusal(spec(8, 2)), ": a trace of 4 experts in each layer (the largest index is 3), the model has 8");
  EXPECT_EQ(refusal(spec(4, 1)),
            ": token 0 of the trace uses 2 experts in layer 0, the model uses 1 (model synth --used N)");
  EXPECT_EQ(refusal(ModelSpec()), ": the model has no experts to choose");
  // A layer that no token has.
  const RouteTrace empty = read("turn,phase,step,layer,expert\n0,0,0,1,3\n0,0,0,1,1\n").value();
  EXPECT_EQ(RouteTraceReplay::create(empty, spec(4, 2)).error().code(), ErrorCode::invalid_argument);
}

TEST_F(RouteTraces, BenchTakesThem) {
  std::ofstream(path_) << kTrace;
  const std::string model = folder_ / "m.gguf";
  ASSERT_EQ(test::run_sirocco({"model", "synth", model, "--preset", "tiny-moe"}).code, 0);
  const std::vector<std::string> bench = {"bench",      "--model", model,      "--prompt", "5",
                                          "--generate", "2",       "--repeat", "1",        "--json"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), bench.begin(), bench.end());
    return test::run_sirocco(more);
  };
  const auto plain = with({});
  ASSERT_EQ(plain.code, 0) << plain.err;
  EXPECT_TRUE(nlohmann::json::parse(plain.out)["route_trace"].is_null());
  const auto replayed = with({"--route-trace", path_});
  ASSERT_EQ(replayed.code, 0) << replayed.err;
  EXPECT_EQ(nlohmann::json::parse(replayed.out)["route_trace"], path_);
  EXPECT_EQ(with({"--route-trace", model}).code, 1);
  EXPECT_EQ(with({"--route-trace", path_, "--foresight"}).code, 2);  // it asks the routers
  ASSERT_EQ(test::run_sirocco({"model", "synth", model, "--preset", "tiny-moe", "--used", "3", "--force"}).code, 0);
  const auto other = with({"--route-trace", path_});
  EXPECT_EQ(other.code, 1);
  EXPECT_NE(other.err.find("the model uses 3"), std::string::npos) << other.err;
}

}  // namespace
}  // namespace sirocco
