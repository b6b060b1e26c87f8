// A block of tile.cuh: what it is given, what its constants follow from a configuration, and where everything lies in shared memory
// and in the stored weights.
#pragma once
#include <type_traits>

#include "core/copy_async.cuh"
#include "formats/decode.cuh"
#include "formats/results.cuh"

/// Blocks per cluster, where there are clusters.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define LADDER_TILE_CLUSTER(blocks) __cluster_dims__(blocks, 1, 1)
#else
#define LADDER_TILE_CLUSTER(blocks)
#endif

namespace ladder {

/// Absent operands are null. FP16 unless said otherwise.
struct TileArguments {
  const void* x;           ///< [images, height, width, channels] FP16, or codes of a byte; a dense product: [m, k]; kPatches: planes
  const void* xScale;      ///< FP32, of each row or one of all; MX: E8M0 of every 32 channels
  const uint8_t* weight;   ///< chunks, as tile.cuh draws them
  const void* scale;       ///< [n]; MX: E8M0, [n / 8][k / 128][8][4]
  const __half* bias;      ///< [n]
  const __half* residual;  ///< [m, outputs]; kTokens: [rows of an image + 1, outputs]
  const __half* token;     ///< [outputs], of kTokens
  ResultArguments result;  ///< [m, outputs]; kTokens: [images · (rows of an image + 1), outputs]
  // Of the second product, as x to bias are of the first.
  const void *x2, *xScale2;
  const uint8_t* weight2;
  const void* scale2;
  const __half* bias2;
};

/// C::Second of a configuration of one product.
struct NoSecond {
  static constexpr int kChannels = 0, kHeight = 1, kWidth = 1, kStride = 1, kMost = 0;
  static constexpr bool kBias = false;
};

/// Four weights of INT4, which are the low or high nibbles of a word, as 16 times what they are; of INT1, bit `bit` of each byte, as ∓64.
__device__ __forceinline__ uint32_t decodeNibbles(uint32_t word, int half) { return (half ? word : word << 4) & 0xf0f0f0f0u; }
__device__ __forceinline__ uint32_t decodeBits(uint32_t word, int bit) {
  return lop3<kAndXor>(word << (7 - bit), 0x80808080u, 0x40404040u);
}

template <class C>
struct TileBlock {
  using T = FormatTraits<C::kWeight>;

  // Operands: FP16; FP8, which becomes FP16; MX, which becomes BF16; integers of a byte against 4 or 1 bits.
  static constexpr bool kMx = T::kIsMx, kFp8 = T::kIsFp8 && !kMx, kInteger = T::kIsNibble || T::kIsInt1;
  static_assert(C::kWeight != WeightFormat::kNf4);
  static constexpr int kXBytes = C::kWeight == WeightFormat::kFp16 ? 2 : 1;
  /// What sums are to be multiplied by, but for scales: integers of 4 bits lie in the upper half of their byte.
  static constexpr float kSumScale = C::kByBlocks ? 1 : kMx ? 1 << MxBf16<C::kWeight>::kLift : T::kIsNibble ? 1.0f / 16 : T::kProductScale;
  static_assert(!C::kByBlocks || (kMx && C::kWgmma));

  // k: taps of the kernel, each of kChannels. A panel is 128 bytes of x along k; what is past k is zero in x.
  static constexpr int kTaps = C::kKernelY * C::kKernelX, kK = kTaps * C::kChannels;
  static constexpr int kPanelK = 128 / kXBytes, kPanels = (kK + kPanelK - 1) / kPanelK;
  /// Whether row after row of x is what is multiplied.
  static constexpr bool kLinear = kTaps == 1 && C::kStrideY == 1 && C::kStrideX == 1 && C::kPaddingY == 0 && C::kPaddingX == 0;
  static constexpr int kM = C::kImages * C::kOutHeight * C::kOutWidth;
  static constexpr int kRowBytes = C::kChannels * kXBytes;
  /// Patches of image planes: of FP16, whole panels of them.
  static_assert(!C::kPatches || (kXBytes == 2 && kK % kPanelK == 0 && C::kStrideY == C::kKernelY && C::kStrideX == C::kKernelX));

  // The second product's, whose panels follow: one tap, no padding.
  static constexpr bool kSecond = C::Second::kChannels > 0;
  static constexpr int kSecondPanels = (C::Second::kChannels + kPanelK - 1) / kPanelK, kAllPanels = kPanels + kSecondPanels;
  static constexpr int kSecondRowBytes = C::Second::kChannels * kXBytes;
  static constexpr bool kSecondLinear = C::Second::kStride == 1;

  // Where both have scales of their own, sums of the first become, before those of the second are added to them,
  //   kPacked    integers, where there is room: what stands kShift bits further up, of which the second's reach less than half
  //   kRescaled  FP8's, where they are so few that the tensor cores' own accumulators may keep them: numbers in units of the second's
  //   kFolded    others: FP32, scaled, and so do the second's
  /// Numbers that FP8's sums are truncated over, in panels.
  static constexpr int kSpan = 2;
  static constexpr int64_t kMost = static_cast<int64_t>(C::Second::kMost), kMostSecond = kMost * C::Second::kChannels;
  static constexpr int kUnitBits = T::kIsNibble ? 4 : 6;
  static constexpr int bitsOf(int64_t most) { return most == 0 ? 0 : 1 + bitsOf(most / 2); }
  static constexpr int kShift = bitsOf(kMostSecond) + 1;
  static constexpr bool kPacked = kSecond && kInteger && (kMost * kK << kShift) + kMostSecond < int64_t{1} << (31 - kUnitBits);
  static constexpr bool kRescaled = kSecond && kFp8 && kAllPanels <= kSpan;
  static constexpr bool kFolded = kSecond && C::kScaled && !kPacked && !kRescaled;
  static_assert(!kSecond || !C::kScaled || C::kOneScale);
  /// Of products; and of a tile.
  using Part = std::conditional_t<kInteger, int32_t, float>;
  using Sum = std::conditional_t<kFolded, float, Part>;
  static_assert(!kSecond || !(C::kPairs || C::kRowScales || C::kResidual));
  /// The row of its x behind a row of the product.
  __device__ __forceinline__ static int secondPlace(int row) {
    if constexpr (kSecondLinear) return row;
    constexpr int kStride = C::Second::kStride, kHigh = (C::Second::kHeight - 1) / kStride + 1,
                  kWide = (C::Second::kWidth - 1) / kStride + 1;
    const int image = row / (kHigh * kWide), within = row % (kHigh * kWide);
    return (image * C::Second::kHeight + within / kWide * kStride) * C::Second::kWidth + within % kWide * kStride;
  }

  // Weights: 8 rows of a panel are a chunk.
  static constexpr int kChunkBytes = 8 * kPanelK * T::Record::kBits / 8, kChunks = (C::kN + 7) / 8;
  /// Outputs: with kPairs, of two rows each, which lie in chunks beside each other.
  static constexpr int kOutputs = C::kPairs ? C::kN / 2 : C::kN;
  static_assert(!C::kPairs || C::kN % 16 == 0);

  // Tiles of rows × weight rows, the blocks of a cluster that share out a tile's panels, and a block's warps.
  static constexpr int kRowTiles = (kM + C::kTileRows - 1) / C::kTileRows, kOutTiles = (C::kN + C::kTileOutputs - 1) / C::kTileOutputs;
  static constexpr int kTiles = kRowTiles * kOutTiles;
  static_assert(C::kSplit == 1 || (C::kSplit <= kAllPanels && C::kBlocks == kTiles * C::kSplit));
  static constexpr int kWarpsM = C::kTileRows / C::kWarpRows, kWarpsN = C::kTileOutputs / C::kWarpOutputs;
  static_assert(C::kTileRows % C::kWarpRows == 0 && C::kTileOutputs % C::kWarpOutputs == 0);
  static constexpr int kBlockThreads = kWarpsM * kWarpsN * 32;
  /// A warp's products: 16 rows × 8 weight rows each.
  static constexpr int kRowBlocks = C::kWarpRows / 16, kOutBlocks = C::kWarpOutputs / 8;
  static_assert(C::kWarpRows % 16 == 0 && C::kWarpOutputs % 16 == 0);

  // Shared memory: the ring of stages, what MX becomes of one, then places where warps turn their sums. A split tile's sums take the ring's place.
  /// Whether weights are decoded on their way into a stage, to bytes as FP8 has them.
  static constexpr bool kDecoded = C::kWgmma && kInteger;
  static constexpr int kTokenBytes = C::kTileRows * 128, kWeightBytes = C::kTileOutputs / 8 * (kDecoded ? 1024 : kChunkBytes);
  static constexpr int kWeightsAt = kTokenBytes, kXScalesAt = kWeightsAt + kWeightBytes;
  static constexpr int kScalesAt = kXScalesAt + (kMx ? C::kTileRows * 4 : 0);
  static constexpr int kStageUnit = C::kByBlocks ? 1024 : 128;
  static constexpr int kStageBytes = (kScalesAt + (kMx ? C::kTileOutputs * 4 : 0) + kStageUnit - 1) / kStageUnit * kStageUnit;
  static_assert(C::kStages >= 2);
  /// MX by wgmma, unless by blocks: both operands as BF16, 64 of k of all rows and weight rows, twice.
  static constexpr bool kExpanded = C::kWgmma && kMx && !C::kByBlocks;
  static constexpr int kExpandedBytes = kExpanded ? (C::kTileRows + C::kTileOutputs) * 128 : 0;
  static constexpr int kExpandedAt = kExpanded ? (C::kStages * kStageBytes + 1023) / 1024 * 1024 : C::kStages * kStageBytes;
  static constexpr int kTurnAt = kExpandedAt + 2 * kExpandedBytes;
  /// Rows of sums lie 32 bytes apart from a multiple of 128: lanes that store eight rows at once meet all banks.
  /// A warp turns 8 rows, or 16 so that all lanes have some of them, of up to 64 outputs, or 32 where more warps are to do so.
  static constexpr int kTurnMost = C::kWgmma && !C::kPairs ? 32 : 64,
                       kTurnOutputs = C::kWarpOutputs < kTurnMost ? C::kWarpOutputs : kTurnMost;
  static constexpr int kRowVectors = kTurnOutputs / (C::kPairs ? 16 : 8), kTurnRows = kRowVectors < 4 ? 16 : 8;
  static constexpr int kTurnPitch = kTurnOutputs * 4 + 32, kTurnBytes = kTurnRows * kTurnPitch;
  static constexpr int kSumPitch = C::kTileOutputs * 4 + 32, kSumBytes = C::kTileRows * kSumPitch;
  static constexpr int kTurnsBytes = C::kSplit > 1 ? 0 : kWarpsM * kWarpsN * kTurnBytes;
  /// Scales and biases of a tile's weight rows: of the tile before, of this one, and of all whose stages are on their way.
  static constexpr int kTermSlots = C::kSplit > 1 ? 1 : (C::kStages - 2 + kAllPanels) / kAllPanels + 2;
  static constexpr int kVectorBytes = C::kTileOutputs * 2, kBiasesAt = C::kScaled * (1 + kSecond) * kVectorBytes;
  static constexpr int kTermBytes = kBiasesAt + (C::kBias + C::Second::kBias) * kVectorBytes;
  static constexpr int kTermsAt = C::kSplit > 1 && kSumBytes > kTurnAt ? kSumBytes : kTurnAt + kTurnsBytes;
  static constexpr int kSharedBytes = kTermsAt + kTermSlots * kTermBytes;
  __device__ __forceinline__ static int termsOf(int tile) {
    return kTermsAt + (C::kSplit > 1 ? 0 : tile / C::kBlocks % kTermSlots * kTermBytes);
  }

  /// Scales and biases of a tile's weight rows, from `first` on, by kThreads threads.
  template <int kThreads>
  __device__ __forceinline__ static void copyTerms(const TileArguments& p, uint32_t to, int first) {
    if constexpr (C::kScaled) copyHalves<kThreads>(static_cast<const __half*>(p.scale), to, first);
    if constexpr (C::kScaled && kSecond) copyHalves<kThreads>(static_cast<const __half*>(p.scale2), to + kVectorBytes, first);
    if constexpr (C::kBias) copyHalves<kThreads>(p.bias, to + kBiasesAt, first);
    if constexpr (C::Second::kBias) copyHalves<kThreads>(p.bias2, to + kBiasesAt + C::kBias * kVectorBytes, first);
  }

  template <int kThreads>
  __device__ __forceinline__ static void copyHalves(const __half* from, uint32_t to, int first) {
    constexpr int kCopied = C::kN % 2 == 0 ? 2 : 1;
#pragma unroll 1
    for (int i = threadIdx.x * kCopied; i < C::kTileOutputs; i += kThreads * kCopied) {
      const int stored = first + i, chunk = stored / 8;
      const int n = C::kPairs ? chunk % 2 * (C::kN / 2) + chunk / 2 * 8 + stored % 8 : stored;
      const bool exists = stored < C::kN;
      if constexpr (kCopied == 2) {
        copyOrZero<4>(to + i * 2, exists ? from + n : from, exists);
      } else {
        const uint16_t value = exists ? __half_as_ushort(from[n]) : 0;
        asm volatile("st.shared.u16 [%0], %1;" ::"r"(to + i * 2), "h"(value) : "memory");
      }
    }
  }

  /// Panels of a block of a cluster: [first, first of the next one).
  __device__ __forceinline__ static int firstPanel(int rank) { return kAllPanels * rank / C::kSplit; }

  /// A tile's first row and weight row. All tiles of the same rows follow each other: blocks at work together read them once.
  __device__ __forceinline__ static int rowOf(int tile) { return tile / kOutTiles * C::kTileRows; }
  __device__ __forceinline__ static int outputOf(int tile) { return tile % kOutTiles * C::kTileOutputs; }
};

}  // namespace ladder
