#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/daemon_config.h"
#include "cli/drop_in_file.h"
#include "cli/model_folder.h"
#include "cli/model_import.h"
#include "cli/setup_list.h"
#include "engine/base/bytes.h"
#include "tests/support/fake_root.h"
#include "tests/unit/cli/run_sirocco.h"

namespace sirocco {
namespace {

namespace fs = std::filesystem;

std::string text_in(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

const fs::path kModel = test::golden_dir() / "model" / "tiny-mixtral.gguf";

class Import : public testing::Test {
 protected:
  Import() {
    files_.write("a-00001-of-00002.gguf", "first");
    files_.write("a-00002-of-00002.gguf", "second part");
    fs::create_directory(models());
  }
  fs::path models() const { return files_.path() / "models"; }
  std::vector<fs::path> parts() const {
    return {files_.path() / "a-00001-of-00002.gguf", files_.path() / "a-00002-of-00002.gguf"};
  }
  Result<ModelImport> place(Placing how) { return ModelImport::place(parts(), models(), how, self_); }

  test::FakeRoot files_;
  const SystemUser self_ = user_of(geteuid());
};

TEST_F(Import, ACopyHasAllPartsAndLeavesTheOriginals) {
  {
    auto import = place(Placing::copy);
    ASSERT_TRUE(import) << import.error().message();
    EXPECT_EQ(import->model(), models() / "a-00001-of-00002.gguf");
    import->keep();
  }
  EXPECT_EQ(names_in(models()), (std::vector<std::string>{"a-00001-of-00002.gguf", "a-00002-of-00002.gguf"}));
  EXPECT_EQ(text_in(models() / "a-00002-of-00002.gguf"), "second part");
  EXPECT_TRUE(fs::exists(parts()[0]));
  struct stat status = {};
  stat((models() / "a-00001-of-00002.gguf").c_str(), &status);
  EXPECT_EQ(status.st_mode & 07777U, 0644U);
}

TEST_F(Import, WhatIsNotKeptIsTakenBack) {
  for (const Placing how : {Placing::copy, Placing::move, Placing::link}) {
    chmod(parts()[1].c_str(), 0604);
    { ASSERT_TRUE(place(how)); }
    EXPECT_TRUE(names_in(models()).empty());
    EXPECT_EQ(text_in(parts()[0]), "first");
    EXPECT_EQ(text_in(parts()[1]), "second part");
    struct stat status = {};
    stat(parts()[1].c_str(), &status);
    EXPECT_EQ(status.st_mode & 07777U, 0604U);
  }
}

TEST_F(Import, AMoveLeavesNothingBehindAndALinkBoth) {
  auto link = place(Placing::link);
  ASSERT_TRUE(link);
  link->keep();
  EXPECT_TRUE(fs::equivalent(parts()[0], models() / "a-00001-of-00002.gguf"));
  fs::remove_all(models());
  auto move = place(Placing::move);
  ASSERT_TRUE(move);
  move->keep();
  EXPECT_FALSE(fs::exists(parts()[0]));
  EXPECT_FALSE(fs::exists(parts()[1]));
  EXPECT_EQ(text_in(models() / "a-00001-of-00002.gguf"), "first");
}

TEST_F(Import, AFileOfThatNameIsNeverReplaced) {
  files_.write("models/a-00002-of-00002.gguf", "mine");
  for (const Placing how : {Placing::copy, Placing::move, Placing::link}) {
    const auto import = place(how);
    ASSERT_FALSE(import);
    EXPECT_NE(import.error().message().find("exists already"), std::string::npos) << import.error().message();
    EXPECT_EQ(names_in(models()), std::vector<std::string>{"a-00002-of-00002.gguf"});
    EXPECT_EQ(text_in(models() / "a-00002-of-00002.gguf"), "mine");
    EXPECT_EQ(text_in(parts()[0]), "first");
  }
}

TEST_F(Import, AModelThatIsThereAlreadyIsUsedWhereItIs) {
  files_.write("models/b.gguf", "b");
  const fs::path there = models() / "b.gguf";
  const auto import = ModelImport::place(std::span(&there, 1), models(), Placing::copy, self_);
  ASSERT_TRUE(import);
  EXPECT_EQ(import->model(), there);
  EXPECT_EQ(import->how(), "used where it is");
  EXPECT_EQ(names_in(models()), std::vector<std::string>{"b.gguf"});
}

TEST_F(Import, WhereTheServiceSeesNothingItIsCopied) {
  const auto import = place(Placing::automatic);  // below /tmp
  ASSERT_TRUE(import);
  EXPECT_EQ(import->model().parent_path(), models());
}

TEST_F(Import, CtrlCInTheMiddleLeavesNothing) {
  const fs::path large = files_.path() / "large.gguf";
  files_.write("large.gguf", "");
  fs::resize_file(large, 128 * MiB);
  std::atomic<bool> returned = false;
  std::thread user([&] {
    while (names_in(models()).empty() && !returned) std::this_thread::yield();
    if (!returned) kill(getpid(), SIGINT);
  });
  const auto import = ModelImport::place(std::span(&large, 1), models(), Placing::copy, self_);
  returned = true;
  user.join();
  ASSERT_FALSE(import);
  EXPECT_EQ(import.error().code(), ErrorCode::cancelled);
  EXPECT_TRUE(names_in(models()).empty());
  EXPECT_EQ(fs::file_size(large), 128 * MiB);
}

TEST_F(Import, WhileAnotherIsAtWorkNothingIsTouched) {
  const int other = open(models().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_EQ(flock(other, LOCK_EX), 0);
  const auto import = place(Placing::copy);
  ASSERT_FALSE(import);
  EXPECT_EQ(import.error().code(), ErrorCode::busy);
  EXPECT_TRUE(names_in(models()).empty());
  close(other);
}

TEST(DropIn, IsPutBackUnlessItIsKept) {
  const test::TemporaryDirectory folder;
  const fs::path file = folder.path() / "siroccod.d" / "model.yaml";
  { ASSERT_TRUE(DropInFile::write(file, "a")); }
  EXPECT_TRUE(names_in(folder.path()).empty());
  {
    auto first = DropInFile::write(file, "a");
    ASSERT_TRUE(first);
    first->keep();
  }
  {
    auto second = DropInFile::write(file, "b");
    ASSERT_TRUE(second);
    EXPECT_EQ(text_in(file), "b");
  }
  EXPECT_EQ(text_in(file), "a");
  EXPECT_EQ(names_in(file.parent_path()), std::vector<std::string>{"model.yaml"});
}

TEST(DaemonConfig, LaterDropInsLieOverTheFile) {
  const test::FakeRoot folder;
  EXPECT_EQ(configured_model(folder.path()).value(), "");
  folder.write("siroccod.yaml", "model:\n  path: /m/first.gguf\n");
  EXPECT_EQ(configured_model(folder.path()).value(), "/m/first.gguf");
  folder.write("siroccod.d/model.yaml", model_drop_in_text("/m/a \"b\" \\ ü: #.gguf"));
  folder.write("siroccod.d/notes.txt", "model: {path: /no}");
  folder.write("siroccod.d/other.yaml", "log: {level: debug}\n");
  EXPECT_EQ(configured_model(folder.path()).value(), "/m/a \"b\" \\ ü: #.gguf");
  folder.write("siroccod.d/z.yaml", "model: {path: /m/last.gguf}\n");
  EXPECT_EQ(configured_model(folder.path()).value(), "/m/last.gguf");
  folder.write("siroccod.d/zz.yaml", "model: [\n");
  EXPECT_FALSE(configured_model(folder.path()));
}

TEST(ModelFolder, ASplitModelIsItsFirstPart) {
  const test::FakeRoot folder;
  for (const char* name :
       {"b.gguf", "a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "c.gguf.part", ".d.gguf", "e.txt"})
    folder.write(name, "");
  fs::create_directory(folder.path() / "f.gguf");
  EXPECT_EQ(model_files_in(folder.path()),
            (std::vector<fs::path>{folder.path() / "a-00001-of-00002.gguf", folder.path() / "b.gguf"}));
  EXPECT_TRUE(model_files_in(folder.path() / "none").empty());
}

const SizeVerdict& size_of(const std::vector<SizeVerdict>& sizes, std::string_view name, std::string_view type) {
  return *std::find_if(sizes.begin(), sizes.end(), [&](const auto& s) { return s.name == name && s.type == type; });
}

TEST(SetupSizes, AModelFitsAllInPartOrNotAtAll) {
  const auto large = judge_sizes(64 * GiB);
  EXPECT_EQ(size_of(large, "mixtral-8x7b", "Q4_K").share, 1);
  EXPECT_GT(size_of(large, "mixtral-8x7b", "Q4_K").bytes, 24 * GiB);
  EXPECT_LT(size_of(large, "mixtral-8x7b", "Q4_K").bytes, 27 * GiB);
  const auto middle = judge_sizes(8 * GiB);
  EXPECT_GT(size_of(middle, "mixtral-8x7b", "Q4_K").share, 0.1);
  EXPECT_LT(size_of(middle, "mixtral-8x7b", "Q4_K").share, 0.5);
  EXPECT_EQ(size_of(middle, "mistral-7b", "Q4_K").share, 1);
  EXPECT_EQ(size_of(judge_sizes(2 * GiB), "mistral-7b", "Q8_0").share, 0);
  EXPECT_EQ(size_of(judge_sizes(2 * GiB), "mixtral-8x22b", "Q4_K").share, 0);
}

class Setup : public testing::Test {
 protected:
  Setup() { fs::create_directory(config()); }
  fs::path config() const { return folder_.path() / "etc"; }
  fs::path models() const { return folder_.path() / "models"; }
  test::Ran run(std::vector<std::string> arguments) const {
    for (const std::string& more : {std::string("--config-dir"), config().string(), std::string("--models-dir"),
                                    models().string(), std::string("--socket"), (folder_.path() / "s.sock").string()})
      arguments.push_back(more);
    arguments.insert(arguments.begin(), "setup");
    return test::run_sirocco(arguments);
  }
  test::FakeRoot folder_;
};

TEST_F(Setup, ListsWhatIsHereAndWhatWouldFit) {
  fs::create_directory(models());
  fs::copy_file(kModel, models() / "m.gguf");
  folder_.write("more/broken.gguf", "no model");
  const test::Ran ran = run({"--folder", folder_.path() / "more", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto json = nlohmann::json::parse(ran.out);
  ASSERT_EQ(json.at("models").size(), 2U);
  EXPECT_EQ(json.at("models").at(0).at("runs"), true);
  EXPECT_EQ(json.at("models").at(1).at("runs"), false);
  EXPECT_GT(json.at("sizes").size(), 3U);
  const std::string text = run({}).out;
  EXPECT_NE(text.find("all of it in memory"), std::string::npos) << text;
}

TEST_F(Setup, AModelIsPlacedAndNamedInTheConfiguration) {
  const test::Ran ran = run({kModel, "--copy", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(configured_model(config()).value(), (models() / "tiny-mixtral.gguf").string());
  EXPECT_EQ(text_in(models() / "tiny-mixtral.gguf"), text_in(kModel));
  EXPECT_EQ(nlohmann::json::parse(ran.out).at("daemon_running"), false);
  // Again, and nothing changes.
  EXPECT_EQ(run({models() / "tiny-mixtral.gguf"}).code, 0);
  EXPECT_EQ(names_in(models()), std::vector<std::string>{"tiny-mixtral.gguf"});
}

// Closed again: a file that is written to while it is mapped is another error, and stays one.
std::string name_of_first(const fs::path& model, TensorType type) {
  const auto file = GgufFile::open(model).value();
  const auto tensors = file->tensors();
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.type == type; });
  return found == tensors.end() ? "" : found->name;
}

TEST_F(Setup, ADamagedModelChangesNothing) {
  const fs::path damaged = folder_.path() / "damaged.gguf";
  fs::copy_file(kModel, damaged);
  const std::string matrix = name_of_first(damaged, TensorType::f32);
  ASSERT_NE(matrix, "");
  test::patch_tensor<std::uint32_t>(damaged, matrix, 0, 0x7f800000);  // infinity
  const test::Ran ran = run({damaged, "--copy"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, testing::HasSubstr("infinit"));
  EXPECT_FALSE(fs::exists(models()));
  EXPECT_TRUE(names_in(config()).empty());
}

TEST_F(Setup, FlagsThatContradictEachOtherAreWrongUsage) {
  EXPECT_EQ(run({kModel, "--copy", "--move"}).code, 2);
  EXPECT_EQ(run({"--copy"}).code, 2);
  EXPECT_EQ(run({kModel, "--folder", "/tmp"}).code, 2);
}

}  // namespace
}  // namespace sirocco
