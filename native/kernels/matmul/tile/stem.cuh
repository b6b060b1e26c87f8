// The first convolution of a network that reads images, by mma.sync (sm_80 and later): x [images, channels, height, width] FP16, in planes,
// 1 to 4 channels, W [(kernel row, kernel column, channel)][n, padded to 8] FP16; y[places, n] = apply(Σ + bias) in rows, as tile.cuh's.
//
// With so few channels a row of the implicit matrix is cheaper made than copied: a block brings the lines of the planes that its
// output rows read to shared memory, and A's registers are words of them. Of a kernel row and a channel k is a run of kRun columns, the
// kernel's and those before and after that make a word's address even; there the weights, which every block lays out anew as B, are zero:
//
//   k of step s, half h:  runs (2s + h) · 8 / kRun …, run i of kernel row i / channels, channel i % channels
//   shared memory:        | lines of a tile, of the next | B: [steps][pairs of 8 outputs][lane][4 words] | places where warps turn | biases |
//
// With kPool, of the results only the largest numbers of 3 × 3 windows at every second place are stored (padding 1). Results lie where
// warps turn otherwise, in rows of kWarpOutputs float16 per place, in pieces of 16 bytes. A tile has
//   two rows:    a block goes down a band of kBandTiles tiles of an image, after the last row of the tile before
//                | first row | second row, in turn with that of the tile before |
//   three rows:  all that a row of windows needs, for few images: a block has one tile, which waits for no other
//
// Needs an even stride along x, width % 8 = 0, padding + its evenness ≤ 8, kernel columns + padding % 2 ≤ 8, output rows that tiles of
// kTileRows / kOutWidth of them divide, n ≤ 64. Configuration: as tile.cuh, kTileOutputs = kWarpOutputs = 16, 32 or 64; where that is less
// than n, neighbouring blocks share out the outputs. Tests: test/gpu/tile-kernels.test.ts, test/gpu/image-kernels.test.ts.
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
  /// Output rows of a tile, whether it has all rows of its windows, rows from one tile to the next, lines of the planes that it reads.
  static constexpr int kRows = C::kTileRows / C::kOutWidth;
  static constexpr bool kWhole = C::kPool && kRows == 3;
  static constexpr int kRowStep = kWhole ? 2 : kRows, kLines = ((kRows - 1) * C::kStrideY + C::kKernelY) * C::kChannels;
  static_assert(C::kTileRows % C::kOutWidth == 0 && C::kOutHeight % kRowStep == 0);
  static_assert(!C::kPool || (C::kOutWidth % 16 == 0 && (kWhole ? C::kWarpRows == 48 : kRows == 2)));
  static constexpr int kImageTiles = C::kOutHeight / kRowStep;
  /// A line has 16 bytes of zeros before and after; runs past the kernel's rows read what comes next, against weights of zero.
  static constexpr int kLineBytes = C::kWidth * 2 + 32, kSpareLines = kSteps * kStepRuns - kRuns;
  static_assert((C::kOutWidth - 1) * C::kStrideX - C::kPaddingX - kShift + kRun <= C::kWidth + 8);
  static constexpr int kPatches = kWhole ? 1 : 2, kPatchBytes = ((kLines + kSpareLines) * kLineBytes + 127) / 128 * 128;
  static_assert(L::kOutBlocks % 2 == 0 && L::kWarpsN == 1 && C::kBlocks % L::kOutTiles == 0);
  static constexpr int kWeightsAt = kPatches * kPatchBytes, kTurnAt = kWeightsAt + kSteps * L::kOutBlocks * 256;
  static constexpr int kRowBytes = C::kOutWidth * C::kWarpOutputs * 2;
  static constexpr int kTermsAt = kTurnAt + (C::kPool ? 3 * kRowBytes : kBlockThreads / 32 * L::kTurnBytes);
  static constexpr int kSharedBytes = kTermsAt + L::kTermBytes;

  __device__ static void run(const TileArguments& p) {
    extern __shared__ __align__(1024) uint8_t shared[];
    const uint32_t base = sharedAddress(shared);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int block = blockIdx.x / L::kOutTiles, firstOutput = blockIdx.x % L::kOutTiles * C::kTileOutputs;
    // A band begins with the last row of the tile before it.
    constexpr int kBands = C::kPool ? (kImageTiles + C::kBandTiles - 1) / C::kBandTiles : 1, kBefore = kWhole ? 0 : 1;
    const int band = block % kBands * C::kBandTiles, image = block / kBands * kImageTiles;
    const int begin = C::kPool ? image + max(band - kBefore, 0) : block, stride = C::kPool ? 1 : C::kBlocks / L::kOutTiles;
    const int end = kWhole ? begin + 1 : C::kPool ? image + min(band + C::kBandTiles, kImageTiles) : C::kImages * kImageTiles;
    // What is far is asked for first, the weights before any wait; all else is done while it comes.
    Weights weights;
    weights.load(p, firstOutput, 0);
    L::template copyTerms<kBlockThreads>(p, base + kTermsAt, firstOutput);
    launchDependents();
    waitForPrerequisites();
    copy(p, base, begin, end);
    const float inverse = Results<C>::inverse(p.result);
    clear(base);
    // Where the words of the lane's rows begin: rows g and g + 8 of each 16.
    uint32_t places[L::kRowBlocks][2];
#pragma unroll
    for (int i = 0; i < 2 * L::kRowBlocks; ++i) {
      const Place place = placeOf(warp, lane, i);
      const int t = lane % 4, column = place.column * C::kStrideX - C::kPaddingX - kShift + t % (kRun / 2) * 2;
      places[i / 2][i % 2] = (place.row * C::kStrideY * C::kChannels + t / (kRun / 2)) * kLineBytes + 16 + column * 2;
    }
    weights.store(base + kWeightsAt, 0);
    for (int first = Weights::kAhead; first < Weights::kThreadPieces; first += Weights::kAhead)
      weights.load(p, firstOutput, first), weights.store(base + kWeightsAt, first);
    uint32_t patch = base;
    for (int tile = begin; tile < end; tile += stride) {
      const uint32_t next = patch == base ? base + kPatchBytes : base;
      if constexpr (!kWhole) copy(p, next, tile + stride, end);
      waitForCopies<kPatches - 1>();
      __syncthreads();
      typename Store::Sums sums = {};
      multiply(patch, base + kWeightsAt + lane * 16, places, sums);
      if constexpr (C::kPool) lay(sums, base, tile % 2, warp, lane);
      // The other patch is copied over what all have read.
      __syncthreads();
      if constexpr (!C::kPool)
        Store{p, base + kTermsAt, firstOutput}.run(sums, base + kTurnAt + warp * L::kTurnBytes, tile * C::kTileRows + warp * C::kWarpRows,
                                                   firstOutput, lane);
      else if (tile >= image + band) pool(p, base, tile, firstOutput, inverse);
      patch = next;
    }
  }

 private:
  struct Place { int row, column; };

  /// Where in a tile the lane's place of a warp's i-th eight is. With all rows of windows a warp has 16 places of each.
  __device__ __forceinline__ static Place placeOf(int warp, int lane, int i) {
    if constexpr (kWhole) return {i / 2, warp * 16 + i % 2 * 8 + lane / 4};
    const int place = warp * C::kWarpRows + i * 8 + lane / 4;
    return {place / C::kOutWidth, place % C::kOutWidth};
  }

  using Places = uint32_t[L::kRowBlocks][2];

  /// What a step multiplies: A of each 16 rows, B of pairs of 8 outputs.
  struct Operands {
    uint32_t a[L::kRowBlocks][4];
    uint4 b[L::kOutBlocks / 2];

    __device__ __forceinline__ void load(int step, uint32_t patch, uint32_t weights, const Places& places) {
#pragma unroll
      for (int i = 0; i < L::kRowBlocks; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) a[i][e] = loadShared4(patch + places[i][e % 2] + (step * kStepRuns + e / 2 * (8 / kRun)) * kLineBytes);
      }
#pragma unroll
      for (int j = 0; j < L::kOutBlocks / 2; ++j) b[j] = loadShared16(weights + (step * L::kOutBlocks + j * 2) * 256);
    }

    __device__ __forceinline__ void multiply(typename Store::Sums& sums) const {
#pragma unroll
      for (int j = 0; j < L::kOutBlocks; j += 2) {
#pragma unroll
        for (int i = 0; i < L::kRowBlocks; ++i) {
          mmaFp16(sums[i][j], a[i], b[j / 2].x, b[j / 2].y);
          mmaFp16(sums[i][j + 1], a[i], b[j / 2].z, b[j / 2].w);
        }
      }
    }
  };

  /// All steps. Where there are registers for it, a step's operands are loaded while the one before multiplies.
  __device__ __forceinline__ static void multiply(uint32_t patch, uint32_t weights, const Places& places, typename Store::Sums& sums) {
    if constexpr (L::kRowBlocks * L::kOutBlocks > 12) {
#pragma unroll 2
      for (int step = 0; step < kSteps; ++step) {
        Operands now;
        now.load(step, patch, weights, places);
        now.multiply(sums);
      }
    } else {
      Operands even, odd;
      even.load(0, patch, weights, places);
#pragma unroll 1
      for (int step = 1; step + 1 < kSteps; step += 2) {
        odd.load(step, patch, weights, places);
        even.multiply(sums);
        even.load(step + 1, patch, weights, places);
        odd.multiply(sums);
      }
      if constexpr (kSteps % 2 == 0) odd.load(kSteps - 1, patch, weights, places);
      even.multiply(sums);
      if constexpr (kSteps % 2 == 0) odd.multiply(sums);
    }
  }

  /// Eight results of a place of a row, in shared memory. Of kGroup neighbours the even places come first: lanes that lay down eight of
  /// them side by side and lanes that read every second one both meet all banks.
  __device__ __forceinline__ static uint32_t resultsAt(uint32_t base, int row, int place, int vector) {
    constexpr int kPieces = C::kWarpOutputs / 8, kGroup = 16 / kPieces;
    const int at = place / kGroup * kGroup + place % kGroup / 2 + place % 2 * (kGroup / 2);
    return base + kTurnAt + row * kRowBytes + at * (C::kWarpOutputs * 2) + (vector ^ at / (kGroup / 2) % kPieces) * 16;
  }

  /// A tile's results as float16; of two rows the second at 1 or 2.
  __device__ __forceinline__ static void lay(const typename Store::Sums& sums, uint32_t base, int turn, int warp, int lane) {
    const int channel = lane % 4 * 2;
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
        const Place place = placeOf(warp, lane, i);
        const int row = kWhole || place.row == 0 ? place.row : 1 + turn;
        asm volatile("st.shared.u32 [%0], %1;" ::"r"(resultsAt(base, row, place.column, j) + channel * 2),
                     "r"(*reinterpret_cast<const uint32_t*>(&pair))
                     : "memory");
      }
    }
  }

  /// A row of windows: a tile's two rows, and the one before in its image; what there is none of, another of the window stands for.
  __device__ __forceinline__ static void pool(const TileArguments& p, uint32_t base, int tile, int firstOutput, float inverse) {
    constexpr int kVectors = L::kOutTiles > 1 ? C::kTileOutputs / 8 : (C::kN + 7) / 8, kPlaces = C::kOutWidth / 2;
    const int before = kWhole ? 0 : 1 + (tile + 1) % 2, instead = kWhole ? 1 : 0;
    for (int i = threadIdx.x; i < kPlaces * kVectors; i += kBlockThreads) {
      const int place = i / kVectors, vector = i % kVectors;
      __half2 most[4];
#pragma unroll
      for (int part = 0; part < 9; ++part) {
        const int row = part / 3 == before && tile % kImageTiles == 0 ? instead : part / 3;
        const uint4 eight = loadShared16(resultsAt(base, row, max(2 * place + part % 3 - 1, 0), vector));
        const uint32_t words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const __half2 two = *reinterpret_cast<const __half2*>(&words[e]);
          most[e] = part == 0 ? two : __hmax2(most[e], two);
        }
      }
      float values[8];
      unpackHalves(*reinterpret_cast<const uint4*>(most), values);
      Results<C>::template store<C::kN>(p.result, static_cast<int64_t>(tile) * kPlaces + place, firstOutput + vector * 8, values, inverse);
    }
  }

  /// The lines of a tile before `end`, each by a warp; zeros for those outside. Always a group of copies.
  __device__ __forceinline__ static void copy(const TileArguments& p, uint32_t patch, int tile, int end) {
    constexpr int kPieces = C::kWidth / 8;
    if (tile < end) {
      const int image = tile / kImageTiles;
      const int first = (tile % kImageTiles * kRowStep - (kWhole ? 1 : 0)) * C::kStrideY - C::kPaddingY;
      const __half* const x = static_cast<const __half*>(p.x) + static_cast<size_t>(image) * (C::kChannels * C::kHeight * C::kWidth);
      for (int line = threadIdx.x / 32; line < kLines; line += kBlockThreads / 32) {
        const int y = first + line / C::kChannels, from = (line % C::kChannels * C::kHeight + y) * C::kWidth;
        const bool isThere = static_cast<uint32_t>(y) < C::kHeight;
#pragma unroll
        for (int part = 0; part < (kPieces + 31) / 32; ++part) {
          const int piece = part * 32 + threadIdx.x % 32;
          if (piece < kPieces) copyOrZero<16>(patch + line * kLineBytes + 16 + piece * 16, isThere ? x + from + piece * 8 : x, isThere);
        }
      }
    }
    commitCopies();
  }

  /// Zeros before and after the lines, and past the last one.
  __device__ __forceinline__ static void clear(uint32_t base) {
    for (uint32_t patch = base; patch < base + kPatches * kPatchBytes; patch += kPatchBytes) {
#pragma unroll 1
      for (int i = threadIdx.x; i < 2 * kLines; i += kBlockThreads)
        storeShared16(patch + i / 2 * kLineBytes + i % 2 * (kLineBytes - 16), make_uint4(0, 0, 0, 0));
#pragma unroll 1
      for (int i = threadIdx.x; i < kSpareLines * kLineBytes / 16; i += kBlockThreads)
        storeShared16(patch + kLines * kLineBytes + i * 16, make_uint4(0, 0, 0, 0));
    }
  }

  /// A thread's part of the weights on their way to B: pieces of 8 outputs at both columns of a word, which make a word for each of 8 lanes.
  struct Weights {
    static constexpr int kStored = (C::kN + 7) / 8 * 8, kPieces = kSteps * L::kOutBlocks * 8;
    static constexpr int kThreadPieces = (kPieces + kBlockThreads - 1) / kBlockThreads, kAhead = kThreadPieces < 4 ? kThreadPieces : 4;

    uint4 columns[kAhead][2];

    /// Of a piece: an output's block, the word of a lane, half a step, two blocks of a step; neighbouring threads meet 16 banks.
    __device__ __forceinline__ static uint32_t blockOf(uint32_t i) { return i / 16 % (L::kOutBlocks / 2) * 2 + i % 2; }
    __device__ __forceinline__ static uint32_t stepOf(uint32_t i) { return i / 16 / (L::kOutBlocks / 2); }

    /// kAhead pieces, from the thread's `first` on.
    __device__ __forceinline__ void load(const TileArguments& p, int firstOutput, int first) {
#pragma unroll
      for (int piece = 0; piece < kAhead; ++piece) {
        const uint32_t i = threadIdx.x + (first + piece) * kBlockThreads, t = i / 2 % 4, n = firstOutput + blockOf(i) * 8;
        const uint32_t run = stepOf(i) * kStepRuns + i / 8 % 2 * (8 / kRun) + t / (kRun / 2), column = t % (kRun / 2) * 2 - kShift;
        const uint32_t k = run + (run / C::kChannels * (C::kKernelX - 1) + column) * C::kChannels;
        const bool isOfBoth = run < kRuns && (C::kN % C::kTileOutputs == 0 || n < C::kN);
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const bool exists = isOfBoth && column + e < C::kKernelX;
          const __half* const from = reinterpret_cast<const __half*>(p.weight) + ((k + e * C::kChannels) * kStored + n);
          columns[piece][e] = exists ? *reinterpret_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
        }
      }
    }

    __device__ __forceinline__ void store(uint32_t to, int first) const {
#pragma unroll
      for (int piece = 0; piece < kAhead; ++piece) {
        const int i = threadIdx.x + (first + piece) * kBlockThreads;
        if (i >= kPieces) return;
        const uint32_t at = to + i / 16 * 512 + i / 2 % 4 * 16 + i % 2 * 8 + i / 8 % 2 * 4;
        const uint4 left = columns[piece][0], right = columns[piece][1];
        const uint32_t lefts[4] = {left.x, left.y, left.z, left.w}, rights[4] = {right.x, right.y, right.z, right.w};
#pragma unroll
        for (int e = 0; e < 8; ++e)
          asm volatile("st.shared.u32 [%0], %1;" ::"r"(at + e * 64), "r"(__byte_perm(lefts[e / 2], rights[e / 2], e % 2 ? 0x7632 : 0x5410))
                       : "memory");
      }
    }
  };
};

/// By kBlocks blocks of kBlockThreads threads with kSharedBytes of shared memory.
template <class C>
__device__ __forceinline__ void stemProduct(const TileArguments& p) {
  Stem<C>::run(p);
}

}  // namespace ladder
