// Products of many rows in tiles, by mma.sync, cp.async and ldmatrix (sm_80 and later): y[m, n] = apply(x · dequantise(W)ᵀ), where row m
// of x is a row of a matrix, or what a convolution's kernel sees at a place of an image: an implicit product.
//
//   x        [images, height, width, channels] in rows, FP16 or codes of a byte; a dense product is one image per row, of one place
//   W        [n / 8][k / panel], each chunk 8 rows of a panel of 128 bytes of x; k = (kernel row, kernel column, channel), padded:
//              FP16, FP8, MX  [8 pieces][8 rows][16 bytes], as ldmatrix reads them
//              INT4           [4 steps][lane][4 bytes]: k 4t + byte in the low nibbles, 16 more in the high ones; lane = 4·row + t
//              INT1           [lane][4 bytes]: bit 2·step + half of byte q is k 32·step + 16·half + 4t + q
//            with kPairs chunks of gates and of what they gate take turns
//   scales   per row of W [n]; MX [n / 8][k / 128][8][4] E8M0
//   y        [m, outputs] in rows, FP16 or codes or both (formats/results.cuh); residual FP16
//
// A warp sums 16 · kRowBlocks rows × 8 · kOutBlocks outputs: x is A, weights are B. A step is 32 bytes of x; the next one's operands are
// loaded while this one multiplies. FP8 has no tensor core of its own before sm_89, and mma.sync's is made of FP16's on sm_90: both
// operands become FP16, exactly, and sums are FP32. MX becomes BF16, scales and all. Integers of 4 bits are multiplied as 16 times what
// they are, which needs no sign extension. Every sum has a fixed order.
//
//   stage:  | x | weights | scales of MX |      (tile_block.cuh; filled by tile_feed.cuh)
//
// Configuration: kWeight, kN, kImages, kHeight, kWidth, kChannels, kKernelY, kKernelX, kStrideY, kStrideX, kPaddingY, kPaddingX, kOutHeight,
// kOutWidth; kScaled (a scale per row of W), kRowScales or kOneScale (of x), kBias, kPairs, kResidual, and
// apply(value, paired value, residual), and what results.cuh asks for. n is padded to chunks, MX needs channels % 32 = 0, kPairs n % 16 = 0.
// Tuning: kTileRows, kTileOutputs, kWarpRows, kWarpOutputs, kStages, kBlocks, kSplit (blocks of a cluster that share out k; sm_90).
#pragma once
#include "matmul/tile/tile_feed.cuh"
#include "matmul/tile/tile_store.cuh"

namespace ladder {

template <class C>
struct Tile {
  using L = TileBlock<C>;
  using T = typename L::T;
  using Sum = typename L::Sum;
  using Sums = typename TileStore<C>::Sums;

  static constexpr int kSharedBytes = L::kSharedBytes;
  static constexpr int kBlockThreads = L::kBlockThreads;
  static constexpr int kSteps = 4;
  static_assert(!C::kWgmma);

  const uint32_t base;
  const int warpM, warpN, lane;

  __device__ static void run(const TileArguments& p) {
    extern __shared__ __align__(1024) uint8_t shared[];
    const int warp = threadIdx.x / 32;
    Tile{sharedAddress(shared), warp / L::kWarpsN, warp % L::kWarpsN, static_cast<int>(threadIdx.x % 32)}.multiply(p);
  }

 private:
  /// What a step multiplies: A of each 16 rows, B of each 8 outputs; packed weights have one word of B. MX: multipliers besides.
  struct Operands {
    uint32_t a[L::kRowBlocks][4], b[L::kOutBlocks][2];
    uint32_t aScale[L::kMx ? L::kRowBlocks : 1][2], bScale[L::kMx ? L::kOutBlocks : 1];
  };

  __device__ __forceinline__ void multiply(const TileArguments& p) const {
    const int rank = C::kSplit > 1 ? blockIdx.x % C::kSplit : 0;
    TileFeed<C> feed(p, base, rank);
    feed.fill();

    Operands operands[2];
    uint32_t stage = base;
    waitForCopies<C::kStages - 2>();
    __syncthreads();
    load<0>(stage, operands[0]);
    feed.template copy<0, kSteps>();

    const int panels = L::firstPanel(rank + 1) - L::firstPanel(rank);
    for (int tile = blockIdx.x / C::kSplit; tile < L::kTiles; tile += C::kBlocks / C::kSplit) {
      const TileStore<C> store{p, base + L::termsOf(tile), L::outputOf(tile)};
      store.prefetchResidual(L::rowOf(tile), L::outputOf(tile));
      Sums sums = {};
      for (int panel = 0; panel < panels; ++panel) {
        step<0>(stage, feed, operands, sums);
        step<1>(stage, feed, operands, sums);
        step<2>(stage, feed, operands, sums);
        // All threads have read this stage, which the feed fills anew, and the next one is there.
        const uint32_t read = stage;
        stage = stage == base + (C::kStages - 1) * L::kStageBytes ? base : stage + L::kStageBytes;
        waitForCopies<C::kStages - 2>();
        __syncthreads();
        feed.advance(read);
        step<3>(stage, feed, operands, sums);  // after the last tile, what it reads ahead is not used
      }
      store.finishTile(sums, base, tile, rank, warpM, warpN, lane);
    }
  }

  /// sums += the products of a step, while the next one's operands are loaded (from `stage`) and copies go out.
  template <int kStep>
  __device__ __forceinline__ void step(uint32_t stage, TileFeed<C>& feed, Operands (&operands)[2], Sums& sums) const {
    constexpr int kNext = (kStep + 1) % kSteps;
    load<kNext>(stage, operands[kNext % 2]);
    feed.template copy<kNext, kSteps>();
    const Operands& now = operands[kStep % 2];
    if constexpr (L::kInteger) {
#pragma unroll
      for (int j = 0; j < L::kOutBlocks; ++j) {
        uint32_t low, high;
        if constexpr (T::kIsNibble) low = decodeNibbles(now.b[j][0], 0), high = decodeNibbles(now.b[j][0], 1);
        else low = decodeBits(now.b[j][0], 2 * kStep), high = decodeBits(now.b[j][0], 2 * kStep + 1);
#pragma unroll
        for (int i = 0; i < L::kRowBlocks; ++i) mmaS8(sums[i][j], now.a[i], low, high);
      }
    } else if constexpr (L::kXBytes == 2) {
#pragma unroll
      for (int j = 0; j < L::kOutBlocks; ++j) {
#pragma unroll
        for (int i = 0; i < L::kRowBlocks; ++i) mmaFp16(sums[i][j], now.a[i], now.b[j][0], now.b[j][1]);
      }
    } else {
      multiplyHalf<0>(now, sums);
      multiplyHalf<1>(now, sums);
    }
  }

  // ---- Load ---------------------------------------------------------------------------------------------------------------

  template <int kStep>
  __device__ __forceinline__ void load(uint32_t stage, Operands& operands) const {
    // Lane l names row l % 8 of matrix l / 8: of A rows 0…7 and 8…15 of a piece, then of the next piece, pieces XOR row & 7.
    const uint32_t rows = stage + (warpM * C::kWarpRows + lane % 16) * 128 + (lane / 16 ^ lane % 8) * 16 ^ kStep * 32;
#pragma unroll
    for (int i = 0; i < L::kRowBlocks; ++i) loadMatrices(rows + i * 2048, operands.a[i]);
    const uint32_t weights = stage + L::kWeightsAt + warpN * L::kOutBlocks * L::kChunkBytes;
    if constexpr (T::kIsNibble) {
#pragma unroll
      for (int j = 0; j < L::kOutBlocks; ++j) operands.b[j][0] = loadShared4(weights + j * L::kChunkBytes + kStep * 128 + lane * 4);
    } else if constexpr (T::kIsInt1) {
#pragma unroll
      for (int j = 0; j < L::kOutBlocks; ++j) operands.b[j][0] = loadShared4(weights + j * L::kChunkBytes + lane * 4);
    } else {
      // Of B two pieces along k of 8 outputs, then of the next 8.
      const uint32_t outputs = weights + lane / 16 * L::kChunkBytes + lane / 8 % 2 * 128 + lane % 8 * 16 + kStep * 256;
#pragma unroll
      for (int j = 0; j < L::kOutBlocks; j += 2) {
        uint32_t matrices[4];
        loadMatrices(outputs + j * L::kChunkBytes, matrices);
        operands.b[j][0] = matrices[0], operands.b[j][1] = matrices[1], operands.b[j + 1][0] = matrices[2],
        operands.b[j + 1][1] = matrices[3];
      }
    }
    if constexpr (L::kMx) loadScales<kStep>(stage, operands);
  }

  /// Of rows g and g + 8 of each 16 of x, and of row g of each 8 weights: 32 codes share one, a step.
  template <int kStep>
  __device__ __forceinline__ void loadScales(uint32_t stage, Operands& operands) const {
    using Mx = MxBf16<C::kWeight>;
    const uint32_t rows = stage + L::kXScalesAt + (warpM * C::kWarpRows + lane / 4) * 4 + kStep;
    const uint32_t outputs = stage + L::kScalesAt + (warpN * C::kWarpOutputs + lane / 4) * 4 + kStep;
#pragma unroll
    for (int i = 0; i < L::kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) operands.aScale[i][half] = Mx::multiplier(loadShared1(rows + (i * 16 + half * 8) * 4), 0);
    }
#pragma unroll
    for (int j = 0; j < L::kOutBlocks; ++j) operands.bScale[j] = Mx::multiplier(loadShared1(outputs + j * 32), Mx::kLift);
  }

  // ---- Decode and multiply ------------------------------------------------------------------------------------------------

  /// Half of a step of codes of a byte, as numbers of two: of each four along k the even ones, then the odd ones, in both operands.
  template <int kHalf>
  __device__ __forceinline__ static void multiplyHalf(const Operands& now, Sums& sums) {
    uint32_t a[L::kRowBlocks][4];
#pragma unroll
    for (int i = 0; i < L::kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) decode(now.a[i][kHalf * 2 + half], now.aScale[L::kMx ? i : 0][half], a[i][half], a[i][2 + half]);
    }
#pragma unroll
    for (int j = 0; j < L::kOutBlocks; ++j) {
      uint32_t even, odd;
      decode(now.b[j][kHalf], now.bScale[L::kMx ? j : 0], even, odd);
#pragma unroll
      for (int i = 0; i < L::kRowBlocks; ++i) {
        if constexpr (L::kMx) mmaBf16(sums[i][j], a[i], even, odd);
        else mmaFp16(sums[i][j], a[i], even, odd);
      }
    }
  }

  __device__ __forceinline__ static void decode(uint32_t word, uint32_t scale, uint32_t& even, uint32_t& odd) {
    if constexpr (L::kMx) {
      using Mx = MxBf16<C::kWeight>;
      even = Mx::multiply(Mx::even(word), scale), odd = Mx::multiply(Mx::odd(word), scale);
    } else {
      decodeFp8<T::kIsE4m3>(word, even, odd);
    }
  }
};

/// By kBlocks blocks of kBlockThreads threads with kSharedBytes of shared memory, in clusters of kSplit.
template <class C>
__device__ __forceinline__ void tileProduct(const TileArguments& p) {
  Tile<C>::run(p);
}

}  // namespace ladder
