// What the dense decoding kernels compute and are given: y = epilogue(quantise(norm(x)) · dequantise(W)ᵀ), as
// lib/compiler/kernels/matmul/shape.ts finds it in a program. A configuration is a struct of constants, written there as well:
//
//   kWeight, kM, kN, kK, kGroup, kQuantisedInput, kNorm, kEps, kBias, kFunction, kResidual    the operator
//   kBlocks, kWarps, kStageUnits, kStages, …                                                  the tuning (each kernel's file)
//   kNextRuns, kNextTiles, kNextTileBytes, kNextBytes                                         the weights of the product after this one
#pragma once
#include "formats/decode.cuh"

/// Blocks per cluster, where there are clusters.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define LADDER_CLUSTER(blocks) __cluster_dims__(blocks, 1, 1)
#else
#define LADDER_CLUSTER(blocks)
#endif

namespace ladder {

enum class Norm { kNone, kRms, kLayer };
enum class Function { kNone, kSiluMul, kGeluTanh };

/// Absent operands are null. FP16 unless said otherwise.
struct DenseArguments {
  const void* x;              ///< [m, k] FP16, INT8 or FP8
  const void* xScale;         ///< [m] FP32 or [m, k/32] E8M0
  const uint8_t* weight;      ///< tiles of 16 rows, each contiguous over k
  const void* scale;          ///< [n], or [n/16][k/group][8][2] FP16; MX: [n/16][k/32][8][2] E8M0
  const __half* gain;         ///< [k]
  const __half* beta;         ///< [k]
  const __half* bias;         ///< [n]
  const __half* residual;     ///< [m, n]
  const uint8_t* next;        ///< weights of the product after this one, or null: read ahead, never used
  __half* y;                  ///< [m, n], SiLU·up: [m, n/2]
};

/// Numbers that both kernels derive from a configuration.
template <class C>
struct DenseShape {
  using T = FormatTraits<C::kWeight>;
  static_assert((C::kN % 16 == 0 || C::kFunction != Function::kSiluMul) && C::kK % T::kUnitK == 0);
  /// The last tile may hold rows past n: stored, read, and dropped.
  static constexpr int kTiles = (C::kN + 15) / 16;
  /// Units of one tile.
  static constexpr int kUnits = C::kK / T::kUnitK;
  static constexpr bool kSilu = C::kFunction == Function::kSiluMul;
  static constexpr int kOutputs = kSilu ? C::kN / 2 : C::kN;
  /// Outputs of one tile: with SiLU, row r of the tile is a gate and row r + 8 its up.
  static constexpr int kTileOutputs = kSilu ? 8 : 16;
  /// Scales that vary along k travel with the weights: bytes per unit, and k per scale.
  static constexpr bool kScaled = C::kGroup > 0;
  static constexpr int kScaleK = kScaled ? C::kGroup : C::kK;
  static constexpr int kUnitsPerScale = kScaled ? (C::kGroup > T::kUnitK ? C::kGroup / T::kUnitK : 1) : 1;
  static constexpr int kScaleBytes = T::kIsMx ? 16 : 32;  // of one group of a tile
  static constexpr int kScaleBytesPerUnit = kScaled ? kScaleBytes / kUnitsPerScale : 0;
  static_assert(!kScaled || C::kGroup % T::kUnitK == 0);
};

/// The weights that the blocks of the product after this one begin with go to L2: called by `lanes` lanes of a block that has
/// asked for the last of its own, so that memory has work while blocks end, sums meet and the next kernel starts. There are
/// kNextRuns places to begin, spread evenly over kNextTiles tiles; kNextBytes of each.
template <class C>
__device__ __forceinline__ void prefetchNext(const DenseArguments& p, int lane, int lanes) {
#if __CUDA_ARCH__ >= 900
  if constexpr (C::kNextRuns > 0) {
    constexpr int kPieceBytes = 8192, kPieces = (C::kNextBytes + kPieceBytes - 1) / kPieceBytes;
    constexpr int kPerRun = C::kNextTiles / C::kNextRuns, kExtra = C::kNextTiles % C::kNextRuns;
    for (int i = blockIdx.x * lanes + lane; i < C::kNextRuns * kPieces; i += C::kBlocks * lanes) {
      const int run = i / kPieces, at = i % kPieces * kPieceBytes;
      bulkPrefetchL2(p.next + static_cast<size_t>(run * kPerRun + min(run, kExtra)) * C::kNextTileBytes + at,
                     min(kPieceBytes, C::kNextBytes - at));
    }
  }
#endif
}

// Divisions to 2 ulp: exact ones take longer than all else that follows a sum. 0 where the divisor is beyond 2^126.
__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0f + __expf(-x)); }

__device__ __forceinline__ float geluTanh(float x) {
  const float u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
  // tanh(u) = 1 − 2 / (e^2u + 1); both ends are right when e^2u overflows or vanishes.
  return 0.5f * x * (2.0f - __fdividef(2.0f, __expf(2.0f * u) + 1.0f));
}

/// What an output row needs beside its sum, fetched before the product ends.
template <class C>
struct RowTerms {
  float scale = 1.0f, bias = 0.0f;

  __device__ __forceinline__ void load(const DenseArguments& p, int n) {
    if constexpr (C::kWeight != WeightFormat::kFp16 && !DenseShape<C>::kScaled)
      scale = __half2float(static_cast<const __half*>(p.scale)[n]);
    if constexpr (C::kBias) bias = __half2float(p.bias[n]);
  }
  __device__ __forceinline__ float apply(float sum, float xScale) const { return sum * xScale * scale + bias; }
};

/// y of one output from its row's value (SiLU: from gate and up).
template <class C>
__device__ __forceinline__ __half finish(float value, float up, float residual) {
  if constexpr (C::kFunction == Function::kSiluMul) value = silu(value) * up;
  if constexpr (C::kFunction == Function::kGeluTanh) value = geluTanh(value);
  if constexpr (C::kResidual) value += residual;
  return __float2half_rn(value);
}

}  // namespace ladder
