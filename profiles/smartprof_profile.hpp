// Reads a smartprof device profile by the rule of SCHEMA.md. C++17 over nlohmann/json; copy this
// file.
//
//   const smartprof::Profile profile(text);
//   const smartprof::Seconds found = profile.seconds("verify", 4, 22, 300.0);
//   const smartprof::Padded pass = profile.envelope(4, 22, 300.0);
//
// A damaged file or a wrong request throws std::invalid_argument, a query too far outside what was
// measured std::out_of_range.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace smartprof {

constexpr int oldest_schema = 1, newest_schema = 2;  // of which seconds are read alike
constexpr double reach = 4.0;  // two octaves
constexpr long longest_pad = 4096;

struct Seconds {
  double seconds;
  std::string tier;  // "exact", "interpolated" or "extrapolated"
};

struct Padded {
  double seconds;
  long tokens_to_run;
};

namespace detail {

inline std::string sha256(const std::string& text) {
  constexpr std::array<std::uint32_t, 64> rounds = {
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
      0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
      0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
      0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
      0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
      0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
      0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
      0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
      0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
      0xc67178f2};
  std::array<std::uint32_t, 8> state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const auto turned = [](std::uint32_t x, int by) { return (x >> by) | (x << (32 - by)); };
  std::string padded = text + '\x80';
  padded.append((120 - padded.size() % 64) % 64, '\0');
  for (int shift = 56; shift >= 0; shift -= 8) {
    padded += static_cast<char>((std::uint64_t{text.size()} * 8) >> shift & 0xff);
  }
  for (std::size_t block = 0; block < padded.size(); block += 64) {
    std::array<std::uint32_t, 64> words{};
    for (std::size_t i = 0; i < 64; ++i) {
      words[i / 4] = words[i / 4] << 8 | static_cast<unsigned char>(padded[block + i]);
    }
    for (std::size_t i = 16; i < 64; ++i) {
      const std::uint32_t early = words[i - 15], late = words[i - 2];
      words[i] = words[i - 16] + (turned(early, 7) ^ turned(early, 18) ^ early >> 3) +
                 words[i - 7] + (turned(late, 17) ^ turned(late, 19) ^ late >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (std::size_t i = 0; i < 64; ++i) {
      const std::uint32_t first = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) +
                                  ((e & f) ^ (~e & g)) + rounds[i] + words[i];
      const std::uint32_t second = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) +
                                   ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    const std::array<std::uint32_t, 8> added = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state[i] += added[i];
  }
  std::string digest;
  for (const std::uint32_t word : state) {
    std::array<char, 9> hex{};
    std::snprintf(hex.data(), hex.size(), "%08x", static_cast<unsigned>(word));
    digest += hex.data();
  }
  return digest;
}

// A string as JSON in ASCII. It is valid UTF-8: the parser has seen it.
inline std::string json_string(const std::string& text) {
  static const std::map<char, std::string> shorts = {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"},
                                                     {'\t', "\\t"}, {'\n', "\\n"},  {'\f', "\\f"},
                                                     {'\r', "\\r"}};
  std::string found = "\"";
  const auto escape = [&found](std::uint32_t unit) {
    std::array<char, 7> escaped{};
    std::snprintf(escaped.data(), escaped.size(), "\\u%04x", static_cast<unsigned>(unit & 0xffff));
    found += escaped.data();
  };
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const int more = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    std::uint32_t point = more == 0 ? lead : lead & (0x3fU >> more);
    const auto known = shorts.find(text[i++]);
    for (int j = 0; j < more; ++j) point = point << 6 | (static_cast<unsigned>(text[i++]) & 0x3f);
    if (known != shorts.end()) {
      found += known->second;
    } else if (point >= 0x20 && point <= 0x7e) {
      found += static_cast<char>(point);
    } else if (point < 0x10000) {
      escape(point);
    } else {
      escape(0xd800 + ((point - 0x10000) >> 10));
      escape(0xdc00 + ((point - 0x10000) & 0x3ff));
    }
  }
  return found + '"';
}

// Follows the parser and keeps the canonical form of each value; refuses a member that comes twice.
class Canonical : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::string found;  // of the whole text, without the top-level checksum

  bool null() override { return take("null"); }
  bool boolean(bool value) override { return take(value ? "true" : "false"); }
  // The parser calls this for a literal with a minus only, so a zero was written "-0".
  bool number_integer(number_integer_t value) override {
    return take(value == 0 ? "-0" : std::to_string(value));
  }
  bool number_unsigned(number_unsigned_t value) override { return take(std::to_string(value)); }
  // As written, but for the point: some versions of the parser turn it into the locale's.
  bool number_float(number_float_t, const string_t& literal) override {
    std::string text = literal;
    const std::size_t point = text.find_first_not_of("+-0123456789eE");
    if (point != std::string::npos) text[point] = '.';
    return take(text);
  }
  bool string(string_t& value) override { return take(json_string(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open('}'); }
  bool start_array(std::size_t) override { return open(']'); }
  bool end_array() override { return close('['); }

  bool key(string_t& name) override {
    keys_.back() = name;
    if (!members_.back().emplace(name, "").second) {
      throw std::invalid_argument("expected each member once, got twice " + json_string(name));
    }
    return true;
  }

  bool end_object() override {
    if (members_.size() == 1) members_.back().erase("checksum");
    for (const auto& [name, value] : members_.back()) {  // bytes of UTF-8 sort by code point
      add(json_string(name) + ":" + value, bodies_.back());
    }
    return close('{');
  }

  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception& why) override {
    throw std::invalid_argument(std::string("expected JSON, got ") + why.what());
  }

 private:
  std::vector<char> ends_;  // one entry of each for every open object or array
  std::vector<std::string> keys_, bodies_;
  std::vector<std::map<std::string, std::string>> members_;

  static void add(const std::string& text, std::string& body) {
    body += (body.empty() ? "" : ",") + text;
  }

  bool open(char end) {
    ends_.push_back(end), keys_.emplace_back(), bodies_.emplace_back(), members_.emplace_back();
    return true;
  }

  bool close(char start) {
    const std::string text = start + bodies_.back() + ends_.back();
    ends_.pop_back(), keys_.pop_back(), bodies_.pop_back(), members_.pop_back();
    return take(text);
  }

  bool take(const std::string& text) {
    if (ends_.empty()) {
      found = text;
    } else if (ends_.back() == '}') {
      members_.back()[keys_.back()] = text;
    } else {
      add(text, bodies_.back());
    }
    return true;
  }
};

struct Knot {
  double size, seconds, half_width;
};

struct Neighbours {
  double low, high;  // the same value twice where one decides
  double share;      // of high; above 1 beyond the last two
};

inline Neighbours around(const std::vector<double>& values, double position) {
  if (values.size() == 1 || position <= values.front()) return {values[0], values[0], 0.0};
  auto high = std::lower_bound(values.begin(), values.end(), position);
  if (high == values.end()) --high;
  if (*high == position) return {*high, *high, 0.0};
  const double low = *(high - 1);
  return {low, *high, (position - low) / (*high - low)};
}

// Linear up to `high`; beyond it a rise goes on and a fall does not.
inline double mixed(double low, double high, double share) {
  if (share <= 1.0) return low * (1.0 - share) + high * share;
  return high + std::max(high - low, 0.0) * (share - 1.0);
}

class Surface {
 public:
  struct Place {  // 0 for an axis that the surface lacks
    double batch, size, context;
    bool operator<(const Place& other) const {
      return std::tie(batch, size, context) < std::tie(other.batch, other.size, other.context);
    }
  };

  Surface(std::string name, const nlohmann::json& raw)
      : name_(std::move(name)), domain_(raw.at("domain")) {
    const auto number = [](const nlohmann::json& x) { return x.is_null() ? 0.0 : x.get<double>(); };
    for (const auto& x : raw.at("anchors")) {
      anchors_.insert({number(x.at("batch")), x.at("size"), number(x.at("context"))});
    }
    std::set<double> batches, contexts;
    for (const auto& curve : raw.at("curves")) {
      const double batch = number(curve.at("batch")), context = number(curve.at("context"));
      auto& knots = curves_[{batch, context}];
      for (const auto& x : curve.at("knots")) {
        knots.push_back({x.at("size"), x.at("seconds"), x.at("ci_half_width")});
      }
      batches.insert(batch), contexts.insert(context);
    }
    batches_.assign(batches.begin(), batches.end());
    contexts_.assign(contexts.begin(), contexts.end());
  }

  double last_size() const { return domain_.at("size").at(1); }

  // Throws std::out_of_range for a query too far outside.
  Place place(long batch, long size, std::optional<double> context) const {
    return {within("batch", static_cast<double>(batch)), within("size", static_cast<double>(size)),
            within("context", context)};
  }

  double seconds(const Place& place) const { return blended(place, false); }

  double half_width(const Place& place) const { return blended(place, true); }

  std::string tier(const Place& place) const {
    if (anchors_.count(place) > 0) return "exact";
    const Neighbours rows = around(batches_, place.batch);
    const Neighbours columns = around(contexts_, place.context);
    double first = INFINITY, last = INFINITY;
    for (const double batch : {rows.low, rows.high}) {
      for (const double context : {columns.low, columns.high}) {
        const auto& knots = curves_.at({batch, context});
        first = std::min(first, knots.front().size);
        last = std::min(last, knots.back().size);
      }
    }
    const bool inside = batches_.front() <= place.batch && place.batch <= batches_.back() &&
                        contexts_.front() <= place.context && place.context <= contexts_.back() &&
                        first <= place.size && place.size <= last;
    return inside ? "interpolated" : "extrapolated";
  }

 private:
  std::string name_;
  nlohmann::json domain_;
  std::set<Place> anchors_;
  std::map<std::pair<double, double>, std::vector<Knot>> curves_;  // by batch and context
  std::vector<double> batches_, contexts_;

  double within(const std::string& axis, std::optional<double> asked) const {
    const nlohmann::json& range = domain_.at(axis);
    if (range.is_null()) return 0.0;
    const double low = axis == "context" ? 0.0 : range.at(0).get<double>() / reach;
    const double high = std::max(range.at(1).get<double>(), 1.0) * reach;
    if (asked && low <= *asked && *asked <= high) return *asked;
    throw std::out_of_range(name_ + ": expected " + axis + " within " + std::to_string(low) +
                            " to " + std::to_string(high) + ", got " +
                            (asked ? std::to_string(*asked) : "none"));
  }

  double blended(const Place& place, bool widths) const {
    const auto held = [widths](double share) { return widths ? std::min(share, 1.0) : share; };
    const Neighbours rows = around(batches_, place.batch);
    const Neighbours columns = around(contexts_, place.context);
    const auto along_batch = [&](double context) {
      const auto read = [&](double batch) {
        if (widths) return linear(curves_.at({batch, context}), place.size, &Knot::half_width);
        return curve_seconds(batch, place.size, context);
      };
      return mixed(read(rows.low), read(rows.high), held(rows.share));
    };
    return mixed(along_batch(columns.low), along_batch(columns.high), held(columns.share));
  }

  double curve_seconds(double batch, double size, double context) const {
    const std::vector<Knot>& knots = curves_.at({batch, context});
    const Knot &first = knots.front(), &last = knots.back();
    if (size > last.size && name_ == "plain_decode") {  // its sizes are batches
      if (knots.size() == 1) return last.seconds;
      const Knot& before = *(knots.end() - 2);
      return mixed(before.seconds, last.seconds, (size - before.size) / (last.size - before.size));
    }
    if (size > last.size) return last.seconds * size / last.size;
    if (size >= first.size || batch == batches_.front()) {
      return linear(knots, size, &Knot::seconds);
    }
    const double lower = *(std::lower_bound(batches_.begin(), batches_.end(), batch) - 1);
    const double scale =
        curve_seconds(lower, size, context) / curve_seconds(lower, first.size, context);
    return first.seconds * std::min(std::max(scale, size / first.size), 1.0);
  }

  // Between the knots, held outside.
  static double linear(const std::vector<Knot>& knots, double size, double Knot::*field) {
    if (size <= knots.front().size) return knots.front().*field;
    if (size >= knots.back().size) return knots.back().*field;
    const auto right = std::find_if(knots.begin(), knots.end(),
                                    [size](const Knot& knot) { return knot.size >= size; });
    const Knot& left = *(right - 1);
    return mixed(left.*field, (*right).*field, (size - left.size) / (right->size - left.size));
  }
};

}  // namespace detail

class Profile {
 public:
  // The text of a file. Throws std::invalid_argument if it is no sound profile of this version.
  explicit Profile(const std::string& text) : content_(checked(text)) {
    for (const char* name : {"verify", "plain_decode", "round_overhead"}) add("", name, content_);
    for (const auto& [drafter, costs] : content_.at("drafters").items()) {
      for (const char* name : {"draft_step", "draft_catchup"}) add(drafter, name, costs);
    }
  }

  // The whole file.
  const nlohmann::json& content() const { return content_; }

  // drafter: for draft_step and draft_catchup only. Batch and size are whole numbers.
  Seconds seconds(const std::string& quantity, long batch, long size,
                  std::optional<double> context = std::nullopt,
                  const std::string& drafter = "") const {
    const detail::Surface& surface = known(drafter, quantity);
    if (quantity == "plain_decode" && size != batch) {
      throw std::invalid_argument("plain_decode: expected size " + std::to_string(batch) +
                                  ", the batch, got " + std::to_string(size));
    }
    if (quantity != "draft_step" && size < batch) {
      throw std::out_of_range(quantity + ": expected size " + std::to_string(batch) +
                              " or more, got " + std::to_string(size));
    }
    const auto place = surface.place(batch, size, context);
    return {surface.seconds(place), surface.tier(place)};
  }

  // verify + round_overhead of a pass that needs `tokens`, padded up where that is cheaper.
  Padded envelope(long batch, long tokens, double context) const {
    const detail::Surface& verify = known("", "verify");
    const detail::Surface& overhead = known("", "round_overhead");
    const double least = seconds("verify", batch, tokens, context).seconds +
                         seconds("round_overhead", batch, tokens).seconds;
    const auto half_width = [&](long size) {
      return std::hypot(verify.half_width(verify.place(batch, size, context)),
                        overhead.half_width(overhead.place(batch, size, context)));
    };
    const double floor = least - half_width(tokens);
    const long most = std::min(
        longest_pad, static_cast<long>(std::min(verify.last_size(), overhead.last_size())));
    Padded best = {least, tokens};
    for (long size = tokens + 1; size <= most; ++size) {
      const double found = verify.seconds(verify.place(batch, size, context)) +
                           overhead.seconds(overhead.place(batch, size, context));
      if (found + half_width(size) < floor && found < best.seconds) best = {found, size};
    }
    return best;
  }

 private:
  nlohmann::json content_;
  std::map<std::pair<std::string, std::string>, detail::Surface> surfaces_;

  void add(const std::string& drafter, const std::string& name, const nlohmann::json& part) {
    surfaces_.emplace(std::pair(drafter, name), detail::Surface(name, part.at(name)));
  }

  const detail::Surface& known(const std::string& drafter, const std::string& quantity) const {
    const auto found = surfaces_.find({drafter, quantity});
    if (found != surfaces_.end()) return found->second;
    throw std::invalid_argument("expected a quantity of this profile, got " + quantity +
                                (drafter.empty() ? " without a drafter" : " of " + drafter));
  }

  static nlohmann::json checked(const std::string& text) {
    if (text.compare(0, 3, "\xef\xbb\xbf") == 0) {
      throw std::invalid_argument("expected JSON, got a byte order mark");
    }
    detail::Canonical canonical;
    nlohmann::json::sax_parse(text, &canonical);
    nlohmann::json content = nlohmann::json::parse(text);
    const auto member = [&content](const char* name) {
      return content.is_object() ? content.value(name, nlohmann::json()) : nlohmann::json();
    };
    const nlohmann::json version = member("schema_version");
    if (!version.is_number_integer() || version < oldest_schema || version > newest_schema) {
      throw std::invalid_argument("expected schema_version " + std::to_string(oldest_schema) +
                                  " to " + std::to_string(newest_schema) + ", got " +
                                  version.dump());
    }
    const std::string expected = "sha256:" + detail::sha256(canonical.found);
    if (member("checksum") != expected) {
      throw std::invalid_argument("expected checksum " + expected + ", got " +
                                  member("checksum").dump() + ": damaged or edited");
    }
    return content;
  }
};

}  // namespace smartprof
