// Attention of few tokens of one sequence before the first product of chain.cuh: each block of the cluster has a head, for the queries of
// the cluster's rows and the keys and values of all tokens. softmax(q · kᵀ / 8) · v, by mma.sync, in four steps between which all threads
// wait: the block is given q, k and v by its threads, warps have eight keys each, then rows, then eight channels each.
//
//   shared memory:  | q: kRows rows | k, v: kKeys rows each | weights: kRows rows | scores |      rows of float16 of kPitch bytes
//   (results take q's place; past the last token keys are zeros, and weigh nothing)
//
// G: kM tokens, kRows, kWarps, kHeads. Heads of 64, no positions, no mask.
#pragma once
#include "core/ptx.cuh"
#include "core/reduce.cuh"

namespace ladder {

template <class G>
struct ChainAttention {
  static constexpr int kDim = 64, kPieces = kDim / 8, kKeys = (G::kM + 31) / 32 * 32, kRowEights = 3 * G::kHeads * kPieces;
  static constexpr int kPitch = kDim * 2 + 16, kWeightPitch = kKeys * 2 + 16, kScorePitch = kKeys * 4 + 16;
  static constexpr int kKeysAt = G::kRows * kPitch, kValuesAt = kKeysAt + kKeys * kPitch, kWeightsAt = kValuesAt + kKeys * kPitch;
  static constexpr int kScoresAt = kWeightsAt + G::kRows * kWeightPitch, kBytes = kScoresAt + G::kRows * kScorePitch;

  /// Where eight channels of a row of the results are.
  __device__ __forceinline__ static uint32_t placeOf(uint32_t base, int ofCluster, int eight) {
    return base + ofCluster * kPitch + eight * 16;
  }

  /// @param qkv rows of all heads' q, then k, then v; @param row the cluster's first
  __device__ __forceinline__ static void run(const __half* qkv, uint32_t base, int row, int head) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    copy(qkv, base, row, head);
    __syncthreads();
    for (int task = warp; task < G::kRows / 16 * (kKeys / 8); task += G::kWarps) {
      const int rows = task % (G::kRows / 16) * 16, keys = task / (G::kRows / 16) * 8;
      float sums[4] = {};
      uint32_t b[2][4];
#pragma unroll
      for (int half = 0; half < 2; ++half) loadMatrices(base + kKeysAt + (keys + lane % 8) * kPitch + (half * 4 + lane / 8) * 16, b[half]);
#pragma unroll
      for (int step = 0; step < kDim / 16; ++step) {
        uint32_t a[4];
        loadMatrices(base + (rows + lane % 16) * kPitch + (step * 2 + lane / 16) * 16, a);
        mmaFp16(sums, a, b[step / 2][step % 2 * 2], b[step / 2][step % 2 * 2 + 1]);
      }
      const uint32_t to = base + kScoresAt + (rows + lane / 4) * kScorePitch + (keys + lane % 4 * 2) * 4;
#pragma unroll
      for (int half = 0; half < 2; ++half)
        asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to + half * 8 * kScorePitch), "f"(sums[half * 2]), "f"(sums[half * 2 + 1])
                     : "memory");
    }
    __syncthreads();
    weigh(base, warp, lane);
    __syncthreads();
    for (int task = warp; task < G::kRows / 16 * kPieces; task += G::kWarps) {
      const int rows = task % (G::kRows / 16) * 16, piece = task / (G::kRows / 16);
      float sums[4] = {};
#pragma unroll
      for (int step = 0; step < kKeys / 16; ++step) {
        uint32_t a[4], b[2];
        loadMatrices(base + kWeightsAt + (rows + lane % 16) * kWeightPitch + (step * 2 + lane / 16) * 16, a);
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                     : "=r"(b[0]), "=r"(b[1])
                     : "r"(base + kValuesAt + (step * 16 + lane % 16) * kPitch + piece * 16));
        mmaFp16(sums, a, b[0], b[1]);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const __half2 pair = __floats2half2_rn(sums[half * 2], sums[half * 2 + 1]);
        asm volatile("st.shared.u32 [%0], %1;" ::"r"(placeOf(base, rows + lane / 4 + half * 8, piece) + lane % 4 * 4),
                     "r"(*reinterpret_cast<const uint32_t*>(&pair))
                     : "memory");
      }
    }
    __syncthreads();
  }

 private:
  /// A head's q from `row` on, all of its k and v, zeros past the last token: all loads before the first store.
  __device__ __forceinline__ static void copy(const __half* qkv, uint32_t to, int row, int head) {
    constexpr int kThreads = G::kWarps * 32, kRows = G::kRows + 2 * kKeys, kOfThread = (kRows * kPieces + kThreads - 1) / kThreads;
    uint4 pieces[kOfThread];
#pragma unroll
    for (int i = 0; i < kOfThread; ++i) {
      const int line = (threadIdx.x + i * kThreads) / kPieces, which = line < G::kRows ? 0 : 1 + (line - G::kRows) / kKeys;
      const int token = which == 0 ? row + line : (line - G::kRows) % kKeys;
      const uint4* const from = reinterpret_cast<const uint4*>(qkv) + static_cast<size_t>(token) * kRowEights +
                                (which * G::kHeads + head) * kPieces + threadIdx.x % kPieces;
      pieces[i] = line < kRows && token < G::kM ? __ldcg(from) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < kOfThread; ++i) {
      const int line = (threadIdx.x + i * kThreads) / kPieces;
      if (kRows * kPieces % kThreads == 0 || line < kRows) storeShared16(to + line * kPitch + threadIdx.x % kPieces * 16, pieces[i]);
    }
  }

  /// Scores to weights that add up to one.
  __device__ __forceinline__ static void weigh(uint32_t base, int warp, int lane) {
    constexpr int kOfLane = kKeys / 16;
    constexpr float kScale = 1.4426950408889634f / 8;  // log2(e) / √64
    // Half a warp for a row.
    for (int row = warp * 2 + lane / 16; row < G::kRows; row += G::kWarps * 2) {
      float weights[kOfLane], most = -INFINITY, sum = 0.0f;
#pragma unroll
      for (int i = 0; i < kOfLane; ++i) {
        const int key = lane % 16 + i * 16;
        weights[i] = key < G::kM ? __uint_as_float(loadShared4(base + kScoresAt + row * kScorePitch + key * 4)) * kScale : -INFINITY;
        most = fmaxf(most, weights[i]);
      }
      most = warpReduce<16>(most, Max{});
#pragma unroll
      for (int i = 0; i < kOfLane; ++i) {
        asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(weights[i]) : "f"(weights[i] - most));
        sum += weights[i];
      }
      const float inverse = __fdividef(1.0f, warpReduce<16>(sum, Add{}));
#pragma unroll
      for (int i = 0; i < kOfLane; ++i)
        asm volatile("st.shared.u16 [%0], %1;" ::"r"(base + kWeightsAt + row * kWeightPitch + (lane % 16 + i * 16) * 2),
                     "h"(__half_as_ushort(__float2half_rn(weights[i] * inverse)))
                     : "memory");
    }
  }
};

}  // namespace ladder
