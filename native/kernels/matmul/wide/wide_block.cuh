// A tile of a wide product: 128 weight rows × 256 tokens, and how operands and shared memory hold it. Weight rows are the rows of the
// tensor cores' sums, tokens their columns; two warpgroups have 64 rows each. Activations lie in panels, 128 bytes of k for all tokens:
//
//   [k/64][tokens/8][8 pieces][8 tokens][8 FP16]     8-bit: [k/128][tokens/8][8 pieces][8 tokens][16]
//
// so that a tile's share of a panel is one run, and 8 tokens × 16 bytes are a core matrix of wgmma (wide_products.cuh) and of ldmatrix.
// Tokens past m up to a multiple of 8 are stored, read, and dropped. Weights lie tile after tile, panel after panel:
//
//   fp16, fp8    like activations: [n/128][k/64][16][8 pieces][8 rows][8], FP8 [n/128][k/128][16][8][8][16]
//   int4, nf4    [n/128][k/64][8 tiles of 16 rows] units as decode.cuh draws them for wgmma
//   mx           [n/128][k/64][8 tiles][2 units], as BF16 against tokens in BF16
//   int1         [n/128][k/128][8 tiles] halves of units: a lane's two words of 128 of k
//
// lib/compiler/kernels/matmul/wide.ts mirrors the sizes; the generated text asserts that both agree.
#pragma once
#include "matmul/operator.cuh"

namespace ladder {

template <class C>
struct WideTile {
  using T = FormatTraits<C::kWeight>;
  static constexpr int kRows = 128, kTokens = 256;
  /// Weights that the tensor cores read as they are stored; others are decoded in registers.
  static constexpr bool kStoredOperand = C::kWeight == WeightFormat::kFp16 || (T::kIsFp8 && !T::kIsMx);
  /// Bytes of a token's activation: MX ones are numbers in BF16.
  static constexpr int kTokenBytes = T::kIsMx ? 2 : T::kActivationBytes;
  static constexpr int kPanelBytes = 128, kPanelK = kPanelBytes / kTokenBytes, kPanels = C::kK / kPanelK;
  static_assert(C::kK % kPanelK == 0 && C::kNorm == Norm::kNone);

  // Bytes of one tile and panel.
  static constexpr int kTokensBytes = kTokens * kPanelBytes;
  static constexpr int kWeightsBytes = kStoredOperand ? kRows * kPanelBytes : kRows * kPanelK * WeightRecord<C::kWeight>::kBits / 8;
  static constexpr bool kScaled = C::kGroup > 0;
  /// Panels that share scales, and scales of a row in a panel.
  static constexpr int kPanelsPerScale = kScaled && C::kGroup > kPanelK ? C::kGroup / kPanelK : 1;
  static constexpr int kPanelScales = kScaled && C::kGroup < kPanelK ? kPanelK / C::kGroup : 1;
  static constexpr int kScalesBytes = kScaled ? kRows * kPanelScales * (T::kIsMx ? 1 : 2) : 0;

  /// Groups of 8 tokens.
  static constexpr int kTokenGroups = (C::kM + 7) / 8, kTileGroups = kTokens / 8;
  static constexpr int kTokenTiles = (C::kM + kTokens - 1) / kTokens, kRowTiles = (C::kN + kRows - 1) / kRows;

  static constexpr bool kSilu = C::kFunction == Function::kSiluMul;
  /// Channels of y, and of a tile; a tile's 16-row parts hold eight gate rows and their eight up rows.
  static constexpr int kOutputs = kSilu ? C::kN / 2 : C::kN, kTileOutputs = kSilu ? kRows / 2 : kRows;
  static constexpr bool kTokenScales = C::kQuantisedInput && !T::kIsMx;
  static_assert(!C::kPanelOutput || kOutputs % 64 == 0);
  static_assert(C::kQuantisedInput == (T::kIsMx || T::kActivationBytes == 1));
  /// What sums lack, but for scales of rows and tokens.
  static constexpr float kSumScale = T::kIsMx ? 1 << MxBf16<C::kWeight>::kLift : T::kProductScale;

  /// Operands of one tile and panel.
  __device__ __forceinline__ static const uint8_t* tokensAt(const DenseArguments& p, int panel, int group) {
    return static_cast<const uint8_t*>(p.x) + (static_cast<size_t>(panel) * kTokenGroups + group) * 1024;
  }
  __device__ __forceinline__ static const uint8_t* weightsAt(const DenseArguments& p, int rowTile, int panel) {
    return p.weight + (static_cast<size_t>(rowTile) * kPanels + panel) * kWeightsBytes;
  }
  __device__ __forceinline__ static const uint8_t* scalesAt(const DenseArguments& p, int rowTile, int panel) {
    return static_cast<const uint8_t*>(p.scale) +
           (static_cast<size_t>(rowTile) * (kPanels / kPanelsPerScale) + panel / kPanelsPerScale) * kScalesBytes;
  }

  /// Row of the operator that row `row` of a tile is (with SiLU, of the weight matrix: gates first, then ups).
  __device__ __forceinline__ static int rowOf(int rowTile, int row) {
    if constexpr (kSilu) return rowTile * kTileOutputs + row / 16 * 8 + row % 8 + (row % 16 / 8) * kOutputs;
    return rowTile * kRows + row;
  }
};

/// Which tile comes when: kGroupTiles tiles along the tokens for each step along the rows, so that what blocks read at the same time
/// is a rectangle and stays in L2.
template <class C>
struct WideOrder {
  using L = WideTile<C>;
  /// A cluster's blocks have rows of their own and the tokens in common.
  static constexpr int kRowSteps = (L::kRowTiles + C::kCluster - 1) / C::kCluster;
  static constexpr int kTiles = kRowSteps * L::kTokenTiles;

  int tokenTile, rowStep;
  __device__ __forceinline__ explicit WideOrder(int tile) {
    constexpr int kWhole = C::kGroupTiles * kRowSteps;
    const int group = tile / kWhole, rest = tile % kWhole;
    const int width = min(C::kGroupTiles, L::kTokenTiles - group * C::kGroupTiles);
    tokenTile = group * C::kGroupTiles + rest % width;
    rowStep = rest / width;
  }
};

}  // namespace ladder
