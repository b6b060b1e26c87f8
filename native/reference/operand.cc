// Gathers inputs of nodes, and settles results.
#include "operand.h"

#include <algorithm>

#include "floats.h"
#include "half_arrays.h"
#include "parallel.h"

namespace ladder::reference {
namespace {

constexpr int64_t kGrainNumbers = 1 << 15;

int64_t rowGrain(int64_t columns) { return std::max<int64_t>(1, kGrainNumbers / std::max<int64_t>(1, columns)); }

void roundHalves(float* values, int64_t count) {
  constexpr int64_t kChunk = 1024;
  uint16_t halves[kChunk];
  for (int64_t i = 0; i < count; i += kChunk) {
    const int64_t size = std::min(kChunk, count - i);
    floatsToHalves(values + i, size, halves);
    halvesToFloats(halves, size, values + i);
  }
}

void roundHalves(double* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] = halfToFloat(floatToHalf(static_cast<float>(values[i])));
}

template <typename Real>
void gatherRows(const Walk& walk, const Real* source, int64_t begin, int64_t end, Real* target) {
  const std::vector<int64_t>& columns = walk.columnOffsets();
  for (int64_t row = begin; row < end; ++row) {
    const Real* from = source + walk.rowOffset(row);
    Real* to = target + row * walk.columns();
    if (walk.contiguous()) std::copy_n(from + columns[0], columns.size(), to);
    else std::transform(columns.begin(), columns.end(), to, [&](int64_t column) { return from[column]; });
  }
}

}  // namespace

template <typename Real>
void Computed<Real>::settle(const CancelFlag* cancelled) {
  if (tables->value->type == ValueType::kF16) {
    parallelFor(static_cast<int64_t>(reals.size()), kGrainNumbers, cancelled,
                [&](int64_t begin, int64_t end) { roundHalves(reals.data() + begin, end - begin); });
  }
  if (!tables->quantised()) return;
  const Codec& codec = *tables->codec;
  const Walk scales(tables->scaleOffsets(region, tables->scalesOf(region)));
  const std::vector<int64_t> stretches = scales.stretches();
  const int64_t columns = scales.columns();
  reals.resize(codes.size());
  parallelFor(scales.rows(), rowGrain(columns), cancelled, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t base = scales.rowOffset(row);
      const uint16_t* cells = codes.data() + row * columns;
      Real* values = reals.data() + row * columns;
      int64_t i = 0;
      for (const int64_t stretchEnd : stretches) {
        const int64_t place = base + scales.columnOffsets()[static_cast<size_t>(i)];
        const Real scale =
            scaleBits.empty() ? Real{1} : static_cast<Real>(decodeScale(tables->value->scale->type, scaleBits[static_cast<size_t>(place)]));
        for (; i < stretchEnd; ++i) values[i] = static_cast<Real>(codec.value(cells[i])) * scale;
      }
    }
  });
}

template <typename Real>
void Operand<Real>::gather(const Region& region, Real* target) const {
  if (computed_) {
    const Walk walk = denseWalk(region, computed_->region);
    return gatherRows(walk, computed_->reals.data(), 0, walk.rows(), target);
  }
  const StoredReader reader(stored_, region);
  for (int64_t row = 0; row < reader.rows(); ++row) reader.readRow(row, target + row * reader.columns());
}

template <typename Real>
const Real* Operand<Real>::view(const Region& region, std::vector<Real>& scratch, const CancelFlag* cancelled) const {
  if (computed_ && computed_->region == region) return computed_->reals.data();
  scratch.resize(static_cast<size_t>(volume(region)));
  if (computed_) {
    const Walk walk = denseWalk(region, computed_->region);
    parallelFor(walk.rows(), rowGrain(walk.columns()), cancelled,
                [&](int64_t begin, int64_t end) { gatherRows(walk, computed_->reals.data(), begin, end, scratch.data()); });
  } else {
    const StoredReader reader(stored_, region);
    parallelFor(reader.rows(), rowGrain(reader.columns()), cancelled, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) reader.readRow(row, scratch.data() + row * reader.columns());
    });
  }
  return scratch.data();
}

template struct Computed<float>;
template struct Computed<double>;
template class Operand<float>;
template class Operand<double>;

}  // namespace ladder::reference
