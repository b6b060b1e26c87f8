// tile.cuh's products by wgmma, on sm_90a: the same operands, ring, feed and epilogue; a warpgroup sums 64 rows × all outputs of a tile.
// Two blocks share a multiprocessor, so that one multiplies while the other waits, copies or stores.
//
// Weights below 8 bits are decoded by the threads that load them, on their way into the stage. FP8's sums, which the tensor cores
// truncate, go to FP32 every 256 of k. (MX has no such kernel.)
//
// Tuning: as tile.cuh, with kWarpRows = 16, kWarpOutputs = kTileOutputs (32, 64, 128 or 256), kTileRows a multiple of 64.
#pragma once
#include "matmul/tile/tile_feed.cuh"
#include "matmul/tile/tile_store.cuh"
#include "matmul/tile/tile_wgmma.cuh"

namespace ladder {

template <class C>
struct TileGroups {
  using L = TileBlock<C>;
  using T = typename L::T;
  using Store = TileStore<C>;
  using Sums = typename Store::Sums;
  static_assert(C::kWgmma && !L::kMx && C::kWarpRows == 16 && C::kWarpOutputs == C::kTileOutputs && C::kTileRows % 64 == 0);
  static_assert(L::kStageBytes % 1024 == 0);

  static constexpr int kSharedBytes = L::kSharedBytes;
  static constexpr int kBlockThreads = L::kBlockThreads;

  __device__ static void run(const TileArguments& p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(1024) uint8_t shared[];
    multiply(p, sharedAddress(shared));
#endif
  }

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
 private:
  static constexpr TileOperand kOperand = L::kInteger       ? TileOperand::kS8
                                          : L::kXBytes == 2 ? TileOperand::kF16
                                          : T::kIsE4m3      ? TileOperand::kE4m3
                                                            : TileOperand::kE5m2;
  /// Panels after which FP8's sums are promoted; where there are no more, they need not be.
  static constexpr int kSpan = 2;
  static constexpr bool kPromoted = L::kFp8 && L::kPanels > kSpan;

  __device__ __forceinline__ static void multiply(const TileArguments& p, uint32_t base) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int rank = C::kSplit > 1 ? blockIdx.x % C::kSplit : 0;
    TileFeed<C> feed(p, base, rank);
    feed.fill();
    const int panels = L::firstPanel(rank + 1) - L::firstPanel(rank);
    uint32_t stage = base;
    for (int tile = blockIdx.x / C::kSplit; tile < L::kTiles; tile += C::kBlocks / C::kSplit) {
      const Store store{p, base + L::termsOf(tile), L::outputOf(tile)};
      store.prefetchResidual(L::rowOf(tile), L::outputOf(tile));
      Sums sums;
      if constexpr (kPromoted) {
#pragma unroll
        for (int j = 0; j < L::kOutBlocks; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) sums[0][j][e] = 0;
        }
      }
      typename L::Sum part[L::kOutBlocks][4];
      for (int panel = 0; panel < panels; ++panel) {
        // Everybody's copies of this stage are there, and everybody's products of the one before are done.
        waitForCopies<C::kStages - 2>();
        fenceAsyncProxy();
        __syncthreads();
        const uint32_t a = tileRowsDescriptor(stage + warp / 4 * 8192), b = tileWeightsDescriptor(stage + L::kWeightsAt);
        auto& d = sumsOf(sums, part);
        wgmmaFence();
#pragma unroll
        for (int step = 0; step < 4; ++step)
          tileWgmma<kOperand>(d, a + step * kTileRowsStep, b + step * kTileWeightsStep,
                              step > 0 || (kPromoted ? panel % kSpan : panel) != 0);
        wgmmaCommit();
        feed.template copy<0, 1>();
        feed.advance(stage);
        stage = stage == base + (C::kStages - 1) * L::kStageBytes ? base : stage + L::kStageBytes;
        wgmmaWait<0>();
        if constexpr (kPromoted) {
          if (panel % kSpan == kSpan - 1 || panel == panels - 1) {
#pragma unroll
            for (int j = 0; j < L::kOutBlocks; ++j) {
#pragma unroll
              for (int e = 0; e < 4; ++e) pin(part[j][e]), sums[0][j][e] += part[j][e];
            }
          }
        }
      }
      if constexpr (!kPromoted) {
#pragma unroll
        for (int j = 0; j < L::kOutBlocks; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) pin(sums[0][j][e]);
        }
      }
      store.finishTile(sums, base, tile, rank, warp, 0, lane);
    }
  }

  /// Where products are summed.
  __device__ __forceinline__ static auto& sumsOf(Sums& sums, typename L::Sum (&part)[L::kOutBlocks][4]) {
    if constexpr (kPromoted) return part;
    else return sums[0];
  }
#endif
};

/// By kBlocks blocks of kBlockThreads threads with kSharedBytes of shared memory, in clusters of kSplit.
template <class C>
__device__ __forceinline__ void tileGroupsProduct(const TileArguments& p) {
  TileGroups<C>::run(p);
}

}  // namespace ladder
