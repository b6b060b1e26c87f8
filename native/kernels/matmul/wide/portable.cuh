// Dense product of many tokens, W [n, k] of any format: y[m, n] = epilogue(x · dequantise(W)ᵀ), for GPUs without wgmma: mma.sync,
// cp.async, ldmatrix. Arithmetic decides here. On sm_90, mma.sync leaves the schedulers little time for anything else, so what
// counts is how few other instructions there are per product: a warp's tile is 64 rows × 64 tokens where both operands come by
// ldmatrix, 32 × 128 where rows are decoded.
//
//   x       panels of 128 bytes of k: [k / panel][m / 8][8 pieces][8 tokens][16 bytes], pieces along k; FP16, bytes (FP8, INT8), or
//           BF16 for MX weights (code · scale)
//   W       [n / 128][k / panel], each 128 rows of a panel: FP16 and FP8 like the tokens, [16][8 pieces][8 rows][16 bytes]; others
//           packed, [8 tiles of 16 rows][units][lane][16 bytes], decode.cuh's units in wgmma's order, of INT1 half a one
//   scales  per row [n]; MX [n / 128][k / 64][8 tiles][2 units][8][2] E8M0; groups [n / 128][k / group][8 tiles][8][2] FP16
//   y       row-major, or panels of 64 channels if kPanelOutput (tokens up to a multiple of 8 are written); residual row-major
//
// A block sums a tile of kTileRows × kTileTokens, then the one that is kBlocks further. Weights are A and tokens B: packed weights
// lie in A's order and are decoded in registers, a step (32 bytes of a token) ahead of the products. FP8 has no tensor core
// before sm_89: both operands become FP16. Weights with scales of groups are rounded to FP16. Every sum has a fixed order.
//
//   stage:  | tokens | weights | scales of groups |     a panel of each (portable_block.cuh)
//
// Needs k % 128 = 0 (16-bit activations: 64), with SiLU n % 16 = 0, panels of y n % 64 = 0 (SiLU 128), activations as the format
// multiplies them. Without alignment of n to 8 outputs, y and residual go by single elements.
// Tuning: kTileRows (64, 128, or a larger divisor of the stored rows), kTileTokens, kWarpRows, kWarpTokens, kStages, kGroupTiles (tiles
// along m whose blocks run beside each other), kBlocks (at most the tiles; all of them: one tile each, on however many processors).
// Feed: portable_feed.cuh; what follows the products: portable_store.cuh.
#pragma once
#include "matmul/wide/portable_feed.cuh"
#include "matmul/wide/portable_store.cuh"

namespace ladder {

template <class C>
struct WidePortable {
  using L = PortableBlock<C>;
  using T = typename L::T;
  using Sum = typename PortableStore<C>::Sum;
  using Sums = typename PortableStore<C>::Sums;

  static constexpr int kSharedBytes = L::kSharedBytes;
  static constexpr int kBlockThreads = L::kBlockThreads;
  /// A step is 32 bytes of a token's activations.
  static constexpr int kSteps = 4;
  /// Steps that share out a stage's copies: all, but decoding MX takes so many instructions that together they cost least.
  static constexpr int kCopySteps = T::kIsMx ? 1 : kSteps;

  const uint32_t base;
  const int warpN, warpM, lane;

  __device__ static void run(const DenseArguments& p) {
    extern __shared__ __align__(128) uint8_t shared[];
    const int warp = threadIdx.x / 32;
    WidePortable{sharedAddress(shared), warp % L::kWarpsN, warp / L::kWarpsN, static_cast<int>(threadIdx.x % 32)}.multiply(p);
  }

 private:
  /// What a step multiplies: A of each 16 rows, B of each 8 tokens. FP8: as codes.
  struct Operands { uint32_t a[L::kRowBlocks][4], b[L::kTokenBlocks][2]; };
  /// Packed weights from which the next steps' A is decoded, and their scales.
  static constexpr int kUnitSteps = !L::kPacked ? 1 : T::kIsMx ? 2 : 4;
  static constexpr int kUnitBytes = T::kIsInt1 ? 256 : 512;
  struct Packed { uint32_t words[L::kPacked ? L::kRowBlocks : 1][4], scales[L::kScaled ? L::kRowBlocks : 1][2]; };

  __device__ __forceinline__ void multiply(const DenseArguments& p) const {
    if constexpr (C::kWeight == WeightFormat::kNf4) fillNf4Table(base + L::kTableAt, threadIdx.x / 32, kBlockThreads / 32, lane);
    waitForPrerequisites();
    PortableFeed<C> feed(p, base);
#pragma unroll
    for (int i = 1; i < C::kStages; ++i) {
      feed.template copy<0, 1>();
      feed.advance(base + i * L::kStageBytes);
    }

    Operands operands[2];
    Packed packed;
    uint32_t stage = base;
    copyAsyncWait<C::kStages - 2>();
    __syncthreads();
    load<0>(stage, packed, operands[0]);
#pragma unroll
    for (int i = 0; i < L::kRowBlocks; ++i) decode<0>(i, packed, operands[0]);
    copy<0>(feed);

    for (int tile = blockIdx.x; tile < L::kTiles; tile += C::kBlocks) {
      Sums sums = {};
      for (int panel = 0; panel < L::kPanels; ++panel) {
        step<0>(stage, feed, packed, operands, sums);
        step<1>(stage, feed, packed, operands, sums);
        step<2>(stage, feed, packed, operands, sums);
        // All threads have read this stage, which the feed fills anew, and the next one is there.
        const uint32_t read = stage;
        stage = stage == base + (C::kStages - 1) * L::kStageBytes ? base : stage + L::kStageBytes;
        copyAsyncWait<C::kStages - 2>();
        __syncthreads();
        feed.advance(read);
        step<3>(stage, feed, packed, operands, sums);  // after the last tile, what it reads ahead is not used
      }
      const typename L::Tile place(tile);
      const PortableStore<C> store{p, base + L::kTurnAt + (warpM * L::kWarpsN + warpN) * 2 * L::kTurnBytes,
                                   place.row * C::kTileRows + warpN * C::kWarpRows, place.token * C::kTileTokens + warpM * C::kWarpTokens,
                                   lane};
      store.run(sums);
    }
    launchDependents();
  }

  /// sums += the products of a step, while the next one's operands are made ready (from `stage`) and copies go out.
  template <int kStep>
  __device__ __forceinline__ void step(uint32_t stage, PortableFeed<C>& feed, Packed& packed, Operands (&operands)[2], Sums& sums) const {
    constexpr int kNext = (kStep + 1) % kSteps;
    load<kNext>(stage, packed, operands[kNext % 2]);
    copy<kNext>(feed);
    if constexpr (L::kFp8) {
      multiplyFp8<0>(operands[kStep % 2], sums);
      multiplyFp8<1>(operands[kStep % 2], sums);
    } else {
#pragma unroll
      for (int i = 0; i < L::kRowBlocks; ++i) {
        multiplyRows(operands[kStep % 2], i, sums[i]);
        decode<kNext>(i, packed, operands[kNext % 2]);
      }
    }
  }

  /// A stage's copies go out from the step on in which its slot became free.
  template <int kNext>
  __device__ __forceinline__ static void copy(PortableFeed<C>& feed) {
    if constexpr (kNext < kCopySteps) feed.template copy<kNext, kCopySteps>();
  }

  // ---- Load ---------------------------------------------------------------------------------------------------------------

  template <int kStep>
  __device__ __forceinline__ void load(uint32_t stage, Packed& packed, Operands& operands) const {
    const uint32_t weights = stage + L::kWeightsAt;
    // Lane l names row l % 8 of matrix l / 8: of B two pieces along k of 8 tokens, then of the next 8.
    const uint32_t tokens = stage + warpM * (C::kWarpTokens * 128) + lane / 16 * 1024 + lane / 8 % 2 * 128 + lane % 8 * 16 + kStep * 256;
#pragma unroll
    for (int j = 0; j < L::kTokenBlocks; j += 2) {
      uint32_t matrices[4];
      loadMatrices(tokens + j * 1024, matrices);
      operands.b[j][0] = matrices[0], operands.b[j][1] = matrices[1], operands.b[j + 1][0] = matrices[2],
      operands.b[j + 1][1] = matrices[3];
    }
    if constexpr (!L::kPacked) {
      // Of A rows 0…7 and 8…15 of a piece, then of the next piece.
      const uint32_t rows = weights + warpN * (C::kWarpRows * 128) + lane / 8 % 2 * 1024 + lane / 16 * 128 + lane % 8 * 16 + kStep * 256;
#pragma unroll
      for (int i = 0; i < L::kRowBlocks; ++i) loadMatrices(rows + i * 2048, operands.a[i]);
    } else if constexpr (kStep % kUnitSteps == 0) {
      constexpr int kPanelUnits = kSteps / kUnitSteps, kLaneBytes = kUnitBytes / 32;
      const uint32_t unit = weights + (warpN * L::kRowBlocks * kPanelUnits + kStep / kUnitSteps) * kUnitBytes + lane * kLaneBytes;
#pragma unroll
      for (int i = 0; i < L::kRowBlocks; ++i) loadWords(unit + i * kPanelUnits * kUnitBytes, packed.words[i]);
    }
    if constexpr (L::kScaled) loadScales<kStep>(stage + L::kScalesAt + warpN * L::kRowBlocks * L::kScaleBytes, packed);
  }

  __device__ __forceinline__ static void loadWords(uint32_t at, uint32_t (&words)[4]) {
    if constexpr (kUnitBytes == 256) {
      const uint2 v = loadShared8(at);
      words[0] = words[2] = v.x, words[1] = words[3] = v.y;
    } else {
      const uint4 v = loadShared16(at);
      words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
    }
  }

  /// Steps that share scales of groups; the first one reads and spreads them.
  static constexpr int kScaleSteps = T::kIsMx ? 2 : L::kScaled ? kSteps / L::kPanelGroups : kSteps;

  /// Of rows g and g + 8 of each tile.
  template <int kStep>
  __device__ __forceinline__ void loadScales(uint32_t scales, Packed& packed) const {
    if constexpr (kStep % kScaleSteps == 0) {
      constexpr int kIndex = kStep / kScaleSteps;
#pragma unroll
      for (int i = 0; i < L::kRowBlocks; ++i) {
        if constexpr (T::kIsMx) packed.scales[i][0] = loadShared2(scales + i * L::kScaleBytes + kIndex * 16 + lane / 4 * 2);
        else packed.scales[i][0] = loadShared4(scales + (kIndex * (C::kTileRows / 16) + i) * L::kScaleBytes + lane / 4 * 4);
      }
    }
  }

  /// Each row's scale to both halves of a word.
  __device__ __forceinline__ static void spreadScales(uint32_t (&scales)[2]) {
    const uint32_t both = scales[0];
    if constexpr (T::kIsMx) {
      using Mx = MxBf16<C::kWeight>;
      scales[0] = Mx::multiplier(both & 0xff, Mx::kLift), scales[1] = Mx::multiplier(both >> 8, Mx::kLift);
    } else {
      scales[0] = __byte_perm(both, 0, 0x1010), scales[1] = __byte_perm(both, 0, 0x3232);
    }
  }

  // ---- Decode and compute -------------------------------------------------------------------------------------------------

  /// A of a step's rows i, of packed weights.
  template <int kStep>
  __device__ __forceinline__ void decode(int i, Packed& packed, Operands& operands) const {
    if constexpr (L::kPacked) {
      const uint32_t (&w)[4] = packed.words[i];
      uint32_t (&a)[4] = operands.a[i];
      if constexpr (L::kScaled && kStep % kScaleSteps == 0) spreadScales(packed.scales[i]);
      if constexpr (T::kIsMx) {
        using Mx = MxBf16<C::kWeight>;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const uint32_t word = w[kStep % 2 * 2 + e % 2];
          a[e] = Mx::multiply(e < 2 ? Mx::even(word) : Mx::odd(word), packed.scales[i][e % 2]);
        }
      } else if constexpr (C::kWeight == WeightFormat::kNf4) {
        const uint32_t table = base + L::kTableAt + lane * 4;
#pragma unroll
        for (int e = 0; e < 4; ++e)
          a[e] = loadShared4(table + __byte_perm(w[kStep / 2 * 2 + e % 2], 0, 0x4440 + kStep % 2 * 2 + e / 2) * 128);
      } else {
        uint32_t both[2][4];
        decodeStep<C::kWeight>(w, kStep / 2, 0, both);
        take(both[kStep % 2], a);
      }
      if constexpr (L::kScaled && !T::kIsMx) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const __half2 scaled =
              __hmul2(*reinterpret_cast<const __half2*>(&a[e]), *reinterpret_cast<const __half2*>(&packed.scales[i][e % 2]));
          a[e] = *reinterpret_cast<const uint32_t*>(&scaled);
        }
      }
    }
  }

  __device__ __forceinline__ static void take(const uint32_t (&from)[4], uint32_t (&to)[4]) {
#pragma unroll
    for (int e = 0; e < 4; ++e) to[e] = from[e];
  }

  /// Rows i against all tokens of the warp.
  __device__ __forceinline__ static void multiplyRows(const Operands& operands, int i, Sum (&sums)[L::kTokenBlocks][4]) {
#pragma unroll
    for (int j = 0; j < L::kTokenBlocks; ++j) {
      if constexpr (T::kIsMx) mmaBf16(sums[j], operands.a[i], operands.b[j][0], operands.b[j][1]);
      else ladder::multiply<C::kWeight>(sums[j], operands.a[i], operands.b[j][0], operands.b[j][1]);
    }
  }

  /// Half of a step of FP8.
  template <int kHalf>
  __device__ __forceinline__ static void multiplyFp8(const Operands& operands, Sums& sums) {
    uint32_t a[L::kRowBlocks][4];
#pragma unroll
    for (int i = 0; i < L::kRowBlocks; ++i) {
      decodeFp8<T::kIsE4m3>(operands.a[i][kHalf * 2], a[i][0], a[i][2]);
      decodeFp8<T::kIsE4m3>(operands.a[i][kHalf * 2 + 1], a[i][1], a[i][3]);
    }
#pragma unroll
    for (int j = 0; j < L::kTokenBlocks; ++j) {
      uint32_t even, odd;
      decodeFp8<T::kIsE4m3>(operands.b[j][kHalf], even, odd);
#pragma unroll
      for (int i = 0; i < L::kRowBlocks; ++i) mmaFp16(sums[i][j], a[i], even, odd);
    }
  }
};

/// By kBlocks blocks of kBlockThreads threads with kSharedBytes of shared memory. Bounds: one block per processor, though two of
/// 128 threads fit.
template <class C>
__device__ __forceinline__ void widePortable(const DenseArguments& p) {
  WidePortable<C>::run(p);
}

}  // namespace ladder
