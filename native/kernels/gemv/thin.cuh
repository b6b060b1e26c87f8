// Dense product of a few tokens (2 ≤ m ≤ 64), W [n, k] in any format: y[m, n] = epilogue(W · xᵀ).
// Still the time of reading W once, if the activations, which every block needs too, are not read too often. So each group
// of kCluster blocks owns a run of 16-row tiles and the blocks of a group share out k; their sums meet in the shared memory
// of whichever block owns the tile. A group takes its tiles in passes of kWarpsN · kWarpTiles; in a block, warp (i, j) has
// tiles i · kWarpTiles … of the pass and, of each stage, every kWarpsK-th unit.
//
//   stage:  | tile 0: kStageUnits units | tile 1 | … | scales of tile 0 | … | token 0: its k | token 1 | …   (rows padded)
//
// As in gemv.cuh the weights are A and 8 tokens at a time are B, the ring fills before `waitForPrerequisites` (weights only),
// two kernels share a multiprocessor, and every sum has a fixed order. Before sm_90 there are no clusters: each block is then a
// group of its own and takes all of k.
//
// Needs n % 16 = 0, k % (kUnitK · kCluster) = 0, activations as the format multiplies them (FP16, or quantised before).
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
  static_assert(C::kM > 1 && C::kM <= 64 && C::kBlocks % C::kCluster == 0 && S::kUnits % C::kCluster == 0);
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
  /// E8M0 scales of the tokens for this block's k, an odd number of words apart. Without clusters they do not fit and come from L2.
  static constexpr bool kMxResident = kSplit == C::kCluster;
  static constexpr int kMxUnits = S::kUnits / C::kCluster;
  static constexpr int kMxStride = ((kMxUnits + 3) / 4 | 1) * 4;
  /// One fragment: a tile's sums for 8 tokens, 16 bytes per lane.
  static constexpr int kFragmentBytes = 512;
  static constexpr int kTreeAt = kMxScalesAt + (T::kIsMx ? align(kTokens * kMxStride) : 0);
  static constexpr int kTreeBytes = C::kWarpsK / 2 * kPassTiles * kTokenTiles * kFragmentBytes;
  static constexpr int kOwnedTiles = (kPassTiles + C::kCluster - 1) / C::kCluster;
  static constexpr int kExchangeAt = kTreeAt + kTreeBytes;
  static constexpr int kExchangeBytes = C::kCluster > 1 ? C::kCluster * kOwnedTiles * kTokenTiles * kFragmentBytes : 0;
  static constexpr int kBarriersAt = kExchangeAt + kExchangeBytes;
  static constexpr int kReadyAt = kBarriersAt + RingBarriers<C::kStages>::kBytes;  // sums of all blocks have arrived
  static constexpr int kFreeAt = kReadyAt + 8;                                     // all blocks have read theirs

 public:
  static constexpr int kSharedBytes = kFreeAt + 8;
  static constexpr int kBlockThreads = kThreads + 32;

  __device__ static void run(const DenseArguments& p) {
    extern __shared__ __align__(128) uint8_t shared[];
    const Thin block(shared);
    if (threadIdx.x == kThreads) {
      block.barriers_.init(kWarps);
      barrierInit(block.base_ + kReadyAt, kSplit * C::kWarpsN);
      barrierInit(block.base_ + kFreeAt, kSplit * kWarps);
      fenceBarrierInit();
    }
    __syncthreads();
#if __CUDA_ARCH__ >= 900
    // Every block's barriers exist before another one arrives on them.
    if constexpr (kSplit > 1) clusterBarrier();
#endif
    if (threadIdx.x >= kThreads) block.produce(p);
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

  // ---- Load -----------------------------------------------------------------------------------------------------------

  __device__ __forceinline__ void produce(const DenseArguments& p) const {
    const int lane = threadIdx.x % 32;
    launchDependents();
    const int total = passes_ * kStagesPerPass;
#if __CUDA_ARCH__ >= 900
    // Weights of the first stages before the wait, their activations after it: the barrier's arrival comes with these.
    const int ahead = min(total, C::kStages);
    for (int i = 0; i < ahead; ++i) {
      const int pass = i / kStagesPerPass, stage = i % kStagesPerPass;
      if (lane == 0) barrierExpect(barriers_.full(i), weightBytes(pass, stage));
      __syncwarp();
      fetchWeights(p, pass, stage, i, lane);
    }
    prefetch(p, lane);
    waitForPrerequisites();
    for (int i = 0; i < ahead; ++i) {
      const int stage = i % kStagesPerPass;
      if (lane == 0) barrierArriveExpect(barriers_.full(i), tokenBytes(stage));
      __syncwarp();
      fetchTokens(p, stage, i, lane);
    }
#else
    const int ahead = 0;
#endif
    int pass = ahead / kStagesPerPass, stage = ahead % kStagesPerPass;
    RingCursor<C::kStages> cursor;
    if (ahead == C::kStages) cursor.parity = 1;
    for (int i = ahead; i < total; ++i, cursor.advance()) {
      if (i >= C::kStages) barrierWait(barriers_.empty(cursor.slot), cursor.parity ^ 1);
#if __CUDA_ARCH__ >= 900
      if (lane == 0) barrierArriveExpect(barriers_.full(cursor.slot), weightBytes(pass, stage) + tokenBytes(stage));
      __syncwarp();
#endif
      fetchWeights(p, pass, stage, cursor.slot, lane);
      fetchTokens(p, stage, cursor.slot, lane);
#if __CUDA_ARCH__ < 900
      copyAsyncArrive(barriers_.full(cursor.slot));
#endif
      if (++stage == kStagesPerPass) stage = 0, ++pass;
    }
  }

  __device__ __forceinline__ uint32_t weightBytes(int pass, int stage) const {
    return passTiles(pass) * stageUnits(stage) * (T::kUnitBytes + S::kScaleBytesPerUnit);
  }
  __device__ __forceinline__ static uint32_t tokenBytes(int stage) { return C::kM * stageUnits(stage) * T::kUnitK * T::kActivationBytes; }

  /// First unit of a tile's part in a stage, counted over the whole weight.
  __device__ __forceinline__ size_t firstUnit(int pass, int tile, int stage) const {
    return static_cast<size_t>(firstTile_ + pass * kPassTiles + tile) * S::kUnits + rank_ * kBlockUnits + stage * C::kStageUnits;
  }

  __device__ __forceinline__ void fetchWeights(const DenseArguments& p, int pass, int stage, int slot, int lane) const {
    const uint32_t at = base_ + slot * kStageBytes, full = barriers_.full(slot);
    const int units = stageUnits(stage), tiles = passTiles(pass);
    // Hopper: one copy per tile and lane. Else: tile after tile by all lanes.
    for (int tile = kHopper ? lane : 0; tile < tiles; tile += kHopper ? 32 : 1) {
      const size_t unit = firstUnit(pass, tile, stage);
      fetchStreaming(at + tile * C::kStageUnits * T::kUnitBytes, p.weight + unit * T::kUnitBytes, units * T::kUnitBytes, full, lane);
      if constexpr (S::kScaled) {
        fetchStreaming(at + kScalesAt + tile * C::kStageUnits * S::kScaleBytesPerUnit, static_cast<const uint8_t*>(p.scale) + unit * S::kScaleBytesPerUnit,
                       units * S::kScaleBytesPerUnit, full, lane);
      }
    }
  }

  __device__ __forceinline__ void fetchTokens(const DenseArguments& p, int stage, int slot, int lane) const {
    const uint32_t at = base_ + slot * kStageBytes + kTokensAt;
    const int bytes = stageUnits(stage) * T::kUnitK * T::kActivationBytes;
    const uint8_t* from = static_cast<const uint8_t*>(p.x) + static_cast<size_t>(rank_ * kBlockUnits + stage * C::kStageUnits) * T::kUnitK * T::kActivationBytes;
    constexpr size_t kRow = static_cast<size_t>(C::kK) * T::kActivationBytes;
#if __CUDA_ARCH__ >= 900
    for (int token = lane; token < C::kM; token += 32) bulkCopy(at + token * kRowStride, from + token * kRow, bytes, barriers_.full(slot));
#else
    const int pieces = bytes / 16;
    for (int i = lane; i < C::kM * pieces; i += 32) copyAsync16(at + i / pieces * kRowStride + i % pieces * 16, from + i / pieces * kRow + i % pieces * 16);
#endif
  }

#if __CUDA_ARCH__ >= 900
  /// Weights behind the ring go to L2 while the kernel before is still at work.
  __device__ __forceinline__ void prefetch(const DenseArguments& p, int lane) const {
    constexpr int kFirst = C::kStages, kLast = C::kStages + C::kPrefetchStages < kStagesPerPass ? C::kStages + C::kPrefetchStages : kStagesPerPass;
    if constexpr (kFirst < kLast) {
      const int units = min((kLast - kFirst) * C::kStageUnits, kBlockUnits - kFirst * C::kStageUnits);
      for (int tile = lane; tile < passTiles(0); tile += 32) bulkPrefetchL2(p.weight + firstUnit(0, tile, kFirst) * T::kUnitBytes, units * T::kUnitBytes);
    }
  }
#endif

  // ---- Decode and compute -------------------------------------------------------------------------------------------------

  using Sums = Sum[C::kWarpTiles][kTokenTiles][4];

  __device__ __forceinline__ void consume(const DenseArguments& p) const {
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int warpN = warp % C::kWarpsN, warpK = warp / C::kWarpsN;
    if constexpr (C::kWeight == WeightFormat::kNf4) fillNf4Table(base_ + kTableAt, warp, kWarps, lane);
    for (int row = thread * 64; row < tiles_ * 16; row += kThreads * 64) RowTerms<C>::prefetch(p, firstTile_ * S::kTileOutputs + row / (S::kSilu ? 2 : 1));
    waitForPrerequisites();
    if constexpr (T::kIsMx && kMxResident) fetchMxScales(p, thread);
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
        __syncwarp();
        if (lane == 0) barrierArrive(barriers_.empty(cursor.slot));
      }
      if constexpr (T::kIsInt1) subtractCodes(sums, codes, lane);
      reduceWarps(sums, warpN, warpK, lane);
      if constexpr (kSplit == 1) {
        if (warpK == 0) storeSums(p, pass, warpN, lane, sums);
      } else {
        exchange(p, pass, warp, warpN, warpK, lane, sums);
      }
    }
  }

  __device__ __forceinline__ void fetchMxScales(const DenseArguments& p, int thread) const {
    const uint8_t* from = static_cast<const uint8_t*>(p.xScale) + rank_ * kBlockUnits;
    for (int i = thread; i < C::kM * kMxUnits; i += kThreads) {
      const int token = i / kMxUnits, unit = i % kMxUnits;
      shared_[kMxScalesAt + token * kMxStride + unit] = __ldcg(from + static_cast<size_t>(token) * S::kUnits + unit);
    }
  }

  __device__ __forceinline__ float mxScale(const DenseArguments& p, int token, int blockUnit) const {
    if constexpr (kMxResident) return e8m0(loadShared1(base_ + kMxScalesAt + token * kMxStride + blockUnit));
    return e8m0(__ldcg(static_cast<const uint8_t*>(p.xScale) + static_cast<size_t>(min(token, C::kM - 1)) * S::kUnits + blockUnit));
  }

  /// sums += unit · tokens, for this warp's tiles.
  __device__ __forceinline__ void multiplyUnit(const DenseArguments& p, uint32_t stage, int warpN, int unit, int blockUnit, int lane, Sums& sums,
                                               int32_t (&codes)[kTokenTiles]) const {
    const uint32_t table = base_ + kTableAt + lane * 4;
    const uint32_t weights = stage + (warpN * C::kWarpTiles * C::kStageUnits + unit) * T::kUnitBytes;
    const uint32_t run = stage + kTokensAt + lane / 4 * kRowStride + unit * T::kUnitK * T::kActivationBytes + lane % 4 * T::kRunBytes;
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
          if constexpr (T::kIsInt1) {
#pragma unroll
            for (int w = 0; w < 4; ++w) codes[j] = __dp4a(0x01010101, static_cast<int>(b[j][w]), codes[j]);
          }
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
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          if constexpr (T::kIsMx) {
            tokenScale[j][c] = mxScale(p, j * 8 + lane % 4 * 2 + c, blockUnit) * T::kProductScale;
          } else {
            tokenScale[j][c] = 1.0f;
          }
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

  /// INT1: bits to signs, 2 · Σ bit·x − Σ x. A lane has Σ x of token g over its runs; its sums are of tokens 2t and 2t + 1.
  __device__ __forceinline__ static void subtractCodes(Sums& sums, int32_t (&codes)[kTokenTiles], int lane) {
#pragma unroll
    for (int j = 0; j < kTokenTiles; ++j) {
      codes[j] += __shfl_xor_sync(0xffffffffu, codes[j], 1);
      codes[j] += __shfl_xor_sync(0xffffffffu, codes[j], 2);
      const int32_t total[2] = {__shfl_sync(0xffffffffu, codes[j], lane % 4 * 8), __shfl_sync(0xffffffffu, codes[j], lane % 4 * 8 + 4)};
#pragma unroll
      for (int i = 0; i < C::kWarpTiles; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[i][j][e] = 2 * sums[i][j][e] - total[e % 2];
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

  /// Leaves the block's sums with the warps of warpK = 0: upper halves hand over to lower halves.
  __device__ __forceinline__ void reduceWarps(Sums& sums, int warpN, int warpK, int lane) const {
#pragma unroll
    for (int half = C::kWarpsK / 2; half > 0; half /= 2) {
      Sum* fragments = reinterpret_cast<Sum*>(shared_ + kTreeAt) + ((warpK % half) * C::kWarpsN + warpN) * C::kWarpTiles * kTokenTiles * 128 + lane * 4;
      if (warpK >= half && warpK < 2 * half) {
#pragma unroll
        for (int i = 0; i < C::kWarpTiles * kTokenTiles; ++i) *reinterpret_cast<uint4*>(fragments + i * 128) = bits(sums[i / kTokenTiles][i % kTokenTiles]);
      }
      namedBarrier(1, kThreads);
      if (warpK < half) {
#pragma unroll
        for (int i = 0; i < C::kWarpTiles * kTokenTiles; ++i) add(sums[i / kTokenTiles][i % kTokenTiles], *reinterpret_cast<const uint4*>(fragments + i * 128));
      }
      namedBarrier(1, kThreads);
    }
  }

  __device__ __forceinline__ void storeSums(const DenseArguments& p, int pass, int warpN, int lane, const Sums& sums) const {
#pragma unroll
    for (int i = 0; i < C::kWarpTiles; ++i) {
      const int tile = warpN * C::kWarpTiles + i;
      if (tile < passTiles(pass)) {
#pragma unroll
        for (int j = 0; j < kTokenTiles; ++j) storeFragment(p, firstTile_ + pass * kPassTiles + tile, j, lane, sums[i][j]);
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
    barrierWaitCluster(base_ + kReadyAt, pass & 1);
    const int owned = (tiles - rank_ + kSplit - 1) / kSplit;
    for (int i = warp; i < owned * kTokenTiles; i += kWarps) {
      const Sum* part = reinterpret_cast<const Sum*>(shared_ + kExchangeAt) + i * 128 + lane * 4;
      Sum sum[4] = {};
#pragma unroll
      for (int r = 0; r < kSplit; ++r) add(sum, *reinterpret_cast<const uint4*>(part + r * kOwnedTiles * kTokenTiles * 128));
      storeFragment(p, firstTile_ + pass * kPassTiles + i / kTokenTiles * kSplit + rank_, i % kTokenTiles, lane, sum);
    }
    if (pass + 1 < passes_) {
      __syncwarp();
      if (lane < kSplit) barrierArriveRemote(remoteAddress(base_ + kFreeAt, lane));
    }
#endif
  }

  // ---- Store ----------------------------------------------------------------------------------------------------------------

  /// Epilogue of a tile's rows g and g + 8 for tokens 2t and 2t + 1 of a token tile.
  __device__ __forceinline__ void storeFragment(const DenseArguments& p, int tile, int tokenTile, int lane, const Sum (&sums)[4]) const {
    const int first = tile * S::kTileOutputs + lane / 4;
    RowTerms<C> terms[2];
    terms[0].load(p, first);
    terms[1].load(p, first + (S::kSilu ? S::kOutputs : 8));
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int token = tokenTile * 8 + lane % 4 * 2 + c;
      if (token >= C::kM) break;
      float xScale = S::kScaled ? 1.0f : T::kProductScale;
      if constexpr (C::kQuantisedInput && !T::kIsMx) xScale *= __ldcg(static_cast<const float*>(p.xScale) + token);
      const float g = terms[0].apply(static_cast<float>(sums[c]), xScale), h = terms[1].apply(static_cast<float>(sums[2 + c]), xScale);
      const size_t at = static_cast<size_t>(token) * S::kOutputs + first;
      if constexpr (S::kSilu) {
        p.y[at] = finish<C>(g, h, C::kResidual ? __half2float(__ldcg(p.residual + at)) : 0.0f);
      } else {
        p.y[at] = finish<C>(g, 0.0f, C::kResidual ? __half2float(__ldcg(p.residual + at)) : 0.0f);
        p.y[at + 8] = finish<C>(h, 0.0f, C::kResidual ? __half2float(__ldcg(p.residual + at + 8)) : 0.0f);
      }
    }
  }
};

template <class C>
__device__ __forceinline__ void thin(const DenseArguments& p) { Thin<C>::run(p); }

}  // namespace ladder
