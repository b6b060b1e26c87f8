// norm: over the last axis of x, rms x·rsqrt(mean(x²) + eps)·gain or layer (x − mean)·rsqrt(var + eps)·gain + beta.
// Sums and factors in FP64 in either precision.
#include <cmath>

#include "../parallel.h"
#include "../primitives.h"

namespace ladder::reference {
namespace {

class Norm : public PrimitiveOf<Norm> {
 public:
  explicit Norm(const NodeView& node) : layer_(node.choice<bool>("kind", {{"rms", false}, {"layer", true}})), eps_(node.positive("eps")) {
    node.requireInputs(layer_ ? 3 : 2, layer_ ? 3 : 2);
    if (node.input(0).axes.empty()) node.refuse("x", "at least one axis", "none");
    extent_ = node.input(0).axes.back().extent;
    for (size_t i = 1; i < node.inputs(); ++i)
      node.requireExtent(i == 1 ? "gain" : "beta", extent_, node.extents(i == 1 ? "gain" : "beta", node.input(i), 1)[0]);
    node.requireSameAxes("output", node.output(), node.input(0));
    node.requireNumbers();
  }

  Region needed(size_t input, const Region& produced) const override {
    if (input > 0) return {produced.back()};
    Region rows = produced;
    rows.back() = Coordinates::range(0, extent_);
    return rows;
  }

  template <typename Real>
  void compute(const std::vector<Operand<Real>>& inputs, Computed<Real>& result, const CancelFlag* cancelled) const {
    const Coordinates& columns = result.region.back();
    std::vector<Real> scratch;
    std::vector<Real> gain(static_cast<size_t>(columns.size()));
    std::vector<Real> beta(gain.size());
    const Real* rows = inputs[0].view(needed(0, result.region), scratch, cancelled);
    inputs[1].gather({columns}, gain.data());
    if (layer_) inputs[2].gather({columns}, beta.data());
    const int64_t count = volume(result.region) / columns.size();
    result.reals.resize(static_cast<size_t>(count * columns.size()));
    parallelFor(count, 1, cancelled, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const Real* x = rows + row * extent_;
        Real* y = result.reals.data() + row * columns.size();
        const auto [mean, factor] = statistics(x);
        for (int64_t i = 0; i < columns.size(); ++i) {
          const auto at = static_cast<size_t>(i);
          const double centred = static_cast<double>(x[columns[i]]) - mean;
          y[i] = static_cast<Real>(centred * factor * static_cast<double>(gain[at]) + static_cast<double>(beta[at]));
        }
      }
    });
  }

 private:
  struct Statistics { double mean, factor; };

  template <typename Real>
  Statistics statistics(const Real* x) const {
    const auto count = static_cast<double>(extent_);
    double mean = 0;
    if (layer_) {
      for (int64_t i = 0; i < extent_; ++i) mean += static_cast<double>(x[i]);
      mean /= count;
    }
    double squares = 0;
    for (int64_t i = 0; i < extent_; ++i) squares += (static_cast<double>(x[i]) - mean) * (static_cast<double>(x[i]) - mean);
    return {mean, 1 / std::sqrt(squares / count + eps_)};
  }

  bool layer_;
  double eps_;
  int64_t extent_ = 0;
};

}  // namespace

std::unique_ptr<Primitive> makeNorm(const NodeView& node, const ValueTables&) { return std::make_unique<Norm>(node); }

}  // namespace ladder::reference
