// Dense products over 65 to 16384 tokens on sm_90a: y = epilogue(x · dequantise(W)ᵀ) (matmul/operator.cuh; no norm), tiles and stored
// orders as in wide_block.cuh. One persistent block per multiprocessor; a warp copies operands in bulk through a ring, one panel of a
// tile per stage, the tokens shared by the blocks of a cluster (multicast); two warpgroups multiply:
//
//   fp16              both operands from shared memory
//   int4 nf4 int1 mx  weights decoded in registers, a panel ahead of the products (NF4 by a table in shared memory); scales of groups
//                     and of MX blocks multiply the weights, those of rows the sums
//   fp8               both from shared memory; the tensor cores cut addends at 2⁻¹³ of the largest, so their sums go to FP32 registers
//                     every 256 of k, for one half of the tokens and then the other; meanwhile the other warpgroup multiplies
//
// Sums leave 64 tokens at a time through shared memory, as panels by bulk copies, or in rows. Divisibility: k by 64 (8-bit: 128),
// n by 16 with SiLU·up; panels of y: n by 64. Tests: test/gpu/wide-kernels.test.ts.
#pragma once
#include "core/ring.cuh"
#include "matmul/wide/wide_block.cuh"
#include "matmul/wide/wide_products.cuh"

namespace ladder {

/// C: of operator.cuh; kBlocks, kCluster (1 or 2), kStages, kGroupTiles, kPanelOutput.
template <class C>
struct Wide : WideTile<C> {
  using L = WideTile<C>;
  using T = typename L::T;
  static constexpr int kGroups = 2, kConsumers = kGroups * 128, kBlockThreads = kConsumers + 128;
  static constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;

  // Shared memory, in this order.
  static constexpr int kWeightsAt = L::kTokensBytes, kScalesAt = kWeightsAt + L::kWeightsBytes;  // in the stage
  static constexpr int kStageBytes = (kScalesAt + L::kScalesBytes + 127) / 128 * 128;
  /// 64 tokens of a warpgroup's outputs, twice.
  static constexpr int kChunkTokens = 64, kChunks = L::kTokens / kChunkTokens;
  static constexpr int kPieces = L::kTileOutputs / kGroups / 8;  // of 8 channels
  static constexpr int kChunkBytes = kChunkTokens * kPieces * 16;
  static constexpr int kChunksAt = C::kStages * kStageBytes;
  static constexpr int kTableAt = kChunksAt + 2 * kGroups * kChunkBytes;
  static constexpr int kTokenScalesAt = kTableAt + (C::kWeight == WeightFormat::kNf4 ? kNf4TableBytes : 0);
  static constexpr int kBarriersAt = kTokenScalesAt + (L::kTokenScales ? kGroups * L::kTokens * 4 : 0);
  static constexpr int kSharedBytes = kBarriersAt + RingBarriers<C::kStages>::kBytes;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// One bulk copy to the same place in all blocks of the cluster that `mask` names; each one's barrier counts it.
__device__ __forceinline__ void bulkCopyMulticast(uint32_t shared, const void* global, uint32_t bytes, uint32_t barrier, uint16_t mask) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(
                   shared),
               "l"(global), "r"(bytes), "r"(barrier), "h"(mask)
               : "memory");
}

__device__ __forceinline__ void bulkCopy(uint32_t shared, const void* global, uint32_t bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared), "l"(global),
               "r"(bytes), "r"(barrier)
               : "memory");
}

__device__ __forceinline__ void bulkStore(void* global, uint32_t shared, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(global), "r"(shared), "r"(bytes) : "memory");
}
__device__ __forceinline__ void bulkStoreCommit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Until at most `kPending` of this thread's committed stores still read shared memory.
template <int kPending>
__device__ __forceinline__ void bulkStoreWaitRead() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
__device__ __forceinline__ void bulkStoreWait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

/// Four 8 × 8 matrices of halves, transposed: lane l names row l % 8 of matrix l / 8.
__device__ __forceinline__ void storeMatricesTransposed(uint32_t row, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(r[0]), "r"(r[1]), "r"(r[2]),
               "r"(r[3])
               : "memory");
}
__device__ __forceinline__ void loadMatricesTransposed(uint32_t row, uint32_t (&r)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}

/// Tiles that this launch has begun; 0 again after its last one.
template <class C>
__device__ uint32_t wideBegun;

/// Keeps clusters in step, so that one finds in L2 what another has fetched: adrift, bloom's FP16 products read 2.7 times as much of
/// memory as there is to read, and pay for it in clock under the power limit. A tile begins when every cluster has come to it, or
/// after a while, as the others may not run beside this one: only speed depends on it. By one thread of each cluster.
template <class C>
__device__ __forceinline__ void beginInStep(int tile) {
  constexpr int kTiles = WideOrder<C>::kTiles, kClusters = C::kBlocks / C::kCluster;
  constexpr uint32_t kPatienceCycles = 1 << 16;
  const uint32_t before = atomicInc(&wideBegun<C>, kTiles - 1), all = min((tile / kClusters + 1) * kClusters, kTiles);
  if (tile < kClusters) return;
  const uint32_t start = clock();
  uint32_t now;
  do {
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(&wideBegun<C>) : "memory");
  } while (now < all && now > before && static_cast<uint32_t>(clock()) - start < kPatienceCycles);
}

/// The producer: one lane.
template <class C>
__device__ __forceinline__ void wideProduce(const DenseArguments& p, uint32_t base, const RingBarriers<C::kStages>& barriers, int rank) {
  using L = Wide<C>;
  using Order = WideOrder<C>;
  RingCursor<C::kStages> cursor;
  cursor.parity = 1;  // an empty ring
  for (int tile = blockIdx.x / C::kCluster; tile < Order::kTiles; tile += C::kBlocks / C::kCluster) {
    if (rank == 0) beginInStep<C>(tile);
    const Order order(tile);
    // Past the last rows a block repeats them, and its sums are dropped.
    const int rowTile = min(order.rowStep * C::kCluster + rank, L::kRowTiles - 1);
    const int firstGroup = order.tokenTile * L::kTileGroups;
    const int groups = min(L::kTileGroups, L::kTokenGroups - firstGroup);
    // A block's share of the tokens goes to all of its cluster.
    constexpr int kShare = L::kTileGroups / C::kCluster;
    const int skipped = min(rank * kShare, groups), mine = min(kShare, groups - skipped);
    const uint32_t bytes = groups * 1024 + L::kWeightsBytes + L::kScalesBytes;
    for (int panel = 0; panel < L::kPanels; ++panel, cursor.advance()) {
      const uint32_t stage = base + cursor.slot * L::kStageBytes, full = barriers.full(cursor.slot);
      barrierWait(barriers.empty(cursor.slot), cursor.parity);
      barrierArriveExpect(full, bytes);
      bulkCopy(stage + L::kWeightsAt, L::weightsAt(p, rowTile, panel), L::kWeightsBytes, full);
      if constexpr (L::kScaled) bulkCopy(stage + L::kScalesAt, L::scalesAt(p, rowTile, panel), L::kScalesBytes, full);
      const uint8_t* tokens = L::tokensAt(p, panel, firstGroup + skipped);
      if constexpr (C::kCluster == 1) bulkCopy(stage, tokens, mine * 1024, full);
      else if (mine > 0) bulkCopyMulticast(stage + skipped * 1024, tokens, mine * 1024, full, (1 << C::kCluster) - 1);
    }
  }
}

template <class C>
class WideConsumer {
  using L = Wide<C>;
  using T = typename L::T;
  using Sum = Accumulator<C::kWeight>;
  using Cursor = RingCursor<C::kStages>;
  static constexpr int kTokenTiles = L::kTokens / 8;

 public:
  __device__ __forceinline__ WideConsumer(const DenseArguments& arguments, uint32_t shared, const RingBarriers<C::kStages>& ring,
                                          int clusterRank)
      : p(arguments), base(shared), barriers(ring), rank(clusterRank), thread(threadIdx.x % 128), lane(threadIdx.x % 32),
        group(uniform(threadIdx.x / 128)), warp(uniform(threadIdx.x / 32 % 4)) {}

  __device__ __forceinline__ void run() {
    using Order = WideOrder<C>;
    for (int tile = blockIdx.x / C::kCluster; tile < Order::kTiles; tile += C::kBlocks / C::kCluster) {
      const Order order(tile);
      const int rowTile = order.rowStep * C::kCluster + rank;
      // What outputs need beside their sums is asked for before these, and there when they are.
      const Terms terms = fetchTerms(order.tokenTile, rowTile);
      Sum sums[kTokenTiles][4];
      if constexpr (T::kIsFp8 && !T::kIsMx) multiplyPromoted(sums);
      else if constexpr (L::kStoredOperand) multiplyStored(sums);
      else multiplyDecoded(sums);
      if (rowTile < L::kRowTiles) store(order.tokenTile, rowTile, terms, sums);
    }
    if constexpr (C::kPanelOutput) bulkStoreWait();
  }

 private:
  const DenseArguments& p;
  const uint32_t base;
  const RingBarriers<C::kStages>& barriers;
  const int rank, thread, lane;
  /// Warpgroup, and warp in it.
  const uint32_t group, warp;
  Cursor cursor;

  __device__ __forceinline__ uint32_t stage(const Cursor& at) const { return base + at.slot * L::kStageBytes; }

  /// Gives a stage back to the producers of all blocks that fill it: a warp's products of it are done. Each lane that reads weights
  /// speaks for itself (core/ring.cuh).
  __device__ __forceinline__ void giveBack(int slot) const {
    if constexpr (C::kCluster == 1) {
      if (!L::kStoredOperand || lane == 0) barrierArrive(barriers.empty(slot));
    } else if constexpr (L::kStoredOperand) {
      if (lane < C::kCluster) barrierArriveRemote(remoteAddress(barriers.empty(slot), lane));
    } else {
#pragma unroll
      for (int block = 0; block < C::kCluster; ++block) barrierArriveRemote(remoteAddress(barriers.empty(slot), block));
    }
  }

  template <class S, int kCount>
  __device__ __forceinline__ static void pinAll(S (&sums)[kCount][4]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) pin(sums[i][e]);
  }

  // ---- Multiply -------------------------------------------------------------------------------------------------------------

  __device__ __forceinline__ void multiplyStored(Sum (&sums)[kTokenTiles][4]) {
    int before = -1;
#pragma unroll 1
    for (int panel = 0; panel < L::kPanels; ++panel, cursor.advance()) {
      barrierWait(barriers.full(cursor.slot), cursor.parity);
      const uint32_t rows = panelDescriptor(stage(cursor) + L::kWeightsAt + group * 8192), tokens = panelDescriptor(stage(cursor));
      wgmmaFence();
#pragma unroll
      for (int i = 0; i < 4; ++i) wgmmaShared<Operand::kF16>(sums, rows + i * kPanelStep, tokens + i * kPanelStep, panel > 0 || i > 0);
      wgmmaCommit();
      wgmmaWait<1>();
      if (before >= 0) giveBack(before);
      before = cursor.slot;
    }
    wgmmaWait<0>();
    pinAll(sums);
    giveBack(before);
  }

  __device__ __forceinline__ void multiplyPromoted(Sum (&sums)[kTokenTiles][4]) {
    constexpr Operand kOperand = T::kIsE4m3 ? Operand::kE4m3 : Operand::kE5m2;
    /// Panels between promotions: 256 of k.
    constexpr int kSpan = 2, kHalf = kTokenTiles / 2;
#pragma unroll
    for (int i = 0; i < kTokenTiles; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i][e] = 0.0f;
#pragma unroll 1
    for (int panel = 0; panel < L::kPanels; panel += kSpan) {
      Cursor at = cursor;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Sum part[kHalf][4];
        const int panels = L::kPanels % kSpan == 0 ? kSpan : min(kSpan, L::kPanels - panel);
        if (half == 0) {
          at = cursor;
          for (int i = 0; i < panels; ++i, at.advance()) barrierWait(barriers.full(at.slot), at.parity);
        }
        at = cursor;
        wgmmaFence();
#pragma unroll
        for (int i = 0; i < kSpan; ++i) {
          if (i >= panels) break;
          const uint32_t rows = panelDescriptor(stage(at) + L::kWeightsAt + group * 8192);
          const uint32_t tokens = panelDescriptor(stage(at) + half * (L::kTokensBytes / 2));
#pragma unroll
          for (int j = 0; j < 4; ++j) wgmmaShared<kOperand>(part, rows + j * kPanelStep, tokens + j * kPanelStep, i > 0 || j > 0);
          at.advance();
        }
        wgmmaCommit();
        wgmmaWait<0>();
        pinAll(part);
        if (half == 1) {
          for (Cursor done = cursor; done.slot != at.slot; done.advance()) giveBack(done.slot);
        }
#pragma unroll
        for (int i = 0; i < kHalf; ++i)
#pragma unroll
          for (int e = 0; e < 4; ++e) sums[half * kHalf + i][e] += part[i][e];
      }
      cursor = at;
    }
  }

  /// Products along k of one panel, each of 32 bytes of a token.
  static constexpr int kSteps = 4;
  using Operands = uint32_t[kSteps][4];

  /// A warp's rows of a panel as operands.
  __device__ __forceinline__ void decode(uint32_t at, Operands& a) const {
    constexpr WeightFormat kWeight = C::kWeight;
    const uint32_t weights = at + L::kWeightsAt + (group * 4 + warp) * (L::kWeightsBytes / 8);
    if constexpr (T::kIsMx) {
#pragma unroll
      for (int unit = 0; unit < 2; ++unit) {
        uint32_t words[T::kWords];
        loadUnit<kWeight>(weights + unit * T::kUnitBytes, lane, words);
        const uint32_t scales = loadShared2(at + L::kScalesAt + ((group * 4 + warp) * 2 + unit) * 16 + lane / 4 * 2);
        uint32_t pair[2][4];
        MxBf16<kWeight>::decode(words, scales, pair);
#pragma unroll
        for (int i = 0; i < 8; ++i) a[unit * 2 + i / 4][i % 4] = pair[i / 4][i % 4];
      }
    } else {
      uint32_t words[T::kWords];
      if constexpr (T::kIsInt1) {
        const uint2 v = loadShared8(weights + lane * 8);
        words[0] = v.x, words[1] = v.y, words[2] = 0, words[3] = 0;
      } else {
        loadUnit<kWeight>(weights, lane, words);
      }
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        uint32_t pair[2][4];
        decodeStep<kWeight>(words, step, base + L::kTableAt + lane * 4, pair);
        if constexpr (L::kScaled) scalePair(at, pair);
#pragma unroll
        for (int i = 0; i < 8; ++i) a[step * 2 + i / 4][i % 4] = pair[i / 4][i % 4];
      }
    }
  }

  /// Scales of groups, which a whole panel has in common.
  __device__ __forceinline__ void scalePair(uint32_t at, uint32_t (&pair)[2][4]) const {
    static_assert(L::kPanelScales == 1);
    const uint32_t both = loadShared4(at + L::kScalesAt + (group * 4 + warp) * 32 + lane / 4 * 4);
    const __half2 rows[2] = {__half2half2(__ushort_as_half(both & 0xffff)), __half2half2(__ushort_as_half(both >> 16))};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      __half2& value = reinterpret_cast<__half2&>(pair[i / 4][i % 4]);
      value = __hmul2(value, rows[i % 2]);
    }
  }

  /// `a`: this panel's weights; `next`: those of the next one, decoded while its products run.
  __device__ __forceinline__ void multiplyPanel(int panel, Operands& a, Operands& next, int& before, Sum (&sums)[kTokenTiles][4]) {
    constexpr Operand kOperand = T::kIsInt1 ? Operand::kS8 : T::kIsMx ? Operand::kBf16 : Operand::kF16;
    const uint32_t tokens = panelDescriptor(stage(cursor));
#pragma unroll
    for (int i = 0; i < kSteps; ++i)
#pragma unroll
      for (int r = 0; r < 4; ++r) pin(a[i][r]);
    wgmmaFence();
#pragma unroll
    for (int i = 0; i < kSteps; ++i) wgmmaRegisters<kOperand>(sums, a[i], tokens + i * kPanelStep, panel > 0 || i > 0);
    wgmmaCommit();
    wgmmaWait<1>();
    if (before >= 0) giveBack(before);
    before = cursor.slot;
    cursor.advance();
    if (panel + 1 < L::kPanels) {
      barrierWait(barriers.full(cursor.slot), cursor.parity);
      decode(stage(cursor), next);
    }
  }

  __device__ __forceinline__ void multiplyDecoded(Sum (&sums)[kTokenTiles][4]) {
    Operands even, odd;
    barrierWait(barriers.full(cursor.slot), cursor.parity);
    decode(stage(cursor), even);
    int before = -1;
#pragma unroll 1
    for (int panel = 0; panel < L::kPanels; panel += 2) {
      multiplyPanel(panel, even, odd, before, sums);
      if (L::kPanels % 2 == 0 || panel + 1 < L::kPanels) multiplyPanel(panel + 1, odd, even, before, sums);
    }
    wgmmaWait<0>();
    pinAll(sums);
    giveBack(before);
  }

  // ---- Store ----------------------------------------------------------------------------------------------------------------

  __device__ __forceinline__ uint32_t tokenScalesAt() const { return base + L::kTokenScalesAt + group * (L::kTokens * 4); }
  __device__ __forceinline__ void synchronise() const { namedBarrier(1 + group, 128); }

  /// Of this thread's two rows, and of two tokens of the tile.
  struct Terms {
    RowTerms<C> rows[2];
    float tokens[L::kTokenScales ? 2 : 1];
  };

  __device__ __forceinline__ int firstChannel(int rowTile) const { return rowTile * L::kTileOutputs + group * (L::kPieces * 8); }
  __device__ __forceinline__ uint32_t buffer(int chunk) const {
    return base + L::kChunksAt + group * (2 * L::kChunkBytes) + chunk % 2 * L::kChunkBytes;
  }

  __device__ __forceinline__ Terms fetchTerms(int tokenTile, int rowTile) const {
    Terms terms;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = L::rowOf(rowTile, group * 64 + warp * 16 + i * 8 + lane / 4);
      if ((C::kN % L::kRows == 0 || row < C::kN) && rowTile < L::kRowTiles) terms.rows[i].load(p, row);
    }
    if constexpr (L::kTokenScales) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int token = tokenTile * L::kTokens + i * 128 + thread;
        terms.tokens[i] = token < C::kM ? __ldg(static_cast<const float*>(p.xScale) + token) : 0.0f;
      }
    }
    if constexpr (C::kResidual) {
      synchronise();  // all have read the outputs of the tile before
#pragma unroll
      for (int i = 0; i < 2; ++i) fetchResidual(tokenTile * L::kTokens + i * L::kChunkTokens, firstChannel(rowTile), buffer(i));
    }
    return terms;
  }

  /// The residual's part of a chunk comes to where its outputs will be.
  __device__ __forceinline__ void fetchResidual(int firstToken, int first, uint32_t chunk) const {
    constexpr int kCopies = L::kChunkTokens * L::kPieces / 128;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int at = thread + i * 128, token = firstToken + at / (8 * L::kPieces) * 8 + at % 8, channel = first + at / 8 % L::kPieces * 8;
      const __half* from = p.residual + static_cast<size_t>(token) * L::kOutputs + channel;
      if (token >= C::kM || channel >= L::kOutputs) continue;
      if constexpr (L::kOutputs % 8 == 0) {
        copyAsync16(chunk + at * 16, from);
      } else {
        for (int e = 0; e < 8 && channel + e < L::kOutputs; ++e)
          asm volatile("st.shared.u16 [%0], %1;" ::"r"(chunk + at * 16 + e * 2), "h"(__half_as_ushort(from[e])) : "memory");
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  __device__ __forceinline__ void storeRows(int firstToken, int first, uint32_t chunk) const {
    constexpr int kCopies = L::kChunkTokens * L::kPieces / 128;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int at = thread + i * 128, token = firstToken + at / (8 * L::kPieces) * 8 + at % 8, channel = first + at / 8 % L::kPieces * 8;
      if (token >= C::kM || channel >= L::kOutputs) continue;
      const uint4 v = loadShared16(chunk + at * 16);
      __half* to = p.y + static_cast<size_t>(token) * L::kOutputs + channel;
      if constexpr (L::kOutputs % 8 == 0) {
        *reinterpret_cast<uint4*>(to) = v;
      } else {
        const __half* values = reinterpret_cast<const __half*>(&v);
        for (int e = 0; e < 8 && channel + e < L::kOutputs; ++e) to[e] = values[e];
      }
    }
  }

  /// By one thread: groups of 8 tokens of the panel that this warpgroup's channels are in.
  __device__ __forceinline__ void storePanels(int firstToken, int first, uint32_t chunk) const {
    if (first >= L::kOutputs) return;
    const int groups = min(L::kChunkTokens / 8, L::kTokenGroups - firstToken / 8);
    uint8_t* to = reinterpret_cast<uint8_t*>(p.y) + (static_cast<size_t>(first / 64) * L::kTokenGroups + firstToken / 8) * 1024 +
                  first % 64 / 8 * 128;
    if constexpr (L::kPieces == 8) {
      bulkStore(to, chunk, groups * 1024);
    } else {
      for (int i = 0; i < groups; ++i) bulkStore(to + i * 1024, chunk + i * L::kPieces * 128, L::kPieces * 128);
    }
    bulkStoreCommit();
  }

  __device__ __forceinline__ void store(int tokenTile, int rowTile, const Terms& terms, Sum (&sums)[kTokenTiles][4]) const {
    const int firstToken = tokenTile * L::kTokens, channel = firstChannel(rowTile);
    const int chunks = min(L::kChunks, (C::kM - firstToken + L::kChunkTokens - 1) / L::kChunkTokens);
    if constexpr (L::kTokenScales) {
#pragma unroll
      for (int i = 0; i < 2; ++i)
        asm volatile("st.shared.f32 [%0], %1;" ::"r"(tokenScalesAt() + (i * 128 + thread) * 4), "f"(terms.tokens[i]) : "memory");
    }
#pragma unroll
    for (int i = 0; i < L::kChunks; ++i) {
      if (i >= chunks) break;
      const int chunkToken = firstToken + i * L::kChunkTokens;
      const uint32_t chunk = buffer(i);
      if constexpr (C::kResidual) {
        if (i + 1 < L::kChunks) asm volatile("cp.async.wait_group 1;" ::: "memory");
        else asm volatile("cp.async.wait_group 0;" ::: "memory");
      }
      // What the buffer held before has been read.
      if constexpr (C::kPanelOutput) {
        if (thread == 0) bulkStoreWaitRead<1>();
      }
      synchronise();
      fill(i, chunk, terms.rows, sums);
      if constexpr (C::kPanelOutput) {
        fenceAsyncProxy();
        synchronise();
        if (thread == 0) storePanels(chunkToken, channel, chunk);
      } else {
        synchronise();
        storeRows(chunkToken, channel, chunk);
        if constexpr (C::kResidual) {
          synchronise();
          if (i + 2 < L::kChunks) fetchResidual(chunkToken + 2 * L::kChunkTokens, channel, chunk);
        }
      }
    }
  }

  /// A chunk's outputs as core matrices: [8 tokens each][pieces][8 tokens][8 channels].
  __device__ __forceinline__ void fill(int index, uint32_t chunk, const RowTerms<C> (&terms)[2], Sum (&sums)[kTokenTiles][4]) const {
    constexpr int kPiecesPerWarp = L::kPieces / 4, kGroupsAtOnce = 4 / kPiecesPerWarp;
#pragma unroll
    for (int first = 0; first < L::kChunkTokens / 8; first += kGroupsAtOnce) {
      // Matrix i: group first + i / kPiecesPerWarp, piece warp · kPiecesPerWarp + i % kPiecesPerWarp.
      const int matrix = lane / 8;
      const uint32_t row =
          chunk + ((first + matrix / kPiecesPerWarp) * L::kPieces + warp * kPiecesPerWarp + matrix % kPiecesPerWarp) * 128 + lane % 8 * 16;
      uint32_t matrices[4], residual[4] = {};
      if constexpr (C::kResidual) loadMatricesTransposed(row, residual);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int tokens = index * (L::kChunkTokens / 8) + first + i / kPiecesPerWarp;
        // Functions of later sums are not begun before, which would take more registers than there are.
#pragma unroll
        for (int e = 0; e < 4; ++e) pin(sums[tokens][e]);
        float2 scale = make_float2(L::kSumScale, L::kSumScale);
        if constexpr (L::kTokenScales) {
          const uint2 v = loadShared8(tokenScalesAt() + tokens * 32 + lane % 4 * 8);
          scale = make_float2(__uint_as_float(v.x) * L::kSumScale, __uint_as_float(v.y) * L::kSumScale);
        }
        const float2 more = __half22float2(*reinterpret_cast<const __half2*>(&residual[i]));
        const auto value = [&](int half, int token) {
          return terms[half].apply(static_cast<float>(sums[tokens][half * 2 + token]), token == 0 ? scale.x : scale.y);
        };
        __half2 pair;
        if constexpr (L::kSilu)
          pair = __halves2half2(finish<C>(value(0, 0), value(1, 0), more.x), finish<C>(value(0, 1), value(1, 1), more.y));
        else pair = __halves2half2(finish<C>(value(i % 2, 0), 0.0f, more.x), finish<C>(value(i % 2, 1), 0.0f, more.y));
        matrices[i] = *reinterpret_cast<const uint32_t*>(&pair);
      }
      storeMatricesTransposed(row, matrices);
    }
  }
};

#endif

/// Launched with kBlocks blocks of Wide<C>::kBlockThreads, in clusters of kCluster, and Wide<C>::kSharedBytes of shared memory.
template <class C>
__device__ __forceinline__ void wide(const DenseArguments& p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using L = Wide<C>;
  static_assert(C::kBlocks % C::kCluster == 0 && (C::kCluster == 1 || C::kCluster == 2));
  // FP8's stages come back by twos, and a residual is fetched for outputs in rows alone.
  static_assert(C::kStages >= (L::kStoredOperand && L::T::kIsFp8 ? 3 : 2) && !(C::kPanelOutput && C::kResidual));
  extern __shared__ __align__(1024) uint8_t shared[];
  const uint32_t base = sharedAddress(shared);
  const RingBarriers<C::kStages> barriers{base + L::kBarriersAt};
  const int rank = blockIdx.x % C::kCluster;
  launchDependents();
  if (threadIdx.x == 0) barriers.init(1, (L::kStoredOperand ? L::kConsumers / 32 : L::kConsumers) * C::kCluster);
  if constexpr (C::kWeight == WeightFormat::kNf4)
    fillNf4Table(base + L::kTableAt, threadIdx.x / 32, L::kBlockThreads / 32, threadIdx.x % 32);
  __syncthreads();
  if constexpr (C::kCluster > 1) clusterBarrier();
  waitForPrerequisites();
  if (threadIdx.x < L::kConsumers) {
    takeRegisters<L::kConsumerRegisters>();
    WideConsumer<C>(p, base, barriers, rank).run();
  } else {
    giveRegisters<L::kProducerRegisters>();
    if (threadIdx.x == L::kConsumers) wideProduce<C>(p, base, barriers, rank);
    __syncwarp();
  }
  // Others of the cluster may still write here.
  if constexpr (C::kCluster > 1) clusterBarrier();
#else
  __trap();
#endif
}

}  // namespace ladder
