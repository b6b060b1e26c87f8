// Results that are made row by row, for primitives over matrices.
#pragma once

#include <algorithm>

#include "operand.h"
#include "parallel.h"

namespace ladder::reference {

/// fill(row, target) for every row of a result, from several threads; `row` is its position in the region.
template <typename Real, typename FillRow>
void fillRows(Computed<Real>& result, const CancelFlag* cancelled, FillRow fill) {
  constexpr int64_t kGrainNumbers = 1 << 14;
  const int64_t rows = result.region[0].size(), columns = result.region[1].size();
  result.reals.resize(static_cast<size_t>(rows * columns));
  parallelFor(rows, std::max<int64_t>(1, kGrainNumbers / columns), cancelled, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) fill(row, result.reals.data() + row * columns);
  });
}

}  // namespace ladder::reference
