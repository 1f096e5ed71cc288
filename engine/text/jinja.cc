#include "engine/text/jinja.h"

#include <algorithm>
#include <span>
#include <utility>

#include "engine/base/bytes.h"
#include "engine/text/jinja_expression.h"
#include "engine/text/jinja_lexer.h"

namespace sirocco::jinja {
namespace {

constexpr std::size_t kMaxText = 64 * KiB;  // a template makes a few hundred bytes of a short conversation

class Renderer {
 public:
  Renderer(std::vector<Piece> pieces, Dictionary variables) : pieces_(std::move(pieces)) {
    // Functions that a template may ask for before it calls them.
    scopes_.variables.push_back({{"raise_exception", Value{true}}, {"strftime_now", Value{true}}});
    scopes_.variables.push_back(std::move(variables));
  }

  Result<std::string> run() {
    SIROCCO_CHECK(link());
    SIROCCO_CHECK(run(0, pieces_.size()));
    return std::move(out_);
  }

 private:
  std::string_view keyword(std::size_t at) const {
    const Piece& piece = pieces_[at];
    const bool named = piece.kind == Piece::Kind::statement && !piece.tokens.empty();
    return named ? std::string_view(piece.tokens[0].text) : std::string_view();
  }
  std::span<const Token> rest(std::size_t at, std::size_t from = 1) const {
    const std::span<const Token> tokens = pieces_[at].tokens;
    return tokens.subspan(std::min(from, tokens.size()));
  }
  Error at_line(std::size_t at, const Error& error) const { return error.at(fmt::format("line {}", pieces_[at].line)); }
  tl::unexpected<Error> unknown(std::size_t at, std::string_view what) const {
    return fail(at_line(at, Error(ErrorCode::unsupported, std::string(what))));
  }
  Result<Value> value(std::size_t at, std::span<const Token> tokens) {
    auto value = evaluate(tokens, scopes_);
    if (!value) return fail(at_line(at, value.error()));
    return value;
  }

  // Finds for each statement that opens or goes on with a block the next one of that block: "if", "elif", "else",
  // "endif".
  Result<void> link() {
    std::vector<std::pair<std::string, std::size_t>> open;  // what closes the block, and its latest statement
    next_.resize(pieces_.size());
    for (std::size_t at = 0; at < pieces_.size(); ++at) {
      const std::string_view word = keyword(at);
      if (word == "if" || word == "for" || word == "macro") open.emplace_back("end" + std::string(word), at);
      const bool closes = word == "endif" || word == "endfor" || word == "endmacro";
      if (!closes && word != "elif" && word != "else") continue;
      if (open.empty() || (closes && open.back().first != word)) {
        return unknown(at, fmt::format("\"{}\" without its beginning", word));
      }
      next_[open.back().second] = at;
      open.back().second = at;
      if (closes) open.pop_back();
    }
    if (open.empty()) return {};
    return unknown(open.back().second, fmt::format("\"{}\" without its end", keyword(open.back().second)));
  }

  Result<void> run(std::size_t begin, std::size_t end) {
    for (std::size_t at = begin; at < end; ++at) {
      const Piece& piece = pieces_[at];
      if (piece.kind == Piece::Kind::text) {
        out_ += piece.text;
      } else if (piece.kind == Piece::Kind::output) {
        SIROCCO_TRY(const Value computed, value(at, piece.tokens));
        const auto text = written(computed);
        if (!text) return fail(at_line(at, text.error()));
        out_ += *text;
      } else {
        SIROCCO_TRY(at, statement(at));
      }
      if (out_.size() > kMaxText) return unknown(at, "so long a text");
    }
    return {};
  }

  // Returns the last piece that belongs to the statement.
  Result<std::size_t> statement(std::size_t at) {
    const std::string_view word = keyword(at);
    if (word == "if") return run_if(at);
    if (word == "for") return run_for(at);
    if (word == "set") return run_set(at);
    if (word == "generation" || word == "endgeneration") return at;  // transformers' mark for training
    if (word == "macro") return next_[at];                           // what matters is whether one is called
    return unknown(at, fmt::format("the statement \"{}\"", word));
  }

  Result<std::size_t> run_if(std::size_t at) {
    bool decided = false;
    for (; keyword(at) != "endif"; at = next_[at]) {
      bool taken = !decided;
      if (taken && keyword(at) != "else") {
        SIROCCO_TRY(const Value condition, value(at, rest(at)));
        taken = condition.truth();
      }
      if (taken) SIROCCO_CHECK(enter(at + 1, next_[at]));
      decided = decided || taken;
    }
    return at;
  }

  Result<void> enter(std::size_t begin, std::size_t end) {
    if (++depth_ > kMaxDepth) return unknown(begin, "such nesting");
    SIROCCO_CHECK(run(begin, end));
    --depth_;
    return {};
  }

  Result<std::size_t> run_for(std::size_t at) {
    const std::size_t last = next_[at];
    const std::span<const Token> tokens = pieces_[at].tokens;
    bool simple = tokens.size() >= 4 && tokens[1].kind == Token::Kind::name && tokens[2].text == "in";
    for (const Token& token : rest(at)) simple = simple && !(token.kind == Token::Kind::name && token.text == "if");
    if (!simple || keyword(last) != "endfor") return unknown(at, "\"for\" with several names, \"if\" or \"else\"");
    SIROCCO_TRY(const Value iterated, value(at, rest(at, 3)));
    const List none;
    const List* list = iterated.as<Undefined>() != nullptr ? &none : iterated.list();
    if (list == nullptr) return unknown(at, "\"for\" over what is no list");
    const auto size = static_cast<std::int64_t>(list->size());
    for (std::int64_t i = 0; i < size; ++i) {
      if (!scopes_.spend(1)) return unknown(at, "so long a loop");
      const auto& element = (*list)[static_cast<std::size_t>(i)];
      Dictionary loop = {{"index0", Value{i}},          {"index", Value{i + 1}}, {"revindex0", Value{size - i - 1}},
                         {"revindex", Value{size - i}}, {"length", Value{size}}, {"first", Value{i == 0}},
                         {"last", Value{i + 1 == size}}};
      if (i > 0) loop.emplace("previtem", (*list)[static_cast<std::size_t>(i - 1)]);
      if (i + 1 < size) loop.emplace("nextitem", (*list)[static_cast<std::size_t>(i + 1)]);
      scopes_.variables.push_back({{tokens[1].text, element}});
      scopes_.variables.back().insert_or_assign("loop", make_dictionary(std::move(loop)));
      SIROCCO_CHECK(enter(at + 1, last));
      scopes_.variables.pop_back();
    }
    return last;
  }

  // set name = value, or set name.member = value of a namespace.
  Result<std::size_t> run_set(std::size_t at) {
    const std::span<const Token> tokens = pieces_[at].tokens;
    const bool member = tokens.size() > 4 && tokens[2].text == ".";
    const std::size_t equals = member ? 4 : 2;
    if (tokens.size() <= equals + 1 || tokens[equals].text != "=") return unknown(at, "\"set\" of more than one name");
    SIROCCO_TRY(Value assigned, value(at, rest(at, equals + 1)));
    if (!member) {
      scopes_.variables.back().insert_or_assign(tokens[1].text, std::move(assigned));
      return at;
    }
    const Value* object = scopes_.find(tokens[1].text);
    Dictionary* dictionary = object == nullptr ? nullptr : object->dictionary();
    // One that held itself would never be freed.
    if (dictionary == nullptr || assigned.list() != nullptr || assigned.dictionary() != nullptr) {
      return unknown(at, "\"set\" of a member");
    }
    dictionary->insert_or_assign(tokens[3].text, std::move(assigned));
    return at;
  }

  std::vector<Piece> pieces_;
  std::vector<std::size_t> next_;  // of a block's statements
  Scopes scopes_;
  std::string out_;
  int depth_ = 0;
};

}  // namespace

Result<std::string> render(std::string_view source, Dictionary variables) {
  constexpr std::size_t kMaxSource = 64 * KiB;  // the longest known one has 17 KB
  if (source.size() > kMaxSource) return fail(ErrorCode::unsupported, "a template of {} bytes", source.size());
  SIROCCO_TRY(std::vector<Piece> pieces, split(source));
  return Renderer(std::move(pieces), std::move(variables)).run();
}

}  // namespace sirocco::jinja
