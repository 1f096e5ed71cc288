#include "engine/base/timeline.h"

#include <algorithm>
#include <array>

namespace sirocco {
namespace {

struct KindInfo {
  std::string_view name;
  Timeline::Share share = Timeline::Share::none;
};

constexpr std::array kKinds = {
    // in the order of Timeline::Kind
    KindInfo{"prefill"},
    KindInfo{"decode"},
    KindInfo{"step"},
    KindInfo{"layer"},
    KindInfo{"embed", Timeline::Share::computing},
    KindInfo{"attention", Timeline::Share::computing},
    KindInfo{"dense FFN", Timeline::Share::computing},
    KindInfo{"route", Timeline::Share::computing},
    KindInfo{"foresee", Timeline::Share::computing},
    KindInfo{"gate, up", Timeline::Share::computing},
    KindInfo{"down", Timeline::Share::computing},
    KindInfo{"sum", Timeline::Share::computing},
    KindInfo{"logits", Timeline::Share::computing},
    KindInfo{"request"},
    KindInfo{"submit"},
    KindInfo{"wait", Timeline::Share::waiting},
    KindInfo{"read"},
};
static_assert(kKinds.size() == static_cast<std::size_t>(Timeline::Kind::read) + 1);

}  // namespace

void Timeline::start() {
  events_.clear();
  left_out_ = 0;
  totals_ = {};
  start_ns_ = clock();
  reading_since_ns_ = start_ns_;
  recording_ = true;
}

std::uint64_t Timeline::reads_begin(std::size_t reads) {
  const std::uint64_t begun = clock();
  if (under_way_ == 0) reading_since_ns_ = begun;
  under_way_ += reads;
  return begun;
}

void Timeline::read_ends(Event event, std::uint64_t begun_ns) {
  const std::uint64_t end = clock();
  totals_.bytes_read += event.bytes;
  if (--under_way_ == 0) totals_.reading_ns += end - reading_since_ns_;
  if (!recording_) return;
  event.begin_ns = std::max(begun_ns, start_ns_) - start_ns_;
  event.end_ns = end - start_ns_;
  record(event);
}

void Timeline::record(const Event& event) {
  const std::uint64_t took = event.end_ns - event.begin_ns;
  if (share(event.kind) == Share::computing) totals_.computing_ns += took;
  if (share(event.kind) == Share::waiting) totals_.waiting_ns += took;
  if (events_.size() < most_) {
    events_.push_back(event);
  } else {
    ++left_out_;
  }
}

Timeline::Totals Timeline::totals() const {
  const std::uint64_t at = clock();
  Totals totals = totals_;
  totals.ns = at - start_ns_;
  if (under_way_ != 0) totals.reading_ns += at - reading_since_ns_;
  return totals;
}

std::string_view Timeline::name(Kind kind) {
  return kKinds.at(static_cast<std::size_t>(kind)).name;
}

Timeline::Share Timeline::share(Kind kind) {
  return kKinds.at(static_cast<std::size_t>(kind)).share;
}

}  // namespace sirocco
