// map: an expression at every coordinate, over inputs that may lack some of the result's axes (a bias, a residual), or hold
// several blocks along their last one (gate and up). The expression is checked as a stack program and interpreted in blocks.
#include <algorithm>
#include <cmath>

#include "../parallel.h"
#include "../primitives.h"

namespace ladder::reference {
namespace {

constexpr int64_t kBlock = 256;
constexpr int64_t kGrainNumbers = 1 << 14;
constexpr size_t kMaxDepth = 64;

template <typename Real>
void apply(Operation operation, Real* a, const Real* b, int64_t count) {
  switch (operation) {
    case Operation::kAdd:
      for (int64_t i = 0; i < count; ++i) a[i] += b[i];
      break;
    case Operation::kSub:
      for (int64_t i = 0; i < count; ++i) a[i] -= b[i];
      break;
    case Operation::kMul:
      for (int64_t i = 0; i < count; ++i) a[i] *= b[i];
      break;
    case Operation::kDiv:
      for (int64_t i = 0; i < count; ++i) a[i] /= b[i];
      break;
    // A NaN on either side stays one.
    case Operation::kMin:
      for (int64_t i = 0; i < count; ++i) a[i] = b[i] < a[i] || std::isnan(b[i]) ? b[i] : a[i];
      break;
    case Operation::kMax:
      for (int64_t i = 0; i < count; ++i) a[i] = b[i] > a[i] || std::isnan(b[i]) ? b[i] : a[i];
      break;
    case Operation::kNeg:
      for (int64_t i = 0; i < count; ++i) a[i] = -a[i];
      break;
    case Operation::kExp:
      for (int64_t i = 0; i < count; ++i) a[i] = std::exp(a[i]);
      break;
    case Operation::kTanh:
      for (int64_t i = 0; i < count; ++i) a[i] = std::tanh(a[i]);
      break;
    case Operation::kErf:
      for (int64_t i = 0; i < count; ++i) a[i] = std::erf(a[i]);
      break;
    case Operation::kInput:
    case Operation::kConstant: break;
  }
}

/// Operands that an operation takes from the stack.
size_t arity(Operation operation) {
  switch (operation) {
    case Operation::kInput:
    case Operation::kConstant: return 0;
    case Operation::kNeg:
    case Operation::kExp:
    case Operation::kTanh:
    case Operation::kErf: return 1;
    default: return 2;
  }
}

/// What an input has to do with the result.
struct Reading {
  /// The result's axis of each of the input's.
  std::vector<size_t> axes;
  int64_t parts = 0;  // 0: no instruction has read it yet
  std::vector<bool> used;  // by part
};

class Map : public PrimitiveOf<Map> {
 public:
  explicit Map(const NodeView& node) {
    node.requireInputs(0, node.inputs());
    if (!node.node().expression) node.refuse("expression", "instructions", "null");
    node.requireNumbers();
    expression_ = *node.node().expression;
    readings_.resize(node.inputs());
    if (!node.output().axes.empty()) lastExtent_ = node.output().axes.back().extent;
    size_t depth = 0;
    for (const Instruction& instruction : expression_) {
      if (instruction.operation == Operation::kInput) checkInput(node, instruction);
      const size_t taken = arity(instruction.operation);
      if (depth < taken) node.refuse("expression", "operands for every operation", "an operation without");
      depth += 1 - taken;
      depth_ = std::max(depth_, depth);
    }
    if (depth != 1) node.refuse("expression", "one result", std::to_string(depth));
    if (depth_ > kMaxDepth) node.refuse("expression", "at most " + std::to_string(kMaxDepth) + " operands at once", std::to_string(depth_));
    for (size_t i = 0; i < readings_.size(); ++i) checkAxes(node, i);
  }

  Region needed(size_t input, const Region& produced) const override {
    const Reading& reading = readings_[input];
    Region region;
    for (const size_t axis : reading.axes) region.push_back(produced[axis]);
    if (reading.parts == 1) return region;
    std::vector<int64_t> list;
    const Coordinates last = region.back();
    for (int64_t part = 0; part < reading.parts; ++part) {
      for (int64_t i = 0; reading.used[static_cast<size_t>(part)] && i < last.size(); ++i) list.push_back(part * lastExtent_ + last[i]);
    }
    region.back() = Coordinates::of(std::move(list));
    return region;
  }

  template <typename Real>
  void compute(const std::vector<Operand<Real>>& inputs, Computed<Real>& result, const CancelFlag* cancelled) const {
    const int64_t columns = result.region.empty() ? 1 : result.region.back().size();
    const int64_t rows = volume(result.region) / columns;
    std::vector<std::vector<Real>> scratch(inputs.size());
    std::vector<Source<Real>> sources;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Region region = needed(i, result.region);
      sources.push_back({inputs[i].view(region, scratch[i], cancelled), walkOf(readings_[i], region, result.region), {}});
      int64_t first = 0;  // the parts that are read lie one after the other
      for (const bool used : readings_[i].used) {
        sources.back().parts.push_back(first);
        if (used) first += columns;
      }
    }
    result.reals.resize(static_cast<size_t>(rows * columns));
    parallelFor(rows * ((columns + kBlock - 1) / kBlock), std::max<int64_t>(1, kGrainNumbers / std::min(columns, kBlock)), cancelled,
                [&](int64_t begin, int64_t end) {
                  std::vector<Real> stack(depth_ * kBlock);
                  for (int64_t block = begin; block < end; ++block) {
                    const int64_t row = block / ((columns + kBlock - 1) / kBlock);
                    const int64_t first = block % ((columns + kBlock - 1) / kBlock) * kBlock;
                    const int64_t count = std::min(kBlock, columns - first);
                    interpret(sources, row, first, count, stack.data());
                    std::copy_n(stack.data(), count, result.reals.data() + row * columns + first);
                  }
                });
  }

 private:
  template <typename Real>
  struct Source {
    const Real* values;
    /// Over the result's axes; those that the input lacks do not move.
    Walk walk;
    std::vector<int64_t> parts;
  };

  void checkInput(const NodeView& node, const Instruction& instruction) {
    const auto [operation, index, part, parts, value] = instruction;
    if (index < 0 || index >= static_cast<int64_t>(readings_.size()))
      node.refuse("expression", "indices of its inputs", std::to_string(index));
    constexpr int64_t kMaxParts = 1 << 16;
    if (parts < 1 || parts > kMaxParts || part < 0 || part >= parts)
      node.refuse("expression", "a part of several", std::to_string(part) + " of " + std::to_string(parts));
    Reading& reading = readings_[static_cast<size_t>(index)];
    if (reading.parts != 0 && reading.parts != parts)
      node.refuse("expression", "as many parts wherever an input is read", std::to_string(parts));
    reading.parts = parts;
    reading.used.resize(static_cast<size_t>(parts));
    reading.used[static_cast<size_t>(part)] = true;
  }

  void checkAxes(const NodeView& node, size_t index) {
    Reading& reading = readings_[index];
    const std::string role = "inputs[" + std::to_string(index) + "]";
    if (reading.parts == 0) node.refuse(role, "an input that the expression reads", "one that it does not");
    const std::vector<Axis>& own = node.input(index).axes;
    const std::vector<Axis>& all = node.output().axes;
    size_t axis = 0;
    for (size_t i = 0; i < own.size(); ++i) {
      while (axis < all.size() && all[axis].name != own[i].name) ++axis;
      if (axis == all.size()) node.refuse(role, "axes of the result, in their order", "axis " + own[i].name);
      const bool parted = reading.parts > 1 && i + 1 == own.size();
      if (parted && axis + 1 != all.size()) node.refuse(role, "parts along the result's last axis", "axis " + own[i].name);
      node.requireExtent(role.c_str(), all[axis].extent * (parted ? reading.parts : 1), own[i].extent);
      reading.axes.push_back(axis++);
    }
    if (own.empty() && reading.parts > 1) node.refuse(role, "an axis of parts", "none");
  }

  static Walk walkOf(const Reading& reading, const Region& region, const Region& result) {
    std::vector<std::vector<int64_t>> offsets;
    for (const Coordinates& coordinates : result) offsets.emplace_back(static_cast<size_t>(coordinates.size()), 0);
    int64_t stride = 1;
    for (size_t i = region.size(); i-- > 0;) {
      std::vector<int64_t>& own = offsets[reading.axes[i]];
      for (size_t j = 0; j < own.size(); ++j) own[j] = static_cast<int64_t>(j) * stride;
      stride *= region[i].size();
    }
    return Walk(std::move(offsets));
  }

  template <typename Real>
  void interpret(const std::vector<Source<Real>>& sources, int64_t row, int64_t first, int64_t count, Real* stack) const {
    Real* top = stack;  // one past the last operand
    for (const Instruction& instruction : expression_) {
      if (instruction.operation == Operation::kConstant) {
        std::fill_n(top, count, static_cast<Real>(instruction.value));
        top += kBlock;
      } else if (instruction.operation == Operation::kInput) {
        const Source<Real>& source = sources[static_cast<size_t>(instruction.index)];
        const Real* values = source.values + source.walk.rowOffset(row) + source.parts[static_cast<size_t>(instruction.part)];
        const std::vector<int64_t>& columns = source.walk.columnOffsets();
        if (source.walk.contiguous()) std::copy_n(values + columns[static_cast<size_t>(first)], count, top);
        else std::transform(columns.begin() + first, columns.begin() + first + count, top, [&](int64_t column) { return values[column]; });
        top += kBlock;
      } else {
        if (arity(instruction.operation) == 2) top -= kBlock;
        apply(instruction.operation, top - kBlock, top, count);
      }
    }
  }

  std::vector<Instruction> expression_;
  std::vector<Reading> readings_;
  int64_t lastExtent_ = 1;
  size_t depth_ = 0;
};

}  // namespace

std::unique_ptr<Primitive> makeMap(const NodeView& node, const ValueTables&) { return std::make_unique<Map>(node); }

}  // namespace ladder::reference
