// Dense product of a few tokens (m ≤ 64), W [n, k] of 4 or 1 bits, or MX: y[m, n] = epilogue(W · xᵀ). The time is that of reading W,
// and decoding must hide behind it: so the tensor cores take decoded weights from registers and tokens from shared memory
// (wgmma), four warps at a time and asynchronously, and a warp decodes the next tile while they work on the last one.
// Before sm_90a the same blocks, stages and layouts are multiplied by mma.sync, with tokens from ldmatrix.
//
// Rows go out to groups of kCluster blocks by pairs of 16-row tiles, in passes of kPassPairs; the blocks of a group share out
// k. In a block there are kGroupsN × kGroupsK warpgroups: along n they divide the pass's rows, 64 at a time (two pairs); along
// k the units of a stage. A pair's units are contiguous, so that its part of a stage is one bulk copy.
//
//   stage:  | tokens: blocks of 128 bytes of k, as wgmma.cuh draws them | pair 0: kStageUnits × 2 tiles | pair 1 | … | scales |
//
// Tokens come by cp.async (rows of 128 bytes would be bulk copies of 40 ns each). Weights fill the ring before
// `waitForPrerequisites`, and every sum has a fixed order. Constants and places: warpgroup_block.cuh; producers:
// warpgroup_feed.cuh; what follows the products: thin_store.cuh.
//
// Needs k % (kUnitK · kStageUnits · kCluster) = 0, with SiLU n % 32 = 0, INT8 activations quantised before.
// Tuning: kBlocks, kCluster, kPassPairs, kGroupsN, kGroupsK, kStageUnits (a multiple of kGroupsK), kStages, kPrefetchStages.
// Tests: test/gpu (against native/reference), bench/kernels (against a double-precision reference on the device).
#pragma once
#include "matmul/thin/thin_store.cuh"
#include "matmul/thin/warpgroup_feed.cuh"

namespace ladder {

template <class C>
struct Warpgroup {
  using L = WarpgroupBlock<C>;
  using T = typename L::T;
  using S = typename L::S;
  using Store = ThinStore<C, L>;
  using Sum = typename Store::Sum;
  using Sums = typename Store::Sums;
  /// Of one warp's tile, and the A operands of one block of tokens.
  using TileSums = Sum[L::kTokenTiles][4];
  using Operands = uint32_t[2][2][4];

  static constexpr int kSharedBytes = L::kSharedBytes;
  static constexpr int kBlockThreads = L::kBlockThreads;

  const L& b;
  const int warp, lane, groupK;

  __device__ static void run(const DenseArguments& p) {
    extern __shared__ __align__(1024) uint8_t shared[];
    const L block(shared);
    Store::initBarriers(block, (kHopper ? 1 : 32) + L::kTokenWarps * (T::kIsMx ? 64 : 32), L::kThreads);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (warp >= L::kWarps) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
      giveRegisters<L::kProducerRegisters>();
#endif
      const WarpgroupFeed<C> feed{block, p, lane};
      if (warp == L::kWarps) feed.weights();
      else feed.tokens(warp - L::kWarps - 1);
    } else {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
      takeRegisters<L::kConsumerRegisters>();
#endif
      Warpgroup{block, warp, lane, warp / L::kWarpsN}.consume(p);
    }
  }

  __device__ __forceinline__ void consume(const DenseArguments& p) const {
    if constexpr (C::kWeight == WeightFormat::kNf4) fillNf4Table(b.base + L::kTableAt, warp, L::kWarps, lane);
    const Store store{b};
    store.fetchTerms(p, threadIdx.x);
    waitForPrerequisites();
    store.fetchTokenScales(p, threadIdx.x);
    namedBarrier(1, L::kThreads);

    RingCursor<C::kStages> cursor;
    const bool last = warp % L::kWarpsN >= L::kWarpsN - 4;  // warpgroup along n, with fewer rows perhaps
    for (int pass = 0; pass < b.passes; ++pass) {
      Sums sums = {};
      if (L::kIdleTiles > 0 && last) multiplyPass<L::kWarpTiles - L::kIdleTiles>(cursor, sums);
      else multiplyPass<L::kWarpTiles>(cursor, sums);
      store.run(p, pass, warp, lane, sums);
    }
  }

  /// The products of a pass, of a warp's first kTiles tiles.
  template <int kTiles>
  __device__ __forceinline__ void multiplyPass(RingCursor<C::kStages>& cursor, Sums& sums) const {
    using Order = Steps<kTiles>;
    uint32_t unread = 0;  // barrier of the stage before, whose last products may be under way
    for (int stage = 0; stage < L::kStagesPerPass; ++stage, cursor.advance()) {
      const uint32_t at = b.base + cursor.slot * L::kStageBytes;
      const uint32_t tokens = tokensOf(at + L::kTokensAt + Order::blockAt(0, groupK) * L::kTokenBlockBytes);
      barrierWait(b.barriers.full(cursor.slot), cursor.parity);
      if constexpr (!T::kIsMx) fenceAsyncProxy();  // between cp.async, which wrote the tokens, and wgmma, which reads them
      multiplyStage<Order>(at, tokens, unread, sums);
      unread = b.barriers.empty(cursor.slot);
    }
    finishProducts<0>();
#pragma unroll
    for (int i = 0; i < kTiles; ++i) pinAll(sums[i]);
    giveBack(unread);
  }

  /// By all lanes (ring.cuh).
  __device__ __forceinline__ static void giveBack(uint32_t stage) {
    if (stage != 0) barrierArrive(stage);
  }

  // ---- Load ---------------------------------------------------------------------------------------------------------------

  /// Steps that are summed up before their common scale is applied: all that share it, where registers allow.
  static constexpr int kScaleSteps =
      L::kScaledSums && L::kWarpTiles * L::kTokenTiles <= 28 && C::kStageUnits % (C::kGroupsK * S::kUnitsPerScale) == 0 ? S::kUnitsPerScale
                                                                                                                        : 1;
  /// The steps of a stage where a warp has kTiles tiles: kScaleSteps of a tile, of the next tile, …, and so on with the
  /// warpgroup's next units.
  template <int kTiles>
  struct Steps {
    static constexpr int kRound = kTiles * kScaleSteps, kCount = C::kStageUnits / (C::kGroupsK * L::kStepUnits) * kTiles;
    /// Steps whose weights are read ahead of the one that is decoded.
    static constexpr int kAhead = kCount < 2 ? kCount : 2;

    __device__ __forceinline__ static constexpr int tileAt(int step) { return step % kRound / kScaleSteps; }
    /// Along k, in the stage: a step's first unit, and its first block of tokens. `group` 0: from the warpgroup's first.
    __device__ __forceinline__ static constexpr int placeAt(int step, int group) {
      return (step / kRound * C::kGroupsK + group) * kScaleSteps + step % kScaleSteps;
    }
    __device__ __forceinline__ static constexpr int unitAt(int step, int group) { return placeAt(step, group) * L::kStepUnits; }
    __device__ __forceinline__ static constexpr int blockAt(int step, int group) { return placeAt(step, group) * L::kStepBlocks; }
  };

  /// Of the pass; a place past its rows that the other warps of the warpgroup do not share repeats the last pair, and its sums are dropped.
  __device__ __forceinline__ int pairOf(int tile) const { return min(L::tileOf(warp % L::kWarpsN, tile) / 2, C::kPassPairs - 1); }

  /// A step's weights, and the scales of MX ones.
  struct Words { uint32_t words[L::kStepUnits][T::kWords], scales[L::kStepUnits]; };

  template <class Order>
  __device__ __forceinline__ void load(uint32_t stage, int step, Words& w) const {
#pragma unroll
    for (int u = 0; u < L::kStepUnits; ++u) {
      loadUnit<C::kWeight>(stage + L::kWeightsAt +
                               (pairOf(Order::tileAt(step)) * C::kStageUnits + Order::unitAt(step, groupK) + u) * L::kPairBytes +
                               warp % 2 * T::kUnitBytes,
                           lane, w.words[u]);
      if constexpr (T::kIsMx) w.scales[u] = loadShared2(scalesOf<Order>(stage, step) + u * S::kScaleBytes + lane / 4 * 2);
    }
  }

  /// Of a step's tile, from its first unit on.
  template <class Order>
  __device__ __forceinline__ uint32_t scalesOf(uint32_t stage, int step) const {
    return stage + L::kScalesAt + (pairOf(Order::tileAt(step)) * 2 + warp % 2) * L::kStageScaleBytes +
           Order::unitAt(step, groupK) / S::kUnitsPerScale * S::kScaleBytes;
  }

  // ---- Decode and compute -------------------------------------------------------------------------------------------------

  /// `tokens`: of the warpgroup's first unit.
  template <class Order>
  __device__ __forceinline__ void multiplyStage(uint32_t stage, uint32_t tokens, uint32_t unread, Sums& sums) const {
    const uint32_t table = b.base + L::kTableAt + lane * 4;
    Words words[Order::kAhead + 1];
    TileSums fresh[L::kScaledSums ? 2 : 1];
#pragma unroll
    for (int step = 0; step < Order::kAhead; ++step) load<Order>(stage, step, words[step]);
#pragma unroll
    for (int step = 0; step < Order::kCount; ++step) {
      if (step + Order::kAhead < Order::kCount)
        load<Order>(stage, step + Order::kAhead, words[(step + Order::kAhead) % (Order::kAhead + 1)]);
      const Words& w = words[step % (Order::kAhead + 1)];
      const int group = step / kScaleSteps;
#pragma unroll
      for (int half = 0; half < L::kStepBlocks; ++half) {
        Operands a;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if constexpr (T::kIsMx) MxBf16<C::kWeight>::decode(w.words[i], w.scales[i], a[i]);
          else decodeStep<C::kWeight>(w.words[0], 2 * half + i, table, a[i]);
        }
        const int block = Order::blockAt(step, 0) + half;
        if constexpr (L::kScaledSums) multiplyBlock(fresh[group % 2], a, tokens, block, step % kScaleSteps == 0);
        else multiplyBlock(sums[Order::tileAt(step)], a, tokens, block, false);
        finishProducts<1>();
        if (step == 0 && half == 0) giveBack(unread);
      }
      if (L::kScaledSums && step % kScaleSteps == 0 && group > 0) addScaled<Order>(stage, step - 1, fresh[(group + 1) % 2], sums);
    }
    // The next stage's first operands take the registers of this one's: they must not be those of the last products.
    if constexpr (L::kScaledSums || Order::kCount * L::kStepBlocks == 1) finishProducts<0>();
    if constexpr (L::kScaledSums) addScaled<Order>(stage, Order::kCount - 1, fresh[(Order::kCount / kScaleSteps + 1) % 2], sums);
  }

  /// What multiplyBlock takes for the blocks of tokens that begin at an address.
  __device__ __forceinline__ static uint32_t tokensOf(uint32_t shared) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    return wgmmaDescriptor(shared);
#else
    return shared;
#endif
  }

  /// sums (or, if `first`, what was there before is forgotten) += a · block of tokens.
  __device__ __forceinline__ void multiplyBlock(TileSums& sums, Operands& a, uint32_t tokens, int block, bool first) const {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    tokens += block * (L::kTokenBlockBytes >> 4);
#pragma unroll
    for (int s = 0; s < 4; ++s) pin(a[s / 2][s % 2][0]), pin(a[s / 2][s % 2][1]), pin(a[s / 2][s % 2][2]), pin(a[s / 2][s % 2][3]);
    wgmmaFence();
#pragma unroll
    for (int s = 0; s < 4; ++s) wgmma<T::kIsMx>(sums, a[s / 2][s % 2], tokens + s * (kWgmmaStepBytes >> 4), !(first && s == 0));
    wgmmaCommit();
#else
    tokens += block * L::kTokenBlockBytes;
    if (first) {
#pragma unroll
      for (int j = 0; j < L::kTokenTiles; ++j) sums[j][0] = sums[j][1] = sums[j][2] = sums[j][3] = 0;
    }
    // Lane l names row l % 8 of matrix l / 8: two halves of a step, then those of the next 8 tokens.
    constexpr int kAtOnce = L::kTokenTiles > 1 ? 2 : 1;
#pragma unroll
    for (int s = 0; s < 4; ++s) {
#pragma unroll
      for (int j = 0; j < L::kTokenTiles; j += kAtOnce) {
        uint32_t matrices[2 * kAtOnce];
        loadMatrices(tokens + swizzledPiece(j * 8 + (kAtOnce > 1 ? lane / 16 * 8 : 0) + lane % 8, 2 * s + lane / 8 % 2), matrices);
#pragma unroll
        for (int e = 0; e < kAtOnce; ++e) {
          if constexpr (T::kIsMx) mmaBf16(sums[j + e], a[s / 2][s % 2], matrices[2 * e], matrices[2 * e + 1]);
          else multiply<C::kWeight>(sums[j + e], a[s / 2][s % 2], matrices[2 * e], matrices[2 * e + 1]);
        }
      }
    }
#endif
  }

  template <int kPending>
  __device__ __forceinline__ static void finishProducts() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    wgmmaWait<kPending>();
#endif
  }

  __device__ __forceinline__ static void pinAll(TileSums& sums) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#pragma unroll
    for (int j = 0; j < L::kTokenTiles; ++j) pin(sums[j][0]), pin(sums[j][1]), pin(sums[j][2]), pin(sums[j][3]);
#endif
  }

  /// sums of step's tile += its scale · fresh.
  template <class Order>
  __device__ __forceinline__ void addScaled(uint32_t stage, int step, TileSums& fresh, Sums& sums) const {
    if constexpr (L::kScaledSums) {
      pinAll(fresh);
      const uint32_t pair = loadShared4(scalesOf<Order>(stage, step) + lane / 4 * 4);
      const float2 scale = __half22float2(*reinterpret_cast<const __half2*>(&pair));
#pragma unroll
      for (int j = 0; j < L::kTokenTiles; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e)
          sums[Order::tileAt(step)][j][e] = fmaf(fresh[j][e], e < 2 ? scale.x : scale.y, sums[Order::tileAt(step)][j][e]);
      }
    }
  }
};

template <class C>
__device__ __forceinline__ void warpgroup(const DenseArguments& p) {
  Warpgroup<C>::run(p);
}

}  // namespace ladder
