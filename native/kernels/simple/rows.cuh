// Norm and quantisation of rows of any length: one block per row, which reads it as often as it needs. Formulas: lib/operators/norm.ts
// and quantise.ts; all steps in IEEE FP32, so that codes equal the reference's.
//
//   X, G, B   views: at(row, column), at(column)      Y   view: store(row, column, value), or codes and scales (below)
//
// Architectures: all. Tests: test/gpu/simple-kernels.test.ts.
#pragma once
#include "core/ptx.cuh"
#include "core/reduce.cuh"

namespace ladder {

constexpr int kRowThreads = 256;

/// kLayer: the mean is taken off, and beta added.
template <bool kLayer, class X, class G, class B, class Y>
__device__ __forceinline__ void simpleNorm(const X& x, const G& gain, const B& beta, const Y& y, int columns, float eps) {
  __shared__ float scratch[2][kMaxWarps];
  launchDependents();
  waitForPrerequisites();
  const int row = blockIdx.x;
  float mean = 0.0f;
  if constexpr (kLayer) {
    float sum = 0.0f;
    for (int c = threadIdx.x; c < columns; c += kRowThreads) sum += x.at(row, c);
    mean = blockReduce<kRowThreads>(sum, scratch[0], Add{}, 0.0f) / columns;
  }
  float squares = 0.0f;
  for (int c = threadIdx.x; c < columns; c += kRowThreads) {
    const float difference = x.at(row, c) - mean;
    squares = fmaf(difference, difference, squares);
  }
  const float inverse = rsqrtf(blockReduce<kRowThreads>(squares, scratch[1], Add{}, 0.0f) / columns + eps);
  for (int c = threadIdx.x; c < columns; c += kRowThreads) {
    float value = (x.at(row, c) - mean) * inverse * gain.at(c);
    if constexpr (kLayer) value += beta.at(c);
    y.store(row, c, value);
  }
}

/// Y: scaleOf(amax) → the scale's code, divisor(code), store(row, column, quotient), storeScale(row, block, code). Grid: rows × blocks of
/// `group` columns that share a scale.
template <class X, class Y>
__device__ __forceinline__ void simpleQuantise(const X& x, const Y& y, int group) {
  __shared__ float scratch[kMaxWarps];
  launchDependents();
  waitForPrerequisites();
  const int row = blockIdx.x, first = blockIdx.y * group;
  float amax = 0.0f;
  for (int c = threadIdx.x; c < group; c += kRowThreads) amax = fmaxf(amax, fabsf(x.at(row, first + c)));
  const auto scale = y.scaleOf(blockReduce<kRowThreads>(amax, scratch, Max{}, 0.0f));
  for (int c = threadIdx.x; c < group; c += kRowThreads) y.store(row, first + c, y.quotient(x.at(row, first + c), scale));
  if (threadIdx.x == 0) y.storeScale(row, blockIdx.y, scale);
}

}  // namespace ladder
