// Attention of rows.cuh by wgmma, on sm_90a: the same operands and results, heads of 64. Warpgroups take 64 queries each of one head;
// all threads copy keys and values, by cp.async, into a ring that goes on from one tile of queries to the next without a break.
// Designs: Shah et al. 2024 (FlashAttention-3), whose order of products this is: for each block of keys j a warpgroup
//
//   issues s = q · k(j)ᵀ, then o += p · v(j − 1)
//   copies its part of a later block
//   waits for s; weighs it (the softmax), under p · v(j − 1)
//   waits for o; gives block j − 1 back; packs the new weights p, scales o
//
// Four warpgroups on a multiprocessor, of one block or of two, drift apart by themselves, so that some multiply while others weigh; two
// alone take turns, as in attention/flash. Queries stay in registers; the next tile's are on their way while the last product runs.
//
// Shared memory: kStages · ([keys] [values]), kKeys rows of 128 bytes each, swizzled as core/wgmma.cuh says; then the ring's barriers.
// Of keys wgmma contracts what is contiguous, channels; of values what is not, tokens: its transposed operand, of the same descriptor.
//
//   full[s]   every thread's copies of stage s have landed          empty[s]   every warp's products have read it
//
// A thread copies kAhead blocks ahead of the one that it multiplies, so warps may be kStages − kAhead blocks apart.
//
// C: kBatch, kSeq, kHeads, kKvHeads, kHeadDim = 64, kOrder, kPosition = kNone, kGroups, kKeys (64 or 128), kResident blocks of a
// multiprocessor. Grid: kBlocks or fewer, which loop over tiles. Tests: as rows.cuh.
#pragma once
#include "attention/flash/rows.cuh"
#include "attention/operator.cuh"
#include "core/copy_async.cuh"
#include "core/ring.cuh"
#include "core/wgmma.cuh"

namespace ladder {

template <class C>
struct AttentionGroups {
  static constexpr int kDim = C::kHeadDim, kPieces = kDim / 8, kSteps = kDim / 16;
  static constexpr int kThreads = 128 * C::kGroups, kQueries = 64 * C::kGroups;
  static constexpr int kKeyBlocks = (C::kSeq + C::kKeys - 1) / C::kKeys;
  static constexpr int kPerHead = (C::kSeq + kQueries - 1) / kQueries;
  static constexpr int kTiles = kPerHead * C::kHeads * C::kBatch;
  static constexpr int kProcessors = 132;
  static constexpr int kBlocks = kTiles < kProcessors * C::kResident ? kTiles : kProcessors * C::kResident;
  static constexpr int kRowBytes = 2 * kDim, kBlockBytes = C::kKeys * kRowBytes;  // keys, or values
  static constexpr int kStageBytes = 2 * kBlockBytes;
  /// 227 KiB for one block, half of 228 less what each takes beside its own for two.
  static constexpr int kLimitBytes = 228 * 1024 / C::kResident - 1024;
  static constexpr int kStages = kLimitBytes / (kStageBytes + 16), kAhead = (kStages + 1) / 2;
  static constexpr int kBarriersAt = kStages * kStageBytes;
  static constexpr int kSharedBytes = kBarriersAt + RingBarriers<kStages>::kBytes;
  /// Whether two warpgroups, alone on their multiprocessor, take turns.
  static constexpr bool kTurns = C::kGroups * C::kResident == 2;
  static_assert(kDim == 64 && C::kPosition == Position::kNone, "head of 64 without positions");
  static_assert(C::kKeys == 64 || C::kKeys == 128);
  static_assert(C::kGroups == 2 || C::kGroups == 4, "a pass of all threads copies whole groups of 8 rows");
  static_assert(kStages - kAhead >= 3, "a warpgroup holds two blocks, and one may be a block ahead of another");
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// o += p · v, 16 tokens: `values` is the lower half of their descriptor (wgmmaDescriptor), the operand transposed.
__device__ __forceinline__ void multiplyRowValues(float (&o)[8][4], const uint32_t (&p)[4], uint32_t values) {
  // clang-format off
#define LADDER_O(j) "+f"(o[j][0]), "+f"(o[j][1]), "+f"(o[j][2]), "+f"(o[j][3])
  asm volatile(
      "{\n.reg .b64 b;\nmov.b64 b, {%36, %37};\nwgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
      "{%32,%33,%34,%35}, b, 1, 1, 1, 1;\n}"
      : LADDER_O(0), LADDER_O(1), LADDER_O(2), LADDER_O(3), LADDER_O(4), LADDER_O(5), LADDER_O(6), LADDER_O(7)
      : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "r"(values), "n"(kWgmmaDescriptor));
#undef LADDER_O
  // clang-format on
}

/// How a thread feeds the ring: the same piece of some rows of each block of keys, and of values.
template <class C>
struct AttentionRowsFeed {
  using L = AttentionGroups<C>;
  using S = AttentionShape<C>;
  static constexpr int kRowStep = L::kThreads / L::kPieces;  // between two copies of a thread
  static_assert(C::kKeys % kRowStep == 0 && kRowStep % 8 == 0);
  const __half* qkv;
  const RingBarriers<L::kStages> ring;
  const uint32_t shared;  // the first stage's place of this thread's first copy
  RingCursor<L::kStages> cursor;
  int tile = blockIdx.x, block = 0;
  const __half* keys;
  int toValues;

  __device__ __forceinline__ AttentionRowsFeed(const __half* rows, const RingBarriers<L::kStages>& barriers, uint32_t firstStage)
      : qkv(rows), ring(barriers), shared(firstStage + swizzledPiece(threadIdx.x / L::kPieces, threadIdx.x % L::kPieces)) {
    enterTile();
  }

  /// The next block, if there is one.
  __device__ __forceinline__ void copy() {
    if (tile >= L::kTiles) return;
    barrierWait(ring.empty(cursor.slot), cursor.parity ^ 1);
    const uint32_t target = shared + cursor.slot * L::kStageBytes;
    const int first = block * C::kKeys + threadIdx.x / L::kPieces;
#pragma unroll
    for (int i = 0; i < C::kKeys / kRowStep; ++i) {
      const int key = first + i * kRowStep;
      const bool inside = C::kSeq % C::kKeys == 0 || key < C::kSeq;
      const __half* source = keys + static_cast<int64_t>(inside ? key : 0) * S::kRowWidth;
      copyOrZero<16>(target + i * kRowStep * L::kRowBytes, source, inside);
      copyOrZero<16>(target + L::kBlockBytes + i * kRowStep * L::kRowBytes, source + toValues, inside);
    }
    copyAsyncArrive(ring.full(cursor.slot));
    cursor.advance();
    if (++block == L::kKeyBlocks) {
      block = 0, tile += gridDim.x;
      if (tile < L::kTiles) enterTile();
    }
  }

 private:
  __device__ __forceinline__ void enterTile() {
    const int head = tile / L::kPerHead % C::kHeads;
    const int64_t firstRow = static_cast<int64_t>(tile / (L::kPerHead * C::kHeads)) * C::kSeq;
    const __half* rows = qkv + firstRow * S::kRowWidth;
    keys = rows + S::column(Part::kKey, head) + threadIdx.x % L::kPieces * 8;
    toValues = S::column(Part::kValue, head) - S::column(Part::kKey, head);
    // Queries wait in L2 for their turn.
    const int query = tile % L::kPerHead * L::kQueries + threadIdx.x;
    if (threadIdx.x < L::kQueries && query < C::kSeq)
      prefetchL2(rows + static_cast<int64_t>(query) * S::kRowWidth + S::column(Part::kQuery, head));
  }
};

/// A warp's 16 queries of a tile.
template <class C>
struct AttentionRowsTile {
  using L = AttentionGroups<C>;
  using S = AttentionShape<C>;
  int head, query;  // the lane's first one, in its sequence
  int64_t firstRow;

  __device__ __forceinline__ AttentionRowsTile(int tile, int warp, int lane)
      : head(tile / L::kPerHead % C::kHeads), query(tile % L::kPerHead * L::kQueries + warp * 16 + lane / 4),
        firstRow(static_cast<int64_t>(tile / (L::kPerHead * C::kHeads)) * C::kSeq) {}

  /// As operand A: rows past the sequence as its last.
  __device__ __forceinline__ void load(uint32_t (&q)[L::kSteps][4], const __half* qkv, int lane) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = C::kSeq % L::kQueries == 0 ? query + 8 * h : min(query + 8 * h, C::kSeq - 1);
      const __half* base = qkv + (firstRow + row) * S::kRowWidth + S::column(Part::kQuery, head) + lane % 4 * 2;
#pragma unroll
      for (int piece = 0; piece < L::kPieces; ++piece)
        q[piece / 2][piece % 2 * 2 + h] = __ldcg(reinterpret_cast<const uint32_t*>(base + piece * 8));
    }
  }

  __device__ __forceinline__ void store(__half* y, const float (&o)[L::kPieces][4], const float (&inverse)[2], int lane) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (C::kSeq % L::kQueries != 0 && query + 8 * h >= C::kSeq) continue;
      __half* target = y + ((firstRow + query + 8 * h) * C::kHeads + head) * L::kDim + lane % 4 * 2;
#pragma unroll
      for (int piece = 0; piece < L::kPieces; ++piece)
        *reinterpret_cast<uint32_t*>(target + piece * 8) = packHalf2(o[piece][2 * h] * inverse[h], o[piece][2 * h + 1] * inverse[h]);
    }
  }
};

/// All tiles of a block, by all of its threads.
template <class C>
__device__ __forceinline__ void attentionGroups(const __half* qkv, __half* y, uint32_t shared) {
  using L = AttentionGroups<C>;
  using Tile = AttentionRowsTile<C>;
  constexpr int kScores = C::kKeys / 8, kTurn = 1;  // named barriers kTurn + group
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = uniform(threadIdx.x / 128);
  const RingBarriers<L::kStages> ring{shared + L::kBarriersAt};
  AttentionRowsFeed<C> feed(qkv, ring, shared);
  for (int i = 0; i < L::kAhead; ++i) feed.copy();
  RingCursor<L::kStages> keyCursor, valueCursor;
  const uint32_t firstKeys = wgmmaDescriptor(shared), firstValues = wgmmaDescriptor(shared + L::kBlockBytes);

  const auto multiplyByKeys = [&](float (&s)[kScores][4], const uint32_t (&q)[L::kSteps][4]) {
    barrierWait(ring.full(keyCursor.slot), keyCursor.parity);
    fenceAsyncProxy();
    if constexpr (L::kTurns) namedBarrier(kTurn + group, L::kThreads);
    const uint32_t keys = firstKeys + keyCursor.slot * (L::kStageBytes >> 4);
    wgmmaFence();
#pragma unroll
    for (int step = 0; step < L::kSteps; ++step) {
#pragma unroll
      for (int part = 0; part < C::kKeys / 64; ++part)
        wgmma<false>(reinterpret_cast<float (&)[8][4]>(s[8 * part]), q[step],
                     keys + (part * 64 * L::kRowBytes + step * kWgmmaStepBytes) / 16, step > 0);
    }
    wgmmaCommit();
    keyCursor.advance();
  };
  const auto multiplyByValues = [&](float (&o)[L::kPieces][4], const uint32_t (&p)[kScores / 2][4]) {
    const uint32_t values = firstValues + valueCursor.slot * (L::kStageBytes >> 4);
    wgmmaFence();
#pragma unroll
    for (int step = 0; step < kScores / 2; ++step) multiplyRowValues(o, p[step], values + step * 16 * L::kRowBytes / 16);
    wgmmaCommit();
  };
  const auto giveTurn = [&] {
    if constexpr (L::kTurns) asm volatile("bar.arrive %0, %1;" ::"r"(kTurn + (group ^ 1)), "r"(L::kThreads) : "memory");
  };
  const auto giveBack = [&] {
    if (lane == 0) barrierArrive(ring.empty(valueCursor.slot));
    valueCursor.advance();
  };
  const auto pinAll = [](auto& registers) {
#pragma unroll
    for (auto& some : registers) {
#pragma unroll
      for (auto& one : some) pin(one);
    }
  };
  const auto pack = [](uint32_t (&p)[kScores / 2][4], const float (&s)[kScores][4]) {
#pragma unroll
    for (int step = 0; step < kScores / 2; ++step) packWeights(p[step], s[2 * step], s[2 * step + 1]);
  };

  int number = blockIdx.x;
  Tile tile(number, warp, lane);
  uint32_t q[L::kSteps][4];
  tile.load(q, qkv, lane);
  if (L::kTurns && group == 1) giveTurn();
  while (true) {
    FlashSoftmax<C> softmax(tile.head);
    float s[kScores][4], o[L::kPieces][4], factor[2];
    uint32_t p[kScores / 2][4];
    const auto weigh = [&](int block) {
      // Keys past the sequence, which are zeros, weigh nothing.
      if (C::kSeq % C::kKeys != 0 && block + 1 == L::kKeyBlocks) {
#pragma unroll
        for (int i = 0; i < kScores; ++i) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            if (8 * i + lane % 4 * 2 + e % 2 >= C::kSeq % C::kKeys) s[i][e] = -INFINITY;
          }
        }
      }
      softmax.weigh(s, 0, lane, factor);
    };

    multiplyByKeys(s, q);
    giveTurn();
    feed.copy();
    wgmmaWait<0>();
    pinAll(s);
    weigh(0);
    pack(p, s);
#pragma unroll
    for (auto& sums : o) sums[0] = sums[1] = sums[2] = sums[3] = 0.0f;
    pinAll(o);
#pragma unroll 1
    for (int block = 1; block < L::kKeyBlocks; ++block) {
      multiplyByKeys(s, q);
      multiplyByValues(o, p);
      giveTurn();
      feed.copy();
      wgmmaWait<1>();
      pinAll(s);
      weigh(block);
      wgmmaWait<0>();
      pinAll(o);
      pinAll(p);
      giveBack();
      pack(p, s);
      rescale(o, factor);
    }
    multiplyByValues(o, p);

    const Tile done = tile;
    number += gridDim.x;
    const bool more = number < L::kTiles;
    if (more) {
      tile = Tile(number, warp, lane);
      tile.load(q, qkv, lane);
    }
    wgmmaWait<0>();
    pinAll(o);
    pinAll(p);
    giveBack();
    float inverse[2];
    softmax.finish(inverse);
    done.store(y, o, inverse, lane);
    if (!more) break;
  }
}
#endif

/// Launched with kBlocks blocks of kThreads and kSharedBytes of shared memory.
template <class C>
__device__ __forceinline__ void attentionGroupsKernel(const void* qkv, void* y) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using L = AttentionGroups<C>;
  extern __shared__ __align__(1024) uint8_t stages[];
  const uint32_t shared = sharedAddress(stages);
  launchDependents();
  if (threadIdx.x == 0) RingBarriers<L::kStages>{shared + L::kBarriersAt}.init(L::kThreads, 4 * C::kGroups);
  __syncthreads();
  waitForPrerequisites();
  attentionGroups<C>(static_cast<const __half*>(qkv), static_cast<__half*>(y), shared);
#endif
}

}  // namespace ladder
