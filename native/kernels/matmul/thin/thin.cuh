// Dense product of a few tokens (m ≤ 64), W [n, k] of 16 or 8 bits: y[m, n] = epilogue(W · xᵀ).
// Still the time of reading W once, if the activations, which every block needs too, are not read too often. So each group
// of kCluster blocks owns a run of 16-row tiles and the blocks of a group share out k; their sums meet in the shared memory
// of whichever block owns the tile. A group takes its tiles in passes of kWarpsN · kWarpTiles; in a block, warp (i, j) has
// tiles i · kWarpTiles … of the pass and, of each stage, every kWarpsK-th unit.
//
//   stage:  | tile 0: kStageUnits units | tile 1 | … | token 0: its k | token 1 | …   (rows padded)
//
// As in gemv.cuh the weights are A and 8 tokens at a time are B, the ring fills with weights before `waitForPrerequisites`,
// and every sum has a fixed order. Before sm_90 there are no clusters: each block is then a group of its own and takes all of k.
// Constants and places: thin_block.cuh; the two producer warps: thin_feed.cuh; what follows the products: thin_store.cuh.
//
// Needs k % (kUnitK · kCluster) = 0, with SiLU n % 16 = 0, activations as the format multiplies them (FP16, or quantised before).
// Tuning: kBlocks, kCluster, kWarpsN, kWarpTiles, kWarpsK (power of two), kStageUnits (a multiple of kWarpsK), kStages, kPrefetchStages.
// Tests: test/gpu (against native/reference), bench/kernels (against a double-precision reference on the device).
#pragma once
#include "matmul/thin/thin_feed.cuh"
#include "matmul/thin/thin_store.cuh"

namespace ladder {

template <class C>
struct Thin {
  using L = ThinBlock<C>;
  using T = typename L::T;
  using S = typename L::S;
  using Store = ThinStore<C, L>;
  using Sums = typename Store::Sums;

  static constexpr int kSharedBytes = L::kSharedBytes;
  static constexpr int kBlockThreads = L::kBlockThreads;

  const L& b;

  __device__ static void run(const DenseArguments& p) {
    extern __shared__ __align__(128) uint8_t shared[];
    const L block(shared);
    Store::initBarriers(block, (kHopper ? 1 : 32) + 32, L::kThreads);
    const int lane = threadIdx.x % 32;
    if (threadIdx.x >= L::kThreads + 32) ThinFeed<C>{block, p, lane}.tokens();
    else if (threadIdx.x >= L::kThreads) ThinFeed<C>{block, p, lane}.weights();
    else Thin{block}.consume(p);
  }

  // ---- Decode and compute -------------------------------------------------------------------------------------------------

  __device__ __forceinline__ void consume(const DenseArguments& p) const {
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int warpN = warp % C::kWarpsN, warpK = warp / C::kWarpsN;
    const Store store{b};
    store.fetchTerms(p, thread);
    waitForPrerequisites();
    store.fetchTokenScales(p, thread);
    namedBarrier(1, L::kThreads);

    RingCursor<C::kStages> cursor;
    for (int pass = 0; pass < b.passes; ++pass) {
      const bool busy = warpN * C::kWarpTiles < b.passTiles(pass);
      Sums sums = {};
      for (int stage = 0; stage < L::kStagesPerPass; ++stage, cursor.advance()) {
        barrierWait(b.barriers.full(cursor.slot), cursor.parity);
        if (busy) {
#pragma unroll
          for (int u = 0; u < L::kUnitsPerWarp; ++u) {
            const int unit = warpK + u * C::kWarpsK;
            if (L::kBlockUnits % C::kStageUnits == 0 || unit < L::stageUnits(stage)) {
              multiplyUnit(b.base + cursor.slot * L::kStageBytes, warpN, unit, lane, sums);
            }
          }
        }
        barrierArrive(b.barriers.empty(cursor.slot));
      }
      store.run(p, pass, warp, lane, sums);
    }
  }

  /// Where a lane's first run of a unit's activations is: of token g, run t.
  __device__ __forceinline__ static uint32_t tokenRun(uint32_t stage, int unit, int lane) {
    return stage + L::kTokensAt + lane / 4 * L::kRowStride + unit * T::kUnitK * T::kActivationBytes + lane % 4 * T::kRunBytes;
  }

  /// sums += unit · tokens, for this warp's tiles.
  __device__ __forceinline__ void multiplyUnit(uint32_t stage, int warpN, int unit, int lane, Sums& sums) const {
    static_assert(T::kSteps == 1);
    const uint32_t weights = stage + (warpN * C::kWarpTiles * C::kStageUnits + unit) * T::kUnitBytes;
    const uint32_t run = tokenRun(stage, unit, lane);
    uint32_t words[C::kWarpTiles][T::kWords];
#pragma unroll
    for (int i = 0; i < C::kWarpTiles; ++i) loadUnit<C::kWeight>(weights + i * C::kStageUnits * T::kUnitBytes, lane, words[i]);
    uint32_t b[L::kTokenTiles][4];
#pragma unroll
    for (int j = 0; j < L::kTokenTiles; ++j) loadActivations<C::kWeight>(run + j * 8 * L::kRowStride, b[j]);
#pragma unroll
    for (int i = 0; i < C::kWarpTiles; ++i) {
      uint32_t a[2][4];
      decodeStep<C::kWeight>(words[i], 0, 0, a);
#pragma unroll
      for (int j = 0; j < L::kTokenTiles; ++j) {
        multiply<C::kWeight>(sums[i][j], a[0], b[j][0], b[j][1]);
        multiply<C::kWeight>(sums[i][j], a[1], b[j][2], b[j][3]);
      }
    }
  }
};

template <class C>
__device__ __forceinline__ void thin(const DenseArguments& p) {
  Thin<C>::run(p);
}

}  // namespace ladder
