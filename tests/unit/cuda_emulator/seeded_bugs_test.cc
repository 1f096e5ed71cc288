// Every seeded error is caught, in one of six orders of threads and streams, by each build that can see it; programs
// without an error pass in all of them. Each run is a process of its own: an error ends it.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tests/unit/cuda_emulator/cases.h"

namespace sirocco::test {

namespace {

#if defined(__SANITIZE_THREAD__)
constexpr bool kTsan = true;
#else
constexpr bool kTsan = false;
#endif

// Compiled by clang, the emulator does not look at arguments, and AddressSanitizer says what is done with them:
// ThreadSanitizer does not.
constexpr bool kArguments = __has_builtin(__builtin_clear_padding);

constexpr std::array kOrders = {"CUDAEMU_SCHED=late CUDAEMU_SEED=1",   "CUDAEMU_SCHED=eager CUDAEMU_SEED=1",
                                "CUDAEMU_SCHED=random CUDAEMU_SEED=1", "CUDAEMU_SCHED=random CUDAEMU_SEED=2",
                                "CUDAEMU_SCHED=random CUDAEMU_SEED=3", "CUDAEMU_SCHED=random CUDAEMU_SEED=4"};

struct Child {
  int status;
  std::string output;
};

Child run_in_child(const std::string& name, const std::string& bug, const std::string& order) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  const std::string command = order + " SEEDED_CASE=" + name + " SEEDED_BUG=" + bug +
                              " ASAN_OPTIONS=detect_stack_use_after_return=1 TSAN_OPTIONS=halt_on_error=1 '" + self +
                              "' --gtest_also_run_disabled_tests --gtest_filter=DISABLED_Child.Runs 2>&1";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), [](FILE*) { return 0; });
  Child run{-1, {}};
  std::array<char, 4096> buffer;
  while (const std::size_t n = fread(buffer.data(), 1, buffer.size(), pipe.get())) run.output.append(buffer.data(), n);
  run.status = pclose(pipe.get());
  return run;
}

struct Seeded {
  std::string name;
  std::string bug;
  std::string report;  // what the first run that fails must say, in every build; "": anything
  bool tsan_only = false;
};
void PrintTo(const Seeded& seeded, std::ostream* out) {
  *out << seeded.name << " " << seeded.bug;
}

const std::vector<Seeded> kAllSeeded = {
    {"row_sums", "off_by_one", ""},
    {"argmax", "no_sync", ""},
    {"argmax", "divergent", "divergent-"},
    {"paged", "war", ""},
    {"paged", "no_copy_wait", ""},
    {"paged", "uninit", ""},
    {"multiply", "no_syncwarp", "data race",
     true},  // in this emulator a lane's order among the others is never so unlucky
    {"grid", "grid_race", ""},
    {"pipe", "no_full_wait", ""},
    {"pipe", "no_empty_wait", ""},
    {"pipe", "host_reuse", ""},
    {"pipe", "no_final_sync", ""},
    {"pipe", "host_deref", "host-deref"},
    {"pipe", "host_pointer", kArguments ? "host-pointer" : "AddressSanitizer"},
    {"pipe", "copy_tail", "device-oob"},
    {"pipe", "pageable", "pageable-copy"},
    {"pipe", "freed", kArguments ? "use-after-free" : "AddressSanitizer"},
    {"graph", "branch_race", "data race", true},  // sums in any order are the same
};

// Those that this build can see.
std::vector<Seeded> seeded_bugs() {
  std::vector<Seeded> result;
  std::copy_if(kAllSeeded.begin(), kAllSeeded.end(), std::back_inserter(result), [](const Seeded& seeded) {
    const bool of_arguments = seeded.report == "AddressSanitizer";
    return kTsan ? !of_arguments : !seeded.tsan_only;
  });
  return result;
}

class SeededBugInChild : public testing::TestWithParam<Seeded> {};

TEST_P(SeededBugInChild, IsCaught) {
  const Seeded& seeded = GetParam();
  for (const char* order : kOrders) {
    const Child run = run_in_child(seeded.name, seeded.bug, order);
    if (run.status == 0) continue;
    EXPECT_NE(run.output.find(seeded.report), std::string::npos) << run.output;
    return;
  }
  ADD_FAILURE() << "not caught in any order";
}

INSTANTIATE_TEST_SUITE_P(, SeededBugInChild, testing::ValuesIn(seeded_bugs()),
                         [](const auto& each) { return each.param.name + "_" + each.param.bug; });

class RightProgramInChild : public testing::TestWithParam<const char*> {};

TEST_P(RightProgramInChild, PassesInEveryOrder) {
  // ThreadSanitizer takes a second for each run, and sees races in any order.
  for (const char* order : std::span(kOrders).first(kTsan ? 1 : kOrders.size())) {
    const Child run = run_in_child(GetParam(), "", order);
    EXPECT_EQ(run.status, 0) << order << "\n" << run.output;
  }
}

INSTANTIATE_TEST_SUITE_P(, RightProgramInChild,
                         testing::Values("row_sums", "argmax", "paged", "multiply", "grid", "pipe", "graph"),
                         [](const auto& each) { return std::string(each.param); });

// What the children run.
TEST(DISABLED_Child, Runs) {
  const char* name = std::getenv("SEEDED_CASE");
  const char* bug = std::getenv("SEEDED_BUG");
  ASSERT_TRUE(name != nullptr && bug != nullptr) << "run by the tests above";
  EXPECT_TRUE(run_case(name, bug));
}

}  // namespace

}  // namespace sirocco::test
