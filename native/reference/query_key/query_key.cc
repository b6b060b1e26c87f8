// query_key: query and key heads of qkv [batch·seq, (heads + 2·kvHeads)·headDim] before attention, values as they are. Optional RMS norm
// over each head with a gain of its own for queries and for keys (Qwen3), then rotary embedding in its rotate-half form with scaled
// frequencies (lib/operators/query-key.ts). FP64 throughout.
#include <cmath>

#include "../parallel.h"
#include "../primitives.h"

namespace ladder::reference {
namespace {

class QueryKey : public PrimitiveOf<QueryKey> {
 public:
  explicit QueryKey(const NodeView& node)
      : seq_(node.dimension("seq")), heads_(node.dimension("heads")), kvHeads_(node.dimension("kvHeads")),
        headDim_(node.dimension("headDim")), rope_(node.choice<bool>("position", {{"rope", true}, {"none", false}})),
        ropeBase_(node.positive("ropeBase")), factor_(node.positive("factor")), lowFactor_(node.positive("lowFactor")),
        highFactor_(node.positive("highFactor")), original_(static_cast<double>(node.dimensionOrZero("originalPositions"))),
        eps_(node.positive("eps")) {
    node.requireInputs(node.inputs() == 1 ? 1 : 3, 3);
    norm_ = node.inputs() == 3;
    const std::vector<int64_t> qkv = node.extents("qkv", node.input(0), 2);
    if (headDim_ % 2 != 0) node.unsupported("rope needs an even headDim but it is " + std::to_string(headDim_));
    if (qkv[0] % seq_ != 0) node.refuse("qkv", "rows of whole sequences", std::to_string(qkv[0]));
    if (qkv[1] % headDim_ != 0 || qkv[1] / headDim_ != heads_ + 2 * kvHeads_)
      node.refuse("qkv", "(heads + 2·kvHeads)·headDim columns", std::to_string(qkv[1]));
    for (size_t i = 1; i < node.inputs(); ++i)
      node.requireExtent(i == 1 ? "queryGain" : "keyGain", headDim_, node.extents(i == 1 ? "queryGain" : "keyGain", node.input(i), 1)[0]);
    node.requireSameAxes("output", node.output(), node.input(0));
    node.requireNumbers();
  }

  Region needed(size_t input, const Region& produced) const override {
    if (input > 0) return {Coordinates::range(0, headDim_)};
    std::vector<int64_t> columns;
    int64_t last = -1;
    for (int64_t i = 0; i < produced[1].size(); ++i) {
      const int64_t head = produced[1][i] / headDim_;
      for (int64_t d = 0; head != last && d < headDim_; ++d) columns.push_back(head * headDim_ + d);
      last = head;
    }
    return {produced[0], Coordinates::of(std::move(columns))};
  }

  template <typename Real>
  void compute(const std::vector<Operand<Real>>& inputs, Computed<Real>& result, const CancelFlag* cancelled) const {
    const Region region = needed(0, result.region);
    std::vector<Real> scratch;
    const Real* values = inputs[0].view(region, scratch, cancelled);
    std::vector<Real> gains[2];
    for (size_t i = 1; i < inputs.size(); ++i) {
      gains[i - 1].resize(static_cast<size_t>(headDim_));
      inputs[i].gather({Coordinates::range(0, headDim_)}, gains[i - 1].data());
    }
    const Coordinates& rows = result.region[0];
    const Coordinates& columns = result.region[1];
    result.reals.resize(static_cast<size_t>(volume(result.region)));
    parallelFor(rows.size(), 1, cancelled, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        int64_t last = -1;
        double inverse = 1;
        for (int64_t i = 0; i < columns.size(); ++i) {
          const int64_t head = columns[i] / headDim_, d = columns[i] % headDim_;
          const Real* x = values + row * region[1].size() + region[1].find(head * headDim_);
          Real& y = result.reals[static_cast<size_t>(row * columns.size() + i)];
          if (head >= heads_ + kvHeads_) {
            y = x[d];
            continue;
          }
          if (head != last && norm_) inverse = inverseRoot(x);
          last = head;
          const std::vector<Real>& gain = gains[head < heads_ ? 0 : 1];
          const auto at = [&](int64_t c) {
            return norm_ ? static_cast<double>(x[c]) * inverse * static_cast<double>(gain[static_cast<size_t>(c)])
                         : static_cast<double>(x[c]);
          };
          y = static_cast<Real>(rope_ ? rotated(at, rows[row] % seq_, d) : at(d));
        }
      }
    });
  }

 private:
  template <typename Real>
  double inverseRoot(const Real* x) const {
    double squares = 0;
    for (int64_t c = 0; c < headDim_; ++c) squares += static_cast<double>(x[c]) * static_cast<double>(x[c]);
    return 1 / std::sqrt(squares / static_cast<double>(headDim_) + eps_);
  }

  template <typename At>
  double rotated(const At& at, int64_t position, int64_t d) const {
    const int64_t half = headDim_ / 2, pair = d % half;
    const double angle = static_cast<double>(position) * frequency(pair);
    const double low = at(pair), high = at(pair + half);
    return d < half ? low * std::cos(angle) - high * std::sin(angle) : high * std::cos(angle) + low * std::sin(angle);
  }

  /// Radians per position.
  double frequency(int64_t pair) const {
    const double plain = std::pow(ropeBase_, -2.0 * static_cast<double>(pair) / static_cast<double>(headDim_));
    const double turns = original_ * plain / (2 * M_PI);
    if (turns <= lowFactor_) return plain / factor_;
    if (turns >= highFactor_) return plain;
    const double smooth = (turns - lowFactor_) / (highFactor_ - lowFactor_);
    return (1 - smooth) * plain / factor_ + smooth * plain;
  }

  int64_t seq_, heads_, kvHeads_, headDim_;
  bool rope_, norm_ = false;
  double ropeBase_, factor_, lowFactor_, highFactor_, original_, eps_;
};

}  // namespace

std::unique_ptr<Primitive> makeQueryKey(const NodeView& node, const ValueTables&) { return std::make_unique<QueryKey>(node); }

}  // namespace ladder::reference
