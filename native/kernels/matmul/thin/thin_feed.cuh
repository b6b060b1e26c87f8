// The two producer warps of thin.cuh: one brings weights, the other activations, whose rows are too short for bulk copies (40 ns
// each, whatever their size). Stages are drawn in thin.cuh, barriers explained in ring.cuh.
#pragma once
#include "matmul/thin/thin_block.cuh"

namespace ladder {

template <class C>
struct ThinFeed {
  using L = ThinBlock<C>;
  using T = typename L::T;
  using S = typename L::S;

  const L& b;
  const DenseArguments& p;
  const int lane;

  __device__ __forceinline__ void weights() const {
    launchDependents();
    RingCursor<C::kStages> cursor;
    bool refill = false;
    for (int pass = 0; pass < b.passes; ++pass) {
      for (int stage = 0; stage < L::kStagesPerPass; ++stage) {
        if (refill) barrierWait(b.barriers.empty(cursor.slot), cursor.parity ^ 1);
        const uint32_t full = b.barriers.full(cursor.slot), at = b.base + cursor.slot * L::kStageBytes;
        const int bytes = L::stageUnits(stage) * T::kUnitBytes, tiles = b.passTiles(pass);
#if __CUDA_ARCH__ >= 900
        if (lane == 0) barrierArriveExpect(full, tiles * bytes);
        __syncwarp();
        for (int tile = lane; tile < tiles; tile += 32) {
          bulkCopyStreaming(at + tile * C::kStageUnits * T::kUnitBytes, p.weight + firstUnit(pass, tile, stage) * T::kUnitBytes, bytes,
                            full);
        }
#else
        for (int tile = 0; tile < tiles; ++tile) {
          fetchStreaming(at + tile * C::kStageUnits * T::kUnitBytes, p.weight + firstUnit(pass, tile, stage) * T::kUnitBytes, bytes, full,
                         lane);
        }
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

  __device__ __forceinline__ void tokens() const {
    waitForPrerequisites();
    RingCursor<C::kStages> cursor;
    bool refill = false;
    for (int pass = 0; pass < b.passes; ++pass) {
      for (int stage = 0; stage < L::kStagesPerPass; ++stage) {
        if (refill) barrierWait(b.barriers.empty(cursor.slot), cursor.parity ^ 1);
        const uint32_t at = b.base + cursor.slot * L::kStageBytes;
        if (L::stageUnits(stage) == C::kStageUnits) fetchTokens<C::kStageUnits>(stage, at);
        else if constexpr (L::kBlockUnits % C::kStageUnits != 0) fetchTokens<L::kBlockUnits % C::kStageUnits>(stage, at);
        copyAsyncArrive(b.barriers.full(cursor.slot));
        cursor.advance();
        refill |= cursor.slot == 0;
      }
    }
  }

  /// First unit of a tile's part in a stage, counted over the whole weight.
  __device__ __forceinline__ size_t firstUnit(int pass, int tile, int stage) const {
    return static_cast<size_t>(b.firstTile + pass * L::kPassTiles + tile) * S::kUnits + b.rank * L::kBlockUnits + stage * C::kStageUnits;
  }

  template <int kUnitCount>
  __device__ __forceinline__ void fetchTokens(int stage, uint32_t at) const {
    constexpr int kPieces = kUnitCount * T::kUnitK * T::kActivationBytes / 16;  // of one token
    constexpr size_t kRow = static_cast<size_t>(C::kK) * T::kActivationBytes;
    const int unit = b.rank * L::kBlockUnits + stage * C::kStageUnits;
    const uint8_t* from = static_cast<const uint8_t*>(p.x) + static_cast<size_t>(unit) * T::kUnitK * T::kActivationBytes;
    if constexpr (kPieces % 32 == 0 || 32 % kPieces == 0) {
      // A lane's pieces lie a constant distance apart: one instruction each.
      constexpr int kRows = kPieces < 32 ? 32 / kPieces : 1;  // tokens at once
      const int first = kPieces < 32 ? lane / kPieces : 0, piece = kPieces < 32 ? lane % kPieces : lane;
      const uint32_t to = at + L::kTokensAt + first * L::kRowStride + piece * 16;
      from += first * kRow + piece * 16;
#pragma unroll
      for (int token = 0; token < C::kM; token += kRows) {
        if (C::kM % kRows != 0 && token + first >= C::kM) break;
#pragma unroll
        for (int i = 0; i < kPieces; i += 32) copyAsync16(to + token * L::kRowStride + i * 16, from + token * kRow + i * 16);
      }
    } else {
      for (int i = lane; i < C::kM * kPieces; i += 32) {
        const int token = i / kPieces, piece = i % kPieces;
        copyAsync16(at + L::kTokensAt + token * L::kRowStride + piece * 16, from + token * kRow + piece * 16);
      }
    }
  }

  /// Weights behind the ring go to L2 while the kernel before is still at work.
  __device__ __forceinline__ void prefetch() const {
#if __CUDA_ARCH__ >= 900
    constexpr int kFirst = C::kStages,
                  kLast = C::kStages + C::kPrefetchStages < L::kStagesPerPass ? C::kStages + C::kPrefetchStages : L::kStagesPerPass;
    if constexpr (kFirst < kLast) {
      const int units = min((kLast - kFirst) * C::kStageUnits, L::kBlockUnits - kFirst * C::kStageUnits);
      for (int tile = lane; tile < b.passTiles(0); tile += 32)
        bulkPrefetchL2(p.weight + firstUnit(0, tile, kFirst) * T::kUnitBytes, units * T::kUnitBytes);
    }
#endif
  }
};

}  // namespace ladder
