// Products of any size, in any format and stored order: y[m, n] = Σ_k x[m, k] · w[n, k], FP32 sums of decoded values. For what no
// kernel made for speed takes; a few TFLOP/s.
//
//   X, W   views: at(row, k) gives FP32 (lib/compiler/kernels/simple/view.ts)    Y   view: store(row, column, value)
//
// A block computes 64 × 64 outputs, a thread 4 × 4 of them, from tiles of 16 of k that lie decoded in shared memory:
//
//   x tile [16][64 + 4]   w tile [16][64 + 4]     thread t: rows 4·(t / 16) …, columns 4·(t % 16) …
//
// Grid: ceil(n / 64) × ceil(m / 64). Architectures: all. Tests: test/gpu/simple-kernels.test.ts.
#pragma once
#include "core/ptx.cuh"

namespace ladder {

constexpr int kSimpleTile = 64, kSimpleTileK = 16, kSimpleThreads = 256;

template <class X, class W, class Y>
__device__ __forceinline__ void simpleDense(const X& x, const W& w, const Y& y, int m, int n, int k) {
  __shared__ float xs[kSimpleTileK][kSimpleTile + 4], ws[kSimpleTileK][kSimpleTile + 4];
  launchDependents();
  waitForPrerequisites();
  const int firstRow = blockIdx.y * kSimpleTile, firstColumn = blockIdx.x * kSimpleTile, t = threadIdx.x;
  float sums[4][4] = {};
  for (int k0 = 0; k0 < k; k0 += kSimpleTileK) {
    // Load and decode: neighbouring threads have neighbouring k, which lie together where rows do.
    for (int i = t; i < kSimpleTile * kSimpleTileK; i += kSimpleThreads) {
      const int row = i / kSimpleTileK, kk = i % kSimpleTileK, at = k0 + kk;
      xs[kk][row] = firstRow + row < m && at < k ? x.at(firstRow + row, at) : 0.0f;
      ws[kk][row] = firstColumn + row < n && at < k ? w.at(firstColumn + row, at) : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int kk = 0; kk < kSimpleTileK; ++kk) {
      float a[4], b[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = xs[kk][t / 16 * 4 + i], b[i] = ws[kk][t % 16 * 4 + i];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int row = firstRow + t / 16 * 4 + i, column = firstColumn + t % 16 * 4 + j;
      if (row < m && column < n) y.store(row, column, sums[i][j]);
    }
  }
}

}  // namespace ladder
