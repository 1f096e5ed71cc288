#include "engine/experts/read_shape.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>

#include "engine/experts/residency.h"
#include "engine/experts/resident_weights.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/testing_queue.h"

namespace sirocco {
namespace {

// The shape chosen where each one reads at the rate given, in MiB/s, in the second of three turns; slower in others.
ReadShape chosen_of(const std::vector<double>& rates) {
  ShapeTrial trial(GiB);
  for (int turn = 0; turn < 3; ++turn)
    for (const double rate : rates)
      trial.add(trial.part_bytes(), static_cast<double>(trial.part_bytes() / MiB) / (turn == 1 ? rate : rate * 0.7));
  return trial.chosen();
}

TEST(ShapeTrial, TheShallowestThatReadsAboutAsFastIsChosen) {
  const auto shapes = read_shapes();
  ASSERT_EQ(shapes.size(), 7U);
  EXPECT_TRUE(std::is_sorted(shapes.begin(), shapes.end(),
                             [](const ReadShape& a, const ReadShape& b) { return a.bytes() < b.bytes(); }));
  EXPECT_EQ(chosen_of({100, 100, 100, 100, 100, 100, 100}), shapes[0]);
  EXPECT_EQ(chosen_of({900, 1200, 1900, 1950, 1990, 2000, 1980}), shapes[3]);
  EXPECT_EQ(chosen_of({300, 600, 1200, 2400, 2500, 4800, 7000}), shapes[6]);
}

TEST(ShapeTrial, FewBytesTellNothing) {
  EXPECT_FALSE(ShapeTrial(0).possible());
  EXPECT_FALSE(ShapeTrial(300 * MiB).possible());
  EXPECT_TRUE(ShapeTrial(400 * MiB).possible());
  EXPECT_EQ(ShapeTrial(100 * GiB).part_bytes(), 32 * MiB);
}

TEST(ReadShapeFile, ComesBackAsItWasSavedAndOnlyForThatDisk) {
  const test::TemporaryDirectory folder;
  const auto file = folder.path() / "disk";
  const std::string disk = "259:2 nvme0n1p2 io_uring direct";
  EXPECT_FALSE(load_read_shape(file, disk));
  EXPECT_FALSE(load_read_shape("", disk));
  for (const ReadShape& shape : read_shapes()) {
    ASSERT_TRUE(save_read_shape(file, disk, shape));
    EXPECT_EQ(load_read_shape(file, disk), shape);
    EXPECT_FALSE(load_read_shape(file, "259:2 nvme0n1p2 threads direct"));
  }
  EXPECT_FALSE(save_read_shape(folder.path() / "none" / "disk", disk, read_shapes()[0]));
}

TEST(ReadShapeFile, ADamagedOneIsNone) {
  const test::TemporaryDirectory folder;
  const auto file = folder.path() / "disk";
  ASSERT_TRUE(save_read_shape(file, "8:1 sda1 io_uring direct", {.depth = 16, .piece_bytes = MiB}));
  std::ifstream in(file);
  const std::string whole(std::istreambuf_iterator<char>(in), {});
  const auto load = [&](const std::string& text) {
    std::ofstream(file) << text;
    return load_read_shape(file, "8:1 sda1 io_uring direct");
  };
  EXPECT_TRUE(load(whole));
  for (std::size_t length = 0; length + 1 < whole.size(); ++length)
    EXPECT_FALSE(load(whole.substr(0, length))) << length;
  const std::string head = whole.substr(0, whole.rfind("16 "));
  for (const char* shape : {"0 0", "16 0", "4294967295 1048576", "-1 1048576", "16 999999999999999999999", "x"})
    EXPECT_FALSE(load(head + shape + "\n")) << shape;
}

TEST(DiskIdentity, DiffersByHowItIsRead) {
  const int descriptor = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  std::set<std::string> all;
  for (const char* kind : {"io_uring", "threads"})
    for (const bool direct : {false, true}) all.insert(disk_identity(descriptor, kind, direct));
  EXPECT_EQ(all.size(), 4U);
  close(descriptor);
}

TEST(ResidentWeights, ReadInTheTurnsOfATrialTheyAreTheSame) {
  const auto model = Model::open(test::golden_dir() / "model" / "tiny-qwen3moe.gguf").value();
  const auto files = ModelFiles::open(model->shared_file()).value();
  test::TestingQueue::Control control;
  test::TestingQueue queue(control);
  ShapeTrial trial(resident_weights_bytes(*model, *files), kDirectBlock);
  ASSERT_TRUE(trial.possible());
  const auto dense = make_weights_resident(*model, *files, queue, &trial).value();
  EXPECT_GT(control.transfers, 2 * read_shapes().size());
  EXPECT_EQ(queue.shape(), trial.chosen());
  const auto same = [](const Matrix& a, const Matrix& b) {
    return a.data != b.data && std::equal(a.data, a.data + a.outputs * row_bytes(a.type, a.inputs), b.data);
  };
  const ModelWeights& mapped = model->weights();
  const ModelWeights& read = dense.model->weights();
  EXPECT_TRUE(same(mapped.embedding, read.embedding));
  EXPECT_TRUE(same(mapped.output, read.output));
  for (std::size_t layer = 0; layer < mapped.layers.size(); ++layer) {
    EXPECT_TRUE(same(mapped.layers[layer].q, read.layers[layer].q));
    EXPECT_TRUE(same(mapped.layers[layer].attention_output, read.layers[layer].attention_output));
    EXPECT_TRUE(same(mapped.layers[layer].router, read.layers[layer].router));
  }
}

TEST(ResidentWeights, TellHowFarTheyAreReadAndStopWhenAsked) {
  const auto model = Model::open(test::golden_dir() / "model" / "tiny-qwen3moe.gguf").value();
  const auto files = ModelFiles::open(model->shared_file()).value();
  const std::uint64_t bytes = resident_weights_bytes(*model, *files);
  test::TestingQueue::Control control;
  for (const bool in_trial : {false, true}) {
    ShapeTrial trial(bytes, kDirectBlock);
    LoadProgress whole;
    test::TestingQueue queue(control);
    ASSERT_TRUE(make_weights_resident(*model, *files, queue, in_trial ? &trial : nullptr, &whole));
    EXPECT_EQ(whole.expected(), bytes);
    EXPECT_EQ(whole.done(), bytes);

    LoadProgress stopped;
    stopped.stop();
    ShapeTrial again(bytes, kDirectBlock);
    const std::size_t before = control.transfers;
    const auto dense = make_weights_resident(*model, *files, queue, in_trial ? &again : nullptr, &stopped);
    ASSERT_FALSE(dense);
    EXPECT_EQ(dense.error().code(), ErrorCode::cancelled);
    EXPECT_EQ(control.transfers, before);
  }
  LoadProgress progress;
  control.error = [&](const Transfer&) {
    progress.stop();  // when the first is read
    return 0;
  };
  test::TestingQueue queue(control);
  ShapeTrial trial(bytes, kDirectBlock);
  EXPECT_EQ(make_weights_resident(*model, *files, queue, &trial, &progress).error().code(), ErrorCode::cancelled);
  EXPECT_GT(progress.done(), 0U);
  EXPECT_LT(progress.done(), bytes);
}

TEST(ResidentWeights, APartThatCannotBeReadIsAnError) {
  const auto model = Model::open(test::golden_dir() / "model" / "tiny-qwen3moe.gguf").value();
  const auto files = ModelFiles::open(model->shared_file()).value();
  test::TestingQueue::Control control;
  control.error = [&](const Transfer&) { return control.transfers > 9 ? EIO : 0; };
  test::TestingQueue queue(control);
  ShapeTrial trial(resident_weights_bytes(*model, *files), kDirectBlock);
  const auto dense = make_weights_resident(*model, *files, queue, &trial);
  ASSERT_FALSE(dense);
  EXPECT_NE(dense.error().message().find("the dense weights could not be read: Input/output error"), std::string::npos);
}

}  // namespace
}  // namespace sirocco
