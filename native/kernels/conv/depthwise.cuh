// Depthwise convolutions over images or frames whose pixels are rows: y[row, c] = f(Σ taps x[pixel under the tap, c] · w[tap, c] + bias[c]).
// Operator: lib/operators/conv.ts, groups = channels; FP32 sums.
//
//   x float16 [batch·outer·walk, channels]   w float16, stored tap by tap: [outerTaps·walkTaps][channels]   bias float16 [channels] or null
//   y float16 [batch·outerOut·walkOut, channels]
//
// A thread has two channels of kRun neighbouring results along the axis that it walks (x of images, the frames of a recording): each
// number that it loads is multiplied by every tap that needs it, all taps being in registers. Neighbouring threads have neighbouring
// channels, so that a warp reads 128 bytes of a row; what runs have in common comes from the L1 cache.
//
//   results    t0   t1   t2   t3          kRun 4, kWalkTaps 3, kStride 1
//   loads    i0   i1   i2   i3   i4   i5   load i serves results t with 0 ≤ i − t·kStride < kWalkTaps
//
// C: kBatch, kOuter, kWalk, kOuterOut, kWalkOut, kOuterTaps, kWalkTaps, kStride, kOuterPadding, kWalkPadding, kChannels, kRun, kThreads,
// and `static float apply(float value)`, the steps after the bias. Grid: kBlocks. Architectures: sm_80 and up.
// Tests: test/unit/depthwise-kernels.test.ts, test/gpu/depthwise-kernels.test.ts.
#pragma once
#include <cuda_fp16.h>
#include <stdint.h>

#include "core/ptx.cuh"

namespace ladder {

template <class C>
struct Depthwise {
  static constexpr int kPairs = C::kChannels / 2, kTaps = C::kOuterTaps * C::kWalkTaps;
  static constexpr int kRuns = (C::kWalkOut + C::kRun - 1) / C::kRun;
  static constexpr int64_t kItems = static_cast<int64_t>(C::kBatch) * C::kOuterOut * kRuns * kPairs;
  static constexpr int64_t kBlocks = (kItems + C::kThreads - 1) / C::kThreads;
  /// Numbers along the walk that a run's results are made of.
  static constexpr int kLoads = (C::kRun - 1) * C::kStride + C::kWalkTaps;
  static_assert(C::kChannels % 2 == 0, "channels come in pairs");
};

/// Launched with kBlocks blocks of kThreads.
template <class C>
__device__ __forceinline__ void depthwiseKernel(const void* x, const void* weight, const void* bias, void* y) {
  using D = Depthwise<C>;
  launchDependents();
  const int64_t item = static_cast<int64_t>(blockIdx.x) * C::kThreads + threadIdx.x;
  const bool mine = item < D::kItems;
  const int pair = static_cast<int>(item % D::kPairs);
  // Weights do not depend on earlier kernels.
  float2 taps[D::kTaps], shift = make_float2(0.0f, 0.0f);
  const auto at = [pair](const void* numbers, int64_t row) {
    return __half22float2(static_cast<const __half2*>(numbers)[row * D::kPairs + pair]);
  };
  if (mine) {
#pragma unroll
    for (int tap = 0; tap < D::kTaps; ++tap) taps[tap] = at(weight, tap);
    if (bias != nullptr) shift = at(bias, 0);
  }
  waitForPrerequisites();
  if (!mine) return;

  const int first = static_cast<int>(item / D::kPairs % D::kRuns) * C::kRun;
  const int64_t line = item / D::kPairs / D::kRuns;
  const int64_t image = line / C::kOuterOut;
  const int top = static_cast<int>(line % C::kOuterOut) * C::kStride - C::kOuterPadding;
  const int left = first * C::kStride - C::kWalkPadding;
  float2 sums[C::kRun];
#pragma unroll
  for (int t = 0; t < C::kRun; ++t) sums[t] = shift;
#pragma unroll
  for (int o = 0; o < C::kOuterTaps; ++o) {
    if (top + o < 0 || top + o >= C::kOuter) continue;
    const int64_t row = (image * C::kOuter + top + o) * C::kWalk;
#pragma unroll
    for (int i = 0; i < D::kLoads; ++i) {
      float2 value = make_float2(0.0f, 0.0f);
      if (left + i >= 0 && left + i < C::kWalk) value = at(x, row + left + i);
#pragma unroll
      for (int t = 0; t < C::kRun; ++t) {
        const int tap = i - t * C::kStride;
        if (tap < 0 || tap >= C::kWalkTaps) continue;
        sums[t].x = fmaf(value.x, taps[o * C::kWalkTaps + tap].x, sums[t].x);
        sums[t].y = fmaf(value.y, taps[o * C::kWalkTaps + tap].y, sums[t].y);
      }
    }
  }
#pragma unroll
  for (int t = 0; t < C::kRun; ++t) {
    if (first + t < C::kWalkOut)
      static_cast<__half2*>(y)[(line * C::kWalkOut + first + t) * D::kPairs + pair] =
          __floats2half2_rn(C::apply(sums[t].x), C::apply(sums[t].y));
  }
}

}  // namespace ladder
