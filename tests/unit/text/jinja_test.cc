#include "engine/text/jinja.h"

#include <gtest/gtest.h>

#include "tests/unit/text/vocabularies.h"

namespace sirocco::jinja {
namespace {

const nlohmann::json& golden() {
  static const nlohmann::json document = test::golden("templates.json");
  return document;
}

Result<std::string> rendered(std::string_view source, const nlohmann::json& messages) {
  List list;
  for (const nlohmann::json& message : messages) {
    list.push_back(make_dictionary({{"role", make_text(message.at("role").get<std::string>())},
                                    {"content", make_text(message.at("content").get<std::string>())}}));
  }
  return render(source, {{"messages", make_list(std::move(list))},
                         {"add_generation_prompt", Value{true}},
                         {"tools", Value{None{}}},
                         {"documents", Value{None{}}},
                         {"bos_token", make_text("<|endoftext|>")},
                         {"eos_token", make_text("<|im_end|>")}});
}
Result<std::string> rendered(std::string_view source) {
  return rendered(source, golden().at("conversations").at(golden().at("expressions_of").get<std::size_t>()));
}

std::optional<std::string> text_or_null(const nlohmann::json& text) {
  return text.is_null() ? std::nullopt : std::optional(text.get<std::string>());
}
std::optional<std::string> text_or_null(const Result<std::string>& text) {
  return text ? std::optional(*text) : std::nullopt;
}

TEST(Jinja, TemplatesAreRenderedAsJinja2RendersThem) {
  for (const auto& [name, entry] : golden().at("templates").items()) {
    for (std::size_t i = 0; i < golden().at("conversations").size(); ++i) {
      const auto text = rendered(entry.at("template").get<std::string>(), golden().at("conversations")[i]);
      EXPECT_EQ(text_or_null(text), text_or_null(entry.at("texts")[i])) << name << ", conversation " << i;
    }
  }
}

TEST(Jinja, ExpressionsAreWhatJinja2SaysOrRefusedWhereItRefuses) {
  for (const nlohmann::json& pair : golden().at("expressions")) {
    const auto text = rendered("{{ " + pair.at(0).get<std::string>() + " }}");
    EXPECT_EQ(text_or_null(text), text_or_null(pair.at(1))) << pair.at(0) << (text ? "" : text.error().message());
  }
}

TEST(Jinja, WhatIsNotKnownIsAnErrorAndNotAGuess) {
  for (const nlohmann::json& source : golden().at("unknown")) {
    const auto text = rendered(source.get<std::string>());
    ASSERT_FALSE(text) << source << ": " << *text;
    EXPECT_EQ(text.error().code(), ErrorCode::unsupported) << source;
  }
}

TEST(Jinja, ErrorsNameTheLineAndWhatItSays) {
  const auto error = [](std::string_view source) { return rendered(source).error().message(); };
  EXPECT_EQ(error("a\n{{ 'a' | upper }}"), "line 2: the filter upper with 0 arguments");
  EXPECT_EQ(error("{{ f(1) }}"), "line 1: the call f()");
  EXPECT_EQ(error("\n\n{% call f() %}"), "line 3: the statement \"call\"");
  EXPECT_EQ(error("{% if true %}"), "line 1: \"if\" without its end");
  EXPECT_EQ(error("{% endif %}"), "line 1: \"endif\" without its beginning");
  EXPECT_EQ(error("{{ 1 "), "line 1: a tag without an end");
  EXPECT_EQ(error("{# 1 "), "line 1: a comment without an end");
  EXPECT_EQ(error("{{ 'a }}"), "line 1: a string without an end");
  EXPECT_EQ(error("{{ $a }}"), "line 1: \"$\"");
  EXPECT_EQ(error("{{ raise_exception('not so') }}"), "line 1: the template refuses it: not so");
}

// The template comes with the model: none may take long, or memory without bound, or the stack.
TEST(Jinja, NoTemplateTakesMoreThanItsShare) {
  const auto nested = [](std::string_view open, std::string_view inner, std::string_view close, int times) {
    std::string out(inner);
    for (int i = 0; i < times; ++i) out.insert(0, open).append(close);
    return out;
  };
  const auto refused = [](const std::string& source) { return !rendered(source); };
  EXPECT_TRUE(refused("{% set l = [1,1,1,1,1,1,1,1,1,1] %}" + nested("{% for i in l %}", "", "{% endfor %}", 12)));
  EXPECT_TRUE(refused("{% set x = 'x' %}" + nested("", "{% set x = x + x %}", "{% set x = x + x %}", 60)));
  EXPECT_TRUE(refused("{{ " + nested("(", "1", ")", 10'000) + " }}"));
  EXPECT_TRUE(refused("{{ " + nested("[", "1", "]", 10'000) + " }}"));
  EXPECT_TRUE(refused("{{ " + nested("-", "1", "", 10'000) + " }}"));
  EXPECT_TRUE(refused("{{ " + nested("0 if 0 else ", "1", "", 5'000) + " }}"));
  EXPECT_TRUE(refused(nested("{% if true %}", "a", "{% endif %}", 2'000)));
  EXPECT_TRUE(refused("{{ a" + nested("[a", "", "]", 10'000) + " }}"));
  EXPECT_TRUE(refused(std::string(100'000, 'a')));
  EXPECT_TRUE(refused("{% for m in messages %}" + std::string(30'000, 'a') + "{% endfor %}"));
}

}  // namespace
}  // namespace sirocco::jinja
