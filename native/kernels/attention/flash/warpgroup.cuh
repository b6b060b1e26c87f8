// Attention in tiles on sm_90a: a producer warp brings keys and values by bulk copies, two warpgroups multiply 64 queries each by wgmma.
// Design: Shah et al. 2024 (FlashAttention-3). For each block of keys j a warpgroup
//
//   waits for its turn           the other one has issued its products, and weighs scores while these run ("ping-pong")
//   issues s = q · k(j)ᵀ, then o += p · v(j−1)
//   gives the turn away
//   waits for s; weighs it (the softmax), under p · v(j−1)
//   waits for o; scales it, packs the new weights p
//
// Queries stay in registers. Blocks loop over tiles of 128 queries; the next tile's queries are on their way while the last product runs.
//
// Shared memory: [keys, kStages blocks] [values, kStages blocks] [barriers]; a block: kKeys rows of a head's parts.
// Grid: up to kCount blocks, any number. Test: test/gpu/flash-attention.test.ts.
#pragma once
#include "attention/flash/products.cuh"
#include "attention/flash/rows.cuh"
#include "attention/flash/shape.cuh"
#include "core/ring.cuh"

namespace ladder {

template <class C>
struct FlashWarpgroups {
  using S = FlashShape<C>;
  static constexpr int kGroups = 2, kQueries = 64 * kGroups, kThreads = 128 * (kGroups + 1);
  static constexpr int kKeys = 128, kStages = 2;
  static constexpr int kBlockBytes = kKeys * S::kDim * 2;
  static constexpr int kValuesAt = kStages * kBlockBytes, kBarriersAt = 2 * kStages * kBlockBytes;  // keys are first
  using Ring = RingBarriers<kStages>;
  using Cursor = RingCursor<kStages>;
  static constexpr int kSharedBytes = kBarriersAt + 2 * Ring::kBytes;
  using Tiles = FlashTiles<C, kQueries, kKeys>;
  using Walk = FlashWalk<Tiles, C::kCausal>;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// One lane: all blocks of all tiles, keys and values in turn.
template <class C>
__device__ __forceinline__ void flashProduce(const void* qkv, const void* workspace, uint32_t shared) {
  using S = FlashShape<C>;
  using L = FlashWarpgroups<C>;
  const typename L::Ring keyRing{shared + L::kBarriersAt}, valueRing{keyRing.base + keyRing.kBytes};
  typename L::Cursor cursor;
  const auto fetch = [&](auto parts, const typename L::Ring& ring, uint32_t blocks, const uint8_t* head, int firstRow, int rows) {
    using Parts = decltype(parts);
    barrierWait(ring.empty(cursor.slot), cursor.parity ^ 1);
    barrierArriveExpect(ring.full(cursor.slot), rows * S::kDim * 2);
#pragma unroll
    for (int part = 0; part < S::kPieces / Parts::kPartPieces; ++part)
      bulkCopyShared(blocks + cursor.slot * L::kBlockBytes + part * (L::kKeys / 8 * Parts::kGroupBytes),
                     head + part * Parts::kStrideBytes + static_cast<int64_t>(firstRow / 8) * Parts::kGroupBytes,
                     rows / 8 * Parts::kGroupBytes, ring.full(cursor.slot));
  };
  typename L::Walk walk, ahead;
  ahead.next();
  while (walk.next()) {
    const FlashTile tile = walk.tile;
    // The next tile's queries wait in L2 for their turn.
    if (ahead.next() && S::kAligned) {
      const int64_t from = S::offset(ahead.tile.firstQuery, S::firstPiece(Part::kQuery, ahead.tile.head));
      const int rows = min(L::kQueries, S::kPaddedRows - ahead.tile.firstQuery);
#pragma unroll
      for (int panel = 0; panel < S::kPieces / 8; ++panel)
        bulkPrefetchL2(static_cast<const uint8_t*>(qkv) + from + panel * S::kPanelBytes, rows * 128);
    }
    const int kvHead = tile.head / S::kShared;
    const uint8_t* keys = S::keys(qkv, workspace, kvHead);
    const uint8_t* values = S::values(qkv, workspace, kvHead);
    for (int block = 0; block < tile.keyBlocks; ++block) {
      const int firstRow = tile.firstKey + block * L::kKeys;
      const int rows = min(L::kKeys, (tile.endRow + 7) / 8 * 8 - firstRow);
      fetch(typename S::Keys{}, keyRing, shared, keys, firstRow, rows);
      fetch(typename S::Values{}, valueRing, shared + L::kValuesAt, values, firstRow, rows);
      cursor.advance();
    }
  }
}

/// A warpgroup: its 64 queries of every tile.
template <class C>
__device__ __forceinline__ void flashConsume(const void* qkv, const void* workspace, void* y, uint32_t shared, int group) {
  using S = FlashShape<C>;
  using L = FlashWarpgroups<C>;
  using Rows = FlashRows<C>;
  constexpr int kTiles = L::kKeys / 8, kTurn = 1;  // named barriers kTurn + group
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
  const typename L::Ring keyRing{shared + L::kBarriersAt}, valueRing{keyRing.base + keyRing.kBytes};
  typename L::Cursor keyCursor, valueCursor;
  const uint32_t firstKeys = panelDescriptor<kPieceStride>(shared);
  const uint32_t firstValues = panelDescriptor<S::Values::kGroupBytes>(shared + L::kValuesAt);

  const auto multiplyByKeys = [&](float (&s)[kTiles][4], const uint32_t (&q)[Rows::kSteps][4]) {
    using Parts = typename S::Keys;
    const uint32_t keys = firstKeys + keyCursor.slot * (L::kBlockBytes >> 4);
#pragma unroll
    for (int step = 0; step < Rows::kSteps; ++step) {
      const uint32_t b =
          keys + (2 * step / Parts::kPartPieces * (L::kKeys / 8 * Parts::kGroupBytes) + 2 * step % Parts::kPartPieces * 128) / 16;
      if (step == 0) multiplyKeys<true, Parts::kGroupBytes>(s, q[step], b);
      else multiplyKeys<false, Parts::kGroupBytes>(s, q[step], b);
    }
    wgmmaCommit();
  };
  const auto multiplyByValues = [&](float (&o)[S::kDim / 8][4], const uint32_t (&p)[kTiles / 2][4]) {
    using Parts = typename S::Values;
    const uint32_t values = firstValues + valueCursor.slot * (L::kBlockBytes >> 4);
#pragma unroll
    for (int step = 0; step < kTiles / 2; ++step) {
#pragma unroll
      for (int part = 0; part < S::kPieces / Parts::kPartPieces; ++part)
        multiplyValues<8 * Parts::kPartPieces>(&o[part * Parts::kPartPieces], p[step],
                                               values + (part * (L::kKeys / 8 * Parts::kGroupBytes) + step * 2 * Parts::kGroupBytes) / 16);
    }
    wgmmaCommit();
  };
  const auto pack = [](uint32_t (&p)[kTiles / 2][4], const float (&s)[kTiles][4]) {
#pragma unroll
    for (int step = 0; step < kTiles / 2; ++step) packWeights(p[step], s[2 * step], s[2 * step + 1]);
  };
  const auto giveBack = [&](const typename L::Ring& ring, typename L::Cursor& cursor) {
    if (lane == 0) barrierArrive(ring.empty(cursor.slot));
    cursor.advance();
  };

  typename L::Walk walk;
  if (!walk.next()) return;
  FlashTile tile = walk.tile;
  Rows rows(tile, tile.firstQuery + group * 64 + warp * 16, lane);
  uint32_t q[Rows::kSteps][4];
  rows.load(q, qkv, tile.head, lane);
  if (group == 1) namedBarrierArrive(kTurn, 128 * L::kGroups);
  while (true) {
    if constexpr (S::kRope) {
      typename Rows::Angles angles;
      rows.loadAngles(angles, workspace, tile.firstRow, lane);
      Rows::turn(q, angles);
    }
    FlashSoftmax<C> softmax(tile.head);
    float s[kTiles][4], o[S::kDim / 8][4], factor[2];
    uint32_t p[kTiles / 2][4];
    const int lastKey = (C::kCausal ? min(tile.endRow, tile.firstQuery + L::kQueries) : tile.endRow) - 1;
    const auto weigh = [&](int block) {
      const int firstKey = tile.firstKey + block * L::kKeys;
      if (rows.template masks<L::kKeys>(tile, firstKey)) rows.mask(s, tile, firstKey, lane);
      softmax.weigh(s, firstKey - lastKey, lane, factor);
    };

    barrierWait(keyRing.full(keyCursor.slot), keyCursor.parity);
    wgmmaFence();
    multiplyByKeys(s, q);
    wgmmaWait<0>();
    pinAll(s);
    giveBack(keyRing, keyCursor);
    weigh(0);
    pack(p, s);
#pragma unroll
    for (auto& sums : o) sums[0] = sums[1] = sums[2] = sums[3] = 0.0f;
    pinAll(o);

    for (int block = 1; block < tile.keyBlocks; ++block) {
      barrierWait(keyRing.full(keyCursor.slot), keyCursor.parity);
      namedBarrier(kTurn + group, 128 * L::kGroups);
      wgmmaFence();
      multiplyByKeys(s, q);
      barrierWait(valueRing.full(valueCursor.slot), valueCursor.parity);
      wgmmaFence();
      multiplyByValues(o, p);
      namedBarrierArrive(kTurn + (group ^ 1), 128 * L::kGroups);
      wgmmaWait<1>();
      pinAll(s);
      giveBack(keyRing, keyCursor);
      weigh(block);
      wgmmaWait<0>();
      pinAll(o);
      pinAll(p);
      giveBack(valueRing, valueCursor);
      pack(p, s);
      rescale(o, factor);
    }
    barrierWait(valueRing.full(valueCursor.slot), valueCursor.parity);
    wgmmaFence();
    multiplyByValues(o, p);

    const FlashTile done = tile;
    const Rows doneRows = rows;
    const bool more = walk.next();
    if (more) {
      tile = walk.tile;
      rows = Rows(tile, tile.firstQuery + group * 64 + warp * 16, lane);
      rows.load(q, qkv, tile.head, lane);
    }
    wgmmaWait<0>();
    pinAll(o);
    pinAll(p);
    giveBack(valueRing, valueCursor);
    float inverse[2];
    softmax.finish(inverse);
    doneRows.store(y, o, inverse, done, lane);
    if (!more) break;
  }
}
#endif

/// Launched with blocks of FlashWarpgroups<C>::kThreads and kSharedBytes of shared memory.
template <class C>
__device__ __forceinline__ void flashWarpgroupKernel(const void* qkv, const void* workspace, void* y) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using L = FlashWarpgroups<C>;
  extern __shared__ __align__(1024) uint8_t memory[];
  const uint32_t shared = sharedAddress(memory);
  launchDependents();
  // Rows of a block that are not brought hold zeros or values of before: they are multiplied by 0.
  if constexpr (FlashShape<C>::kOddStarts || C::kSeq % L::kKeys != 0) {
    for (int i = threadIdx.x * 16; i < L::kStages * L::kBlockBytes; i += L::kThreads * 16)
      storeShared16(shared + L::kValuesAt + i, make_uint4(0, 0, 0, 0));
    fenceAsyncProxy();
  }
  if (threadIdx.x == 0) {
    for (int ring = 0; ring < 2; ++ring) typename L::Ring{shared + L::kBarriersAt + ring * L::Ring::kBytes}.init(1, 4 * L::kGroups);
  }
  __syncthreads();
  const int group = uniform(threadIdx.x / 128);
  if (group == L::kGroups) {
    giveRegisters<24>();
    if (threadIdx.x == 128 * L::kGroups) {
      waitForPrerequisites();
      flashProduce<C>(qkv, workspace, shared);
    }
  } else {
    takeRegisters<240>();
    waitForPrerequisites();
    flashConsume<C>(qkv, workspace, y, shared, group);
  }
#endif
}

}  // namespace ladder
