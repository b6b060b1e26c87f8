// Convolutions of any size, in any format and stored order: lib/operators/conv.ts, FP32 sums of decoded values. For what no kernel made
// for speed takes. One thread per element of the result; neighbouring threads have neighbouring channels.
//
//   X, W   views: at(row, channel), at(n, k) give FP32 (lib/compiler/kernels/simple/view.ts)    Y   view: store(row, channel, value)
//
// C: kBatch, kHeight, kWidth, kDown, kAcross (of the result), kKernelY, kKernelX, kStride, kPaddingY, kPaddingX, kInputs, kOutputs (channels of a
// group), kChannels (of the result). Grid: ⌈elements / 256⌉. Architectures: all. Tests: test/gpu/simple-kernels.test.ts.
#pragma once
#include "core/ptx.cuh"

namespace ladder {

template <class C, class X, class W, class Y>
__device__ __forceinline__ void simpleConv(const X& x, const W& w, const Y& y) {
  launchDependents();
  waitForPrerequisites();
  const int64_t element = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  constexpr int64_t kRows = static_cast<int64_t>(C::kBatch) * C::kDown * C::kAcross;
  if (element >= kRows * C::kChannels) return;
  const int64_t row = element / C::kChannels;
  const int n = static_cast<int>(element % C::kChannels);
  const int64_t image = row / (C::kDown * C::kAcross);
  const int top = static_cast<int>(row / C::kAcross % C::kDown) * C::kStride - C::kPaddingY;
  const int left = static_cast<int>(row % C::kAcross) * C::kStride - C::kPaddingX;
  const int firstChannel = n / C::kOutputs * C::kInputs;
  float sum = 0.0f;
  for (int ky = max(0, -top); ky < min(C::kKernelY, C::kHeight - top); ++ky) {
    for (int kx = max(0, -left); kx < min(C::kKernelX, C::kWidth - left); ++kx) {
      const int64_t pixel = (image * C::kHeight + top + ky) * C::kWidth + left + kx;
      const int firstTap = (ky * C::kKernelX + kx) * C::kInputs;
      for (int c = 0; c < C::kInputs; ++c) sum = fmaf(x.at(pixel, firstChannel + c), w.at(n, firstTap + c), sum);
    }
  }
  y.store(row, n, sum);
}

}  // namespace ladder
