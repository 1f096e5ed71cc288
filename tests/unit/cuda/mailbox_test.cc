// A layer's question to the host and the answer, while the stream waits.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>

#include "kernels/cuda/kernels.h"
#include "tests/unit/cuda/device.h"

namespace sirocco::cuda {
namespace {

constexpr std::uint32_t kRows = 9;
constexpr std::uint32_t kUsed = 3;
constexpr std::uint32_t kExperts = 40;
constexpr std::uint32_t kWidth = 70;
constexpr std::uint32_t kLayers = 2;
constexpr std::uint32_t kAssignments = kRows * kUsed;

template <class T>
class PinnedBuffer {
 public:
  explicit PinnedBuffer(std::size_t count) {
    test::must(cudaHostAlloc(reinterpret_cast<void**>(&data_), count * sizeof(T), cudaHostAllocDefault),
               "cudaHostAlloc");
    std::memset(static_cast<void*>(data_), 0, count * sizeof(T));
  }
  ~PinnedBuffer() { cudaFreeHost(data_); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  T* data() const { return data_; }
  T& operator[](std::size_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
};

// Rows that are routed at random; every third expert is on the device.
class MailboxTest : public testing::Test {
 protected:
  void SetUp() override { SIROCCO_NEEDS_DEVICE(); }

  static bool missing(std::uint32_t expert) { return expert % 3 != 0; }

  struct Memory {
    test::DeviceBuffer<float> logits{kRows * kExperts};
    test::DeviceBuffer<std::uint32_t> chosen{kAssignments};
    test::DeviceBuffer<float> weights{kAssignments};
    test::DeviceBuffer<std::uint32_t> place{kAssignments};
    test::DeviceBuffer<std::uint32_t> row_of{kAssignments};
    test::DeviceBuffer<std::uint32_t> first{kExperts + 1};
    test::DeviceBuffer<ExpertTile> tiles{kAssignments};
    test::DeviceBuffer<std::uint32_t> tile_count{1};
    test::DeviceBuffer<DeviceExpert> table{kExperts};
    test::DeviceBuffer<float> x{kRows * kWidth};
    test::DeviceBuffer<float> expert_out{kAssignments * kWidth};
    test::DeviceBuffer<std::uint32_t> words{std::vector<std::uint32_t>(3)};  // posts, missing_now, blocks_done
    test::DeviceBuffer<std::uint32_t> rows_of_expert{kLayers * kExperts};
    PinnedBuffer<std::uint32_t> host_words{4};  // posted, layer, missing, answered
    PinnedBuffer<MissingExpert> experts{kExperts};
    PinnedBuffer<std::uint32_t> host_row_of{kAssignments};
    PinnedBuffer<float> rows{kRows * kWidth};
    PinnedBuffer<float> out{kAssignments * kWidth};
  };

  MailArguments mail(std::uint32_t layer) const {
    MailArguments a;
    a.rows = kRows;
    a.used = kUsed;
    a.experts = kExperts;
    a.width = kWidth;
    a.layer = layer;
    a.experts_table = m_.table.data();
    a.lists = {m_.chosen.data(), m_.weights.data(), m_.place.data(),     m_.row_of.data(),
               m_.first.data(),  m_.tiles.data(),   m_.tile_count.data()};
    a.x = m_.x.data();
    a.expert_out = m_.expert_out.data();
    a.mailbox = {.posted = &m_.host_words[0],
                 .layer = &m_.host_words[1],
                 .missing = &m_.host_words[2],
                 .experts = m_.experts.data(),
                 .row_of = m_.host_row_of.data(),
                 .rows = m_.rows.data(),
                 .answered = &m_.host_words[3],
                 .out = m_.out.data(),
                 .posts = m_.words.data(),
                 .missing_now = m_.words.data() + 1,
                 .blocks_done = m_.words.data() + 2,
                 .rows_of_expert = m_.rows_of_expert.data()};
    return a;
  }

  void enqueue(std::uint32_t layer, cudaStream_t stream) const {
    const MailArguments a = mail(layer);
    const RouteArguments routing = {.rows = kRows,
                                    .experts = kExperts,
                                    .used = kUsed,
                                    .tile_rows = 8,
                                    .logits = m_.logits.data(),
                                    .experts_table = a.experts_table,
                                    .lists = a.lists};
    test::must(route(routing, stream), "route");
    test::must(post_missing(a, stream), "post_missing");
    test::must(collect_missing(a, stream), "collect_missing");
  }

  void fill(bool any_missing) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    x_.resize(kRows * kWidth);
    std::vector<float> logits(kRows * kExperts);
    for (float& logit : logits) logit = normal(random);
    for (float& value : x_) value = normal(random);
    m_.logits.upload(logits);
    m_.x.upload(x_);
    m_.expert_out.upload(std::vector<float>(kAssignments * kWidth, -1));
    std::vector<DeviceExpert> table(kExperts);
    for (std::uint32_t e = 0; e < kExperts; ++e)
      if (!any_missing || !missing(e)) table[e].gate = reinterpret_cast<const std::byte*>(m_.x.data());
    m_.table.upload(table);
  }

  std::uint32_t posted() const { return std::atomic_ref(m_.host_words[0]).load(std::memory_order_acquire); }
  void answer(std::uint32_t number) const {
    std::atomic_ref(m_.host_words[3]).store(number, std::memory_order_release);
  }
  // Until the stream has asked.
  void wait_for_post(std::uint32_t number, cudaStream_t stream) const {
    while (posted() != number) ASSERT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
  }

  Memory m_;
  std::vector<float> x_;
};

TEST_F(MailboxTest, AsksForTheMissingExpertsWithTheirRows) {
  fill(true);
  const test::Stream stream;
  enqueue(1, stream);
  wait_for_post(1, stream);
  EXPECT_EQ(m_.host_words[1], 1U);
  const std::uint32_t count = m_.host_words[2];
  std::vector<std::uint32_t> listed;
  std::vector<bool> wanted(kRows);
  std::uint32_t end = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const MissingExpert& expert = m_.experts[i];
    EXPECT_TRUE(missing(expert.expert));
    EXPECT_GE(expert.first, end);
    EXPECT_GT(expert.count, 0U);
    listed.push_back(expert.expert);
    end = expert.first + expert.count;
    for (std::uint32_t place = expert.first; place < end; ++place) wanted[m_.host_row_of[place]] = true;
  }
  EXPECT_TRUE(std::is_sorted(listed.begin(), listed.end()));
  for (std::size_t row = 0; row < kRows; ++row)
    for (std::size_t i = 0; wanted[row] && i < kWidth; ++i)
      ASSERT_EQ(m_.rows[row * kWidth + i], x_[row * kWidth + i]) << row;
  answer(1);
  stream.wait();
  // Of all experts, those of the device included.
  std::vector<std::uint32_t> expected;
  const std::vector<std::uint32_t> chosen = m_.chosen.download();
  const std::vector<std::uint32_t> rows_of_expert = m_.rows_of_expert.download();
  for (std::uint32_t e = 0; e < kExperts; ++e) {
    const auto rows = static_cast<std::uint32_t>(std::count(chosen.begin(), chosen.end(), e));
    EXPECT_EQ(rows_of_expert[kExperts + e], rows) << e;
    if (rows != 0 && missing(e)) expected.push_back(e);
  }
  EXPECT_EQ(listed, expected);
}

TEST_F(MailboxTest, TheAnswerTakesItsPlacesAndNoOthers) {
  fill(true);
  const test::Stream stream;
  for (std::uint32_t number = 1; number <= 2; ++number) {
    enqueue(number - 1, stream);
    wait_for_post(number, stream);
    for (int turn = 0; turn < 20; ++turn) EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);  // it waits
    for (std::size_t i = 0; i < kAssignments * kWidth; ++i) m_.out[i] = static_cast<float>(i + number);
    answer(number);
    stream.wait();
    const std::vector<float> out = m_.expert_out.download();
    const std::vector<std::uint32_t> chosen = m_.chosen.download();
    const std::vector<std::uint32_t> place = m_.place.download();
    for (std::size_t i = 0; i < kAssignments; ++i)
      for (std::size_t j = place[i] * kWidth; j < (place[i] + 1) * kWidth; ++j)
        ASSERT_EQ(out[j], missing(chosen[i]) ? static_cast<float>(j + number) : -1) << i;
  }
}

TEST_F(MailboxTest, ALayerWithoutMissesDoesNotAsk) {
  fill(false);
  const test::Stream stream;
  enqueue(0, stream);
  stream.wait();
  EXPECT_EQ(posted(), 0U);
}

TEST_F(MailboxTest, NothingWaitsForAHostThatGaveUp) {
  fill(true);
  const test::Stream stream;
  answer(kHostGaveUp);
  enqueue(0, stream);
  enqueue(1, stream);
  stream.wait();
  EXPECT_EQ(posted(), 2U);
}

TEST_F(MailboxTest, AGraphWaitsInTheMiddleOfIt) {
  fill(true);
  const test::Stream stream;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  test::must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  enqueue(0, stream);
  enqueue(1, stream);
  test::must(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  test::must(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
  std::uint32_t number = 0;
  for (int replay = 0; replay < 2; ++replay) {
    test::must(cudaGraphLaunch(exec, stream), "cudaGraphLaunch");
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      wait_for_post(++number, stream);
      EXPECT_EQ(m_.host_words[1], layer);
      m_.out[m_.experts[0].first * kWidth] = static_cast<float>(number);
      answer(number);
    }
    stream.wait();
    EXPECT_EQ(m_.expert_out.download()[m_.experts[0].first * kWidth], static_cast<float>(number));
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
}

}  // namespace
}  // namespace sirocco::cuda
