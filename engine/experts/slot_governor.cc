#include "engine/experts/slot_governor.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "engine/base/memory_pressure.h"

namespace sirocco {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kInterval(500);
constexpr milliseconds kWaitingInterval(5);  // while somebody waits for the slots to be there
constexpr milliseconds kLongestWait(5000);
constexpr milliseconds kCalm(10'000);  // after a warning, before slots are taken again

}  // namespace

std::size_t slots_for(const MemoryReading& memory) {
  const std::size_t least = std::min(memory.least, memory.planned);
  const std::size_t now = std::clamp(memory.slots, least, memory.planned);
  std::size_t slots = now;
  if (memory.free < memory.reserve / 2) {
    const std::uint64_t missing = (memory.reserve - memory.free + memory.slot_bytes - 1) / memory.slot_bytes;
    slots = now - std::min<std::uint64_t>(missing, now - least);
  } else if (memory.free > memory.reserve && memory.calm) {
    slots = std::min<std::uint64_t>(memory.planned, now + (memory.free - memory.reserve) / memory.slot_bytes);
  }
  if (memory.warned) slots = std::min(slots, std::max(least, now - std::max<std::size_t>(now / 8, 1)));
  if (slots == memory.planned) return slots;
  return std::max(least, slots / memory.at_once * memory.at_once);
}

SlotGovernor::SlotGovernor(ExpertSlots& experts, std::size_t planned, std::uint64_t reserve,
                           std::function<void()> changed)
    : experts_(experts),
      changed_(std::move(changed)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      planned_(planned),
      reserve_(reserve),
      thread_([this] {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, nullptr);
        pthread_setname_np(pthread_self(), "memory");
        loop();
      }) {}

SlotGovernor::~SlotGovernor() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  eventfd_write(wake_, 1);
  thread_.join();
  close(wake_);
}

void SlotGovernor::set_plan(std::size_t planned, std::uint64_t reserve, std::function<void()> done) {
  {
    const std::lock_guard lock(mutex_);
    planned_ = planned;
    reserve_ = reserve;
    asked_.push_back(std::move(done));
  }
  eventfd_write(wake_, 1);
}

std::size_t SlotGovernor::planned() const {
  const std::lock_guard lock(mutex_);
  return planned_;
}

void SlotGovernor::set_resting(bool resting) {
  {
    const std::lock_guard lock(mutex_);
    resting_ = resting;
  }
  eventfd_write(wake_, 1);
}

void SlotGovernor::loop() {
  const MemoryPressure pressure;
  std::vector<pollfd> watched = {{.fd = wake_, .events = POLLIN, .revents = 0}};
  if (experts_.of_host()) watched.insert(watched.end(), pressure.watched().begin(), pressure.watched().end());
  while (true) {
    bool resting = false;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) break;
      resting = resting_;
    }
    const milliseconds interval = !waiting_.empty() ? kWaitingInterval : resting ? milliseconds(-1) : kInterval;
    poll(watched.data(), watched.size(), static_cast<int>(interval.count()));
    eventfd_t ignored = 0;
    eventfd_read(wake_, &ignored);
    decide(experts_.of_host() && pressure.warned(watched.data() + 1));
    tell_done();
  }
  waiting_.insert(waiting_.end(), asked_.begin(), asked_.end());
  for (const auto& done : waiting_) done();
}

void SlotGovernor::decide(bool warned) {
  MemoryReading memory = {.free = experts_.free_memory(),
                          .slot_bytes = experts_.slot_bytes(),
                          .slots = experts_.slots(),
                          .least = experts_.least_slots(),
                          .at_once = experts_.slots_at_once(),
                          .warned = warned};
  const auto now = Clock::now();
  if (warned) warned_ = now;
  bool resting = false;
  memory.calm = !warned_ || now - *warned_ > kCalm;
  {
    const std::lock_guard lock(mutex_);
    memory.planned = planned_;
    memory.reserve = reserve_;
    resting = resting_;
    waiting_.insert(waiting_.end(), asked_.begin(), asked_.end());
    if (!asked_.empty()) waiting_since_ = now;
    asked_.clear();
  }
  const std::size_t slots = resting ? std::min(memory.least, memory.planned) : slots_for(memory);
  if (slots == experts_.wished_slots()) return;  // which others set, too: who releases memory, a device that has none
  experts_.set_slots(slots);
  changed_();
}

void SlotGovernor::tell_done() {
  if (waiting_.empty() || (experts_.slots() != experts_.wished_slots() && Clock::now() - waiting_since_ < kLongestWait))
    return;
  for (const auto& done : waiting_) done();
  waiting_.clear();
}

}  // namespace sirocco
