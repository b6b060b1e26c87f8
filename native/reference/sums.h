// Sums whose order is ours to choose: side by side in the lanes of vectors, as the compiler may not reorder them itself.
#pragma once

#include <cstdint>

namespace ladder::reference {

/// Σ a[i]·b[i], products and sums in the precision of Sum.
template <typename Sum, typename Real>
[[gnu::always_inline]] inline Sum dotProduct(const Real* a, const Real* b, int64_t count) {
  constexpr int64_t kLanes = 8;
  Sum lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<Sum>(a[i + lane]) * static_cast<Sum>(b[i + lane]);
  }
  Sum sum = 0;
  for (; i < count; ++i) sum += static_cast<Sum>(a[i]) * static_cast<Sum>(b[i]);
  for (const Sum lane : lanes) sum += lane;
  return sum;
}

}  // namespace ladder::reference
