// conv: convolutions over images whose pixels are rows, by the formula of lib/operators/conv.ts. A thread takes rows of the result: of
// each it finds the pixels under the kernel, then sums over them for every channel that is asked, in FP64.
#include <algorithm>
#include <string>

#include "../parallel.h"
#include "../primitives.h"
#include "../sums.h"

namespace ladder::reference {
namespace {

/// An axis of the image, and how the kernel walks along it.
struct Along {
  int64_t extent, kernel, stride, padding;
  int64_t places() const { return (extent + 2 * padding - kernel) / stride + 1; }
};

class Conv : public PrimitiveOf<Conv> {
 public:
  explicit Conv(const NodeView& node)
      : down_{node.dimension("height"), node.dimension("kernelY"), node.dimension("stride"), node.dimensionOrZero("paddingY")},
        across_{node.dimension("width"), node.dimension("kernelX"), node.dimension("stride"), node.dimensionOrZero("paddingX")},
        groups_(node.dimension("groups")) {
    const int64_t batch = node.dimension("batch");
    node.requireInputs(2, 2);
    const std::vector<int64_t> x = node.extents("x", node.input(0), 2);
    const std::vector<int64_t> weight = node.extents("weight", node.input(1), 2);
    const std::vector<int64_t> output = node.extents("output", node.output(), 2);
    for (const Along& along : {down_, across_}) {
      if (along.kernel > along.extent + 2 * along.padding)
        node.refuse("kernel", "one that the padded image holds", std::to_string(along.kernel));
    }
    if (x[0] % batch != 0 || x[0] / batch % down_.extent != 0) node.refuse("x", "a row per pixel", std::to_string(x[0]));
    node.requireExtent("x", across_.extent, x[0] / batch / down_.extent);
    if (x[1] % groups_ != 0 || weight[0] % groups_ != 0) node.refuse("groups", "a divisor of the channels", std::to_string(groups_));
    groupInputs_ = x[1] / groups_, groupOutputs_ = weight[0] / groups_;
    if (weight[1] % groupInputs_ != 0 || weight[1] / groupInputs_ % down_.kernel != 0)
      node.refuse("weight", "kernelY·kernelX·channels columns", std::to_string(weight[1]));
    node.requireExtent("weight", across_.kernel, weight[1] / groupInputs_ / down_.kernel);
    contracted_ = weight[1];
    node.requireExtent("output", batch * down_.places() * across_.places(), output[0]);
    node.requireExtent("output", weight[0], output[1]);
    node.requireNumbers();
  }

  Region needed(size_t input, const Region& produced) const override {
    if (input == 1) return {produced[1], Coordinates::range(0, contracted_)};
    std::vector<int64_t> rows, columns;
    std::vector<Tap> taps;
    for (int64_t i = 0; i < produced[0].size(); ++i) {
      findTaps(produced[0][i], taps);
      for (const Tap& tap : taps) rows.push_back(tap.row);
    }
    if (rows.empty()) rows.push_back(0);  // padding alone was asked for
    for (int64_t i = 0, last = -1; i < produced[1].size(); ++i) {
      const int64_t group = produced[1][i] / groupOutputs_;
      for (int64_t c = 0; group != last && c < groupInputs_; ++c) columns.push_back(group * groupInputs_ + c);
      last = group;
    }
    return {Coordinates::of(std::move(rows)), Coordinates::of(std::move(columns))};
  }

  template <typename Real>
  void compute(const std::vector<Operand<Real>>& inputs, Computed<Real>& result, const CancelFlag* cancelled) const {
    const Region xRegion = needed(0, result.region);
    std::vector<Real> xScratch, weightScratch;
    const Real* x = inputs[0].view(xRegion, xScratch, cancelled);
    const Real* weight = inputs[1].view(needed(1, result.region), weightScratch, cancelled);
    const Coordinates& rows = result.region[0];
    const Coordinates& channels = result.region[1];
    // Where the channels of each asked channel's group begin.
    std::vector<int64_t> firsts;
    for (int64_t j = 0; j < channels.size(); ++j) firsts.push_back(xRegion[1].find(channels[j] / groupOutputs_ * groupInputs_));
    result.reals.resize(static_cast<size_t>(rows.size() * channels.size()));
    parallelFor(rows.size(), 1, cancelled, [&](int64_t begin, int64_t end) {
      std::vector<Tap> taps;
      for (int64_t i = begin; i < end; ++i) {
        findTaps(rows[i], taps);
        for (Tap& tap : taps) tap.row = xRegion[0].find(tap.row) * xRegion[1].size();
        for (int64_t j = 0; j < channels.size(); ++j) {
          const Real* own = weight + j * contracted_;
          const int64_t first = firsts[static_cast<size_t>(j)];
          double sum = 0;
          for (const Tap& tap : taps) sum += dotProduct<double>(x + tap.row + first, own + tap.column, groupInputs_);
          result.reals[static_cast<size_t>(i * channels.size() + j)] = static_cast<Real>(sum);
        }
      }
    });
  }

 private:
  /// A pixel under the kernel, and where its weights begin.
  struct Tap { int64_t row, column; };

  /// Those of a row of the result.
  void findTaps(int64_t row, std::vector<Tap>& taps) const {
    taps.clear();
    const int64_t pixels = down_.places() * across_.places();
    const int64_t image = row / pixels, i = row % pixels / across_.places(), j = row % across_.places();
    for (int64_t ky = 0; ky < down_.kernel; ++ky) {
      const int64_t y = i * down_.stride + ky - down_.padding;
      if (y < 0 || y >= down_.extent) continue;
      for (int64_t kx = 0; kx < across_.kernel; ++kx) {
        const int64_t column = j * across_.stride + kx - across_.padding;
        if (column < 0 || column >= across_.extent) continue;
        taps.push_back({(image * down_.extent + y) * across_.extent + column, (ky * across_.kernel + kx) * groupInputs_});
      }
    }
  }

  Along down_, across_;
  int64_t groups_, groupInputs_ = 0, groupOutputs_ = 0, contracted_ = 0;
};

}  // namespace

std::unique_ptr<Primitive> makeConv(const NodeView& node, const ValueTables&) { return std::make_unique<Conv>(node); }

}  // namespace ladder::reference
