// quantise: codes of x, and the scales that follow from the numbers which share them (MX: OCP Microscaling v1.0, section 6.3).
// All steps in FP32, whatever the precision of x. Whole groups are computed wherever one of their numbers is wanted.
#include <algorithm>
#include <cmath>
#include <limits>

#include "../floats.h"
#include "../parallel.h"
#include "../primitives.h"

namespace ladder::reference {
namespace {

constexpr int64_t kBlock = 4096;

class Quantise : public PrimitiveOf<Quantise> {
 public:
  Quantise(const NodeView& node, const ValueTables& result) : tables_(result) {
    node.requireInputs(1, 2);
    given_ = node.inputs() == 2;
    node.requireSameAxes("x", node.input(0), node.output());
    if (!result.quantised()) node.refuse("output", "a quantised value", "numbers");
    if (node.output().scale && node.output().scale->fit.kind == Fit::kMean)
      node.unsupported("scales that are means are made when weights are packed, not here");
    if (given_) {
      node.requireExtent("scale", 1, node.extents("scale", node.input(1), 1)[0]);
      const auto& scale = node.output().scale;
      if (!scale || scale->type != ScaleType::kF32 || scale->fit.kind != Fit::kAbsmax || !scale->per.empty() || result.scalePlaces > 1)
        node.refuse("scale", "a result with one scale in float32 for all its numbers", "another");
    }
  }

  Region produced(const Region& asked) const override { return tables_.value->scale && !given_ ? tables_.sharedBy(asked) : asked; }
  Region needed(size_t input, const Region& produced) const override { return input == 1 ? Region{Coordinates::range(0, 1)} : produced; }

  template <typename Real>
  void compute(const std::vector<Operand<Real>>& inputs, Computed<Real>& result, const CancelFlag* cancelled) const {
    std::vector<Real> scratch;
    const Real* x = inputs[0].view(result.region, scratch, cancelled);
    result.codes.resize(static_cast<size_t>(volume(result.region)));
    if (!tables_.value->scale) {
      parallelFor(static_cast<int64_t>(result.codes.size()), kBlock, cancelled, [&](int64_t begin, int64_t end) {
        float values[kBlock];
        std::transform(x + begin, x + end, values, [](Real value) { return static_cast<float>(value); });
        tables_.codec->encode(values, end - begin, result.codes.data() + begin);
      });
      return;
    }
    if (given_) return encodeByGiven(inputs[1], x, result, cancelled);
    const Region scales = tables_.scalesOf(result.region);
    const Walk groups(tables_.scaleOffsets(result.region, scales));
    const std::vector<int64_t> stretches = groups.stretches();
    result.scaleBits.resize(static_cast<size_t>(volume(scales)));
    // Rows that share no scale with others may be computed side by side: blocks of the first axis, where there is more than one.
    const bool split = result.region.size() > 1 && scales[0].size() > 1;
    const std::vector<int64_t> ends = split ? groupEnds(result.region[0]) : std::vector<int64_t>{groups.rows()};
    const int64_t rowsPer = split ? groups.rows() / result.region[0].size() : 1;
    std::vector<float> largest(result.scaleBits.size());
    parallelFor(static_cast<int64_t>(ends.size()), 1, cancelled, [&](int64_t begin, int64_t end) {
      const int64_t first = begin == 0 ? 0 : ends[static_cast<size_t>(begin - 1)] * rowsPer;
      const int64_t last = ends[static_cast<size_t>(end - 1)] * rowsPer;
      measure(groups, stretches, x, first, last, largest);
      const int64_t perBlock = static_cast<int64_t>(largest.size() / ends.size());
      for (int64_t i = begin * perBlock; i < end * perBlock; ++i)
        result.scaleBits[static_cast<size_t>(i)] = scaleOf(largest[static_cast<size_t>(i)]);
      encodeRows(groups, stretches, x, first, last, largest, result);
    });
  }

 private:
  /// By the scale that the second operand is.
  template <typename Real>
  void encodeByGiven(const Operand<Real>& given, const Real* x, Computed<Real>& result, const CancelFlag* cancelled) const {
    Real number;
    given.gather({Coordinates::range(0, 1)}, &number);
    const auto scale = static_cast<float>(number);
    result.scaleBits = {bitsOf(scale)};
    parallelFor(static_cast<int64_t>(result.codes.size()), kBlock, cancelled, [&](int64_t begin, int64_t end) {
      float quotients[kBlock];
      divide(x + begin, end - begin, std::numeric_limits<float>::infinity(), bitsOf(scale), quotients);
      tables_.codec->encode(quotients, end - begin, result.codes.data() + begin);
    });
  }

  const ScaleFit& fit() const { return tables_.value->scale->fit; }

  /// Where each block of the first axis ends, in coordinates of the region.
  std::vector<int64_t> groupEnds(const Coordinates& first) const {
    std::vector<int64_t> ends;
    for (int64_t i = 1; i <= first.size(); ++i) {
      if (i == first.size() || first[i] / tables_.sharing[0] != first[i - 1] / tables_.sharing[0]) ends.push_back(i);
    }
    return ends;
  }

  template <typename Real>
  void measure(const Walk& groups, const std::vector<int64_t>& stretches, const Real* x, int64_t first, int64_t last,
               std::vector<float>& largest) const {
    for (int64_t row = first; row < last; ++row) {
      const Real* values = x + row * groups.columns();
      int64_t i = 0;
      for (const int64_t end : stretches) {
        float& most = largest[static_cast<size_t>(groups.rowOffset(row) + groups.columnOffsets()[static_cast<size_t>(i)])];
        float own = most;
        for (; i < end; ++i) own = std::max(own, std::fabs(static_cast<float>(values[i])));
        most = own;
      }
    }
  }

  /// The scale as it is stored. An absolute one of 0 (nothing but zeros, or so small that none can be told from them) is 1.
  uint32_t scaleOf(float largest) const {
    if (fit().kind == Fit::kMx) {
      if (largest == 0) return 127;
      return std::isfinite(largest) ? static_cast<uint32_t>(std::clamp(floorLog2(largest) - static_cast<int>(fit().emax) + 127, 0, 254))
                                    : 254u;
    }
    const float scale = largest / static_cast<float>(fit().top);
    if (tables_.value->scale->type == ScaleType::kF32) return bitsOf(scale == 0 ? 1.0f : scale);
    const uint16_t half = floatToHalf(scale);
    return half == 0 ? floatToHalf(1.0f) : half;
  }

  template <typename Real>
  void encodeRows(const Walk& groups, const std::vector<int64_t>& stretches, const Real* x, int64_t first, int64_t last,
                  const std::vector<float>& largest, Computed<Real>& result) const {
    const int64_t columns = groups.columns();
    std::vector<float> quotients(static_cast<size_t>(columns));
    for (int64_t row = first; row < last; ++row) {
      int64_t i = 0;
      for (const int64_t end : stretches) {
        const auto group = static_cast<size_t>(groups.rowOffset(row) + groups.columnOffsets()[static_cast<size_t>(i)]);
        divide(x + row * columns + i, end - i, largest[group], result.scaleBits[group], quotients.data() + i);
        i = end;
      }
      tables_.codec->encode(quotients.data(), columns, result.codes.data() + row * columns);
    }
  }

  /// Numbers of one group by its scale.
  template <typename Real>
  void divide(const Real* values, int64_t count, float largest, uint32_t scaleBits, float* quotients) const {
    if (fit().kind == Fit::kMx) {
      const int shift = 127 - static_cast<int>(scaleBits);
      for (int64_t i = 0; i < count; ++i)
        quotients[i] = static_cast<float>(std::ldexp(static_cast<double>(static_cast<float>(values[i])), shift));
      return;
    }
    const ScaleType type = tables_.value->scale->type;
    const auto top = static_cast<float>(fit().top);
    if (largest / top == 0 || (type == ScaleType::kF16 && floatToHalf(largest / top) == 0)) {
      std::fill_n(quotients, count, 0.0f);
      return;
    }
    const float scale = decodeScale(type, scaleBits);
    for (int64_t i = 0; i < count; ++i) {
      const float quotient = static_cast<float>(values[i]) / scale;
      // Those of a subnormal scale may exceed the top; NaN stays.
      quotients[i] = quotient > top ? top : quotient < -top ? -top : quotient;
    }
  }

  const ValueTables& tables_;
  bool given_ = false;
};

}  // namespace

std::unique_ptr<Primitive> makeQuantise(const NodeView& node, const ValueTables& result) {
  return std::make_unique<Quantise>(node, result);
}

}  // namespace ladder::reference
