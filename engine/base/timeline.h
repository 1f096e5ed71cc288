// When the engine thread did what, and which reads were under way meanwhile: what `sirocco bench --trace` records. A
// fixed number of events; what comes after them is counted and left out, but for the totals, which hold everything. A
// null Timeline records nothing and costs a branch. Made by whoever measures, passed by pointer, used by the engine
// thread alone.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sirocco {

class Timeline {
 public:
  enum class Kind : std::uint8_t {
    prefill,  // all steps of the prompts, or of the answers
    decode,
    step,
    layer,
    embed,
    attention,
    dense,
    route,
    foresee,  // the guess at the next layer's experts
    gate_up,
    down,
    sum,
    logits,
    request,  // a layer says what it wants: who leaves is chosen, reads begin
    submit,   // reads are given to the kernel
    wait,     // nothing to compute: for a read
    read,     // from its submission until the engine thread hears of its end
  };
  // What its time counts as; what encloses others counts as nothing.
  enum class Share : std::uint8_t { none, computing, waiting };

  static constexpr std::uint32_t kNone = UINT32_MAX;

  struct Event {
    Kind kind = Kind::step;
    bool failed = false;           // a read
    std::uint8_t extent = 0;       // that a read brings of its expert
    std::uint32_t layer = kNone;   // kNone: of no layer
    std::uint32_t expert = kNone;  // of a read
    std::uint32_t experts = 0;     // how many are computed with, wanted or read
    std::uint32_t rows = 0;        // of all of them
    std::uint64_t bytes = 0;       // of weights computed with, or read from disk
    std::uint64_t begin_ns = 0;    // since start()
    std::uint64_t end_ns = 0;
  };

  // Since start(); those of events that were left out too.
  struct Totals {
    std::uint64_t ns = 0;
    std::uint64_t computing_ns = 0;  // the engine thread, and workers with it
    std::uint64_t waiting_ns = 0;    // the engine thread, for reads
    std::uint64_t reading_ns = 0;    // at least one read under way, as far as the engine thread knew
    std::uint64_t bytes_read = 0;

    Totals operator-(const Totals& earlier) const {
      return {.ns = ns - earlier.ns,
              .computing_ns = computing_ns - earlier.computing_ns,
              .waiting_ns = waiting_ns - earlier.waiting_ns,
              .reading_ns = reading_ns - earlier.reading_ns,
              .bytes_read = bytes_read - earlier.bytes_read};
    }
  };

  // From its construction to its destruction, on the engine thread; spans nest. `event()` may be completed meanwhile.
  class Span {
   public:
    Span(Timeline* timeline, const Event& event)
        : timeline_(timeline != nullptr && timeline->recording_ ? timeline : nullptr) {
      if (timeline_ == nullptr) return;
      event_ = event;
      event_.begin_ns = timeline_->now();
    }
    ~Span() {
      if (timeline_ == nullptr) return;
      event_.end_ns = timeline_->now();
      timeline_->record(event_);
    }
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

    Event& event() { return event_; }

   private:
    Timeline* timeline_;
    Event event_;
  };

  // Address space for so many events; memory is taken as they come.
  explicit Timeline(std::size_t most) : most_(most) { events_.reserve(most); }

  void start();  // drops what was recorded; reads under way stay
  void stop() { recording_ = false; }

  // Reads begin and end whether anything is recorded or not. The time of their beginning is the caller's to keep.
  std::uint64_t reads_begin(std::size_t reads);
  // `event` without its times. One that began before start() begins there.
  void read_ends(Event event, std::uint64_t begun_ns);

  Totals totals() const;
  const std::vector<Event>& events() const { return events_; }  // in the order of their ends
  std::size_t left_out() const { return left_out_; }

  static std::string_view name(Kind kind);
  static Share share(Kind kind);

 private:
  // Since the Timeline was made; events have it since start().
  std::uint64_t clock() const {
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(std::chrono::steady_clock::now() - made_).count());
  }
  std::uint64_t now() const { return clock() - start_ns_; }
  void record(const Event& event);

  const std::chrono::steady_clock::time_point made_ = std::chrono::steady_clock::now();
  const std::size_t most_;
  std::vector<Event> events_;
  std::size_t left_out_ = 0;
  bool recording_ = false;
  std::uint64_t start_ns_ = 0;          // of clock()
  std::size_t under_way_ = 0;           // reads
  std::uint64_t reading_since_ns_ = 0;  // of clock(), while any are
  Totals totals_;
};

}  // namespace sirocco
