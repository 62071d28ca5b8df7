// Asks profiles/smartprof_profile.hpp every vector of a folder. Prints a line for each that it gets
// wrong; exits with 1 if there is one.
//
//   g++ -std=c++17 -I profiles tests/conformance/check_vectors.cpp -o check_vectors
//   ./check_vectors tests/conformance

#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>

#include "smartprof_profile.hpp"

using nlohmann::json;

static std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

static std::string written(double seconds) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.9e", seconds);
  return digits;
}

static json answer(const smartprof::Profile& profile, const json& vector) {
  std::optional<double> context;
  if (!vector["context"].is_null()) context = vector["context"].get<double>();
  if (vector.contains("tokens")) {
    const auto found = profile.envelope(vector["batch"], vector["tokens"], *context);
    return {{"seconds", written(found.seconds)}, {"run", found.tokens_to_run}};
  }
  const std::string drafter = vector["drafter"].is_null() ? "" : vector["drafter"];
  const auto found =
      profile.seconds(vector["quantity"], vector["batch"], vector["size"], context, drafter);
  return {{"seconds", written(found.seconds)}, {"tier", found.tier}};
}

static json outcome(const smartprof::Profile& profile, const json& vector) {
  try {
    return answer(profile, vector);
  } catch (const std::out_of_range&) {
    return {{"refused", "domain"}};
  } catch (const std::invalid_argument&) {
    return {{"refused", "request"}};
  }
}

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "expected the folder of vectors.json\n";
    return 2;
  }
  const std::string folder = arguments[1];
  const json vectors = json::parse(text_of(folder + "/vectors.json"));
  std::map<std::string, smartprof::Profile> profiles;
  int wrong = 0;
  const auto complain = [&wrong](const json& vector, const json& got) {
    std::cout << vector["profile"].get<std::string>() << ", "
              << vector["about"].get<std::string>() << ": got " << got << '\n';
    ++wrong;
  };
  for (const json& vector : vectors["files"]) {
    const std::string name = vector["profile"];
    bool accepted = true;
    try {
      profiles.emplace(name, smartprof::Profile(text_of(folder + "/profiles/" + name)));
    } catch (const std::invalid_argument&) {
      accepted = false;
    }
    if (accepted != vector["accepted"].get<bool>()) complain(vector, accepted);
  }
  for (const char* kind : {"queries", "envelopes"}) {
    for (const json& vector : vectors[kind]) {
      const json got = outcome(profiles.at(vector["profile"]), vector);
      bool same = true;
      for (const auto& [name, value] : got.items()) {
        same = same && vector.value(name, json()) == value;
      }
      if (!same) complain(vector, got);
    }
  }
  return wrong == 0 ? 0 : 1;
}
