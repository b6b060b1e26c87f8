// max_pool, mean_rows, channels, interleave: what networks of convolutions do between products, pixels being the rows of a matrix.
// Formulas: lib/operators/images.ts. Means are summed in FP64.
#include <algorithm>
#include <limits>
#include <string>

#include "../primitives.h"
#include "../rows.h"

namespace ladder::reference {
namespace {

class MaxPool : public PrimitiveOf<MaxPool> {
 public:
  explicit MaxPool(const NodeView& node)
      : height_(node.dimension("height")), width_(node.dimension("width")), kernel_(node.dimension("kernel")),
        stride_(node.dimension("stride")), padding_(node.dimensionOrZero("padding")) {
    const int64_t batch = node.dimension("batch");
    node.requireInputs(1, 1);
    const std::vector<int64_t> x = node.extents("x", node.input(0), 2);
    const std::vector<int64_t> output = node.extents("output", node.output(), 2);
    if (padding_ >= kernel_) node.refuse("padding", "less than the kernel", std::to_string(padding_));
    if (x[0] % batch != 0 || x[0] / batch % height_ != 0) node.refuse("x", "a row per pixel", std::to_string(x[0]));
    node.requireExtent("x", width_, x[0] / batch / height_);
    down_ = places(node, height_), across_ = places(node, width_);
    node.requireExtent("output", batch * down_ * across_, output[0]);
    node.requireExtent("output", x[1], output[1]);
    node.requireNumbers();
  }

  Region needed(size_t, const Region& produced) const override {
    std::vector<int64_t> rows, own;
    for (int64_t i = 0; i < produced[0].size(); ++i) {
      findRows(produced[0][i], own);
      rows.insert(rows.end(), own.begin(), own.end());
    }
    return {Coordinates::of(std::move(rows)), produced[1]};
  }

  template <typename Real>
  void compute(const std::vector<Operand<Real>>& inputs, Computed<Real>& result, const CancelFlag* cancelled) const {
    const Region region = needed(0, result.region);
    std::vector<Real> scratch;
    const Real* x = inputs[0].view(region, scratch, cancelled);
    const int64_t columns = result.region[1].size();
    fillRows(result, cancelled, [&](int64_t i, Real* target) {
      std::vector<int64_t> rows;
      findRows(result.region[0][i], rows);
      std::fill_n(target, columns, -std::numeric_limits<Real>::infinity());
      for (const int64_t row : rows) {
        const Real* own = x + region[0].find(row) * columns;
        // NaN stays.
        for (int64_t j = 0; j < columns; ++j) target[j] = target[j] >= own[j] || target[j] != target[j] ? target[j] : own[j];
      }
    });
  }

 private:
  /// Where the kernel is put along an axis; pixels lie under each of them.
  int64_t places(const NodeView& node, int64_t extent) const {
    if (kernel_ > extent + 2 * padding_) node.refuse("kernel", "one that the padded image holds", std::to_string(kernel_));
    const int64_t count = (extent + 2 * padding_ - kernel_) / stride_ + 1;
    if ((count - 1) * stride_ - padding_ >= extent) node.refuse("stride", "pixels under every place", std::to_string(stride_));
    return count;
  }

  void findRows(int64_t row, std::vector<int64_t>& rows) const {
    rows.clear();
    const int64_t image = row / (down_ * across_);
    const int64_t top = row / across_ % down_ * stride_ - padding_, left = row % across_ * stride_ - padding_;
    for (int64_t y = std::max<int64_t>(0, top); y < std::min(height_, top + kernel_); ++y) {
      for (int64_t x = std::max<int64_t>(0, left); x < std::min(width_, left + kernel_); ++x)
        rows.push_back((image * height_ + y) * width_ + x);
    }
  }

  int64_t height_, width_, kernel_, stride_, padding_, down_ = 0, across_ = 0;
};

class MeanRows : public PrimitiveOf<MeanRows> {
 public:
  explicit MeanRows(const NodeView& node) {
    const int64_t batch = node.dimension("batch");
    node.requireInputs(1, 1);
    const std::vector<int64_t> x = node.extents("x", node.input(0), 2);
    const std::vector<int64_t> output = node.extents("output", node.output(), 2);
    if (x[0] % batch != 0) node.refuse("x", "rows of " + std::to_string(batch) + " images", std::to_string(x[0]));
    rows_ = x[0] / batch;
    node.requireExtent("output", batch, output[0]);
    node.requireExtent("output", x[1], output[1]);
    node.requireNumbers();
  }

  Region needed(size_t, const Region& produced) const override {
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < produced[0].size(); ++i) {
      for (int64_t j = 0; j < rows_; ++j) rows.push_back(produced[0][i] * rows_ + j);
    }
    return {Coordinates::of(std::move(rows)), produced[1]};
  }

  template <typename Real>
  void compute(const std::vector<Operand<Real>>& inputs, Computed<Real>& result, const CancelFlag* cancelled) const {
    std::vector<Real> scratch;
    // Images come in the order in which they were asked for, each whole.
    const Real* x = inputs[0].view(needed(0, result.region), scratch, cancelled);
    const int64_t columns = result.region[1].size();
    fillRows(result, cancelled, [&](int64_t i, Real* target) {
      for (int64_t j = 0; j < columns; ++j) {
        double sum = 0;
        for (int64_t row = i * rows_; row < (i + 1) * rows_; ++row) sum += static_cast<double>(x[row * columns + j]);
        target[j] = static_cast<Real>(sum / static_cast<double>(rows_));
      }
    });
  }

 private:
  int64_t rows_ = 0;
};

class Channels : public PrimitiveOf<Channels> {
 public:
  explicit Channels(const NodeView& node) : first_(node.dimensionOrZero("first")) {
    const int64_t count = node.dimension("count");
    node.requireInputs(1, 1);
    const std::vector<int64_t> x = node.extents("x", node.input(0), 2);
    const std::vector<int64_t> output = node.extents("output", node.output(), 2);
    if (first_ + count > x[1]) node.refuse("count", "channels among " + std::to_string(x[1]), std::to_string(first_ + count));
    node.requireExtent("output", x[0], output[0]);
    node.requireExtent("output", count, output[1]);
    node.requireNumbers();
  }

  Region needed(size_t, const Region& produced) const override {
    std::vector<int64_t> columns;
    for (int64_t j = 0; j < produced[1].size(); ++j) columns.push_back(first_ + produced[1][j]);
    return {produced[0], Coordinates::of(std::move(columns))};
  }

  template <typename Real>
  void compute(const std::vector<Operand<Real>>& inputs, Computed<Real>& result, const CancelFlag* cancelled) const {
    std::vector<Real> scratch;
    const Real* x = inputs[0].view(needed(0, result.region), scratch, cancelled);
    const int64_t columns = result.region[1].size();
    fillRows(result, cancelled, [&](int64_t i, Real* target) { std::copy_n(x + i * columns, columns, target); });
  }

 private:
  int64_t first_;
};

class Interleave : public PrimitiveOf<Interleave> {
 public:
  explicit Interleave(const NodeView& node) {
    node.requireInputs(2, 2);
    const std::vector<int64_t> x = node.extents("x", node.input(0), 2);
    const std::vector<int64_t> other = node.extents("other", node.input(1), 2);
    const std::vector<int64_t> output = node.extents("output", node.output(), 2);
    for (size_t i = 0; i < 2; ++i) node.requireExtent("other", x[i], other[i]);
    node.requireExtent("output", x[0], output[0]);
    node.requireExtent("output", 2 * x[1], output[1]);
    node.requireNumbers();
  }

  Region needed(size_t input, const Region& produced) const override {
    std::vector<int64_t> columns;
    for (int64_t j = 0; j < produced[1].size(); ++j) {
      if (produced[1][j] % 2 == static_cast<int64_t>(input)) columns.push_back(produced[1][j] / 2);
    }
    if (columns.empty()) columns.push_back(0);  // the other's alone were asked for
    return {produced[0], Coordinates::of(std::move(columns))};
  }

  template <typename Real>
  void compute(const std::vector<Operand<Real>>& inputs, Computed<Real>& result, const CancelFlag* cancelled) const {
    std::vector<Real> scratch[2];
    Region regions[2];
    const Real* values[2];
    for (size_t i = 0; i < 2; ++i) {
      regions[i] = needed(i, result.region);
      values[i] = inputs[i].view(regions[i], scratch[i], cancelled);
    }
    const Coordinates& columns = result.region[1];
    fillRows(result, cancelled, [&](int64_t i, Real* target) {
      for (int64_t j = 0; j < columns.size(); ++j) {
        const auto from = static_cast<size_t>(columns[j] % 2);
        const Coordinates& own = regions[from][1];
        target[j] = values[from][i * own.size() + own.find(columns[j] / 2)];
      }
    });
  }
};

}  // namespace

std::unique_ptr<Primitive> makeMaxPool(const NodeView& node, const ValueTables&) { return std::make_unique<MaxPool>(node); }
std::unique_ptr<Primitive> makeMeanRows(const NodeView& node, const ValueTables&) { return std::make_unique<MeanRows>(node); }
std::unique_ptr<Primitive> makeChannels(const NodeView& node, const ValueTables&) { return std::make_unique<Channels>(node); }
std::unique_ptr<Primitive> makeInterleave(const NodeView& node, const ValueTables&) { return std::make_unique<Interleave>(node); }

}  // namespace ladder::reference
