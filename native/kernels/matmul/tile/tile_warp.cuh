// What a warp multiplies by mma.sync of a panel of tile.cuh's operands in shared memory: 16 · kRowBlocks rows of x, pieces of 16 bytes XOR
// row & 7, by 8 · kOutBlocks weight rows in chunks. A panel has four steps of 32 bytes of x.
#pragma once
#include "matmul/tile/tile_block.cuh"

namespace ladder {

template <class C>
struct TileWarp {
  using L = TileBlock<C>;
  using T = typename L::T;
  using Sums = typename L::Part[L::kRowBlocks][L::kOutBlocks][4];
  static constexpr int kSteps = 4;

  /// What a step multiplies: A of each 16 rows, B of each 8 outputs; packed weights have one word of B. MX: multipliers besides.
  struct Operands {
    uint32_t a[L::kRowBlocks][4], b[L::kOutBlocks][2];
    uint32_t aScale[L::kMx ? L::kRowBlocks : 1][2], bScale[L::kMx ? L::kOutBlocks : 1];
  };

  /// @param rows, weights where the warp's first row and first chunk of the panel lie; chunks are kChunkStride bytes apart
  template <int kChunkStride>
  __device__ __forceinline__ static void load(uint32_t rows, uint32_t weights, int step, int lane, Operands& operands) {
    // Lane l names row l % 8 of matrix l / 8: of A rows 0…7 and 8…15 of a piece, then of the next piece, pieces XOR row & 7.
    rows += lane % 16 * 128 + ((lane / 16 ^ lane % 8) * 16 ^ step * 32);
#pragma unroll
    for (int i = 0; i < L::kRowBlocks; ++i) loadMatrices(rows + i * 2048, operands.a[i]);
    loadWeights<kChunkStride>(weights, step, lane, operands);
  }

  template <int kChunkStride>
  __device__ __forceinline__ static void loadWeights(uint32_t weights, int step, int lane, Operands& operands) {
    if constexpr (T::kIsNibble) {
#pragma unroll
      for (int j = 0; j < L::kOutBlocks; ++j) operands.b[j][0] = loadShared4(weights + j * kChunkStride + step * 128 + lane * 4);
    } else if constexpr (T::kIsInt1) {
#pragma unroll
      for (int j = 0; j < L::kOutBlocks; ++j) operands.b[j][0] = loadShared4(weights + j * kChunkStride + lane * 4);
    } else {
      // Of B two pieces along k of 8 outputs, then of the next 8.
      const uint32_t outputs = weights + lane / 16 * kChunkStride + lane / 8 % 2 * 128 + lane % 8 * 16 + step * 256;
#pragma unroll
      for (int j = 0; j < L::kOutBlocks; j += 2) {
        uint32_t matrices[4];
        loadMatrices(outputs + j * kChunkStride, matrices);
        operands.b[j][0] = matrices[0], operands.b[j][1] = matrices[1], operands.b[j + 1][0] = matrices[2],
        operands.b[j + 1][1] = matrices[3];
      }
    }
  }

  /// Of rows g and g + 8 of each 16 of x, and of row g of each 8 weights: 32 codes share one, a step.
  /// @param rows, weights scales of the warp's first row and weight row, four a panel
  __device__ __forceinline__ static void loadScales(uint32_t rows, uint32_t weights, int step, int lane, Operands& operands) {
    using Mx = MxBf16<C::kWeight>;
    rows += lane / 4 * 4 + step, weights += lane / 4 * 4 + step;
#pragma unroll
    for (int i = 0; i < L::kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) operands.aScale[i][half] = Mx::multiplier(loadShared1(rows + (i * 16 + half * 8) * 4), 0);
    }
#pragma unroll
    for (int j = 0; j < L::kOutBlocks; ++j) operands.bScale[j] = Mx::multiplier(loadShared1(weights + j * 32), Mx::kLift);
  }

  /// sums += the products of a step.
  __device__ __forceinline__ static void multiply(const Operands& now, int step, Sums& sums) {
    if constexpr (L::kInteger) {
#pragma unroll
      for (int j = 0; j < L::kOutBlocks; ++j) {
        uint32_t low, high;
        if constexpr (T::kIsNibble) low = decodeNibbles(now.b[j][0], 0), high = decodeNibbles(now.b[j][0], 1);
        else low = decodeBits(now.b[j][0], 2 * step), high = decodeBits(now.b[j][0], 2 * step + 1);
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

 private:
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

}  // namespace ladder
