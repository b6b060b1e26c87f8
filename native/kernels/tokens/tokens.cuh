// A vision transformer's first and last rows, all of float16, eight numbers per thread: lib/operators/tokens.ts.
//
// patchesKernel: y[patch, (channel, line, column)] = x[image, channel, line, column]. C: kImages, kChannels, kHeight, kWidth, kSize, which is
// a multiple of 8 and divides both sides.
// embedTokensKernel: y[image · (t + 1) + j] = (j = 0 ? token : x[image · t + j − 1]) + positions[j]. C: kImages, kPatches (t), kChannels.
// firstRowsKernel: y[image] = x[image · t]. C: kImages, kPatches (t), kChannels.
//
// kChannels of the last two is a multiple of 8. Grid: kBlocks blocks of kThreads. Architectures: sm_80 and up.
// Tests: test/gpu/image-kernels.test.ts.
#pragma once
#include "core/ptx.cuh"
#include "formats/quantise.cuh"

namespace ladder {

/// Threads that have a vector of y each.
template <int64_t kItems>
struct TokenGrid {
  static constexpr int kThreads = 256;
  static constexpr int64_t kVectors = kItems, kBlocks = (kItems + kThreads - 1) / kThreads;

  /// The thread's vector; not below kVectors where there is none. What earlier kernels wrote is there.
  __device__ __forceinline__ static int64_t enter() {
    launchDependents();
    waitForPrerequisites();
    return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  }
};

template <class C>
using PatchesGrid = TokenGrid<static_cast<int64_t>(C::kImages) * C::kChannels * C::kHeight * C::kWidth / 8>;

template <class C>
__device__ __forceinline__ void patchesKernel(const __half* x, __half* y) {
  static_assert(C::kSize % 8 == 0 && C::kHeight % C::kSize == 0 && C::kWidth % C::kSize == 0);
  constexpr int kAcross = C::kWidth / C::kSize, kDown = C::kHeight / C::kSize, kLine = C::kSize / 8;
  constexpr int kPatch = C::kChannels * C::kSize * kLine;
  const int64_t item = PatchesGrid<C>::enter();
  if (item >= PatchesGrid<C>::kVectors) return;
  const int patch = static_cast<int>(item / kPatch), within = static_cast<int>(item % kPatch);
  const int image = patch / (kAcross * kDown), place = patch % (kAcross * kDown);
  const int channel = within / (C::kSize * kLine), line = within / kLine % C::kSize, column = within % kLine;
  const int64_t from =
      (static_cast<int64_t>(image * C::kChannels + channel) * C::kHeight + place / kAcross * C::kSize + line) * (C::kWidth / 8) +
      place % kAcross * kLine + column;
  reinterpret_cast<uint4*>(y)[item] = __ldcg(reinterpret_cast<const uint4*>(x) + from);
}

template <class C>
using EmbedTokensGrid = TokenGrid<static_cast<int64_t>(C::kImages) * (C::kPatches + 1) * C::kChannels / 8>;

template <class C>
__device__ __forceinline__ void embedTokensKernel(const __half* x, const __half* token, const __half* positions, __half* y) {
  constexpr int kRow = C::kChannels / 8;
  const int64_t item = EmbedTokensGrid<C>::enter();
  if (item >= EmbedTokensGrid<C>::kVectors) return;
  const int row = static_cast<int>(item / kRow), column = static_cast<int>(item % kRow);
  const int image = row / (C::kPatches + 1), j = row % (C::kPatches + 1);
  const uint4 own = j == 0
                        ? __ldg(reinterpret_cast<const uint4*>(token) + column)
                        : __ldcg(reinterpret_cast<const uint4*>(x) + (static_cast<int64_t>(image) * C::kPatches + j - 1) * kRow + column);
  float values[8], place[8];
  unpackHalves(own, values), unpackHalves(__ldg(reinterpret_cast<const uint4*>(positions) + j * kRow + column), place);
#pragma unroll
  for (int e = 0; e < 8; ++e) values[e] += place[e];
  reinterpret_cast<uint4*>(y)[item] = packHalves(values);
}

template <class C>
using FirstRowsGrid = TokenGrid<static_cast<int64_t>(C::kImages) * C::kChannels / 8>;

template <class C>
__device__ __forceinline__ void firstRowsKernel(const __half* x, __half* y) {
  constexpr int kRow = C::kChannels / 8;
  const int64_t item = FirstRowsGrid<C>::enter();
  if (item >= FirstRowsGrid<C>::kVectors) return;
  reinterpret_cast<uint4*>(y)[item] = __ldcg(reinterpret_cast<const uint4*>(x) + item / kRow * C::kPatches * kRow + item % kRow);
}

}  // namespace ladder
