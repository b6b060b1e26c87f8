// Dense product of a few tokens (m ≤ 64), W [n, k] in any format: y[m, n] = epilogue(W · xᵀ).
// Still the time of reading W once, if the activations, which every block needs too, are not read too often. So each group
// of kCluster blocks owns a run of 16-row tiles and the blocks of a group share out k; their sums meet in the shared memory
// of whichever block owns the tile. A group takes its tiles in passes of kWarpsN · kWarpTiles; in a block, warp (i, j) has
// tiles i · kWarpTiles … of the pass and, of each stage, every kWarpsK-th unit.
//
//   stage:  | tile 0: kStageUnits units | tile 1 | … | scales of tile 0 | … | token 0: its k | token 1 | …   (rows padded)
//
// As in gemv.cuh the weights are A and 8 tokens at a time are B, the ring fills with weights before `waitForPrerequisites`,
// and every sum has a fixed order. Before sm_90 there are no clusters: each block is then a group of its own and takes all of k.
// Constants and places: thin_block.cuh; the two producer warps: thin_feed.cuh.
//
// Needs k % (kUnitK · kCluster) = 0, with SiLU n % 16 = 0, activations as the format multiplies them (FP16, or quantised before).
// Tuning: kBlocks, kCluster, kWarpsN, kWarpTiles, kWarpsK (power of two), kStageUnits (a multiple of kWarpsK), kStages, kPrefetchStages.
// Tests: test/gpu (against native/reference), bench/kernels (against a double-precision reference on the device).
#pragma once
#include "gemv/thin_feed.cuh"

namespace ladder {

template <class C>
struct Thin {
  using L = ThinBlock<C>;
  using T = typename L::T;
  using S = typename L::S;
  using Sum = Accumulator<C::kWeight>;

  static constexpr int kSharedBytes = L::kSharedBytes;
  static constexpr int kBlockThreads = L::kBlockThreads;

  const L& b;

  __device__ static void run(const DenseArguments& p) {
    extern __shared__ __align__(128) uint8_t shared[];
    const L block(shared);
    if (threadIdx.x == L::kThreads) {
      block.barriers.init((kHopper ? 1 : 32) + 32, L::kWarps);
      barrierInit(block.base + L::kReadyAt, L::kSplit * C::kWarpsN);
      barrierInit(block.base + L::kFreeAt, L::kSplit * L::kWarps);
      fenceBarrierInit();
    }
    __syncthreads();
#if __CUDA_ARCH__ >= 900
    // Every block's barriers exist before another one arrives on them.
    if constexpr (L::kSplit > 1) clusterBarrier();
#endif
    const int lane = threadIdx.x % 32;
    if (threadIdx.x >= L::kThreads + 32) ThinFeed<C>{block, p, lane}.tokens();
    else if (threadIdx.x >= L::kThreads) ThinFeed<C>{block, p, lane}.weights();
    else Thin{block}.consume(p);
  }

  // ---- Decode and compute -------------------------------------------------------------------------------------------------

  using Sums = Sum[C::kWarpTiles][L::kTokenTiles][4];

  __device__ __forceinline__ void consume(const DenseArguments& p) const {
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int warpN = warp % C::kWarpsN, warpK = warp / C::kWarpsN;
    if constexpr (C::kWeight == WeightFormat::kNf4) fillNf4Table(b.base + L::kTableAt, warp, L::kWarps, lane);
    if constexpr (L::kHasTerms) {
      for (int row = thread; row < b.tiles * 16; row += L::kThreads) {
        const int n = (b.firstTile + row / 16) * S::kTileOutputs + (S::kSilu ? row % 8 + (row % 16 < 8 ? 0 : S::kOutputs) : row % 16);
        RowTerms<C> terms;
        if (n < C::kN) terms.load(p, n);
        reinterpret_cast<RowTerms<C>*>(b.shared + L::kTermsAt)[row] = terms;
      }
    }
    waitForPrerequisites();
    if constexpr (T::kIsMx && L::kMxResident) fetchMxScales(p, thread);
    if constexpr (L::kHasTokenScales) {
      for (int token = thread; token < C::kM; token += L::kThreads) {
        reinterpret_cast<float*>(b.shared + L::kTokenScalesAt)[token] = __ldcg(static_cast<const float*>(p.xScale) + token);
      }
    }
    namedBarrier(1, L::kThreads);

    RingCursor<C::kStages> cursor;
    for (int pass = 0; pass < b.passes; ++pass) {
      const bool busy = warpN * C::kWarpTiles < b.passTiles(pass);
      Sums sums = {};
      int32_t codes[L::kTokenTiles] = {};
      for (int stage = 0; stage < L::kStagesPerPass; ++stage, cursor.advance()) {
        barrierWait(b.barriers.full(cursor.slot), cursor.parity);
        if (busy) {
#pragma unroll
          for (int u = 0; u < L::kUnitsPerWarp; ++u) {
            const int unit = warpK + u * C::kWarpsK;
            if (L::kBlockUnits % C::kStageUnits == 0 || unit < L::stageUnits(stage)) {
              multiplyUnit(p, b.base + cursor.slot * L::kStageBytes, warpN, unit, stage * C::kStageUnits + unit, lane, sums, codes);
            }
          }
        }
        if (T::kIsInt1 && !busy) {
          for (int unit = warpK; unit < L::stageUnits(stage); unit += C::kWarpsK) addCodes(b.base + cursor.slot * L::kStageBytes, warpN, unit, lane, codes);
        }
        __syncwarp();
        if (lane == 0) barrierArrive(b.barriers.empty(cursor.slot));
      }
      reduceWarps(sums, warpN, warpK, lane);
      if constexpr (T::kIsInt1) subtractCodes(sums, codes, warp, lane);
      if constexpr (L::kSplit == 1) {
        if (warpK == 0) storeSums(p, pass, warpN, lane, sums);
      } else {
        exchange(p, pass, warp, warpN, warpK, lane, sums);
      }
    }
  }

  __device__ __forceinline__ void fetchMxScales(const DenseArguments& p, int thread) const {
    const uint8_t* from = static_cast<const uint8_t*>(p.xScale) + b.rank * L::kBlockUnits;
    if constexpr (L::kMxUnits % 4 == 0 && S::kUnits % 4 == 0) {
      constexpr int kWords = L::kMxUnits / 4;
#pragma unroll 8
      for (int i = thread; i < C::kM * kWords; i += L::kThreads) {
        const int token = i % C::kM, word = i / C::kM;
        const uint32_t four = __ldcg(reinterpret_cast<const uint32_t*>(from + static_cast<size_t>(token) * S::kUnits) + word);
#pragma unroll
        for (int e = 0; e < 4; ++e) b.shared[L::kMxScalesAt + (word * 4 + e) * L::kTokens + token] = static_cast<uint8_t>(four >> 8 * e);
      }
    } else {
      for (int i = thread; i < C::kM * L::kMxUnits; i += L::kThreads) {
        const int token = i % C::kM, unit = i / C::kM;
        b.shared[L::kMxScalesAt + unit * L::kTokens + token] = __ldcg(from + static_cast<size_t>(token) * S::kUnits + unit);
      }
    }
  }

  /// Scales of tokens `token` (even) and `token` + 1.
  __device__ __forceinline__ void loadMxScales(const DenseArguments& p, int token, int blockUnit, float (&scale)[2]) const {
    if constexpr (L::kMxResident) {
      const uint32_t pair = loadShared2(b.base + L::kMxScalesAt + blockUnit * L::kTokens + token);
      scale[0] = e8m0(pair & 0xff), scale[1] = e8m0(pair >> 8);
    } else {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        scale[c] = e8m0(__ldcg(static_cast<const uint8_t*>(p.xScale) + static_cast<size_t>(min(token + c, C::kM - 1)) * S::kUnits + blockUnit));
      }
    }
  }

  /// INT1: Σ x is shared out among the warps along n by steps; one without tiles does its part too.
  __device__ __forceinline__ static bool addsCodes(int unit, int step, int warpN) { return T::kIsInt1 && (unit * T::kSteps + step) % C::kWarpsN == warpN; }

  __device__ __forceinline__ static void addCodes(const uint32_t (&b)[4], int32_t& codes) {
#pragma unroll
    for (int w = 0; w < 4; ++w) codes = __dp4a(0x01010101, static_cast<int>(b[w]), codes);
  }

  __device__ __forceinline__ void addCodes(uint32_t stage, int warpN, int unit, int lane, int32_t (&codes)[L::kTokenTiles]) const {
    const uint32_t run = tokenRun(stage, unit, lane);
    for (int step = 0; step < T::kSteps; ++step) {
      if (!addsCodes(unit, step, warpN)) continue;
#pragma unroll
      for (int j = 0; j < L::kTokenTiles; ++j) {
        uint32_t b[4];
        loadActivations<C::kWeight>(run + j * 8 * L::kRowStride + step * T::kRunBytes * 4, b);
        addCodes(b, codes[j]);
      }
    }
  }

  /// Where a lane's first run of a unit's activations is: of token g, run t.
  __device__ __forceinline__ static uint32_t tokenRun(uint32_t stage, int unit, int lane) {
    return stage + L::kTokensAt + lane / 4 * L::kRowStride + unit * T::kUnitK * T::kActivationBytes + lane % 4 * T::kRunBytes;
  }

  /// sums += unit · tokens, for this warp's tiles.
  __device__ __forceinline__ void multiplyUnit(const DenseArguments& p, uint32_t stage, int warpN, int unit, int blockUnit, int lane, Sums& sums,
                                               int32_t (&codes)[L::kTokenTiles]) const {
    const uint32_t table = b.base + L::kTableAt + lane * 4;
    const uint32_t weights = stage + (warpN * C::kWarpTiles * C::kStageUnits + unit) * T::kUnitBytes;
    const uint32_t run = tokenRun(stage, unit, lane);
    uint32_t words[C::kWarpTiles][T::kWords];
#pragma unroll
    for (int i = 0; i < C::kWarpTiles; ++i) loadUnit<C::kWeight>(weights + i * C::kStageUnits * T::kUnitBytes, lane, words[i]);

    if constexpr (!S::kScaled) {
#pragma unroll
      for (int step = 0; step < T::kSteps; ++step) {
        uint32_t b[L::kTokenTiles][4];
#pragma unroll
        for (int j = 0; j < L::kTokenTiles; ++j) {
          loadActivations<C::kWeight>(run + j * 8 * L::kRowStride + step * T::kRunBytes * 4, b[j]);
          if (addsCodes(unit, step, warpN)) addCodes(b[j], codes[j]);
        }
#pragma unroll
        for (int i = 0; i < C::kWarpTiles; ++i) {
          uint32_t a[2][4];
          decodeStep<C::kWeight>(words[i], step, table, a);
#pragma unroll
          for (int j = 0; j < L::kTokenTiles; ++j) {
            multiply<C::kWeight>(sums[i][j], a[0], b[j][0], b[j][1]);
            multiply<C::kWeight>(sums[i][j], a[1], b[j][2], b[j][3]);
          }
        }
      }
    } else {
      // A unit has scales of its own: its sums start from zero and are scaled before they join the others.
      uint32_t b[T::kSteps][L::kTokenTiles][4];
      float tokenScale[L::kTokenTiles][2];
#pragma unroll
      for (int j = 0; j < L::kTokenTiles; ++j) {
#pragma unroll
        for (int step = 0; step < T::kSteps; ++step) loadActivations<C::kWeight>(run + j * 8 * L::kRowStride + step * T::kRunBytes * 4, b[step][j]);
        if constexpr (T::kIsMx) {
          loadMxScales(p, j * 8 + lane % 4 * 2, blockUnit, tokenScale[j]);
          tokenScale[j][0] *= T::kProductScale, tokenScale[j][1] *= T::kProductScale;
        } else {
          tokenScale[j][0] = tokenScale[j][1] = 1.0f;
        }
      }
#pragma unroll
      for (int i = 0; i < C::kWarpTiles; ++i) {
        const uint32_t at = stage + L::kScalesAt + (warpN * C::kWarpTiles + i) * C::kStageUnits * S::kScaleBytesPerUnit +
                            unit / S::kUnitsPerScale * S::kScaleBytes;
        float scale[2];
        if constexpr (T::kIsMx) {
          const uint32_t pair = loadShared2(at + lane / 4 * 2);
          scale[0] = e8m0(pair & 0xff), scale[1] = e8m0(pair >> 8);
        } else {
          const uint32_t pair = loadShared4(at + lane / 4 * 4);
          const float2 both = __half22float2(*reinterpret_cast<const __half2*>(&pair));
          scale[0] = both.x, scale[1] = both.y;
        }
        float fresh[L::kTokenTiles][4] = {};
#pragma unroll
        for (int step = 0; step < T::kSteps; ++step) {
          uint32_t a[2][4];
          decodeStep<C::kWeight>(words[i], step, table, a);
#pragma unroll
          for (int j = 0; j < L::kTokenTiles; ++j) {
            multiply<C::kWeight>(fresh[j], a[0], b[step][j][0], b[step][j][1]);
            multiply<C::kWeight>(fresh[j], a[1], b[step][j][2], b[step][j][3]);
          }
        }
#pragma unroll
        for (int j = 0; j < L::kTokenTiles; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) sums[i][j][e] = fmaf(fresh[j][e] * scale[e / 2], tokenScale[j][e % 2], sums[i][j][e]);
        }
      }
    }
  }

  // ---- Reduce ---------------------------------------------------------------------------------------------------------------

  __device__ __forceinline__ static uint4 bits(const Sum (&sum)[4]) {
    if constexpr (T::kIsInt1) return make_uint4(sum[0], sum[1], sum[2], sum[3]);
    else return make_uint4(__float_as_uint(sum[0]), __float_as_uint(sum[1]), __float_as_uint(sum[2]), __float_as_uint(sum[3]));
  }

  __device__ __forceinline__ static void add(Sum (&sum)[4], uint4 v) {
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if constexpr (T::kIsInt1) sum[e] += static_cast<int32_t>(words[e]);
      else sum[e] += __uint_as_float(words[e]);
    }
  }

  /// Leaves the block's sums with the warps of warpK = 0: upper halves hand over to lower halves, a tile at a time.
  __device__ __forceinline__ void reduceWarps(Sums& sums, int warpN, int warpK, int lane) const {
#pragma unroll
    for (int half = C::kWarpsK / 2; half > 0; half /= 2) {
      uint4* const fragments = reinterpret_cast<uint4*>(b.shared + L::kTreeAt) + ((warpK % half) * C::kWarpsN + warpN) * L::kTokenTiles * 32 + lane;
#pragma unroll
      for (int i = 0; i < C::kWarpTiles; ++i) {
        if (warpK >= half && warpK < 2 * half) {
#pragma unroll
          for (int j = 0; j < L::kTokenTiles; ++j) fragments[j * 32] = bits(sums[i][j]);
        }
        namedBarrier(1, L::kThreads);
        if (warpK < half) {
#pragma unroll
          for (int j = 0; j < L::kTokenTiles; ++j) add(sums[i][j], fragments[j * 32]);
        }
        namedBarrier(1, L::kThreads);
      }
    }
  }

  /// INT1: bits to signs, 2 · Σ bit·x − Σ x (of the block's k). A lane has Σ x of token g over its runs; its sums are of tokens 2t and 2t + 1.
  __device__ __forceinline__ void subtractCodes(Sums& sums, int32_t (&codes)[L::kTokenTiles], int warp, int lane) const {
    int32_t* const shared = reinterpret_cast<int32_t*>(b.shared + L::kCodesAt);
#pragma unroll
    for (int j = 0; j < L::kTokenTiles; ++j) {
      codes[j] += __shfl_xor_sync(0xffffffffu, codes[j], 1);
      codes[j] += __shfl_xor_sync(0xffffffffu, codes[j], 2);
      if (lane % 4 == 0) shared[warp * L::kTokens + j * 8 + lane / 4] = codes[j];
    }
    namedBarrier(1, L::kThreads);
#pragma unroll
    for (int j = 0; j < L::kTokenTiles; ++j) {
      int32_t total[2] = {};
#pragma unroll
      for (int w = 0; w < L::kWarps; ++w) {
        const int2 pair = *reinterpret_cast<const int2*>(shared + w * L::kTokens + j * 8 + lane % 4 * 2);
        total[0] += pair.x, total[1] += pair.y;
      }
#pragma unroll
      for (int i = 0; i < C::kWarpTiles; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[i][j][e] = sums[i][j][e] / (kBitValue / 2) - total[e % 2];
      }
    }
    namedBarrier(1, L::kThreads);
  }

  __device__ __forceinline__ void storeSums(const DenseArguments& p, int pass, int warpN, int lane, const Sums& sums) const {
#pragma unroll
    for (int i = 0; i < C::kWarpTiles; ++i) {
      const int tile = warpN * C::kWarpTiles + i;
      if (tile < b.passTiles(pass)) {
        Residual residual[L::kTokenTiles];
#pragma unroll
        for (int j = 0; j < L::kTokenTiles; ++j) loadResidual(p, pass * L::kPassTiles + tile, j, lane, residual[j]);
#pragma unroll
        for (int j = 0; j < L::kTokenTiles; ++j) storeFragment(p, pass * L::kPassTiles + tile, j, lane, sums[i][j], residual[j]);
      }
    }
  }

  /// Each block pushes its part of every tile to the tile's owner (tile modulo blocks), which adds the parts in order.
  __device__ __forceinline__ void exchange(const DenseArguments& p, int pass, int warp, int warpN, int warpK, int lane, const Sums& sums) const {
#if __CUDA_ARCH__ >= 900
    const int tiles = b.passTiles(pass);
    if (warpK == 0) {
      if (pass > 0) barrierWaitCluster(b.base + L::kFreeAt, (pass - 1) & 1);
#pragma unroll
      for (int i = 0; i < C::kWarpTiles; ++i) {
        const int tile = warpN * C::kWarpTiles + i;
        if (tile < tiles) {
          const uint32_t place = (b.rank * L::kOwnedTiles + tile / L::kSplit) * L::kTokenTiles * L::kFragmentBytes + lane * 16;
          const uint32_t to = remoteAddress(b.base + L::kExchangeAt + place, tile % L::kSplit);
#pragma unroll
          for (int j = 0; j < L::kTokenTiles; ++j) storeRemote16(to + j * L::kFragmentBytes, bits(sums[i][j]));
        }
      }
      fenceCluster();
      __syncwarp();
      if (lane < L::kSplit) barrierArriveRemote(remoteAddress(b.base + L::kReadyAt, lane));
    }
    constexpr int kMine = (L::kOwnedTiles * L::kTokenTiles + L::kWarps - 1) / L::kWarps;
    const int owned = (tiles - b.rank + L::kSplit - 1) / L::kSplit * L::kTokenTiles;
    const auto tileOf = [&](int i) { return pass * L::kPassTiles + i / L::kTokenTiles * L::kSplit + b.rank; };
    Residual residual[kMine];
#pragma unroll
    for (int m = 0; m < kMine; ++m) {
      const int i = warp + m * L::kWarps;
      if (i < owned) loadResidual(p, tileOf(i), i % L::kTokenTiles, lane, residual[m]);
    }
    barrierWaitCluster(b.base + L::kReadyAt, pass & 1);
#pragma unroll
    for (int m = 0; m < kMine; ++m) {
      const int i = warp + m * L::kWarps;
      if (i >= owned) continue;
      const Sum* part = reinterpret_cast<const Sum*>(b.shared + L::kExchangeAt) + i * 128 + lane * 4;
      Sum sum[4] = {};
#pragma unroll
      for (int r = 0; r < L::kSplit; ++r) add(sum, *reinterpret_cast<const uint4*>(part + r * L::kOwnedTiles * L::kTokenTiles * 128));
      storeFragment(p, tileOf(i), i % L::kTokenTiles, lane, sum, residual[m]);
    }
    if (pass + 1 < b.passes) {
      __syncwarp();
      if (lane < L::kSplit) barrierArriveRemote(remoteAddress(b.base + L::kFreeAt, lane));
    }
#endif
  }

  // ---- Store ----------------------------------------------------------------------------------------------------------------

  /// Of rows g and g + 8 (SiLU: of output g) for tokens 2t and 2t + 1, in the order of a fragment's sums.
  struct Residual { __half values[4]; };

  /// Calls f(element of a fragment, index into y) for each output that exists; with SiLU the first two elements only.
  template <class F>
  __device__ __forceinline__ void forOutputs(int localTile, int tokenTile, int lane, F f) const {
    const int first = (b.firstTile + localTile) * S::kTileOutputs + lane / 4;
#pragma unroll
    for (int e = 0; e < (S::kSilu ? 2 : 4); ++e) {
      const int token = tokenTile * 8 + lane % 4 * 2 + e % 2, n = first + e / 2 * 8;
      if ((C::kM % 8 == 0 || token < C::kM) && (C::kN % 16 == 0 || n < C::kN)) f(e, static_cast<size_t>(token) * S::kOutputs + n);
    }
  }

  __device__ __forceinline__ void loadResidual(const DenseArguments& p, int localTile, int tokenTile, int lane, Residual& residual) const {
    if constexpr (C::kResidual) forOutputs(localTile, tokenTile, lane, [&](int e, size_t at) { residual.values[e] = __ldcg(p.residual + at); });
  }

  __device__ __forceinline__ void storeFragment(const DenseArguments& p, int localTile, int tokenTile, int lane, const Sum (&sums)[4],
                                                const Residual& residual) const {
    RowTerms<C> terms[2];
    float xScale[2] = {1.0f, 1.0f};
    if constexpr (L::kHasTerms) {
      const RowTerms<C>* rows = reinterpret_cast<const RowTerms<C>*>(b.shared + L::kTermsAt) + localTile * 16 + lane / 4;
      terms[0] = rows[0], terms[1] = rows[8];
    }
    if constexpr (L::kHasTokenScales) {
      const float* scales = reinterpret_cast<const float*>(b.shared + L::kTokenScalesAt) + tokenTile * 8 + lane % 4 * 2;
      xScale[0] = scales[0] * T::kProductScale, xScale[1] = scales[1] * T::kProductScale;
    }
    float values[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) values[e] = terms[e / 2].apply(static_cast<float>(sums[e]), xScale[e % 2]);
    forOutputs(localTile, tokenTile, lane, [&](int e, size_t at) {
      p.y[at] = finish<C>(values[e], values[(e + 2) % 4], C::kResidual ? __half2float(residual.values[e]) : 0.0f);
    });
  }
};

template <class C>
__device__ __forceinline__ void thin(const DenseArguments& p) { Thin<C>::run(p); }

}  // namespace ladder
