// The table of kinds, and reading a node's parameters.
#include "primitives.h"

#include <cmath>

#include "../runtime/error.h"

namespace ladder::reference {
namespace {

const std::vector<PrimitiveKind>& primitiveKinds() {
  // clang-format off
  static const std::vector<PrimitiveKind> kinds{
      {"dense", {"x", "weight"}, makeDense},
      {"norm", {"x", "gain", "beta"}, makeNorm},
      {"quantise", {"x", "scale"}, makeQuantise},
      {"attention", {"qkv"}, makeAttention},
      {"query_key", {"qkv", "queryGain", "keyGain"}, makeQueryKey},
      {"conv", {"x", "weight"}, makeConv},
      {"patches", {"image"}, makePatches},
      {"embed_tokens", {"x", "token", "positions"}, makeEmbedTokens},
      {"first_rows", {"x"}, makeFirstRows},
      {"max_pool", {"x"}, makeMaxPool},
      {"mean_rows", {"x"}, makeMeanRows},
      {"channels", {"x"}, makeChannels},
      {"interleave", {"x", "other"}, makeInterleave},
      {"map", {}, makeMap},
  };
  // clang-format on
  return kinds;
}

constexpr double kMaxDimension = 2147483647.0;

}  // namespace

const PrimitiveKind& primitiveKind(const Program& program, size_t node) {
  std::string names;
  for (const PrimitiveKind& kind : primitiveKinds()) {
    if (program.nodes[node].kind == kind.name) return kind;
    names += (names.empty() ? "" : ", ") + std::string(kind.name);
  }
  throw Error("UNSUPPORTED", "program: expected one of " + names + " for the kind of " + nodeName(program, node));
}

bool NodeView::has(const char* name) const { return node().numbers.count(name) + node().strings.count(name) > 0; }

double NodeView::number(const char* name) const {
  const auto found = node().numbers.find(name);
  if (found == node().numbers.end()) refuse(name, "a number", "nothing");
  return found->second;
}

std::string NodeView::string(const char* name) const {
  const auto found = node().strings.find(name);
  if (found == node().strings.end()) refuse(name, "a string", "nothing");
  return found->second;
}

double NodeView::positive(const char* name) const {
  const double value = number(name);
  if (!(value > 0) || !std::isfinite(value)) refuse(name, "a positive number", std::to_string(value));
  return value;
}

int64_t NodeView::dimensionOrZero(const char* name) const { return number(name) == 0 ? 0 : dimension(name); }

int64_t NodeView::dimension(const char* name) const {
  const double value = number(name);
  if (!(value >= 1 && value <= kMaxDimension) || value != std::floor(value))
    refuse(name, "an integer of at least 1", std::to_string(value));
  return static_cast<int64_t>(value);
}

void NodeView::requireInputs(size_t least, size_t most) const {
  if (inputs() < least || inputs() > most) {
    refuse("inputs", least == most ? std::to_string(least) : "at least " + std::to_string(least), std::to_string(inputs()) + " of them");
  }
  if (node().outputs.size() != 1) refuse("outputs", "one", std::to_string(node().outputs.size()) + " of them");
  // An expression that nothing computes would be passed over in silence.
  if (node().expression && node().kind != "map") refuse("expression", "null", "an expression");
}

void NodeView::requireNumbers() const {
  if (output().type == ValueType::kQuantised) unsupported("its result is not quantised; a quantise node does that");
}

std::vector<int64_t> NodeView::extents(const char* role, const Value& value, size_t axes) const {
  if (value.axes.size() != axes) refuse(role, std::to_string(axes) + " axes", std::to_string(value.axes.size()));
  std::vector<int64_t> extents;
  for (const Axis& axis : value.axes) extents.push_back(axis.extent);
  return extents;
}

void NodeView::requireExtent(const char* role, int64_t expected, int64_t received) const {
  if (expected != received) refuse(role, "an extent of " + std::to_string(expected), std::to_string(received));
}

void NodeView::requireSameAxes(const char* role, const Value& value, const Value& other) const {
  const auto text = [](const Value& of) {
    std::string names;
    for (const Axis& axis : of.axes) names += (names.empty() ? "" : ", ") + axis.name + " " + std::to_string(axis.extent);
    return "[" + names + "]";
  };
  if (text(value) != text(other)) refuse(role, "the axes " + text(other), text(value));
}

void NodeView::refuse(const std::string& field, const std::string& expected, const std::string& received) const {
  throw Error("BAD_ARGUMENT",
              "program: expected " + expected + " for `" + field + "` of " + nodeName(program_, index_) + " but received " + received,
              {{"node", node().kind}, {"field", field}});
}

void NodeView::unsupported(const std::string& what) const {
  throw Error("UNSUPPORTED", "program: " + nodeName(program_, index_) + ": " + what, {{"node", node().kind}});
}

}  // namespace ladder::reference
