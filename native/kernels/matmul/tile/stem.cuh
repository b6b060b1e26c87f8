// The first convolution of a network that reads images, by mma.sync (sm_80 and later): x [images, channels, height, width] FP16, in planes,
// 1 to 4 channels, W [n, (kernel row, kernel column, channel)] FP16, in rows; y[places, n] = apply(Σ + bias) in rows, as tile.cuh's.
//
// With so few channels a row of the implicit matrix is cheaper made than copied: a block brings the lines of the planes that its
// output rows read to shared memory, and A's registers are words of them. Of a kernel row and a channel k is a run of kRun columns, the
// kernel's and those before and after that make a word's address even; there the weights, which every block lays out anew as B, are zero:
//
//   k of step s, half h:  runs (2s + h) · 8 / kRun …, run i of kernel row i / channels, channel i % channels
//   shared memory:        | lines of a tile, twice | B: [steps][pairs of 8 outputs][lane][4 words] | places where warps turn | biases |
//
// With kPool, of the results only the largest numbers of 3 × 3 windows at every second place are stored (padding 1): a block goes down a
// band of kBandTiles tiles of two rows of an image, and the last row of the tile before. Its results lie where warps turn otherwise:
//
//   | first row | second row, in turn with that of the tile before |    of kWarpOutputs float16 per place, pieces of 16 bytes XOR its number
//
// Needs an even stride along x, width % 8 = 0, padding + its evenness ≤ 8, kernel columns + padding % 2 ≤ 8, output rows that tiles of
// kTileRows / kOutWidth of them divide, n ≤ 64. Configuration: as tile.cuh, kWarpRows = 32, kWarpOutputs = 32 or 64 (all outputs).
#pragma once
#include "matmul/tile/tile_store.cuh"

namespace ladder {

template <class C>
struct Stem {
  using L = TileBlock<C>;
  using Store = TileStore<C>;
  static constexpr int kBlockThreads = L::kBlockThreads;

  /// Columns before the kernel's first, so that a place's first word is aligned; columns of a run.
  static constexpr int kShift = C::kPaddingX % 2, kRun = C::kKernelX + kShift <= 4 ? 4 : 8;
  static_assert(C::kKernelX + kShift <= 8 && C::kStrideX % 2 == 0 && C::kWidth % 8 == 0 && C::kPaddingX + kShift <= 8);
  static constexpr int kRuns = C::kKernelY * C::kChannels, kStepRuns = 16 / kRun, kSteps = (kRuns + kStepRuns - 1) / kStepRuns;
  /// Output rows of a tile, lines of the planes that it reads.
  static constexpr int kRows = C::kTileRows / C::kOutWidth, kLines = ((kRows - 1) * C::kStrideY + C::kKernelY) * C::kChannels;
  static_assert(C::kTileRows % C::kOutWidth == 0 && C::kOutHeight % kRows == 0);
  static constexpr int kTiles = L::kM / C::kTileRows;
  /// A line has 16 bytes of zeros before and after; runs past the kernel's rows read what comes next, against weights of zero.
  static constexpr int kLineBytes = C::kWidth * 2 + 32, kSpareLines = kSteps * kStepRuns - kRuns;
  static_assert((C::kOutWidth - 1) * C::kStrideX - C::kPaddingX - kShift + kRun <= C::kWidth + 8);
  static constexpr int kPatchBytes = ((kLines + kSpareLines) * kLineBytes + 127) / 128 * 128;
  static_assert(L::kOutBlocks % 2 == 0 && L::kWarpsN == 1 && C::kN <= C::kWarpOutputs);
  static constexpr int kWeightsAt = 2 * kPatchBytes, kTurnAt = kWeightsAt + kSteps * L::kOutBlocks * 256;
  static constexpr int kRowBytes = C::kOutWidth * C::kWarpOutputs * 2;
  static constexpr int kTermsAt = kTurnAt + (C::kPool ? 3 * kRowBytes : kBlockThreads / 32 * L::kTurnBytes);
  static constexpr int kSharedBytes = kTermsAt + L::kTermBytes;
  static constexpr int kImageTiles = C::kOutHeight / kRows;
  static_assert(!C::kPool || (kRows == 2 && C::kOutWidth % 2 == 0));

  __device__ static void run(const TileArguments& p) {
    extern __shared__ __align__(1024) uint8_t shared[];
    const uint32_t base = sharedAddress(shared);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    layWeights(reinterpret_cast<const __half*>(p.weight), base + kWeightsAt);
    layBias(p, base + kTermsAt);
    clear(base);
    launchDependents();
    waitForPrerequisites();
    __syncthreads();
    // Where the words of the lane's four rows begin: rows g and g + 8 of each 16.
    uint32_t places[L::kRowBlocks][2];
#pragma unroll
    for (int i = 0; i < 2 * L::kRowBlocks; ++i) {
      const int place = warp * C::kWarpRows + i * 8 + lane / 4, t = lane % 4;
      const int column = place % C::kOutWidth * C::kStrideX - C::kPaddingX - kShift + t % (kRun / 2) * 2;
      places[i / 2][i % 2] = (place / C::kOutWidth * C::kStrideY * C::kChannels + t / (kRun / 2)) * kLineBytes + 16 + column * 2;
    }
    // A band begins with the last row of the tile before it.
    constexpr int kBands = C::kPool ? (kImageTiles + C::kBandTiles - 1) / C::kBandTiles : 1;
    const int band = blockIdx.x % kBands * C::kBandTiles, image = blockIdx.x / kBands * kImageTiles;
    const int begin = C::kPool ? image + max(band - 1, 0) : blockIdx.x, stride = C::kPool ? 1 : C::kBlocks;
    const int end = C::kPool ? image + min(band + C::kBandTiles, kImageTiles) : kTiles;
    const float inverse = Results<C>::inverse(p.result);
    copy(p, base, begin, end);
    uint32_t patch = base;
    for (int tile = begin; tile < end; tile += stride) {
      const uint32_t next = patch == base ? base + kPatchBytes : base;
      copy(p, next, tile + stride, end);
      waitForCopies<1>();
      __syncthreads();
      typename Store::Sums sums = {};
#pragma unroll 2
      for (int step = 0; step < kSteps; ++step) multiply(step, patch, base + kWeightsAt + lane * 16, places, sums);
      if constexpr (C::kPool) lay(sums, base, tile % 2, warp * C::kWarpRows + lane / 4, lane % 4 * 2);
      // The other patch is copied over what all have read.
      __syncthreads();
      if constexpr (!C::kPool)
        Store{p, base + kTermsAt, 0}.run(sums, base + kTurnAt + warp * L::kTurnBytes, tile * C::kTileRows + warp * C::kWarpRows, 0, lane);
      else if (tile >= image + band) pool(p, base, tile, inverse);
      patch = next;
    }
  }

 private:
  __device__ __forceinline__ static void multiply(int step, uint32_t patch, uint32_t weights, const uint32_t (&places)[L::kRowBlocks][2],
                                                  typename Store::Sums& sums) {
    uint32_t a[L::kRowBlocks][4];
#pragma unroll
    for (int i = 0; i < L::kRowBlocks; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e) a[i][e] = loadShared4(patch + places[i][e % 2] + (step * kStepRuns + e / 2 * (8 / kRun)) * kLineBytes);
    }
#pragma unroll
    for (int j = 0; j < L::kOutBlocks; j += 2) {
      const uint4 b = loadShared16(weights + (step * L::kOutBlocks + j) * 256);
#pragma unroll
      for (int i = 0; i < L::kRowBlocks; ++i) {
        mmaFp16(sums[i][j], a[i], b.x, b.y);
        mmaFp16(sums[i][j + 1], a[i], b.z, b.w);
      }
    }
  }

  /// Eight results of a place of a row, in shared memory.
  __device__ __forceinline__ static uint32_t resultsAt(uint32_t base, int row, int place, int vector) {
    constexpr int kPieces = C::kWarpOutputs / 8;
    const int swizzle = (kPieces == 8 ? place : place / 2) % kPieces;
    return base + kTurnAt + row * kRowBytes + place * (C::kWarpOutputs * 2) + (vector ^ swizzle) * 16;
  }

  /// A tile's results as float16: its second row at 1 or 2. @param place, channel of the lane's first sum
  __device__ __forceinline__ static void lay(const typename Store::Sums& sums, uint32_t base, int turn, int place, int channel) {
#pragma unroll
    for (int j = 0; j < L::kOutBlocks; ++j) {
      float2 bias = make_float2(0.0f, 0.0f);
      if constexpr (C::kBias) {
        const uint32_t word = loadShared4(base + kTermsAt + (j * 8 + channel) * 2);
        bias = __half22float2(*reinterpret_cast<const __half2*>(&word));
      }
#pragma unroll
      for (int i = 0; i < 2 * L::kRowBlocks; ++i) {
        const float* const two = sums[i / 2][j] + i % 2 * 2;
        const __half2 pair = __floats2half2_rn(C::apply(two[0] + bias.x, 0.0f, 0.0f), C::apply(two[1] + bias.y, 0.0f, 0.0f));
        const int ofTile = place + i * 8, row = ofTile / C::kOutWidth;
        asm volatile("st.shared.u32 [%0], %1;" ::"r"(resultsAt(base, row == 0 ? 0 : 1 + turn, ofTile % C::kOutWidth, j) + channel * 2),
                     "r"(*reinterpret_cast<const uint32_t*>(&pair))
                     : "memory");
      }
    }
  }

  /// A row of windows: a tile's rows, and the last one of the tile before in its image.
  __device__ __forceinline__ static void pool(const TileArguments& p, uint32_t base, int tile, float inverse) {
    constexpr int kVectors = (C::kN + 7) / 8, kPlaces = C::kOutWidth / 2;
    for (int i = threadIdx.x; i < kPlaces * kVectors; i += kBlockThreads) {
      const int place = i / kVectors, vector = i % kVectors;
      __half2 most[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) most[e] = __half2half2(__ushort_as_half(0xfc00));  // −∞
#pragma unroll
      for (int row = 0; row < 3; ++row) {
        if (row == 1 + (tile + 1) % 2 && tile % kImageTiles == 0) continue;
#pragma unroll
        for (int x = -1; x < 2; ++x) {
          const int from = 2 * place + x;
          if (x < 0 && from < 0) continue;
          const uint4 eight = loadShared16(resultsAt(base, row, from, vector));
          const uint32_t words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
          for (int e = 0; e < 4; ++e) most[e] = __hmax2(most[e], *reinterpret_cast<const __half2*>(&words[e]));
        }
      }
      float values[8];
      unpackHalves(*reinterpret_cast<const uint4*>(most), values);
      Results<C>::template store<C::kN>(p.result, static_cast<int64_t>(tile) * kPlaces + place, vector * 8, values, inverse);
    }
  }

  /// The lines of a tile before `end`; zeros for those outside. Always a group of copies.
  __device__ __forceinline__ static void copy(const TileArguments& p, uint32_t patch, int tile, int end) {
    constexpr int kPieces = C::kWidth / 8;
    if (tile < end) {
      const int image = tile / kImageTiles, first = tile % kImageTiles * kRows * C::kStrideY - C::kPaddingY;
      const __half* const x = static_cast<const __half*>(p.x);
      for (int i = threadIdx.x; i < kLines * kPieces; i += kBlockThreads) {
        const int line = i / kPieces, piece = i % kPieces, y = first + line / C::kChannels;
        const bool isThere = static_cast<uint32_t>(y) < C::kHeight;
        const size_t from = (static_cast<size_t>(image * C::kChannels + line % C::kChannels) * C::kHeight + y) * C::kWidth + piece * 8;
        copyOrZero<16>(patch + line * kLineBytes + 16 + piece * 16, isThere ? x + from : x, isThere);
      }
    }
    commitCopies();
  }

  /// Zeros before and after the lines, and past the last one.
  __device__ __forceinline__ static void clear(uint32_t base) {
    for (int i = threadIdx.x; i < 2 * (kLines + kSpareLines) * (kLineBytes / 16); i += kBlockThreads) {
      const int line = i / (kLineBytes / 16), piece = i % (kLineBytes / 16), within = line % (kLines + kSpareLines);
      if (piece == 0 || piece == kLineBytes / 16 - 1 || within >= kLines)
        storeShared16(base + line / (kLines + kSpareLines) * kPatchBytes + within * kLineBytes + piece * 16, make_uint4(0, 0, 0, 0));
    }
  }

  __device__ __forceinline__ static void layBias(const TileArguments& p, uint32_t to) {
    if constexpr (C::kBias) {
      for (int i = threadIdx.x; i < C::kTileOutputs; i += kBlockThreads) {
        const uint16_t value = i < C::kN ? __half_as_ushort(p.bias[i]) : 0;
        asm volatile("st.shared.u16 [%0], %1;" ::"r"(to + i * 2), "h"(value) : "memory");
      }
    }
  }

  __device__ __forceinline__ static void layWeights(const __half* weight, uint32_t to) {
    for (int i = threadIdx.x; i < kSteps * L::kOutBlocks * 64; i += kBlockThreads) {
      // A word: of two blocks of outputs, both halves of a step.
      const int word = i % 4, lane = i / 4 % 32, block = i / 128 % (L::kOutBlocks / 2) * 2 + word / 2, step = i / 128 / (L::kOutBlocks / 2);
      const int t = lane % 4, n = block * 8 + lane / 4, run = step * kStepRuns + word % 2 * (8 / kRun) + t / (kRun / 2);
      uint32_t pair = 0;
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int x = t % (kRun / 2) * 2 + e - kShift;
        if (n < C::kN && run < kRuns && x >= 0 && x < C::kKernelX) {
          const int k = (run / C::kChannels * C::kKernelX + x) * C::kChannels + run % C::kChannels;
          pair |= static_cast<uint32_t>(__half_as_ushort(weight[n * L::kK + k])) << e * 16;
        }
      }
      asm volatile("st.shared.u32 [%0], %1;" ::"r"(to + i * 4), "r"(pair) : "memory");
    }
  }
};

/// By kBlocks blocks of kBlockThreads threads with kSharedBytes of shared memory.
template <class C>
__device__ __forceinline__ void stemProduct(const TileArguments& p) {
  Stem<C>::run(p);
}

}  // namespace ladder
