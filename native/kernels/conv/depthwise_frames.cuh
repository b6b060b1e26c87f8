// depthwise.cuh's convolutions over frames, on tensor cores: of each channel a product of its frames with the taps, as a banded matrix.
// Operands and results as there, FP32 sums; stride 1.
//
//   y[8·i + n] = Σ k  A[i][k] · B[k][n]      A[i][k] = x[8·i + k − padding]      B[k][n] = w[k − n], zero outside of the taps
//
// By mma.sync m16n8k16 and, for what is left, k8: i is one of 16 stretches of 8 results, k goes over the 7 + taps frames that a stretch
// needs. B is constant along its diagonals, and each eight of its rows is a register: lane l of a warp, g = l/4, q = l%4, has
//
//   band[m] = (w[d], w[d + 1]), d = 8·m + 2·q − g        of rows 8·m … 8·m + 7
//
// A tile is 128 results × 64 channels, a warp has eight of the channels, for good. Blocks loop over tiles of their channels; frames come
// by cp.async into kStages stages, rows of 128 bytes whose pieces of eight channels are permuted: of A as of the sums a quarter of a warp
// has rows 2·q of two stretches, and meets no bank twice.
//
//   piece p of row r at r·128 + (p ^ r/2 % 8)·16
//
// A warp reads two rows' pieces at a time and pairs their frames channel by channel; it writes its results where its frames were, so that
// whole rows of all warps go to memory.
//
// C: kBatch, kWalk, kWalkOut, kWalkTaps, kWalkPadding, kChannels (a multiple of 64), and `static float apply(float value)`, the steps
// after the bias. Grid: kBlocks. Architectures: sm_80 and up. Tests: as depthwise.cuh.
#pragma once
#include <cuda_fp16.h>
#include <stdint.h>

#include "core/copy_async.cuh"
#include "core/ptx.cuh"

namespace ladder {

/// e^x with a relative error of |x|·2⁻²⁴ + 2⁻²², two instructions.
__device__ __forceinline__ float expNear(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.4426950408889634f));
  return y;
}
/// a / b with a relative error of 2⁻²², two instructions; 0 where b is 2¹²⁶ or more.
__device__ __forceinline__ float divideNear(float a, float b) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(b));
  return a * inverse;
}

template <class C>
struct DepthwiseFrames {
  static constexpr int kTileChannels = 64, kPieces = kTileChannels / 8, kWarps = kPieces, kThreads = 32 * kWarps;
  static constexpr int kResults = 128;
  /// Eights of the frames that a stretch of 8 results needs.
  static constexpr int kBands = (C::kWalkTaps + 14) / 8;
  static constexpr int kRows = kResults - 8 + 8 * kBands;
  static constexpr int kStageBytes = kRows * 128, kStages = 4;
  static constexpr int kBiasAt = kStages * kStageBytes, kSharedBytes = kBiasAt + 2 * kTileChannels;
  static constexpr int kResident = 2;
  static constexpr int kPerLine = (C::kWalkOut + kResults - 1) / kResults;
  /// Tiles of 64 channels, which as many blocks share as there may be at once.
  static constexpr int kTiles = C::kBatch * kPerLine, kChunks = C::kChannels / kTileChannels;
  static constexpr int kProcessors = 132;
  static constexpr int kMostShares = (kProcessors * kResident + kChunks - 1) / kChunks;
  static constexpr int kShares = kTiles < kMostShares ? kTiles : kMostShares;
  static constexpr int kBlocks = kShares * kChunks;
  static_assert(static_cast<int64_t>(C::kBatch) * (C::kWalk > C::kWalkOut ? C::kWalk : C::kWalkOut) * C::kChannels < 1ll << 31);
  static_assert(C::kChannels % kTileChannels == 0 && C::kWalkTaps <= 33, "64 channels; as many taps as bands have registers");
};

/// Frames 2j and 2j + 1 of eight channels, paired channel by channel.
__device__ __forceinline__ void pairFrames(const uint4& even, const uint4& odd, uint32_t (&pairs)[8]) {
  const uint32_t low[4] = {even.x, even.y, even.z, even.w}, high[4] = {odd.x, odd.y, odd.z, odd.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    pairs[2 * i] = __byte_perm(low[i], high[i], 0x5410);
    pairs[2 * i + 1] = __byte_perm(low[i], high[i], 0x7632);
  }
}

/// d += a · b, a 16 × 8, b 8 × 8, FP32 sums.
__device__ __forceinline__ void mmaFp16Half(float (&d)[4], const uint32_t (&a)[2], uint32_t b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b));
}

/// Launched with kBlocks blocks of kThreads and kSharedBytes of shared memory.
template <class C>
__device__ __forceinline__ void depthwiseFramesKernel(const void* x, const void* weight, const void* bias, void* y) {
  using D = DepthwiseFrames<C>;
  extern __shared__ __align__(128) uint8_t memory[];
  launchDependents();
  const uint32_t shared = sharedAddress(memory);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const int chunk = blockIdx.x % D::kChunks, firstTile = blockIdx.x / D::kChunks;

  // Weights do not depend on earlier kernels.
  uint32_t bands[D::kBands][8];
  const auto eight = [&](const void* numbers, int row, bool exists) {
    constexpr int kRowPieces = C::kChannels / 8;
    return exists ? __ldg(static_cast<const uint4*>(numbers) + row * kRowPieces + chunk * D::kPieces + warp) : make_uint4(0, 0, 0, 0);
  };
#pragma unroll
  for (int m = 0; m < D::kBands; ++m) {
    const int tap = 8 * m + 2 * q - g;
    pairFrames(eight(weight, tap, tap >= 0 && tap < C::kWalkTaps), eight(weight, tap + 1, tap + 1 >= 0 && tap + 1 < C::kWalkTaps),
               bands[m]);
  }
  // Of its channels, where registers are scarce.
  const uint32_t ownBias = shared + D::kBiasAt + warp * 16;
  if (lane == 0) storeShared16(ownBias, eight(bias, 0, bias != nullptr));
  waitForPrerequisites();

  // What this thread copies, and stores: one piece of every 32nd row.
  const int ownRow = threadIdx.x / D::kPieces, ownPiece = threadIdx.x % D::kPieces;
  const uint32_t own = ownRow * 128 + (ownPiece ^ ownRow / 2 % 8) * 16;
  const int ownColumn = chunk * D::kTileChannels + ownPiece * 8;
  const auto fetch = [&](int tile, uint32_t stage) {
    if (tile < D::kTiles) {
      int first = tile % D::kPerLine * D::kResults - C::kWalkPadding + ownRow;
      // What follows from it is computed for every tile, even where all are alike: no register keeps it.
      asm volatile("" : "+r"(first));
      const int line = tile / D::kPerLine * (C::kWalk * C::kChannels) + ownColumn;
#pragma unroll
      for (int i = 0; i < (D::kRows + 31) / 32; ++i) {
        if (D::kRows % 32 != 0 && ownRow + 32 * i >= D::kRows) break;
        const int frame = first + 32 * i;
        const bool inside = frame >= 0 && frame < C::kWalk;
        copyOrZero<16>(stage + own + i * 4096, static_cast<const __half*>(x) + line + (inside ? frame * C::kChannels : 0), inside);
      }
    }
    commitCopies();
  };
#pragma unroll
  for (int i = 0; i < D::kStages - 1; ++i) fetch(firstTile + i * D::kShares, shared + i * D::kStageBytes);

  // Rows 8·g + 2·q of this warp's piece; those of the next stretch, 8 rows on, are 64 bytes further on or back.
  const uint32_t first = (8 * g + 2 * q) * 128 + ((warp ^ (g % 2 * 4 + q)) << 4);

  int slot = 0;
  for (int tile = firstTile; tile < D::kTiles; tile += D::kShares) {
    waitForCopies<D::kStages - 2>();
    __syncthreads();
    const uint32_t stage = shared + slot * D::kStageBytes;
    fetch(tile + (D::kStages - 1) * D::kShares, shared + (slot == 0 ? D::kStages - 1 : slot - 1) * D::kStageBytes);
    slot = slot + 1 == D::kStages ? 0 : slot + 1;

    const uint32_t even = stage + first, odd = stage + (first ^ 64) + 1024;
    // Frames of eight k, from the m-th on, of stretch g or g + 8.
    const auto read = [&](int m, int half, uint32_t (&pairs)[8]) {
      const uint32_t at = (m % 2 == 0 ? even : odd) + m / 2 * 2048 + half * 8192;
      pairFrames(loadShared16(at), loadShared16(at + 128), pairs);
    };
    float sums[8][4] = {};
#pragma unroll
    for (int m = 0; m < D::kBands; ++m) {
      uint32_t near[8], far[8];
      read(m, 0, near);
      read(m, 1, far);
#pragma unroll
      for (int c = 0; c < 8; ++c) mmaFp16Half(sums[c], {near[c], far[c]}, bands[m][c]);
    }
    __syncwarp();
    const uint4 shift = loadShared16(ownBias);
    const __half2* shifts = reinterpret_cast<const __half2*>(&shift);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      uint32_t packed[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 own = __half22float2(shifts[i]);
        const __half2 pair = __floats2half2_rn(C::apply(sums[2 * i][e] + own.x), C::apply(sums[2 * i + 1][e] + own.y));
        packed[i] = reinterpret_cast<const uint32_t&>(pair);
      }
      storeShared16(even + e % 2 * 128 + e / 2 * 8192, make_uint4(packed[0], packed[1], packed[2], packed[3]));
    }
    __syncthreads();
    const int result = tile % D::kPerLine * D::kResults + ownRow;
    const int line = (tile / D::kPerLine * C::kWalkOut + result) * C::kChannels + ownColumn;
#pragma unroll
    for (int i = 0; i < D::kResults / 32; ++i) {
      if (C::kWalkOut % D::kResults != 0 && result + 32 * i >= C::kWalkOut) break;
      __stcg(reinterpret_cast<uint4*>(static_cast<__half*>(y) + line + 32 * i * C::kChannels), loadShared16(stage + own + i * 4096));
    }
  }
}

}  // namespace ladder
