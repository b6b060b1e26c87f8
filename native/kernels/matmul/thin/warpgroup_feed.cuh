// The producer warps of warpgroup.cuh: one brings weights, by bulk copies of a pair's whole run in a stage, the others tokens,
// and scales that vary along k, by cp.async, which can put 16-byte pieces where wgmma wants them. MX tokens become BF16 on the
// way, scales multiplied in. Stages are drawn in warpgroup.cuh, barriers explained in ring.cuh.
#pragma once
#include "matmul/thin/warpgroup_block.cuh"

namespace ladder {

template <class C>
struct WarpgroupFeed {
  using L = WarpgroupBlock<C>;
  using T = typename L::T;
  using S = typename L::S;

  const L& b;
  const DenseArguments& p;
  const int lane;

  static constexpr int kRunBytes = C::kStageUnits * L::kPairBytes;

  __device__ __forceinline__ void weights() const {
    launchDependents();
    RingCursor<C::kStages> cursor;
    bool refill = false;
    for (int pass = 0; pass < b.passes; ++pass) {
      const int pairs = b.passPairs(pass);
      for (int stage = 0; stage < L::kStagesPerPass; ++stage) {
        if (refill) barrierWait(b.barriers.empty(cursor.slot), cursor.parity ^ 1);
        const uint32_t full = b.barriers.full(cursor.slot), at = b.base + cursor.slot * L::kStageBytes + L::kWeightsAt;
#if __CUDA_ARCH__ >= 900
        if (lane == 0) barrierArriveExpect(full, pairs * kRunBytes);
        __syncwarp();
        for (int pair = lane; pair < pairs; pair += 32) bulkCopyStreaming(at + pair * kRunBytes, run(pass, pair, stage), kRunBytes, full);
#else
        for (int pair = 0; pair < pairs; ++pair) fetchStreaming(at + pair * kRunBytes, run(pass, pair, stage), kRunBytes, full, lane);
        copyAsyncArrive(full);
#endif
        cursor.advance();
        if (cursor.slot == 0 && !refill) {
          refill = true;
          prefetch();
        }
      }
    }
    prefetchNext<C>(p, lane, 32);
  }

  /// A pair's weights in a stage.
  __device__ __forceinline__ const uint8_t* run(int pass, int pair, int stage) const {
    const size_t unit =
        static_cast<size_t>(b.firstPair + pass * C::kPassPairs + pair) * S::kUnits + b.rank * L::kBlockUnits + stage * C::kStageUnits;
    return p.weight + unit * L::kPairBytes;
  }

  /// Weights behind the ring go to L2 while the kernel before is still at work.
  __device__ __forceinline__ void prefetch() const {
#if __CUDA_ARCH__ >= 900
    constexpr int kStages = L::kStagesPerPass - C::kStages < C::kPrefetchStages ? L::kStagesPerPass - C::kStages : C::kPrefetchStages;
    if constexpr (kStages > 0) {
      for (int pair = lane; pair < b.passPairs(0); pair += 32) bulkPrefetchL2(run(0, pair, C::kStages), kStages * kRunBytes);
    }
#endif
  }

  /// The kTokenWarps warps share out blocks of tokens.
  __device__ __forceinline__ void tokens(int warp) const {
    if constexpr (T::kIsMx) prefetchScales(warp);
    waitForPrerequisites();
    MxPieces mx;
    if constexpr (T::kIsMx) readMx(0, warp, mx);
    RingCursor<C::kStages> cursor;
    bool refill = false;
    for (int pass = 0; pass < b.passes; ++pass) {
      for (int stage = 0; stage < L::kStagesPerPass; ++stage) {
        if (refill) barrierWait(b.barriers.empty(cursor.slot), cursor.parity ^ 1);
        const uint32_t at = b.base + cursor.slot * L::kStageBytes, full = b.barriers.full(cursor.slot);
        if constexpr (!T::kIsMx) fetchTokens(stage, at + L::kTokensAt, warp);
        if constexpr (S::kScaled) fetchScales(pass, stage, at + L::kScalesAt, warp);
        copyAsyncArrive(full);
        if constexpr (T::kIsMx) {
          storeMx(at + L::kTokensAt, warp, mx);
          fenceAsyncProxy();
          barrierArrive(full);
          readMx(stage + 1 < L::kStagesPerPass ? stage + 1 : 0, warp, mx);
        }
        cursor.advance();
        refill |= cursor.slot == 0;
      }
    }
  }

  // ---- MX tokens: read a stage ahead, stored as BF16 ------------------------------------------------------------------------

  /// 16 codes and their scale at a time; a token has kPieces in a stage.
  static constexpr int kPieces = C::kStageUnits * T::kUnitK / 16,
                       kMxRounds = T::kIsMx ? (C::kM * kPieces + L::kTokenWarps * 32 - 1) / (L::kTokenWarps * 32) : 1;
  struct MxPieces {
    uint4 codes[kMxRounds];
    uint32_t scales[kMxRounds];
  };

  __device__ __forceinline__ int pieceOf(int warp, int round) const { return (round * L::kTokenWarps + warp) * 32 + lane; }

  __device__ __forceinline__ void readMx(int stage, int warp, MxPieces& pieces) const {
    const size_t first = static_cast<size_t>(b.rank) * L::kBlockUnits + stage * C::kStageUnits;  // unit
#pragma unroll
    for (int r = 0; r < kMxRounds; ++r) {
      const int i = pieceOf(warp, r), token = i / kPieces, piece = i % kPieces;
      if (i >= C::kM * kPieces) break;
      pieces.codes[r] =
          __ldcg(reinterpret_cast<const uint4*>(static_cast<const uint8_t*>(p.x) + static_cast<size_t>(token) * C::kK + first * T::kUnitK) +
                 piece);
      pieces.scales[r] = __ldcg(static_cast<const uint8_t*>(p.xScale) + static_cast<size_t>(token) * S::kUnits + first + piece / 2);
    }
  }

  __device__ __forceinline__ void storeMx(uint32_t at, int warp, const MxPieces& pieces) const {
    using Mx = MxBf16<C::kWeight>;
#pragma unroll
    for (int r = 0; r < kMxRounds; ++r) {
      const int i = pieceOf(warp, r), token = i / kPieces, piece = i % kPieces;
      if (i >= C::kM * kPieces) break;
      const uint32_t multiplier = Mx::multiplier(pieces.scales[r], 0), block = at + piece / 4 * L::kTokenBlockBytes;
      const uint4 codes = pieces.codes[r];
      const uint2 v[4] = {Mx::activations(codes.x, multiplier), Mx::activations(codes.y, multiplier), Mx::activations(codes.z, multiplier),
                          Mx::activations(codes.w, multiplier)};
      storeShared16(block + swizzledPiece(token, piece % 4 * 2), make_uint4(v[0].x, v[0].y, v[1].x, v[1].y));
      storeShared16(block + swizzledPiece(token, piece % 4 * 2 + 1), make_uint4(v[2].x, v[2].y, v[3].x, v[3].y));
    }
  }

  /// Eight lanes bring the 128 bytes of a token in a block; so four tokens at once, whose swizzle the next four share but for a bit.
  __device__ __forceinline__ void fetchTokens(int stage, uint32_t at, int warp) const {
    constexpr size_t kRow = static_cast<size_t>(C::kK) * T::kActivationBytes;
    constexpr int kBlocks = L::kStageBlocks;
    const int token = lane / 8, piece = lane % 8;
    const uint32_t even = at + swizzledPiece(token, piece), odd = at + swizzledPiece(token + 4, piece);
    const uint8_t* from = static_cast<const uint8_t*>(p.x) +
                          (static_cast<size_t>(b.rank) * L::kBlockUnits + stage * C::kStageUnits) * L::kStepBlocks * kWgmmaRowBytes +
                          token * kRow + piece * 16;
    for (int block = warp; block < kBlocks; block += L::kTokenWarps) {
#pragma unroll
      for (int first = 0; first < C::kM; first += 4) {
        if (C::kM % 4 != 0 && first + token >= C::kM) break;
        copyAsync16((first % 8 == 0 ? even + first * kWgmmaRowBytes : odd + (first - 4) * kWgmmaRowBytes) + block * L::kTokenBlockBytes,
                    from + first * kRow + block * kWgmmaRowBytes);
      }
    }
  }

  /// MX has four times the scales that groups of 128 have of 4-bit weights, and memory gives small pieces slowly: so all go to L2 at
  /// once, a tile's together, while the kernel before is still at work.
  __device__ __forceinline__ void prefetchScales(int warp) const {
#if __CUDA_ARCH__ >= 900
    for (int tile = warp * 32 + lane; tile < b.tiles; tile += L::kTokenWarps * 32)
      bulkPrefetchL2(scalesOf(tile, 0), L::kBlockUnits * S::kScaleBytesPerUnit);
#endif
  }

  /// Of the group's tile, from the stage's first unit on.
  __device__ __forceinline__ const uint8_t* scalesOf(int tile, int stage) const {
    const size_t unit = static_cast<size_t>(b.firstTile + tile) * S::kUnits + b.rank * L::kBlockUnits + stage * C::kStageUnits;
    return static_cast<const uint8_t*>(p.scale) + unit * S::kScaleBytesPerUnit;
  }

  __device__ __forceinline__ void fetchScales(int pass, int stage, uint32_t at, int warp) const {
    constexpr int kPieces = L::kStageScaleBytes / 16;  // of a tile
    for (int i = warp * 32 + lane; i < b.passTiles(pass) * kPieces; i += L::kTokenWarps * 32) {
      const int tile = i / kPieces, piece = i % kPieces;
      copyAsync16InOrder(at + tile * L::kStageScaleBytes + piece * 16, scalesOf(pass * L::kPassTiles + tile, stage) + piece * 16);
    }
  }
};

}  // namespace ladder
