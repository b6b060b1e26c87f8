// The checks on a program: after them no index, extent or layout leads out of memory, and no product of sizes overflows.
#include "program.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "../runtime/error.h"

namespace ladder::reference {
namespace {

constexpr int64_t kMaxExtent = 2147483647;
constexpr int64_t kMaxElements = int64_t{1} << 52;

[[noreturn]] void refuse(const std::string& field, const std::string& expected, const std::string& received) {
  throw Error("BAD_ARGUMENT", "program: expected " + expected + " for `" + field + "` but received " + received);
}

std::string item(const char* list, size_t index) { return std::string(list) + "[" + std::to_string(index) + "]"; }

void checkAxes(const std::string& where, const std::vector<Axis>& axes) {
  std::set<std::string> names;
  int64_t elements = 1;
  for (const Axis& axis : axes) {
    if (axis.name.empty() || !names.insert(axis.name).second) refuse(where + ".axes", "names, each once", "\"" + axis.name + "\"");
    if (axis.extent < 1 || axis.extent > kMaxExtent)
      refuse(where + ".axes", "extents of at least 1", axis.name + " of " + std::to_string(axis.extent));
    if (axis.extent > kMaxElements / elements) refuse(where + ".axes", "fewer elements", "extents whose product overflows");
    elements *= axis.extent;
  }
}

void checkScale(const std::string& where, const Value& value, const Scale& scale) {
  std::set<std::string> names;
  for (const Sharing& sharing : scale.per) {
    const auto named = [&](const Axis& axis) { return axis.name == sharing.axis; };
    if (std::none_of(value.axes.begin(), value.axes.end(), named) || !names.insert(sharing.axis).second) {
      refuse(where + ".scale.per", "axes of the value, each once", "\"" + sharing.axis + "\"");
    }
    if (sharing.count < 1) refuse(where + ".scale.per", "a count of at least 1", std::to_string(sharing.count));
  }
  const ScaleFit& fit = scale.fit;
  const auto top = static_cast<float>(fit.top);
  if (fit.kind == Fit::kAbsmax && !(top > 0 && std::isfinite(top)))
    refuse(where + ".scale.fit.top", "a positive number", std::to_string(fit.top));
  if (fit.kind == Fit::kMx && std::abs(fit.emax) > 127) refuse(where + ".scale.fit.emax", "an exponent of FP32", std::to_string(fit.emax));
  if ((fit.kind == Fit::kMx) != (scale.type == ScaleType::kE8m0)) {
    throw Error("UNSUPPORTED", "program: `" + where + ".scale`: E8M0 scales are those of an mx fit, and no others");
  }
}

void checkValue(const std::string& where, const Value& value) {
  checkAxes(where, value.axes);
  const bool quantised = value.type == ValueType::kQuantised;
  if (quantised != value.element.has_value())
    refuse(where + ".element", quantised ? "what a code is" : "null", quantised ? "null" : "an element");
  if (value.scale && !quantised) refuse(where + ".scale", "null", "a scale of numbers that are not quantised");
  if (quantised) checkElement(where + ".element", *value.element, value.cellBits);
  if (value.scale) checkScale(where, value, *value.scale);
}

void checkTensors(const std::string& where, const Value& value) {
  checkLayout(where + ".layout", value.layout, value.axes);
  if (!value.scale) {
    if (!value.scaleLayout.empty()) refuse(where + ".scaleLayout", "no digits", "a layout of scales that are not there");
    return;
  }
  std::vector<Axis> named;
  for (const Axis& axis : scaleAxes(value)) {
    const auto shared = [&](const Sharing& sharing) { return sharing.axis == axis.name; };
    if (std::any_of(value.scale->per.begin(), value.scale->per.end(), shared)) named.push_back(axis);
  }
  checkLayout(where + ".scaleLayout", value.scaleLayout, named);
}

void checkIndices(const std::string& where, const std::vector<uint32_t>& indices, size_t values, bool distinct) {
  std::set<uint32_t> seen;
  for (const uint32_t index : indices) {
    if (index >= values) refuse(where, "indices of values", std::to_string(index));
    if (distinct && !seen.insert(index).second) refuse(where, "each value once", std::to_string(index) + " twice");
  }
}

}  // namespace

std::vector<Axis> scaleAxes(const Value& value) {
  std::vector<Axis> axes;
  for (const Axis& axis : value.axes) {
    int64_t scales = 1;
    for (const Sharing& sharing : value.scale->per) {
      if (sharing.axis == axis.name) scales = (axis.extent - 1) / sharing.count + 1;
    }
    axes.push_back({axis.name, scales});
  }
  return axes;
}

std::vector<int64_t> tensorBytes(const Value& value) {
  const auto places = [](const std::vector<Digit>& digits) {
    int64_t product = 1;
    for (const Digit& digit : digits) product *= digit.size;
    return product;
  };
  const int64_t bits = value.type == ValueType::kF16 ? 16 : value.type == ValueType::kF32 ? 32 : value.cellBits;
  std::vector<int64_t> bytes{(places(value.layout) * bits + 7) / 8};
  if (value.scale) {
    const int64_t width = value.scale->type == ScaleType::kE8m0 ? 1 : value.scale->type == ScaleType::kF16 ? 2 : 4;
    bytes.push_back(places(value.scaleLayout) * width);
  }
  return bytes;
}

std::string nodeName(const Program& program, size_t node) { return "`" + item("nodes", node) + "` (" + program.nodes[node].kind + ")"; }

void checkProgram(const Program& program) {
  const size_t count = program.values.size();
  for (size_t i = 0; i < count; ++i) checkValue(item("values", i), program.values[i]);
  checkIndices("inputs", program.inputs, count, true);
  checkIndices("outputs", program.outputs, count, true);
  if (program.outputs.empty()) refuse("outputs", "at least one value", "none");

  enum class Source { kNone, kInput, kNode };
  std::vector<Source> sources(count, Source::kNone);
  for (const uint32_t value : program.inputs) sources[value] = Source::kInput;
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    const Node& node = program.nodes[i];
    checkIndices(item("nodes", i) + ".inputs", node.inputs, count, false);
    checkIndices(item("nodes", i) + ".outputs", node.outputs, count, true);
    for (const uint32_t value : node.inputs) {
      if (sources[value] == Source::kNone)
        refuse(item("nodes", i) + ".inputs", "inputs of the program and results of earlier nodes", item("values", value));
    }
    for (const uint32_t value : node.outputs) {
      if (sources[value] != Source::kNone) refuse(item("nodes", i) + ".outputs", "values that nothing else gives", item("values", value));
      sources[value] = Source::kNode;
    }
  }
  for (const uint32_t value : program.inputs) checkTensors(item("values", value), program.values[value]);
  for (const uint32_t value : program.outputs) {
    if (sources[value] != Source::kNode) refuse("outputs", "results of nodes", item("values", value));
    checkTensors(item("values", value), program.values[value]);
  }
}

}  // namespace ladder::reference
