// The kinds of nodes: what one must say of itself, and the one table that lists them. A new kind is a folder beside these
// and a line in primitives.cc. How nodes are put together is evaluate.h's business, how values are stored is stored.h's.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "operand.h"
#include "program.h"

namespace ladder::reference {

/// A node with its values, for the checks of its kind. Every refusal names the node and the field.
class NodeView {
 public:
  NodeView(const Program& program, size_t index) : program_(program), index_(index) {}

  const Node& node() const { return program_.nodes[index_]; }
  size_t inputs() const { return node().inputs.size(); }
  const Value& input(size_t i) const { return program_.values[node().inputs[i]]; }
  const Value& output() const { return program_.values[node().outputs[0]]; }

  double positive(const char* name) const;
  int64_t dimension(const char* name) const;
  int64_t dimensionOrZero(const char* name) const;
  template <typename T>
  T choice(const char* name, std::initializer_list<std::pair<const char*, T>> choices) const {
    const std::string text = string(name);
    std::string names;
    for (const auto& [choice, value] : choices) {
      if (text == choice) return value;
      names += (names.empty() ? "" : ", ") + std::string(choice);
    }
    refuse(name, "one of " + names, "\"" + text + "\"");
  }
  /// The same; `absent` where the node does not say.
  template <typename T>
  T choice(const char* name, std::initializer_list<std::pair<const char*, T>> choices, T absent) const {
    return has(name) ? choice(name, choices) : absent;
  }
  void requireInputs(size_t least, size_t most) const;
  /// @throws Error UNSUPPORTED for a quantised result
  void requireNumbers() const;
  /// The extents of a value that must have that many axes.
  std::vector<int64_t> extents(const char* role, const Value& value, size_t axes) const;
  void requireExtent(const char* role, int64_t expected, int64_t received) const;
  /// @throws Error BAD_ARGUMENT unless the values have the same axes
  void requireSameAxes(const char* role, const Value& value, const Value& other) const;
  [[noreturn]] void refuse(const std::string& field, const std::string& expected, const std::string& received) const;
  [[noreturn]] void unsupported(const std::string& what) const;

 private:
  bool has(const char* name) const;
  double number(const char* name) const;
  std::string string(const char* name) const;
  const Program& program_;
  size_t index_;
};

/// One node, checked. It has one result. All methods are const: several evaluations may use it.
class Primitive {
 public:
  virtual ~Primitive() = default;
  /// The region that is computed where `asked` is wanted: the same, or more of it.
  virtual Region produced(const Region& asked) const { return asked; }
  /// The region of an input that a region of the result needs.
  virtual Region needed(size_t input, const Region& produced) const = 0;
  /// Whether that region of an input is held as a whole.
  virtual bool gathers(size_t) const { return true; }
  /// Fills `result`, whose region is set, from what `needed` says of the inputs.
  virtual void evaluate(const std::vector<Operand<float>>& inputs, Computed<float>& result, const CancelFlag* cancelled) const = 0;
  virtual void evaluate(const std::vector<Operand<double>>& inputs, Computed<double>& result, const CancelFlag* cancelled) const = 0;
};

/// Makes both precisions of Self::compute<Real>(inputs, result, cancelled).
template <typename Self>
class PrimitiveOf : public Primitive {
 public:
  void evaluate(const std::vector<Operand<float>>& inputs, Computed<float>& result, const CancelFlag* cancelled) const final {
    static_cast<const Self*>(this)->compute(inputs, result, cancelled);
  }
  void evaluate(const std::vector<Operand<double>>& inputs, Computed<double>& result, const CancelFlag* cancelled) const final {
    static_cast<const Self*>(this)->compute(inputs, result, cancelled);
  }
};

using MakePrimitive = std::unique_ptr<Primitive> (*)(const NodeView& node, const ValueTables& result);

// One per kind, in its folder. @throws ladder::Error BAD_ARGUMENT, UNSUPPORTED
std::unique_ptr<Primitive> makeDense(const NodeView& node, const ValueTables& result);
std::unique_ptr<Primitive> makeNorm(const NodeView& node, const ValueTables& result);
std::unique_ptr<Primitive> makeQuantise(const NodeView& node, const ValueTables& result);
std::unique_ptr<Primitive> makeAttention(const NodeView& node, const ValueTables& result);
std::unique_ptr<Primitive> makeQueryKey(const NodeView& node, const ValueTables& result);
std::unique_ptr<Primitive> makeConv(const NodeView& node, const ValueTables& result);
std::unique_ptr<Primitive> makePatches(const NodeView& node, const ValueTables& result);
std::unique_ptr<Primitive> makeEmbedTokens(const NodeView& node, const ValueTables& result);
std::unique_ptr<Primitive> makeFirstRows(const NodeView& node, const ValueTables& result);
std::unique_ptr<Primitive> makeMaxPool(const NodeView& node, const ValueTables& result);
std::unique_ptr<Primitive> makeMeanRows(const NodeView& node, const ValueTables& result);
std::unique_ptr<Primitive> makeChannels(const NodeView& node, const ValueTables& result);
std::unique_ptr<Primitive> makeInterleave(const NodeView& node, const ValueTables& result);
std::unique_ptr<Primitive> makeMap(const NodeView& node, const ValueTables& result);

struct PrimitiveKind {
  const char* name;
  /// What its inputs are called in messages; those beyond have no name.
  std::vector<const char*> roles;
  MakePrimitive make;
};

/// @throws ladder::Error UNSUPPORTED for a kind that is not in the table
const PrimitiveKind& primitiveKind(const Program& program, size_t node);

}  // namespace ladder::reference
