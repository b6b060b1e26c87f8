// Depthwise separable convolutions in one kernel, as units of ShuffleNet have them: [pointwise product →] depthwise 3 × 3 → pointwise
// product, over images whose pixels are rows; channels of wider rows in, results between another matrix's channels out.
//
//   m[p, c]  = first(Σ_k x[p, kXFirst + k] · expand[c, k] + expandBias[c])       kExpand; else m is x
//   d[q, c]  = middle(Σ_tap m[pixel under the tap, c] · depth[tap, c] + depthBias[c])
//   r[q, n]  = last(Σ_c d[q, c] · project[n, c] + projectBias[n])
//   y[q, n]  = r, or by turns with o = other[q, kOtherFirst + n]: y[q, 2n + kPlace] = r[q, n], y[q, 2n + 1 − kPlace] = o
//
// All FP16, FP32 sums; or both products of FP8: x and d become codes by one scale each, weights have a scale per row. Codes are
// multiplied as the float16 numbers that they are, exactly.
//
// A block has kRows output rows of an image: the pixels that they need come to shared memory, then m, then d, in rows of kPitch bytes with
// pieces of 16 bytes XOR swizzle(row). mma.sync takes k in another order, the same in both operands, so that a lane reads 16 bytes:
//
//   step of 32 of k: lane (g, t) of A has k 8t … 8t + 7 of rows g and g + 8, of B of row g
//   expand, project: [n / 8][k / 32][lane = 4g + t][8], padded          depth: [9][channels]
//
// Weights are read from global memory where they are used; before it waits for earlier kernels, a block brings them near.
//
// C: kWeight (kFp16, kFp8E5m2, kFp8E4m3), kImages, kHeight, kWidth, kOutHeight, kOutWidth, kStride, kExpand, kXPitch, kXFirst, kIn, kMid, kOut,
// kPlace (−1: alone), kOtherPitch, kOtherFirst, first(), middle(), last(), and what formats/results.cuh asks for (float16 or codes by one
// scale); tuning: kRows, kWarps, kMBlocks, kNBlocks (of 16 and 8, of a warp's sums), kRun (results of a thread along a row). Padding 1.
// Channels are even. Architectures: sm_80 and up. Few images: separable_cluster.cuh. Tests: test/gpu/image-kernels.test.ts.
#pragma once
#include "conv/separable_unit.cuh"
#include "core/copy_async.cuh"

namespace ladder {

template <class C>
struct Separable {
  using U = SeparableUnit<C>;
  static constexpr bool kFp8 = U::kFp8;
  static constexpr int kThreads = C::kWarps * 32, kPixels = U::kPixels, kPlaces = U::kPlaces, kBlocks = C::kImages * U::kBands;

  // Matrices in shared memory, with rows of zeros and rows that nobody reads.
  __host__ __device__ static constexpr int padded(int rows) {
    return (rows + 16 * C::kMBlocks - 1) / (16 * C::kMBlocks) * (16 * C::kMBlocks);
  }
  static constexpr int kXBytes = padded(kPixels) * U::pitch(C::kIn), kMBytes = C::kExpand ? padded(kPixels) * U::pitch(C::kMid) : 0;
  static constexpr int kDBytes = padded(kPlaces) * U::pitch(C::kMid);
  /// d takes x's place where m has one of its own.
  static constexpr int kDAt = C::kExpand ? 0 : kXBytes, kMAt = C::kExpand ? (kXBytes > kDBytes ? kXBytes : kDBytes) : 0;
  static constexpr int kSharedBytes = C::kExpand ? kMAt + kMBytes : kXBytes + kDBytes;

  const SeparableArguments& p;
  const uint32_t base;
  const typename U::Band band;

  __device__ static void run(const SeparableArguments& p) {
    extern __shared__ __align__(1024) uint8_t shared[];
    Separable{p, sharedAddress(shared), typename U::Band(blockIdx.x)}.compute();
  }

 private:
  __device__ __forceinline__ void compute() const {
    constexpr int kWeightBytes = kFp8 ? 1 : 2;
    if constexpr (C::kExpand) {
      bringNear(p.expand, (C::kMid + 7) / 8 * U::steps(C::kIn) * 256 * kWeightBytes);
      bringNear(p.expandBias, C::kMid * 2);
    }
    bringNear(p.depth, C::kMid * 18);
    bringNear(p.depthBias, C::kMid * 2);
    bringNear(p.project, (C::kOut + 7) / 8 * U::steps(C::kMid) * 256 * kWeightBytes);
    bringNear(p.projectBias, C::kOut * 2);
    launchDependents();
    waitForPrerequisites();
    copyPixels();
    waitForCopies<0>();
    __syncthreads();
    if constexpr (C::kExpand) {
      if constexpr (kFp8) {
        quantisePixels();
        __syncthreads();
      }
      product<C::kIn, C::kMid, kPixels>(base, p.expand, Expanded{p, base + kMAt});
      __syncthreads();
    }
    depthwise();
    __syncthreads();
    product<C::kMid, C::kOut, kPlaces>(base + kDAt, p.project,
                                       typename U::Projected{p, band.firstPlace(), band.places(), Results<C>::inverse(p.result)});
    Results<C>::storeScale(p.result);
  }

  // ---- Memory -------------------------------------------------------------------------------------------------------------

  /// A sector of each line to the L1 cache, all of it to L2.
  __device__ __forceinline__ static void bringNear(const void* from, int bytes) {
    for (int at = threadIdx.x * 128; at < bytes; at += kThreads * 128) {
      uint32_t unused;
      asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(unused) : "l"(static_cast<const uint8_t*>(from) + at));
    }
  }

  /// x of the pixels, zeros outside of the image and past its channels.
  __device__ __forceinline__ void copyPixels() const {
    constexpr int kBits = C::kXPitch * 2 | C::kXFirst * 2 | C::kIn * 2 | 16, kUnit = kBits & -kBits;
    constexpr int kUnits = U::steps(C::kIn) * 64 / kUnit;
    const int first = band.firstPixel();
    for (int i = threadIdx.x; i < kPixels * kUnits; i += kThreads) {
      const int pixel = i / kUnits, unit = i % kUnits;
      const bool isThere = unit * kUnit < C::kIn * 2 && band.isInside(pixel / C::kWidth);
      const __half* const from = p.x + static_cast<int64_t>(first + pixel) * C::kXPitch + C::kXFirst + unit * (kUnit / 2);
      copyOrZero<kUnit>(base + U::at(pixel, unit * kUnit, U::pitch(C::kIn)), isThere ? from : p.x, isThere);
    }
    commitCopies();
  }

  // ---- Codes --------------------------------------------------------------------------------------------------------------

  __device__ __forceinline__ void quantisePixels() const {
    const float inverse = __frcp_rn(*p.xScale);
    constexpr int kPieces = U::steps(C::kIn) * 4;
    for (int i = threadIdx.x; i < kPixels * kPieces; i += kThreads) {
      const uint32_t piece = base + U::at(i / kPieces, i % kPieces * 16, U::pitch(C::kIn));
      const uint4 v = loadShared16(piece);
      const auto code = [&](uint32_t word) { return U::rounded(__half22float2(*reinterpret_cast<const __half2*>(&word)), inverse); };
      storeShared16(piece, make_uint4(code(v.x), code(v.y), code(v.z), code(v.w)));
    }
  }

  // ---- Products -------------------------------------------------------------------------------------------------------------

  /// m, to shared memory, and zeros past its last channel where that is in four of them.
  struct Expanded {
    static constexpr int kColumns = (C::kMid + 3) / 4 * 4;
    const SeparableArguments& p;
    const uint32_t to;
    __device__ __forceinline__ typename U::Terms terms(int n) const { return U::termsOf(p.expandScale, p.expandBias, n); }
    __device__ __forceinline__ float xScale() const { return kFp8 ? *p.xScale : 1.0f; }
    __device__ __forceinline__ uint32_t ahead(int, int) const { return 0; }
    __device__ __forceinline__ void finish(int row, int n, float2 value, uint32_t) const {
      const bool exists = n < C::kMid;
      U::storeWord(to + U::at(row, n * 2, U::pitch(C::kMid)),
                   exists ? U::bits(__floats2half2_rn(C::first(value.x), C::first(value.y))) : 0);
    }
  };

  /// kN results of rows in shared memory.
  template <int kK, int kN, int kRowCount, class Finish>
  __device__ __forceinline__ static void product(uint32_t x, const uint8_t* weights, const Finish& finish) {
    constexpr int kSteps = U::steps(kK), kBlocksN = (kN + 7) / 8;
    constexpr int kGroupsN = (kBlocksN + C::kNBlocks - 1) / C::kNBlocks, kGroupsM = padded(kRowCount) / (16 * C::kMBlocks);
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    for (int task = threadIdx.x / 32; task < kGroupsM * kGroupsN; task += C::kWarps) {
      const int firstRow = task % kGroupsM * (16 * C::kMBlocks) + g, firstBlock = task / kGroupsM * C::kNBlocks;
      typename U::Terms terms[C::kNBlocks] = {};
      uint32_t ahead[C::kMBlocks][2][C::kNBlocks];
#pragma unroll
      for (int j = 0; j < C::kNBlocks; ++j) {
        const int n = (firstBlock + j) * 8 + t * 2;
        if (n >= kN) continue;
        terms[j] = finish.terms(n);
#pragma unroll
        for (int i = 0; i < 2 * C::kMBlocks; ++i) ahead[i / 2][i % 2][j] = finish.ahead(firstRow + i * 8, n);
      }
      float sums[C::kMBlocks][C::kNBlocks][4] = {};
#pragma unroll 4
      for (int step = 0; step < kSteps; ++step) {
        uint4 b[C::kNBlocks];
#pragma unroll
        for (int j = 0; j < C::kNBlocks; ++j) {
          // Past the last block its weights come once more; nobody asks for the sums.
          const int block = min(firstBlock + j, kBlocksN - 1);
          b[j] = weightsOf(weights, (block * kSteps + step) * 32 + lane);
        }
#pragma unroll
        for (int i = 0; i < C::kMBlocks; ++i) {
          const uint4 low = loadShared16(x + U::at(firstRow + i * 16, step * 64 + t * 16, U::pitch(kK)));
          const uint4 high = loadShared16(x + U::at(firstRow + i * 16 + 8, step * 64 + t * 16, U::pitch(kK)));
          const uint32_t a[2][4] = {{low.x, high.x, low.y, high.y}, {low.z, high.z, low.w, high.w}};
#pragma unroll
          for (int j = 0; j < C::kNBlocks; ++j) {
            mmaFp16(sums[i][j], a[0], b[j].x, b[j].y);
            mmaFp16(sums[i][j], a[1], b[j].z, b[j].w);
          }
        }
      }
      const float xScale = finish.xScale();
#pragma unroll
      for (int j = 0; j < C::kNBlocks; ++j) {
        const int n = (firstBlock + j) * 8 + t * 2;
        if (n >= Finish::kColumns) continue;
#pragma unroll
        for (int i = 0; i < 2 * C::kMBlocks; ++i)
          finish.finish(firstRow + i * 8, n, U::resultsOf(sums[i / 2][j] + i % 2 * 2, terms[j], xScale), ahead[i / 2][i % 2][j]);
      }
    }
  }

  /// A lane's eight weights of a step.
  __device__ __forceinline__ static uint4 weightsOf(const uint8_t* weights, int eight) {
    if constexpr (kFp8) {
      const uint2 codes = __ldg(reinterpret_cast<const uint2*>(weights) + eight);
      return make_uint4(U::decoded(codes.x), U::decoded(codes.x >> 16), U::decoded(codes.y), U::decoded(codes.y >> 16));
    } else {
      return __ldg(reinterpret_cast<const uint4*>(weights) + eight);
    }
  }

  // ---- Depthwise ------------------------------------------------------------------------------------------------------------

  /// d of all places; zeros past its channels. A thread keeps four channels and their nine weights, and computes kRun results along a row
  /// at once.
  __device__ __forceinline__ void depthwise() const {
    constexpr int kFours = (C::kMid + 3) / 4, kTeams = kThreads / kFours, kRuns = (C::kOutWidth + C::kRun - 1) / C::kRun;
    constexpr int kLoads = (C::kRun - 1) * C::kStride + 3, kPitch = U::pitch(C::kMid), kPads = U::steps(C::kMid) * 8 - kFours;
    static_assert(kTeams > 0);
    const uint32_t from = base + kMAt, to = base + kDAt;
    if constexpr (kPads > 0) {
      for (int i = threadIdx.x; i < kPlaces * kPads; i += kThreads)
        U::storeTwo(to + U::at(i / kPads, (kFours + i % kPads) * 8, kPitch), make_uint2(0, 0));
    }
    const int four = threadIdx.x % kFours, team = threadIdx.x / kFours;
    if (team >= kTeams) return;
    float taps[9][4], bias[4];
#pragma unroll
    for (int tap = 0; tap < 9; ++tap) loadFour(p.depth + tap * C::kMid, four, taps[tap]);
    loadFour(p.depthBias, four, bias);
    float inverse = 1.0f;
    if constexpr (kFp8) inverse = __frcp_rn(*p.midScale);
    for (int run = team; run < C::kRows * kRuns; run += kTeams) {
      const int row = run / kRuns, first = run % kRuns * C::kRun, left = first * C::kStride - 1;
      float sums[C::kRun][4];
#pragma unroll
      for (int r = 0; r < C::kRun; ++r) {
#pragma unroll
        for (int c = 0; c < 4; ++c) sums[r][c] = bias[c];
      }
#pragma unroll
      for (int ky = 0; ky < 3; ++ky) {
        const int under = row * C::kStride + ky;
        if (!band.isInside(under)) continue;
#pragma unroll
        for (int i = 0; i < kLoads; ++i) {
          if (static_cast<uint32_t>(left + i) >= C::kWidth) continue;
          const uint2 words = loadShared8(from + U::at(under * C::kWidth + left + i, four * 8, kPitch));
          const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&words.x)),
                       high = __half22float2(*reinterpret_cast<const __half2*>(&words.y));
          const float values[4] = {low.x, low.y, high.x, high.y};
#pragma unroll
          for (int r = 0; r < C::kRun; ++r) {
            const int kx = i - r * C::kStride;
            if (kx < 0 || kx > 2) continue;
#pragma unroll
            for (int c = 0; c < 4; ++c) sums[r][c] = fmaf(values[c], taps[ky * 3 + kx][c], sums[r][c]);
          }
        }
      }
#pragma unroll
      for (int r = 0; r < C::kRun; ++r) {
        if (first + r >= C::kOutWidth) continue;
        const auto pair = [&](int c) -> uint32_t {
          if (four * 4 + c >= C::kMid) return 0;
          const float2 two = make_float2(C::middle(sums[r][c]), C::middle(sums[r][c + 1]));
          return kFp8 ? U::rounded(two, inverse) : U::bits(__floats2half2_rn(two.x, two.y));
        };
        U::storeTwo(to + U::at(row * C::kOutWidth + first + r, four * 8, kPitch), make_uint2(pair(0), pair(2)));
      }
    }
  }

  /// Four channels of a vector, zeros past its end.
  __device__ __forceinline__ static void loadFour(const __half* from, int four, float (&values)[4]) {
#pragma unroll
    for (int c = 0; c < 4; c += 2) {
      float2 two = make_float2(0.0f, 0.0f);
      if (four * 4 + c < C::kMid) two = __half22float2(*reinterpret_cast<const __half2*>(from + four * 4 + c));
      values[c] = two.x, values[c + 1] = two.y;
    }
  }
};

/// By kBlocks blocks of kThreads threads with kSharedBytes of shared memory.
template <class C>
__device__ __forceinline__ void separableConvolution(const SeparableArguments& p) {
  Separable<C>::run(p);
}

}  // namespace ladder
