// Drives the scheduler as the engine does, with a random workload and a simulated clock, and checks its promises at
// every step against books of its own. The same seed gives the same run.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine/sched/step_plan.h"

namespace sirocco {

struct SimulatedRun {
  std::string broken;  // the first promise that did not hold: its name, and what was seen. Empty: all held
  std::uint64_t steps = 0;
  std::uint64_t rows = 0;
  std::map<std::string, std::uint64_t> seen;  // how often each kind of event happened
};

class Simulator {
 public:
  explicit Simulator(std::uint64_t seed);
  SimulatedRun run();

 private:
  struct Arrival {
    SchedRequest request;
    double cancelled = 0;           // 0: never. Before it arrives: ignored
    std::uint32_t stops_after = 0;  // tokens of the answer, at which the model ends it
  };
  // A request as the simulator knows it, from what it was given.
  struct Books {
    SchedRequest request;
    std::uint32_t computed = 0;   // rows of the prompt
    std::uint32_t generated = 0;  // tokens
    std::uint32_t stops_after = 0;
    bool ended = false;
  };

  void make_mixed();
  void make_saturated();
  SchedRequest random_request(double arrival);
  std::uint32_t random(std::uint32_t below) { return static_cast<std::uint32_t>(generator_() % below); }
  double fraction() { return static_cast<double>(generator_() >> 11) * 0x1p-53; }

  void arrive();
  void cancel();
  void change_prompts();
  void return_prompts();
  void step();
  void finish();
  void end(RequestId id, const char* how);

  void fail(const char* promise, const std::string& what);
  void check_admission(const SchedRequest& request, const Admission& admission);
  void check_plan();
  void check_endings();
  void check_rows();
  void check_left_out();
  void check_left_out(const SchedRequest& r, std::uint32_t free, bool streams);
  void check_realtime(std::uint32_t free);
  void check_realtime_prompt();
  double time_bound(std::uint32_t decode_rows) const;
  void check_time(bool streams);
  void check_ageing();
  void check_books();
  void check_fairness();
  bool aged(RequestClass request_class) const;
  bool planned(const SchedRequest& r) const;
  bool realtime_prompt() const;  // is in the plan

  std::uint64_t seed_;
  std::mt19937_64 generator_;
  SchedState state_;
  StepPlan plan_;
  StepPlan again_;
  CostModel truth_;
  double now_ = 0;
  double slack_ = 0.5;             // how late cancels come after arrivals at most, seconds
  std::vector<Arrival> arrivals_;  // by time
  std::size_t arrived_ = 0;
  std::multimap<double, RequestId> cancels_;
  std::map<RequestId, Books> books_;
  std::set<RequestId> moved_in_;                      // in this step
  std::array<std::uint32_t, kClasses> without_ = {};  // a row, though the class held blocks and had rows to compute
  bool saturated_ = false;
  std::uint32_t uids_ = 1;
  std::map<std::uint32_t, double> served_;  // rows by weight, of each uid
  SimulatedRun run_;
};

}  // namespace sirocco
