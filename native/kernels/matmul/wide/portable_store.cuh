// What follows the sums of a warp of portable.cuh: scales, bias, function and residual in the order of the sums' fragments, whose
// rows are channels; then, 8 tokens at a time, each matrix of 8 channels is transposed and laid down in shared memory, so that
// every lane stores 8 channels of a token: 16 bytes. A residual comes the same way in the other direction.
#pragma once
#include "matmul/wide/portable_block.cuh"

namespace ladder {

template <class C>
struct PortableStore {
  using L = PortableBlock<C>;
  using Sum = Accumulator<C::kWeight>;
  using Sums = Sum[L::kRowBlocks][L::kTokenBlocks][4];

  const DenseArguments& p;
  /// The warp's first place for turning; its first row of weights and its first token.
  const uint32_t turn;
  const int row, token, lane;

  __device__ __forceinline__ void run(const Sums& sums) const {
    // Not an array of arrays: nvcc 13.0 gives the members of all but the first row zeros instead of their initialisers.
    RowTerms<C> terms[2 * L::kRowBlocks];
#pragma unroll
    for (int i = 0; i < 2 * L::kRowBlocks; ++i) loadTerms(i, terms[i]);
    Residual residual;
    loadResidual(0, residual);
    storeFrom<0>(sums, terms, residual);
  }

 private:
  /// Pieces of 8 channels that 16 rows of weights become; vectors of 16 bytes that a lane has of 8 tokens.
  static constexpr int kPiecesPerBlock = L::kSilu ? 1 : 2;
  static constexpr int kVectors = (L::kPieces * 8 + 31) / 32;
  struct Residual { uint4 values[kVectors]; };

  /// The warp's tokens from the j-th eight on. A loop of this size nvcc does not always unroll, and sums must stay in registers.
  template <int j>
  __device__ __forceinline__ void storeFrom(const Sums& sums, const RowTerms<C> (&terms)[2 * L::kRowBlocks], Residual& residual) const {
    if constexpr (j < L::kTokenBlocks) {
      const uint32_t place = turn + j % 2 * L::kTurnBytes;
      float added[L::kRowBlocks][4];
      turnResidual(place, residual, added);
      if constexpr (j + 1 < L::kTokenBlocks) loadResidual(j + 1, residual);
      float xScale[2] = {L::kSumScale, L::kSumScale};
      loadTokenScales(j, xScale);
#pragma unroll
      for (int i = 0; i < L::kRowBlocks; ++i) {
        float values[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) values[e] = terms[2 * i + e / 2].apply(static_cast<float>(sums[i][j][e]), xScale[e % 2]);
#pragma unroll
        for (int e = 0; e < 2 * kPiecesPerBlock; e += 2) {
          const __half2 pair = __halves2half2(finish<C>(values[e], values[(e + 2) % 4], added[i][e]),
                                              finish<C>(values[e + 1], values[(e + 3) % 4], added[i][e + 1]));
          storeShared4(place + (i * kPiecesPerBlock + e / 2) * 128 + lane * 4, transposeMatrix(*reinterpret_cast<const uint32_t*>(&pair)));
        }
      }
      // The other place is free thereafter: all lanes have read it.
      __syncwarp();
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        if (hasVector(v)) store(j, v, loadShared16(place + (v * 32 + lane) * 16));
      }
      storeFrom<j + 1>(sums, terms, residual);
    }
  }

  __device__ __forceinline__ bool hasVector(int v) const { return L::kPieces % 4 == 0 || v * 4 + lane / 8 < L::kPieces; }
  /// First channel of the lane's vector, and its token.
  __device__ __forceinline__ int channelOf(int v) const { return (L::kSilu ? row / 2 : row) + (v * 4 + lane / 8) * 8; }
  __device__ __forceinline__ int tokenOf(int j) const { return token + j * 8 + lane % 8; }
  __device__ __forceinline__ static bool exists(int tokenOfAll) { return C::kM % C::kTileTokens == 0 || tokenOfAll < C::kM; }

  /// Of a lane's row among the warp's i-th eight.
  __device__ __forceinline__ void loadTerms(int i, RowTerms<C>& terms) const {
    // SiLU: rows 0…7 of a tile are gates, which come first in scales and bias, the others their ups.
    const int n = (L::kSilu ? row / 2 + i / 2 * 8 + i % 2 * L::kOutputs : row + i * 8) + lane / 4;
    const bool exists = L::kSilu ? row / 2 + i / 2 * 8 < L::kOutputs : n < C::kN;
    if (C::kN % C::kTileRows == 0 || exists) {
      if constexpr (C::kWeight != WeightFormat::kFp16 && !L::kScaled) terms.scale = __half2float(static_cast<const __half*>(p.scale)[n]);
      if constexpr (C::kBias) terms.bias = __half2float(p.bias[n]);
    }
  }

  __device__ __forceinline__ void loadTokenScales(int j, float (&xScale)[2]) const {
    if constexpr (L::kBytes) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int t = token + j * 8 + lane % 4 * 2 + e;
        xScale[e] *= static_cast<const float*>(p.xScale)[C::kM % C::kTileTokens > 0 ? min(t, C::kM - 1) : t];
      }
    }
  }

  // ---- Residual -----------------------------------------------------------------------------------------------------------

  __device__ __forceinline__ void loadResidual(int j, Residual& residual) const {
    if constexpr (C::kResidual) {
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        residual.values[v] = {};
        if (hasVector(v) && exists(tokenOf(j))) readResidual(channelOf(v), tokenOf(j), residual.values[v]);
      }
    }
  }

  __device__ __forceinline__ void readResidual(int channel, int t, uint4& values) const {
    const __half* const from = p.residual + static_cast<size_t>(t) * L::kOutputs + channel;
    if constexpr (L::kOutputs % 8 == 0) {
      if (channel < L::kOutputs) values = *reinterpret_cast<const uint4*>(from);
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e)
        if (channel + e < L::kOutputs) reinterpret_cast<__half*>(&values)[e] = from[e];
    }
  }

  /// To the order of the sums' fragments, by way of `place`.
  __device__ __forceinline__ void turnResidual(uint32_t place, const Residual& residual, float (&added)[L::kRowBlocks][4]) const {
    if constexpr (C::kResidual) {
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        if (hasVector(v)) storeShared16(place + (v * 32 + lane) * 16, residual.values[v]);
      }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < L::kPieces; i += 2) {
        uint32_t pieces[2];
        const int last = L::kPieces - 1;
        loadMatricesTransposed(place + min(i + lane / 8 % 2, last) * 128 + lane % 8 * 16, pieces);
#pragma unroll
        for (int e = 0; e < 2 && i + e < L::kPieces; ++e) {
          const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(&pieces[e]));
          float* const to = &added[(i + e) / kPiecesPerBlock][(i + e) % kPiecesPerBlock * 2];
          to[0] = pair.x, to[1] = pair.y;
        }
      }
      __syncwarp();
    }
  }

  // ---- Store --------------------------------------------------------------------------------------------------------------

  __device__ __forceinline__ void store(int j, int v, uint4 values) const {
    const int channel = channelOf(v), t = tokenOf(j);
    if (channel >= L::kOutputs) return;
    if constexpr (C::kPanelOutput) {
      if (exists(t & ~7)) {
        uint8_t* const y = reinterpret_cast<uint8_t*>(p.y);
        const size_t group = static_cast<size_t>(channel / 64) * L::kTokenGroups + t / 8;
        *reinterpret_cast<uint4*>(y + group * 1024 + channel % 64 / 8 * 128 + t % 8 * 16) = values;
      }
    } else if (exists(t)) {
      __half* const to = p.y + static_cast<size_t>(t) * L::kOutputs + channel;
      if constexpr (L::kOutputs % 8 == 0) {
        *reinterpret_cast<uint4*>(to) = values;
      } else {
#pragma unroll
        for (int e = 0; e < 8; ++e)
          if (channel + e < L::kOutputs) to[e] = reinterpret_cast<const __half*>(&values)[e];
      }
    }
  }
};

}  // namespace ladder
