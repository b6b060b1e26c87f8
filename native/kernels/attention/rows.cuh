// Attention that reads and writes rows: y = softmax(q·kᵀ/√d)·v per head, all keys of the query's sequence, no positions; for products
// that store rows. By mma.sync and cp.async. Design: Dao 2023 (FlashAttention-2). Operator: lib/operators/attention.ts.
//
//   qkv float16 [batch·seq, (heads + 2·kvHeads)·d]     y float16 [batch·seq, heads·d]     d 64 or 128
//
// A block takes kWarps · kTiles · 16 queries of one head, a warp kTiles tiles of 16 of them, whose operands of keys and values it shares:
// ldmatrix, not the tensor cores, sets the pace of one tile. Keys and values come in blocks of 64 rows, two in turn: one is multiplied
// while the next one is on its way.
//
//   wait for block j; fetch block j + 1; s = q · kᵀ; weigh s (the softmax); o = o · factor + p · v
//
// Shared memory: per stage [keys] [values], 64 rows of 2·d bytes, pieces of 16 bytes permuted so that eight rows of one piece, which
// ldmatrix reads at once, lie in different banks:   piece p of row r at r·2·d + (p ^ r % 8)·16
//
// C: kBatch, kSeq, kHeads, kKvHeads, kHeadDim, kOrder, kPosition, kWarps, kTiles. Grid: kBlocks, tiles of a head side by side.
// Architectures: sm_80 and up. Tests: test/unit/attention-rows.test.ts, test/gpu/attention-rows.test.ts.
#pragma once
#include "attention/flash/rows.cuh"
#include "attention/operator.cuh"
#include "core/ptx.cuh"

namespace ladder {

template <class C>
struct AttentionRows {
  static constexpr int kDim = C::kHeadDim, kPieces = kDim / 8, kSteps = kDim / 16;
  static constexpr int kThreads = 32 * C::kWarps, kQueries = 16 * C::kTiles * C::kWarps, kKeys = 64;
  static constexpr int kKeyBlocks = (C::kSeq + kKeys - 1) / kKeys;
  static constexpr int kPerHead = (C::kSeq + kQueries - 1) / kQueries;
  static constexpr int kBlocks = kPerHead * C::kHeads * C::kBatch;
  static constexpr int kStages = kKeyBlocks == 1 ? 1 : 2;
  static constexpr int kBlockBytes = kKeys * kDim * 2;  // keys, or values
  static constexpr int kSharedBytes = kStages * 2 * kBlockBytes;
  static_assert(kDim == 64 || kDim == 128, "head of 64 or 128");
  static_assert(C::kPosition == Position::kNone && (C::kTiles == 1 || C::kTiles == 2));
  static_assert(kKeys * kPieces % kThreads == 0);

  __device__ __forceinline__ static uint32_t place(int row, int piece) { return row * (2 * kDim) + (piece ^ row % 8) * 16; }
};

/// copyAsync16, or 16 zeros.
__device__ __forceinline__ void copyRowAsync16(uint32_t shared, const void* global, bool copy) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(copy ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copyRowsWait() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// loadMatrices, each matrix transposed.
__device__ __forceinline__ void loadRowsTransposed(uint32_t row, uint32_t (&r)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row));
}

/// Launched with kBlocks blocks of kThreads and kSharedBytes of shared memory.
template <class C>
__device__ __forceinline__ void attentionRowsKernel(const void* qkv, void* y) {
  using L = AttentionRows<C>;
  using S = AttentionShape<C>;
  constexpr int kScores = L::kKeys / 8;
  extern __shared__ __align__(128) uint8_t memory[];
  launchDependents();
  waitForPrerequisites();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int head = blockIdx.x / L::kPerHead % C::kHeads;
  const int64_t firstRow = static_cast<int64_t>(blockIdx.x / (L::kPerHead * C::kHeads)) * C::kSeq;
  const int firstQuery = blockIdx.x % L::kPerHead * L::kQueries + warp * (16 * C::kTiles);  // of the warp, in the sequence
  const __half* rows = static_cast<const __half*>(qkv) + firstRow * S::kRowWidth;
  const uint32_t shared = sharedAddress(memory);

  const auto fetch = [&](int block) {
    const uint32_t stage = shared + block % L::kStages * (2 * L::kBlockBytes);
#pragma unroll
    for (int i = 0; i < L::kKeys * L::kPieces / L::kThreads; ++i) {
      const int at = i * L::kThreads + threadIdx.x, row = at / L::kPieces, piece = at % L::kPieces;
      const int key = block * L::kKeys + row;
      const bool inside = key < C::kSeq;
      const __half* source = rows + static_cast<int64_t>(inside ? key : 0) * S::kRowWidth + piece * 8;
      copyRowAsync16(stage + L::place(row, piece), source + S::column(Part::kKey, head), inside);
      copyRowAsync16(stage + L::kBlockBytes + L::place(row, piece), source + S::column(Part::kValue, head), inside);
    }
  };
  fetch(0);

  // Operand A of m16n8k16: lane l has rows l/4 and l/4 + 8 and of each piece channels 2·(l%4) and the next one.
  uint32_t q[C::kTiles][L::kSteps][4];
#pragma unroll
  for (int tile = 0; tile < C::kTiles; ++tile) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int query = min(firstQuery + tile * 16 + h * 8 + lane / 4, C::kSeq - 1);
      const __half* base = rows + static_cast<int64_t>(query) * S::kRowWidth + S::column(Part::kQuery, head) + lane % 4 * 2;
#pragma unroll
      for (int piece = 0; piece < L::kPieces; ++piece)
        q[tile][piece / 2][piece % 2 * 2 + h] = __ldcg(reinterpret_cast<const uint32_t*>(base + piece * 8));
    }
  }

  FlashSoftmax<C> softmax[2] = {FlashSoftmax<C>(head), FlashSoftmax<C>(head)};  // one per tile
  float o[C::kTiles][L::kPieces][4] = {};
  for (int block = 0; block < L::kKeyBlocks; ++block) {
    copyRowsWait();
    __syncthreads();
    if (block + 1 < L::kKeyBlocks) fetch(block + 1);
    const uint32_t keys = shared + block % L::kStages * (2 * L::kBlockBytes), values = keys + L::kBlockBytes;

    // Lane l names row l%8 of a matrix: two groups of keys × two pieces, pieces first.
    float s[C::kTiles][kScores][4] = {};
#pragma unroll
    for (int step = 0; step < L::kSteps; ++step) {
#pragma unroll
      for (int i = 0; i < kScores / 2; ++i) {
        uint32_t k[4];
        loadMatrices(keys + L::place(16 * i + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2), k);
#pragma unroll
        for (int tile = 0; tile < C::kTiles; ++tile) {
          mmaFp16(s[tile][2 * i], q[tile][step], k[0], k[1]);
          mmaFp16(s[tile][2 * i + 1], q[tile][step], k[2], k[3]);
        }
      }
    }
    // Keys past the sequence, which are zeros, weigh nothing.
    if (C::kSeq % L::kKeys != 0 && block + 1 == L::kKeyBlocks) {
      constexpr int kLast = C::kSeq % L::kKeys;
#pragma unroll
      for (int i = 0; i < kScores; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if (8 * i + lane % 4 * 2 + e % 2 < kLast) continue;
#pragma unroll
          for (int tile = 0; tile < C::kTiles; ++tile) s[tile][i][e] = -INFINITY;
        }
      }
    }
    uint32_t p[C::kTiles][kScores / 2][4];
#pragma unroll
    for (int tile = 0; tile < C::kTiles; ++tile) {
      float factor[2];
      softmax[tile].weigh(s[tile], 0, lane, factor);
      if (L::kKeyBlocks > 1) rescale(o[tile], factor);
#pragma unroll
      for (int step = 0; step < kScores / 2; ++step) packWeights(p[tile][step], s[tile][2 * step], s[tile][2 * step + 1]);
    }
    // Transposed: two groups of tokens × two pieces, tokens first.
#pragma unroll
    for (int step = 0; step < kScores / 2; ++step) {
#pragma unroll
      for (int i = 0; i < L::kPieces / 2; ++i) {
        uint32_t v[4];
        loadRowsTransposed(values + L::place(16 * step + lane / 8 % 2 * 8 + lane % 8, 2 * i + lane / 16), v);
#pragma unroll
        for (int tile = 0; tile < C::kTiles; ++tile) {
          mmaFp16(o[tile][2 * i], p[tile][step], v[0], v[1]);
          mmaFp16(o[tile][2 * i + 1], p[tile][step], v[2], v[3]);
        }
      }
    }
  }

#pragma unroll
  for (int tile = 0; tile < C::kTiles; ++tile) {
    float inverse[2];
    softmax[tile].finish(inverse);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int query = firstQuery + tile * 16 + h * 8 + lane / 4;
      if (query >= C::kSeq) continue;
      __half* target = static_cast<__half*>(y) + ((firstRow + query) * C::kHeads + head) * L::kDim + lane % 4 * 2;
#pragma unroll
      for (int piece = 0; piece < L::kPieces; ++piece)
        *reinterpret_cast<uint32_t*>(target + piece * 8) =
            packHalf2(o[tile][piece][2 * h] * inverse[h], o[tile][piece][2 * h + 1] * inverse[h]);
    }
  }
}

}  // namespace ladder
