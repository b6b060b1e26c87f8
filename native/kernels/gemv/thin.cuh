// Dense product of a few tokens (m ≤ 64), W [n, k] in any format: y[m, n] = epilogue(W · xᵀ).
// Still the time of reading W once, if the activations, which every block needs too, are not read too often. So each group
// of kCluster blocks owns a run of 16-row tiles and the blocks of a group share out k; their sums meet in the shared memory
// of whichever block owns the tile. A group takes its tiles in passes of kWarpsN · kWarpTiles; in a block, warp (i, j) has
// tiles i · kWarpTiles … of the pass and, of each stage, every kWarpsK-th unit.
//
//   stage:  | tile 0: kStageUnits units | tile 1 | … | scales of tile 0 | … | token 0: its k | token 1 | …   (rows padded)
//
// As in gemv.cuh the weights are A and 8 tokens at a time are B, the ring fills with weights before `waitForPrerequisites`,
// and every sum has a fixed order. Before sm_90 there are no clusters: each block is then a
// group of its own and takes all of k.
//
// Needs k % (kUnitK · kCluster) = 0, with SiLU n % 16 = 0, activations as the format multiplies them (FP16, or quantised before).
// Tuning: kBlocks, kCluster, kWarpsN, kWarpTiles, kWarpsK (power of two), kStageUnits (a multiple of kWarpsK), kStages, kPrefetchStages.
// Tests: test/gpu (against native/reference), bench/kernels (against a double-precision reference on the device).
#pragma once
#include "gemv/operator.cuh"
#include "gemv/ring.cuh"

namespace ladder {

template <class C>
class Thin {
  using T = FormatTraits<C::kWeight>;
  using S = DenseShape<C>;
  using Sum = Accumulator<C::kWeight>;

  static constexpr int kWarps = C::kWarpsN * C::kWarpsK;  // consumers
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kTokenTiles = (C::kM + 7) / 8;
  static constexpr int kTokens = kTokenTiles * 8;
  static constexpr int kPassTiles = C::kWarpsN * C::kWarpTiles;
  static constexpr int kUnitsPerWarp = C::kStageUnits / C::kWarpsK;
  /// Blocks that share k, groups of them, and units of k per block.
  static constexpr int kSplit = kHopper ? C::kCluster : 1;
  static constexpr int kGroups = C::kBlocks / kSplit;
  static constexpr int kBlockUnits = S::kUnits / kSplit;
  static constexpr int kStagesPerPass = (kBlockUnits + C::kStageUnits - 1) / C::kStageUnits;
  static_assert(C::kM <= 64 && C::kBlocks % C::kCluster == 0 && S::kUnits % C::kCluster == 0);
  static_assert(C::kStageUnits % C::kWarpsK == 0 && C::kStageUnits % S::kUnitsPerScale == 0 && kBlockUnits % S::kUnitsPerScale == 0);
  static_assert((C::kWarpsK & (C::kWarpsK - 1)) == 0 && C::kNorm == Norm::kNone && C::kQuantisedInput == (T::kActivationBytes == 1));

  // Shared memory, in this order.
  static constexpr int align(int bytes) { return (bytes + 127) / 128 * 128; }
  /// A token's activations in a stage, padded so that the lanes of a load fall into different banks.
  static constexpr int kRowBytes = C::kStageUnits * T::kUnitK * T::kActivationBytes;
  static constexpr int kRowStride = kRowBytes / 128 * 128 + (T::kRunBytes == 16 ? 64 : kRowBytes % 128 <= 32 ? 32 : 96);
  static_assert(kRowStride >= kRowBytes);
  static constexpr int kScalesAt = kPassTiles * C::kStageUnits * T::kUnitBytes;  // in the stage
  static constexpr int kTokensAt = kScalesAt + align(kPassTiles * C::kStageUnits * S::kScaleBytesPerUnit);
  static constexpr int kStageBytes = align(kTokensAt + kTokens * kRowStride);
  static constexpr int kTableAt = C::kStages * kStageBytes;
  static constexpr int kMxScalesAt = kTableAt + (C::kWeight == WeightFormat::kNf4 ? kNf4TableBytes : 0);
  /// E8M0 scales of the tokens for this block's k: [unit][token]. Without clusters they do not fit and come from L2.
  static constexpr bool kMxResident = kSplit == C::kCluster;
  static constexpr int kMxUnits = S::kUnits / C::kCluster;
  /// One fragment: a tile's sums for 8 tokens, 16 bytes per lane.
  static constexpr int kFragmentBytes = 512;
  /// Σ codes of each token, as far as each warp has seen them (INT1).
  static constexpr int kCodesAt = kMxScalesAt + (T::kIsMx ? align(kTokens * kMxUnits) : 0);
  static constexpr int kTreeAt = kCodesAt + (T::kIsInt1 ? kWarps * kTokens * 4 : 0);
  static constexpr int kTreeBytes = C::kWarpsK / 2 * C::kWarpsN * kTokenTiles * kFragmentBytes;
  static constexpr int kOwnedTiles = (kPassTiles + C::kCluster - 1) / C::kCluster;
  /// What the epilogue needs of each of the group's rows and of each token, fetched before the product ends.
  static constexpr bool kHasTerms = C::kBias || (C::kWeight != WeightFormat::kFp16 && !S::kScaled);
  static constexpr bool kHasTokenScales = C::kQuantisedInput && !T::kIsMx;
  static constexpr int kMaxTiles = (S::kTiles * C::kCluster + C::kBlocks - 1) / C::kBlocks;
  static constexpr int kTermsAt = kTreeAt + kTreeBytes;
  static constexpr int kTokenScalesAt = kTermsAt + (kHasTerms ? kMaxTiles * 128 : 0);
  static constexpr int kExchangeAt = kTokenScalesAt + (kHasTokenScales ? align(kTokens * 4) : 0);
  static constexpr int kExchangeBytes = C::kCluster > 1 ? C::kCluster * kOwnedTiles * kTokenTiles * kFragmentBytes : 0;
  static constexpr int kBarriersAt = kExchangeAt + kExchangeBytes;
  static constexpr int kReadyAt = kBarriersAt + RingBarriers<C::kStages>::kBytes;  // sums of all blocks have arrived
  static constexpr int kFreeAt = kReadyAt + 8;                                     // all blocks have read theirs

 public:
  static constexpr int kSharedBytes = kFreeAt + 8;
  static constexpr int kBlockThreads = kThreads + 64;

  __device__ static void run(const DenseArguments& p) {
    extern __shared__ __align__(128) uint8_t shared[];
    const Thin block(shared);
    if (threadIdx.x == kThreads) {
      block.barriers_.init((kHopper ? 1 : 32) + 32, kWarps);
      barrierInit(block.base_ + kReadyAt, kSplit * C::kWarpsN);
      barrierInit(block.base_ + kFreeAt, kSplit * kWarps);
      fenceBarrierInit();
    }
    __syncthreads();
#if __CUDA_ARCH__ >= 900
    // Every block's barriers exist before another one arrives on them.
    if constexpr (kSplit > 1) clusterBarrier();
#endif
    if (threadIdx.x >= kThreads + 32) block.produceTokens(p);
    else if (threadIdx.x >= kThreads) block.produceWeights(p);
    else block.consume(p);
  }

 private:
  uint8_t* const shared_;
  const uint32_t base_;
  const RingBarriers<C::kStages> barriers_;
  const int rank_, group_;
  /// This group's tiles.
  const int firstTile_, tiles_, passes_;

  static constexpr int kPerGroup = S::kTiles / kGroups, kExtra = S::kTiles % kGroups;

  __device__ __forceinline__ explicit Thin(uint8_t* shared)
      : shared_(shared), base_(sharedAddress(shared)), barriers_{base_ + kBarriersAt}, rank_(blockIdx.x % kSplit), group_(blockIdx.x / kSplit),
        firstTile_(group_ * kPerGroup + min(group_, kExtra)), tiles_(kPerGroup + (group_ < kExtra)), passes_((tiles_ + kPassTiles - 1) / kPassTiles) {}

  __device__ __forceinline__ int passTiles(int pass) const { return min(kPassTiles, tiles_ - pass * kPassTiles); }
  __device__ __forceinline__ static int stageUnits(int stage) { return min(C::kStageUnits, kBlockUnits - stage * C::kStageUnits); }

  // ---- Load: one warp brings weights, another what is too small for bulk copies (40 ns each): activations and scales -------

  __device__ __forceinline__ void produceWeights(const DenseArguments& p) const {
    const int lane = threadIdx.x % 32;
    launchDependents();
    RingCursor<C::kStages> cursor;
    bool refill = false;
    for (int pass = 0; pass < passes_; ++pass) {
      for (int stage = 0; stage < kStagesPerPass; ++stage) {
        if (refill) barrierWait(barriers_.empty(cursor.slot), cursor.parity ^ 1);
        const uint32_t full = barriers_.full(cursor.slot), at = base_ + cursor.slot * kStageBytes;
        const int bytes = stageUnits(stage) * T::kUnitBytes, tiles = passTiles(pass);
#if __CUDA_ARCH__ >= 900
        if (lane == 0) barrierArriveExpect(full, tiles * bytes);
        __syncwarp();
        for (int tile = lane; tile < tiles; tile += 32) {
          bulkCopyStreaming(at + tile * C::kStageUnits * T::kUnitBytes, p.weight + firstUnit(pass, tile, stage) * T::kUnitBytes, bytes, full);
        }
#else
        for (int tile = 0; tile < tiles; ++tile) {
          fetchStreaming(at + tile * C::kStageUnits * T::kUnitBytes, p.weight + firstUnit(pass, tile, stage) * T::kUnitBytes, bytes, full, lane);
        }
        copyAsyncArrive(full);
#endif
        cursor.advance();
        if (cursor.slot == 0 && !refill) {
          refill = true;
          prefetch(p, lane);
        }
      }
    }
  }

  __device__ __forceinline__ void produceTokens(const DenseArguments& p) const {
    const int lane = threadIdx.x % 32;
    waitForPrerequisites();
    RingCursor<C::kStages> cursor;
    bool refill = false;
    for (int pass = 0; pass < passes_; ++pass) {
      for (int stage = 0; stage < kStagesPerPass; ++stage) {
        if (refill) barrierWait(barriers_.empty(cursor.slot), cursor.parity ^ 1);
        const uint32_t at = base_ + cursor.slot * kStageBytes;
        if (stageUnits(stage) == C::kStageUnits) fetchTokens<C::kStageUnits>(p, stage, at, lane);
        else if constexpr (kBlockUnits % C::kStageUnits != 0) fetchTokens<kBlockUnits % C::kStageUnits>(p, stage, at, lane);
        if constexpr (S::kScaled) fetchScales(p, pass, stage, at, lane);
        copyAsyncArrive(barriers_.full(cursor.slot));
        cursor.advance();
        refill |= cursor.slot == 0;
      }
    }
  }

  /// First unit of a tile's part in a stage, counted over the whole weight.
  __device__ __forceinline__ size_t firstUnit(int pass, int tile, int stage) const {
    return static_cast<size_t>(firstTile_ + pass * kPassTiles + tile) * S::kUnits + rank_ * kBlockUnits + stage * C::kStageUnits;
  }

  template <int kUnitCount>
  __device__ __forceinline__ void fetchTokens(const DenseArguments& p, int stage, uint32_t at, int lane) const {
    constexpr int kPieces = kUnitCount * T::kUnitK * T::kActivationBytes / 16;  // of one token
    constexpr size_t kRow = static_cast<size_t>(C::kK) * T::kActivationBytes;
    const uint8_t* from = static_cast<const uint8_t*>(p.x) + static_cast<size_t>(rank_ * kBlockUnits + stage * C::kStageUnits) * T::kUnitK * T::kActivationBytes;
    if constexpr (kPieces % 32 == 0 || 32 % kPieces == 0) {
      // A lane's pieces lie a constant distance apart: one instruction each.
      constexpr int kRows = kPieces < 32 ? 32 / kPieces : 1;  // tokens at once
      const int first = kPieces < 32 ? lane / kPieces : 0, piece = kPieces < 32 ? lane % kPieces : lane;
      const uint32_t to = at + kTokensAt + first * kRowStride + piece * 16;
      from += first * kRow + piece * 16;
#pragma unroll
      for (int token = 0; token < C::kM; token += kRows) {
        if (C::kM % kRows != 0 && token + first >= C::kM) break;
#pragma unroll
        for (int i = 0; i < kPieces; i += 32) copyAsync16(to + token * kRowStride + i * 16, from + token * kRow + i * 16);
      }
    } else {
      for (int i = lane; i < C::kM * kPieces; i += 32) {
        const int token = i / kPieces, piece = i % kPieces;
        copyAsync16(at + kTokensAt + token * kRowStride + piece * 16, from + token * kRow + piece * 16);
      }
    }
  }

  __device__ __forceinline__ void fetchScales(const DenseArguments& p, int pass, int stage, uint32_t at, int lane) const {
    const int pieces = stageUnits(stage) * S::kScaleBytesPerUnit / 16;
    for (int i = lane; i < passTiles(pass) * pieces; i += 32) {
      const int tile = i / pieces, piece = i % pieces;
      copyAsync16(at + kScalesAt + tile * C::kStageUnits * S::kScaleBytesPerUnit + piece * 16,
                  static_cast<const uint8_t*>(p.scale) + firstUnit(pass, tile, stage) * S::kScaleBytesPerUnit + piece * 16);
    }
  }

  /// Weights behind the ring go to L2 while the kernel before is still at work.
  __device__ __forceinline__ void prefetch(const DenseArguments& p, int lane) const {
#if __CUDA_ARCH__ >= 900
    constexpr int kFirst = C::kStages, kLast = C::kStages + C::kPrefetchStages < kStagesPerPass ? C::kStages + C::kPrefetchStages : kStagesPerPass;
    if constexpr (kFirst < kLast) {
      const int units = min((kLast - kFirst) * C::kStageUnits, kBlockUnits - kFirst * C::kStageUnits);
      for (int tile = lane; tile < passTiles(0); tile += 32) bulkPrefetchL2(p.weight + firstUnit(0, tile, kFirst) * T::kUnitBytes, units * T::kUnitBytes);
    }
#endif
  }

  // ---- Decode and compute -------------------------------------------------------------------------------------------------

  using Sums = Sum[C::kWarpTiles][kTokenTiles][4];

  __device__ __forceinline__ void consume(const DenseArguments& p) const {
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int warpN = warp % C::kWarpsN, warpK = warp / C::kWarpsN;
    if constexpr (C::kWeight == WeightFormat::kNf4) fillNf4Table(base_ + kTableAt, warp, kWarps, lane);
    if constexpr (kHasTerms) {
      for (int row = thread; row < tiles_ * 16; row += kThreads) {
        const int n = (firstTile_ + row / 16) * S::kTileOutputs + (S::kSilu ? row % 8 + (row % 16 < 8 ? 0 : S::kOutputs) : row % 16);
        RowTerms<C> terms;
        if (n < C::kN) terms.load(p, n);
        reinterpret_cast<RowTerms<C>*>(shared_ + kTermsAt)[row] = terms;
      }
    }
    waitForPrerequisites();
    if constexpr (T::kIsMx && kMxResident) fetchMxScales(p, thread);
    if constexpr (kHasTokenScales) {
      for (int token = thread; token < C::kM; token += kThreads) {
        reinterpret_cast<float*>(shared_ + kTokenScalesAt)[token] = __ldcg(static_cast<const float*>(p.xScale) + token);
      }
    }
    namedBarrier(1, kThreads);

    RingCursor<C::kStages> cursor;
    for (int pass = 0; pass < passes_; ++pass) {
      const bool busy = warpN * C::kWarpTiles < passTiles(pass);
      Sums sums = {};
      int32_t codes[kTokenTiles] = {};
      for (int stage = 0; stage < kStagesPerPass; ++stage, cursor.advance()) {
        barrierWait(barriers_.full(cursor.slot), cursor.parity);
        if (busy) {
#pragma unroll
          for (int u = 0; u < kUnitsPerWarp; ++u) {
            const int unit = warpK + u * C::kWarpsK;
            if (kBlockUnits % C::kStageUnits == 0 || unit < stageUnits(stage)) {
              multiplyUnit(p, base_ + cursor.slot * kStageBytes, warpN, unit, stage * C::kStageUnits + unit, lane, sums, codes);
            }
          }
        }
        if (T::kIsInt1 && !busy) {
          for (int unit = warpK; unit < stageUnits(stage); unit += C::kWarpsK) addCodes(base_ + cursor.slot * kStageBytes, warpN, unit, lane, codes);
        }
        __syncwarp();
        if (lane == 0) barrierArrive(barriers_.empty(cursor.slot));
      }
      reduceWarps(sums, warpN, warpK, lane);
      if constexpr (T::kIsInt1) subtractCodes(sums, codes, warp, lane);
      if constexpr (kSplit == 1) {
        if (warpK == 0) storeSums(p, pass, warpN, lane, sums);
      } else {
        exchange(p, pass, warp, warpN, warpK, lane, sums);
      }
    }
  }

  __device__ __forceinline__ void fetchMxScales(const DenseArguments& p, int thread) const {
    const uint8_t* from = static_cast<const uint8_t*>(p.xScale) + rank_ * kBlockUnits;
    if constexpr (kMxUnits % 4 == 0 && S::kUnits % 4 == 0) {
      constexpr int kWords = kMxUnits / 4;
#pragma unroll 8
      for (int i = thread; i < C::kM * kWords; i += kThreads) {
        const int token = i % C::kM, word = i / C::kM;
        const uint32_t four = __ldcg(reinterpret_cast<const uint32_t*>(from + static_cast<size_t>(token) * S::kUnits) + word);
#pragma unroll
        for (int e = 0; e < 4; ++e) shared_[kMxScalesAt + (word * 4 + e) * kTokens + token] = static_cast<uint8_t>(four >> 8 * e);
      }
    } else {
      for (int i = thread; i < C::kM * kMxUnits; i += kThreads) {
        const int token = i % C::kM, unit = i / C::kM;
        shared_[kMxScalesAt + unit * kTokens + token] = __ldcg(from + static_cast<size_t>(token) * S::kUnits + unit);
      }
    }
  }

  /// Scales of tokens `token` (even) and `token` + 1.
  __device__ __forceinline__ void loadMxScales(const DenseArguments& p, int token, int blockUnit, float (&scale)[2]) const {
    if constexpr (kMxResident) {
      const uint32_t pair = loadShared2(base_ + kMxScalesAt + blockUnit * kTokens + token);
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

  __device__ __forceinline__ void addCodes(uint32_t stage, int warpN, int unit, int lane, int32_t (&codes)[kTokenTiles]) const {
    const uint32_t run = tokenRun(stage, unit, lane);
    for (int step = 0; step < T::kSteps; ++step) {
      if (!addsCodes(unit, step, warpN)) continue;
#pragma unroll
      for (int j = 0; j < kTokenTiles; ++j) {
        uint32_t b[4];
        loadActivations<C::kWeight>(run + j * 8 * kRowStride + step * T::kRunBytes * 4, b);
        addCodes(b, codes[j]);
      }
    }
  }

  /// Where a lane's first run of a unit's activations is: of token g, run t.
  __device__ __forceinline__ static uint32_t tokenRun(uint32_t stage, int unit, int lane) {
    return stage + kTokensAt + lane / 4 * kRowStride + unit * T::kUnitK * T::kActivationBytes + lane % 4 * T::kRunBytes;
  }

  /// sums += unit · tokens, for this warp's tiles.
  __device__ __forceinline__ void multiplyUnit(const DenseArguments& p, uint32_t stage, int warpN, int unit, int blockUnit, int lane, Sums& sums,
                                               int32_t (&codes)[kTokenTiles]) const {
    const uint32_t table = base_ + kTableAt + lane * 4;
    const uint32_t weights = stage + (warpN * C::kWarpTiles * C::kStageUnits + unit) * T::kUnitBytes;
    const uint32_t run = tokenRun(stage, unit, lane);
    uint32_t words[C::kWarpTiles][T::kWords];
#pragma unroll
    for (int i = 0; i < C::kWarpTiles; ++i) loadUnit<C::kWeight>(weights + i * C::kStageUnits * T::kUnitBytes, lane, words[i]);

    if constexpr (!S::kScaled) {
#pragma unroll
      for (int step = 0; step < T::kSteps; ++step) {
        uint32_t b[kTokenTiles][4];
#pragma unroll
        for (int j = 0; j < kTokenTiles; ++j) {
          loadActivations<C::kWeight>(run + j * 8 * kRowStride + step * T::kRunBytes * 4, b[j]);
          if (addsCodes(unit, step, warpN)) addCodes(b[j], codes[j]);
        }
#pragma unroll
        for (int i = 0; i < C::kWarpTiles; ++i) {
          uint32_t a[2][4];
          decodeStep<C::kWeight>(words[i], step, table, a);
#pragma unroll
          for (int j = 0; j < kTokenTiles; ++j) {
            multiply<C::kWeight>(sums[i][j], a[0], b[j][0], b[j][1]);
            multiply<C::kWeight>(sums[i][j], a[1], b[j][2], b[j][3]);
          }
        }
      }
    } else {
      // A unit has scales of its own: its sums start from zero and are scaled before they join the others.
      uint32_t b[T::kSteps][kTokenTiles][4];
      float tokenScale[kTokenTiles][2];
#pragma unroll
      for (int j = 0; j < kTokenTiles; ++j) {
#pragma unroll
        for (int step = 0; step < T::kSteps; ++step) loadActivations<C::kWeight>(run + j * 8 * kRowStride + step * T::kRunBytes * 4, b[step][j]);
        if constexpr (T::kIsMx) {
          loadMxScales(p, j * 8 + lane % 4 * 2, blockUnit, tokenScale[j]);
          tokenScale[j][0] *= T::kProductScale, tokenScale[j][1] *= T::kProductScale;
        } else {
          tokenScale[j][0] = tokenScale[j][1] = 1.0f;
        }
      }
#pragma unroll
      for (int i = 0; i < C::kWarpTiles; ++i) {
        const uint32_t at = stage + kScalesAt + (warpN * C::kWarpTiles + i) * C::kStageUnits * S::kScaleBytesPerUnit + unit / S::kUnitsPerScale * S::kScaleBytes;
        float scale[2];
        if constexpr (T::kIsMx) {
          const uint32_t pair = loadShared2(at + lane / 4 * 2);
          scale[0] = e8m0(pair & 0xff), scale[1] = e8m0(pair >> 8);
        } else {
          const uint32_t pair = loadShared4(at + lane / 4 * 4);
          const float2 both = __half22float2(*reinterpret_cast<const __half2*>(&pair));
          scale[0] = both.x, scale[1] = both.y;
        }
        float fresh[kTokenTiles][4] = {};
#pragma unroll
        for (int step = 0; step < T::kSteps; ++step) {
          uint32_t a[2][4];
          decodeStep<C::kWeight>(words[i], step, table, a);
#pragma unroll
          for (int j = 0; j < kTokenTiles; ++j) {
            multiply<C::kWeight>(fresh[j], a[0], b[step][j][0], b[step][j][1]);
            multiply<C::kWeight>(fresh[j], a[1], b[step][j][2], b[step][j][3]);
          }
        }
#pragma unroll
        for (int j = 0; j < kTokenTiles; ++j) {
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
      uint4* const fragments = reinterpret_cast<uint4*>(shared_ + kTreeAt) + ((warpK % half) * C::kWarpsN + warpN) * kTokenTiles * 32 + lane;
#pragma unroll
      for (int i = 0; i < C::kWarpTiles; ++i) {
        if (warpK >= half && warpK < 2 * half) {
#pragma unroll
          for (int j = 0; j < kTokenTiles; ++j) fragments[j * 32] = bits(sums[i][j]);
        }
        namedBarrier(1, kThreads);
        if (warpK < half) {
#pragma unroll
          for (int j = 0; j < kTokenTiles; ++j) add(sums[i][j], fragments[j * 32]);
        }
        namedBarrier(1, kThreads);
      }
    }
  }

  /// INT1: bits to signs, 2 · Σ bit·x − Σ x (of the block's k). A lane has Σ x of token g over its runs; its sums are of tokens 2t and 2t + 1.
  __device__ __forceinline__ void subtractCodes(Sums& sums, int32_t (&codes)[kTokenTiles], int warp, int lane) const {
    int32_t* const shared = reinterpret_cast<int32_t*>(shared_ + kCodesAt);
#pragma unroll
    for (int j = 0; j < kTokenTiles; ++j) {
      codes[j] += __shfl_xor_sync(0xffffffffu, codes[j], 1);
      codes[j] += __shfl_xor_sync(0xffffffffu, codes[j], 2);
      if (lane % 4 == 0) shared[warp * kTokens + j * 8 + lane / 4] = codes[j];
    }
    namedBarrier(1, kThreads);
#pragma unroll
    for (int j = 0; j < kTokenTiles; ++j) {
      int32_t total[2] = {};
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const int2 pair = *reinterpret_cast<const int2*>(shared + w * kTokens + j * 8 + lane % 4 * 2);
        total[0] += pair.x, total[1] += pair.y;
      }
#pragma unroll
      for (int i = 0; i < C::kWarpTiles; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[i][j][e] = sums[i][j][e] / (kBitValue / 2) - total[e % 2];
      }
    }
    namedBarrier(1, kThreads);
  }

  __device__ __forceinline__ void storeSums(const DenseArguments& p, int pass, int warpN, int lane, const Sums& sums) const {
#pragma unroll
    for (int i = 0; i < C::kWarpTiles; ++i) {
      const int tile = warpN * C::kWarpTiles + i;
      if (tile < passTiles(pass)) {
        Residual residual[kTokenTiles];
#pragma unroll
        for (int j = 0; j < kTokenTiles; ++j) loadResidual(p, pass * kPassTiles + tile, j, lane, residual[j]);
#pragma unroll
        for (int j = 0; j < kTokenTiles; ++j) storeFragment(p, pass * kPassTiles + tile, j, lane, sums[i][j], residual[j]);
      }
    }
  }

  /// Each block pushes its part of every tile to the tile's owner (tile modulo blocks), which adds the parts in order.
  __device__ __forceinline__ void exchange(const DenseArguments& p, int pass, int warp, int warpN, int warpK, int lane, const Sums& sums) const {
#if __CUDA_ARCH__ >= 900
    const int tiles = passTiles(pass);
    if (warpK == 0) {
      if (pass > 0) barrierWaitCluster(base_ + kFreeAt, (pass - 1) & 1);
#pragma unroll
      for (int i = 0; i < C::kWarpTiles; ++i) {
        const int tile = warpN * C::kWarpTiles + i;
        if (tile < tiles) {
          const uint32_t to = remoteAddress(base_ + kExchangeAt + (rank_ * kOwnedTiles + tile / kSplit) * kTokenTiles * kFragmentBytes + lane * 16, tile % kSplit);
#pragma unroll
          for (int j = 0; j < kTokenTiles; ++j) storeRemote16(to + j * kFragmentBytes, bits(sums[i][j]));
        }
      }
      fenceCluster();
      __syncwarp();
      if (lane < kSplit) barrierArriveRemote(remoteAddress(base_ + kReadyAt, lane));
    }
    constexpr int kMine = (kOwnedTiles * kTokenTiles + kWarps - 1) / kWarps;
    const int owned = (tiles - rank_ + kSplit - 1) / kSplit * kTokenTiles;
    const auto tileOf = [&](int i) { return pass * kPassTiles + i / kTokenTiles * kSplit + rank_; };
    Residual residual[kMine];
#pragma unroll
    for (int m = 0; m < kMine; ++m) {
      const int i = warp + m * kWarps;
      if (i < owned) loadResidual(p, tileOf(i), i % kTokenTiles, lane, residual[m]);
    }
    barrierWaitCluster(base_ + kReadyAt, pass & 1);
#pragma unroll
    for (int m = 0; m < kMine; ++m) {
      const int i = warp + m * kWarps;
      if (i >= owned) continue;
      const Sum* part = reinterpret_cast<const Sum*>(shared_ + kExchangeAt) + i * 128 + lane * 4;
      Sum sum[4] = {};
#pragma unroll
      for (int r = 0; r < kSplit; ++r) add(sum, *reinterpret_cast<const uint4*>(part + r * kOwnedTiles * kTokenTiles * 128));
      storeFragment(p, tileOf(i), i % kTokenTiles, lane, sum, residual[m]);
    }
    if (pass + 1 < passes_) {
      __syncwarp();
      if (lane < kSplit) barrierArriveRemote(remoteAddress(base_ + kFreeAt, lane));
    }
#endif
  }

  // ---- Store ----------------------------------------------------------------------------------------------------------------

  /// Of rows g and g + 8 (SiLU: of output g) for tokens 2t and 2t + 1, in the order of a fragment's sums.
  struct Residual { __half values[4]; };

  /// Calls f(element of a fragment, index into y) for each output that exists; with SiLU the first two elements only.
  template <class F>
  __device__ __forceinline__ void forOutputs(int localTile, int tokenTile, int lane, F f) const {
    const int first = (firstTile_ + localTile) * S::kTileOutputs + lane / 4;
#pragma unroll
    for (int e = 0; e < (S::kSilu ? 2 : 4); ++e) {
      const int token = tokenTile * 8 + lane % 4 * 2 + e % 2, n = first + e / 2 * 8;
      if ((C::kM % 8 == 0 || token < C::kM) && (C::kN % 16 == 0 || n < C::kN)) f(e, static_cast<size_t>(token) * S::kOutputs + n);
    }
  }

  __device__ __forceinline__ void loadResidual(const DenseArguments& p, int localTile, int tokenTile, int lane, Residual& residual) const {
    if constexpr (C::kResidual) forOutputs(localTile, tokenTile, lane, [&](int e, size_t at) { residual.values[e] = __ldcg(p.residual + at); });
  }

  __device__ __forceinline__ void storeFragment(const DenseArguments& p, int localTile, int tokenTile, int lane, const Sum (&sums)[4], const Residual& residual) const {
    RowTerms<C> terms[2];
    float xScale[2] = {1.0f, 1.0f};
    if constexpr (kHasTerms) {
      const RowTerms<C>* rows = reinterpret_cast<const RowTerms<C>*>(shared_ + kTermsAt) + localTile * 16 + lane / 4;
      terms[0] = rows[0], terms[1] = rows[8];
    }
    if constexpr (kHasTokenScales) {
      const float* scales = reinterpret_cast<const float*>(shared_ + kTokenScalesAt) + tokenTile * 8 + lane % 4 * 2;
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
