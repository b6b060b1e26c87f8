// patches, embed_tokens, first_rows: from an image to rows of patches, one more token per image and positions, one row per image.
// Formulas: lib/operators/tokens.ts. Each number of a result is one of an input's, in embed_tokens plus a position's.
#include <algorithm>
#include <string>

#include "../primitives.h"
#include "../rows.h"

namespace ladder::reference {
namespace {

class Patches : public PrimitiveOf<Patches> {
 public:
  explicit Patches(const NodeView& node) : size_(node.dimension("size")) {
    node.requireInputs(1, 1);
    const std::vector<int64_t> image = node.extents("image", node.input(0), 4);
    const std::vector<int64_t> output = node.extents("output", node.output(), 2);
    if (image[2] % size_ != 0 || image[3] % size_ != 0)
      node.refuse("size", "a divisor of the image's height and width", std::to_string(size_));
    down_ = image[2] / size_, across_ = image[3] / size_;
    node.requireExtent("output", image[0] * down_ * across_, output[0]);
    node.requireExtent("output", image[1] * size_ * size_, output[1]);
    node.requireNumbers();
  }

  Region needed(size_t, const Region& produced) const override {
    // All combinations of what rows and columns ask for along each axis.
    std::vector<int64_t> images, channels, tops, lefts, downs, rights, heights, widths;
    for (int64_t i = 0; i < produced[0].size(); ++i) {
      images.push_back(produced[0][i] / (down_ * across_));
      tops.push_back(produced[0][i] / across_ % down_ * size_);
      lefts.push_back(produced[0][i] % across_ * size_);
    }
    for (int64_t i = 0; i < produced[1].size(); ++i) {
      channels.push_back(produced[1][i] / (size_ * size_));
      downs.push_back(produced[1][i] / size_ % size_);
      rights.push_back(produced[1][i] % size_);
    }
    return {Coordinates::of(std::move(images)), Coordinates::of(std::move(channels)), sums(std::move(tops), std::move(downs)),
            sums(std::move(lefts), std::move(rights))};
  }

  template <typename Real>
  void compute(const std::vector<Operand<Real>>& inputs, Computed<Real>& result, const CancelFlag* cancelled) const {
    const Region region = needed(0, result.region);
    std::vector<Real> scratch;
    const Real* image = inputs[0].view(region, scratch, cancelled);
    const Coordinates& columns = result.region[1];
    fillRows(result, cancelled, [&](int64_t i, Real* target) {
      const int64_t row = result.region[0][i];
      const int64_t batch = region[0].find(row / (down_ * across_));
      const int64_t top = row / across_ % down_ * size_, left = row % across_ * size_;
      for (int64_t j = 0; j < columns.size(); ++j) {
        const int64_t column = columns[j];
        const int64_t channel = batch * region[1].size() + region[1].find(column / (size_ * size_));
        const int64_t line = channel * region[2].size() + region[2].find(top + column / size_ % size_);
        target[j] = image[line * region[3].size() + region[3].find(left + column % size_)];
      }
    });
  }

 private:
  static Coordinates sums(std::vector<int64_t> firsts, std::vector<int64_t> offsets) {
    const Coordinates a = Coordinates::of(std::move(firsts)), b = Coordinates::of(std::move(offsets));
    std::vector<int64_t> list;
    for (int64_t i = 0; i < a.size(); ++i) {
      for (int64_t j = 0; j < b.size(); ++j) list.push_back(a[i] + b[j]);
    }
    return Coordinates::of(std::move(list));
  }

  int64_t size_, down_ = 0, across_ = 0;
};

class EmbedTokens : public PrimitiveOf<EmbedTokens> {
 public:
  explicit EmbedTokens(const NodeView& node) {
    const int64_t batch = node.dimension("batch");
    node.requireInputs(3, 3);
    const std::vector<int64_t> x = node.extents("x", node.input(0), 2);
    const std::vector<int64_t> positions = node.extents("positions", node.input(2), 2);
    const std::vector<int64_t> output = node.extents("output", node.output(), 2);
    if (x[0] % batch != 0) node.refuse("x", "rows of " + std::to_string(batch) + " images", std::to_string(x[0]));
    tokens_ = x[0] / batch + 1;
    node.requireExtent("token", x[1], node.extents("token", node.input(1), 1)[0]);
    node.requireExtent("positions", tokens_, positions[0]);
    node.requireExtent("positions", x[1], positions[1]);
    node.requireExtent("output", batch * tokens_, output[0]);
    node.requireExtent("output", x[1], output[1]);
    node.requireNumbers();
  }

  Region needed(size_t input, const Region& produced) const override {
    if (input == 1) return {produced[1]};
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < produced[0].size(); ++i) {
      const int64_t row = produced[0][i], token = row % tokens_;
      if (input == 2) rows.push_back(token);
      else if (token > 0) rows.push_back(patchRow(row));
    }
    if (rows.empty()) rows.push_back(0);  // the tokens put before the patches alone were asked for
    return {Coordinates::of(std::move(rows)), produced[1]};
  }

  template <typename Real>
  void compute(const std::vector<Operand<Real>>& inputs, Computed<Real>& result, const CancelFlag* cancelled) const {
    std::vector<Real> scratch[3];
    Region regions[3];
    const Real* values[3];
    for (size_t i = 0; i < 3; ++i) {
      regions[i] = needed(i, result.region);
      values[i] = inputs[i].view(regions[i], scratch[i], cancelled);
    }
    const int64_t columns = result.region[1].size();
    fillRows(result, cancelled, [&](int64_t i, Real* target) {
      const int64_t row = result.region[0][i], token = row % tokens_;
      const Real* source = token == 0 ? values[1] : values[0] + regions[0][0].find(patchRow(row)) * columns;
      const Real* position = values[2] + regions[2][0].find(token) * columns;
      for (int64_t j = 0; j < columns; ++j) target[j] = source[j] + position[j];
    });
  }

 private:
  int64_t patchRow(int64_t row) const { return row / tokens_ * (tokens_ - 1) + row % tokens_ - 1; }

  int64_t tokens_ = 0;
};

class FirstRows : public PrimitiveOf<FirstRows> {
 public:
  explicit FirstRows(const NodeView& node) {
    const int64_t batch = node.dimension("batch");
    node.requireInputs(1, 1);
    const std::vector<int64_t> x = node.extents("x", node.input(0), 2);
    const std::vector<int64_t> output = node.extents("output", node.output(), 2);
    if (x[0] % batch != 0) node.refuse("x", "rows of " + std::to_string(batch) + " images", std::to_string(x[0]));
    tokens_ = x[0] / batch;
    node.requireExtent("output", batch, output[0]);
    node.requireExtent("output", x[1], output[1]);
    node.requireNumbers();
  }

  Region needed(size_t, const Region& produced) const override {
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < produced[0].size(); ++i) rows.push_back(produced[0][i] * tokens_);
    return {Coordinates::of(std::move(rows)), produced[1]};
  }

  template <typename Real>
  void compute(const std::vector<Operand<Real>>& inputs, Computed<Real>& result, const CancelFlag* cancelled) const {
    std::vector<Real> scratch;
    // Rows come in the order in which they were asked for.
    const Real* rows = inputs[0].view(needed(0, result.region), scratch, cancelled);
    const int64_t columns = result.region[1].size();
    fillRows(result, cancelled, [&](int64_t i, Real* target) { std::copy_n(rows + i * columns, columns, target); });
  }

 private:
  int64_t tokens_ = 0;
};

}  // namespace

std::unique_ptr<Primitive> makePatches(const NodeView& node, const ValueTables&) { return std::make_unique<Patches>(node); }
std::unique_ptr<Primitive> makeEmbedTokens(const NodeView& node, const ValueTables&) { return std::make_unique<EmbedTokens>(node); }
std::unique_ptr<Primitive> makeFirstRows(const NodeView& node, const ValueTables&) { return std::make_unique<FirstRows>(node); }

}  // namespace ladder::reference
