#include "cli/line_history.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/temporary_directory.h"

namespace sirocco {
namespace {

class LineHistory : public testing::Test {
 protected:
  std::filesystem::path path() const { return directory_.path() / "state" / "sirocco" / "history"; }

 private:
  test::TemporaryDirectory directory_;
};

TEST_F(LineHistory, EveryChatsLinesAreThereInOrder) {
  EXPECT_TRUE(load_history(path()).empty());
  EXPECT_TRUE(append_history(path(), "first of one"));
  EXPECT_TRUE(append_history(path(), "first of another"));
  EXPECT_TRUE(append_history(path(), "été \\ 1"));
  EXPECT_EQ(load_history(path()), (std::vector<std::string>{"first of one", "first of another", "été \\ 1"}));
}

TEST_F(LineHistory, IsForItsOwnersEyesOnly) {
  ASSERT_TRUE(append_history(path(), "secret"));
  using std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(path()).permissions(), perms::owner_read | perms::owner_write);
  EXPECT_EQ(std::filesystem::status(path().parent_path()).permissions(), perms::owner_all);
}

TEST_F(LineHistory, DoesNotGrowWithoutEnd) {
  std::vector<std::string> latest;
  for (std::size_t i = 0; i < 2 * kHistoryLines + 1; ++i) {
    ASSERT_TRUE(append_history(path(), std::to_string(i)));
    if (i > kHistoryLines) latest.push_back(std::to_string(i));
  }
  EXPECT_EQ(load_history(path()), latest);
  EXPECT_EQ(load_history(path()), latest);
  EXPECT_EQ(std::filesystem::file_size(path()), 5 * kHistoryLines);
  EXPECT_EQ(std::filesystem::status(path()).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(LineHistory, AFolderThatCannotBeMadeIsNoReasonToStop) {
  std::ofstream(path().parent_path().parent_path()) << "a file";
  EXPECT_FALSE(append_history(path(), "line"));
  EXPECT_TRUE(load_history(path()).empty());
}

}  // namespace
}  // namespace sirocco
