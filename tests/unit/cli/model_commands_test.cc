// How the commands under `sirocco model` end: 2 is wrong usage and nothing else, and nothing is overwritten by
// accident.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>

#include "cli/model_progress.h"
#include "tests/unit/cli/run_sirocco.h"

namespace sirocco {
namespace {

int code_of(const std::vector<std::string>& arguments) {
  return test::run_sirocco(arguments).code;
}

TEST(ModelCommands, AFileThatIsNoModelIsAFailureAndNotWrongUsage) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "empty.gguf", "");
  ASSERT_EQ(mkfifo((folder / "pipe.gguf").c_str(), 0600), 0);
  test::copy_golden("gguf/split-00002-of-00003.gguf", folder / "renamed.gguf");
  for (const std::string name : {"empty.gguf", "pipe.gguf", "renamed.gguf", "none.gguf", "."}) {
    const std::string path = folder / name;
    for (const char* command : {"inspect", "verify"})
      EXPECT_EQ(code_of({"model", command, path}), 1) << command << path;
    EXPECT_EQ(code_of({"model", "upcycle", path, folder / "out.gguf", "--experts", "2", "--used", "1"}), 1) << path;
    EXPECT_EQ(code_of({"logits", "--model", path, "--tokens", "1"}), 1) << path;
  }
}

TEST(ModelCommands, FlagsThatCannotBeAreWrongUsage) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "out.gguf";
  const std::string tiny = test::golden_dir() / "model/tiny-llama.gguf";
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"model"},
           {"model", "inspect"},
           {"model", "inspect", ""},
           {"model", "verify", ""},
           {"model", "synth", "", "--preset", "tiny"},
           {"model", "synth", out, "--preset", "huge"},
           {"model", "synth", out, "--preset", "tiny", "--seed", "-1"},
           {"model", "synth", out, "--preset", "tiny", "--layers", "3"},
           {"model", "synth", out, "--preset", "tiny", "--experts", "2"},
           {"model", "synth", out, "--preset", "tiny", "--type", "IQ1_S"},
           {"model", "upcycle", "", out, "--experts", "2", "--used", "1"},
           {"model", "upcycle", tiny, "", "--experts", "2", "--used", "1"},
           {"model", "upcycle", tiny, tiny, "--experts", "2", "--used", "1"},
           {"model", "upcycle", tiny, out, "--experts", "2", "--used", "3"},
           {"model", "upcycle", tiny, out, "--experts", "2", "--used", "1", "--seed", "-1"},
       }) {
    const auto ran = test::run_sirocco(arguments);
    EXPECT_EQ(ran.code, 2) << fmt::format("{}", fmt::join(arguments, " "));
    EXPECT_EQ(ran.out, "");
    EXPECT_NE(ran.err, "");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_EQ(test::run_sirocco({"model", "synth", "", "--preset", "tiny"}).err.find("OUT: "), 0U);
}

TEST(ModelCommands, OnlyARegularFileIsReplacedAndOnlyByForce) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "file", "old");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("file", folder / "link");
  std::filesystem::create_symlink("nowhere", folder / "dangling");
  const auto synth = [&](const std::string& name, bool force) {
    std::vector<std::string> arguments = {"model", "synth", folder / name, "--preset", "tiny"};
    if (force) arguments.emplace_back("--force");
    return test::run_sirocco(arguments);
  };
  for (const std::string name : {"pipe", "link", "dangling", "."}) {
    const auto before = std::filesystem::symlink_status(folder / name).type();
    EXPECT_EQ(synth(name, true).code, 1) << name;
    EXPECT_EQ(std::filesystem::symlink_status(folder / name).type(), before) << name;
  }
  EXPECT_EQ(synth("pipe", true).err, "sirocco: " + (folder / "pipe").string() +
                                         ": is no regular file and is not replaced; choose another name\n");
  EXPECT_EQ(synth("file", false).code, 1);
  EXPECT_EQ(test::read_file(folder / "file"), "old");
  EXPECT_EQ(synth("file", true).code, 0);
  EXPECT_TRUE(GgufFile::open(folder / "file"));
}

TEST(ModelProgress, EverySignalThatEndsAProgramIsAnErrorInsteadSoThatNothingUnfinishedStays) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    {
      ModelProgress progress("writing m.gguf");
      EXPECT_TRUE(progress.advance(1));
      raise(signal);
      const auto advanced = progress.advance(1);
      ASSERT_FALSE(advanced);
      EXPECT_EQ(advanced.error().message(), "writing m.gguf: interrupted");
    }
    struct sigaction now {};
    sigaction(signal, nullptr, &now);
    EXPECT_EQ(now.sa_handler, SIG_DFL);
  }
}

TEST(ModelProgress, ASignalThatWasIgnoredBeforeStaysIgnored) {
  std::signal(SIGHUP, SIG_IGN);  // as nohup starts programs
  {
    ModelProgress progress("writing m.gguf");
    raise(SIGHUP);
    EXPECT_TRUE(progress.advance(1));
  }
  EXPECT_EQ(std::signal(SIGHUP, SIG_DFL), SIG_IGN);
}

}  // namespace
}  // namespace sirocco
