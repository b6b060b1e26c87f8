// Products of few rows by mma.sync (sm_80 and later), with what comes before them: y[m, n] = apply(q(norm(x)) · dequantise(W)ᵀ), where
// norm and the quantisation per row, q, may each be absent. What costs time here is not work but steps that depend on each other: a
// block has all of k of its rows and of its weights in shared memory, so that there is one wait for memory and one for its warps.
//
//   1  weights, scales, biases, gains are copied, which no earlier kernel writes; then it waits for these
//   2  each warp reads rows, norms and quantises them in registers, and lays them down as the products read them
//   3  warps share out outputs, and k: kKWarps of them sum a part of each
//   4  the parts are summed in the warps' order, and what follows is done: eight outputs of a row per thread
//
// Every block of the same rows norms them anew. Operands, weights as they are stored, and rounding are tile.cuh's; norm and codes are
// those of norm/activation.cuh.
//
//   shared memory:  | x: panels of kTileRows × 128 bytes | weights: chunks, all their panels | scales, biases | x's scales | gain, beta |
//   (the sums of kKWarps take the place of x and weights)
//
// Configuration: as tile.cuh's, a dense product, and kNorm, kEps, kActivation (what x becomes). k % 8 = 0. Tuning: kTileRows, kTileOutputs,
// kWarpOutputs, kKWarps; kWarpRows = kTileRows.
// Tests: test/gpu/rows-kernels.test.ts.
#pragma once
#include "matmul/tile/tile_store.cuh"
#include "matmul/tile/tile_warp.cuh"
#include "norm/warp.cuh"

namespace ladder {

struct RowsArguments : TileArguments {
  const __half* gain;  ///< [k]
  const __half* beta;  ///< [k]
};

template <class C>
struct Rows {
  using L = TileBlock<C>;
  using Warp = TileWarp<C>;
  using Store = TileStore<C>;
  using Sums = typename Store::Sums;
  static_assert(L::kLinear && !L::kMx && !C::kWgmma && C::kWarpRows == C::kTileRows && C::kSplit == 1 && L::kK % 8 == 0);

  static constexpr bool kNormed = C::kNorm != NormKind::kNone, kShifted = C::kNorm == NormKind::kLayer;
  static constexpr bool kQuantised = C::kActivation != ActivationFormat::kFp16;
  static_assert(kQuantised == C::kRowScales && !C::kOneScale && ActivationTraits<C::kActivation>::kIsInteger == L::kInteger);
  static constexpr int kBlockThreads = L::kBlockThreads * C::kKWarps, kWarps = kBlockThreads / 32;

  static constexpr int kPanelBytes = C::kTileRows * 128, kWeightsAt = L::kPanels * kPanelBytes;
  static constexpr int kChunkStride = L::kPanels * L::kChunkBytes, kWeightsBytes = C::kTileOutputs / 8 * kChunkStride;
  static constexpr int kOperandBytes = kWeightsAt + kWeightsBytes, kSumsBytes = C::kKWarps * L::kSumBytes;
  static constexpr int kTermsAt = kOperandBytes > kSumsBytes ? kOperandBytes : kSumsBytes;
  static constexpr int kScalesAt = kTermsAt + (L::kTermBytes + 15) / 16 * 16;
  static constexpr int kGainAt = kScalesAt + (kQuantised ? C::kTileRows * 4 : 0), kBetaAt = kGainAt + (kNormed ? L::kK * 2 : 0);
  static constexpr int kSharedBytes = kBetaAt + (kShifted ? L::kK * 2 : 0);

  const RowsArguments& p;
  const uint32_t base;
  const int row, weightRow, warp, lane;

  __device__ static void run(RowsArguments& p) {
    extern __shared__ __align__(1024) uint8_t shared[];
    // Where the scale of row r of x would be, if those of its own rows were part of an array.
    if constexpr (kQuantised) p.xScale = reinterpret_cast<const float*>(shared + kScalesAt) - L::rowOf(blockIdx.x);
    Rows{p,
         sharedAddress(shared),
         L::rowOf(blockIdx.x),
         L::outputOf(blockIdx.x),
         static_cast<int>(threadIdx.x / 32),
         static_cast<int>(threadIdx.x % 32)}
        .multiply();
  }

 private:
  __device__ __forceinline__ void multiply() const {
    copyParameters();
    launchDependents();
    waitForPrerequisites();
    if constexpr (kNormed || kQuantised) prepareRows();
    else copyRows();
    const Store store{p, base + kTermsAt, weightRow};
    store.prefetchResidual(row, weightRow);
    waitForCopies<0>();
    __syncthreads();

    const int part = warp / L::kWarpsN, warpN = warp % L::kWarpsN;
    constexpr int kSteps = L::kPanels * Warp::kSteps;
    Sums sums = {};
#pragma unroll 4
    for (int step = kSteps * part / C::kKWarps; step < kSteps * (part + 1) / C::kKWarps; ++step) {
      typename Warp::Operands operands;
      Warp::template load<kChunkStride>(base + step / Warp::kSteps * kPanelBytes,
                                        base + kWeightsAt + warpN * L::kOutBlocks * kChunkStride + step / Warp::kSteps * L::kChunkBytes,
                                        step % Warp::kSteps, lane, operands);
      Warp::multiply(operands, step % Warp::kSteps, sums);
    }
    __syncthreads();
    store.template runParts<C::kKWarps, kBlockThreads>(sums, base, part, warpN, row, weightRow, lane);
  }

  // ---- What no earlier kernel writes ------------------------------------------------------------------------------------------

  __device__ __forceinline__ void copyParameters() const {
    const int chunks = L::kChunks - weightRow / 8;
    const uint8_t* const weights = p.weight + static_cast<size_t>(weightRow / 8) * kChunkStride;
    for (int i = threadIdx.x; i < kWeightsBytes / 16; i += kBlockThreads)
      if (L::kChunks % (C::kTileOutputs / 8) == 0 || i / (kChunkStride / 16) < chunks)
        copyAsync16(base + kWeightsAt + i * 16, weights + i * 16);
    L::template copyTerms<kBlockThreads>(p, base + kTermsAt, weightRow);
    if constexpr (kNormed) copyChannels(p.gain, base + kGainAt);
    if constexpr (kShifted) copyChannels(p.beta, base + kBetaAt);
    commitCopies();
  }

  __device__ __forceinline__ static void copyChannels(const __half* from, uint32_t to) {
    for (int i = threadIdx.x; i < L::kK / 8; i += kBlockThreads) copyAsync16(to + i * 16, from + i * 8);
  }

  // ---- Rows of x --------------------------------------------------------------------------------------------------------------

  /// Vectors of eight numbers of a row; zeros follow the last one up to a whole panel.
  static constexpr int kVectors = L::kK / 8, kPanelVectors = L::kPanelK / 8, kRowVectors = L::kPanels * kPanelVectors;

  /// Where eight numbers, or codes, of a row of the tile lie.
  __device__ __forceinline__ uint32_t placeOf(int ofTile, int vector) const {
    const int byte = vector % kPanelVectors * (128 / kPanelVectors);
    return base + vector / kPanelVectors * kPanelBytes + ofTile * 128 + ((byte / 16 ^ ofTile % 8) * 16 | byte % 16);
  }

  __device__ __forceinline__ void copyRows() const {
    for (int i = threadIdx.x; i < C::kTileRows * kRowVectors; i += kBlockThreads) {
      const int ofTile = i / kRowVectors, vector = i % kRowVectors;
      const bool exists = (L::kM % C::kTileRows == 0 || row + ofTile < L::kM) && (kRowVectors == kVectors || vector < kVectors);
      const __half* const x = static_cast<const __half*>(p.x);
      copyOrZero<16>(placeOf(ofTile, vector), exists ? x + static_cast<size_t>(row + ofTile) * L::kK + vector * 8 : x, exists);
    }
    commitCopies();
  }

  /// Of a warp: rows, vectors of a row in each lane, and rows whose loads are under way at the same time.
  static constexpr int kWarpRows = C::kTileRows / kWarps, kLaneVectors = (kRowVectors + 31) / 32;
  static constexpr int kAtOnce = kWarpRows * kLaneVectors <= 6 ? kWarpRows : kLaneVectors >= 6 ? 1 : 6 / kLaneVectors;
  static_assert(!(kNormed || kQuantised) || C::kTileRows % kWarps == 0);

  __device__ __forceinline__ void prepareRows() const {
    const uint4* const x = static_cast<const uint4*>(p.x);
    for (int first = 0; first < kWarpRows; first += kAtOnce) {
      uint4 packed[kAtOnce][kLaneVectors];
#pragma unroll
      for (int r = 0; r < kAtOnce; ++r) {
        const int ofTile = warp * kWarpRows + first + r;
#pragma unroll
        for (int i = 0; i < kLaneVectors; ++i) {
          const int vector = lane + i * 32;
          const bool exists = first + r < kWarpRows && (L::kM % C::kTileRows == 0 || row + ofTile < L::kM) && vector < kVectors;
          packed[r][i] = exists ? __ldcg(x + static_cast<size_t>(row + ofTile) * kVectors + vector) : make_uint4(0, 0, 0, 0);
        }
      }
      if (kNormed && first == 0) {
        waitForCopies<0>();
        __syncthreads();
      }
      prepare(warp * kWarpRows + first, packed);
    }
  }

  using Held = WarpRows<L::kK, kAtOnce, C::kNorm, C::kActivation>;

  /// Of rows from `ofTile` on; zeros follow up to a whole panel.
  __device__ __forceinline__ void prepare(int ofTile, const uint4 (&packed)[kAtOnce][kLaneVectors]) const {
    typename Held::Values values;
#pragma unroll
    for (int r = 0; r < kAtOnce; ++r)
#pragma unroll
      for (int i = 0; i < Held::kLaneVectors; ++i) unpackHalves(packed[r][i], values[r][i]);
    if constexpr (kNormed)
      Held::norm(values, C::kEps,
                 [&](int which, int i) { return loadShared16(base + (which ? kBetaAt : kGainAt) + (lane + i * 32) * 16); });
    float scales[kAtOnce];
    if constexpr (kQuantised) Held::scales(values, scales);
#pragma unroll
    for (int r = 0; r < kAtOnce; ++r) {
      if (kWarpRows % kAtOnce != 0 && ofTile + r >= (warp + 1) * kWarpRows) break;
      float inverse = 1.0f;
      if constexpr (kQuantised) {
        inverse = __frcp_rn(scales[r]);
        if (lane == 0) asm volatile("st.shared.f32 [%0], %1;" ::"r"(base + kScalesAt + (ofTile + r) * 4), "f"(scales[r]) : "memory");
      }
#pragma unroll
      for (int i = 0; i < kLaneVectors; ++i) {
        const int vector = lane + i * 32;
        if (kRowVectors % 32 != 0 && vector >= kRowVectors) continue;
        const uint32_t to = placeOf(ofTile + r, vector);
        if constexpr (kQuantised) {
          const uint2 codes = i < Held::kLaneVectors ? Held::encode(values[r][i], scales[r], inverse) : uint2{};
          asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(to), "r"(codes.x), "r"(codes.y) : "memory");
        } else {
          storeShared16(to, i < Held::kLaneVectors ? packHalves(values[r][i]) : uint4{});
        }
      }
    }
  }
};

/// By L::kTiles blocks of Rows<C>::kBlockThreads threads with Rows<C>::kSharedBytes of shared memory.
template <class C>
__device__ __forceinline__ void rowsProduct(RowsArguments& p) {
  Rows<C>::run(p);
}

}  // namespace ladder
