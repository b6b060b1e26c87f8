// What an operator computes, as plain structs: the native twin of NativeProgram in lib/native.ts. A program is a DAG of
// primitive nodes over values; primitives.h lists the kinds of nodes, evaluate.h computes them.
// binding/ fills these from JavaScript; nothing in them is believed before checkProgram has seen it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "codes.h"
#include "layout.h"

namespace ladder::reference {

enum class ValueType { kF16, kF32, kQuantised };
enum class ScaleType { kF16, kF32, kE8m0 };
enum class Fit { kAbsmax, kMean, kMx };

/// How a scale follows from the numbers that share it.
struct ScaleFit {
  Fit kind = Fit::kAbsmax;
  double top = 0;    // absmax: what the largest magnitude becomes
  int64_t emax = 0;  // mx: the exponent that the largest magnitude is brought to
};

/// Coordinates along an axis that share a scale.
struct Sharing {
  std::string axis;
  int64_t count;
};

struct Scale {
  ScaleType type = ScaleType::kF32;
  std::vector<Sharing> per;  // axes not named share a scale throughout
  ScaleFit fit;
};

struct Value {
  std::vector<Axis> axes;
  ValueType type = ValueType::kF16;
  std::optional<Element> element;  // quantised
  int64_t cellBits = 0;
  std::optional<Scale> scale;
  std::vector<Digit> layout;
  std::vector<Digit> scaleLayout;
};

enum class Operation { kInput, kConstant, kAdd, kSub, kMul, kDiv, kMin, kMax, kNeg, kExp, kTanh, kErf };

/// Of an expression in postfix order.
struct Instruction {
  Operation operation;
  int64_t index = 0;  // input
  int64_t part = 0;
  int64_t parts = 1;
  double value = 0;  // constant
};

struct Node {
  std::string kind;
  std::map<std::string, double> numbers;
  std::map<std::string, std::string> strings;
  std::optional<std::vector<Instruction>> expression;
  std::vector<uint32_t> inputs;
  std::vector<uint32_t> outputs;
};

struct Program {
  std::vector<Value> values;
  std::vector<Node> nodes;
  std::vector<uint32_t> inputs;
  std::vector<uint32_t> outputs;
};

/// Bytes of a value's tensors: numbers or codes, then scales where it has some.
std::vector<int64_t> tensorBytes(const Value& value);

/// The axes of a value's scales: the value's own, with as many coordinates as there are scales along each.
std::vector<Axis> scaleAxes(const Value& value);

/// e.g. `nodes[2]` (dense): for messages.
std::string nodeName(const Program& program, size_t node);

/// Checks values, layouts of those with tensors, indices and order; parameters of nodes are their primitives' to check.
/// @throws ladder::Error BAD_ARGUMENT naming the field, UNSUPPORTED
void checkProgram(const Program& program);

}  // namespace ladder::reference
