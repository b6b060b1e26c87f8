// Dense product of one token, W [n, k] in any format: y[n] = epilogue(Σ_k W[n, k] · x[k]).
// The time is that of reading W once. Each block owns a run of neighbouring 16-row tiles, whose bytes are one contiguous
// stream; a producer warp keeps a ring of stages full, the consumer warps take the stream's units in turn (warp w: units w,
// w + kWarps, …), so that k is split among warps and any number of units divides. The tensor cores do the sums: the
// weights are A, the token is every column of B, which costs nothing here and needs no shuffles.
//
//   stream:  | tile 0: unit 0 1 2 … kUnits−1 | tile 1: … |        stage = kStageUnits units, then their scales
//
// Before `waitForPrerequisites` only weights are touched. Blocks take more than half of a multiprocessor's shared memory and
// let their dependents in at once, so that the next kernel's block starts where this one's ends and fills its ring, and
// kPrefetchBytes more in L2, while the other blocks finish. What a block cannot cover so, from its own last stage to the first
// of the next kernel's, prefetchNext does.
// Sums of warps are added in a fixed order: results do not vary from run to run.
//
// Needs k % kUnitK = 0, with SiLU n % 16 = 0. Tuning: kBlocks, kWarps, kStageUnits (a multiple of kWarps), kStages, kPrefetchBytes.
// Tests: test/gpu (against native/reference), bench/kernels (against a double-precision reference on the device).
#pragma once
#include "core/ring.cuh"
#include "matmul/vector/prologue.cuh"

namespace ladder {

template <class C>
class Gemv {
  using T = FormatTraits<C::kWeight>;
  using S = DenseShape<C>;
  using Sum = Accumulator<C::kWeight>;

  static constexpr int kThreads = C::kWarps * 32;  // consumers
  static constexpr int kMaxTiles = (S::kTiles + C::kBlocks - 1) / C::kBlocks;
  static constexpr int kUnitsPerWarp = C::kStageUnits / C::kWarps;
  static constexpr int kStageWeightBytes = C::kStageUnits * T::kUnitBytes;
  static constexpr int kStageScaleBytes = C::kStageUnits * S::kScaleBytesPerUnit;
  static constexpr int kOutputsPerThread = (kMaxTiles * S::kTileOutputs + kThreads - 1) / kThreads;
  /// INT1: bit planes of the token as the columns of B, one binary mma per unit.
  static constexpr bool kBitPlanes = T::kIsInt1;
  static constexpr bool kNeedsTable = C::kWeight == WeightFormat::kNf4;
  static_assert(C::kM == 1 && C::kStageUnits % C::kWarps == 0 && C::kStageUnits % S::kUnitsPerScale == 0 && C::kBlocks <= S::kTiles);

  // Shared memory, in this order.
  static constexpr int align(int bytes) { return (bytes + 127) / 128 * 128; }
  static constexpr int kRingAt = 0;
  static constexpr int kStageBytes = align(kStageWeightBytes + kStageScaleBytes);
  static constexpr int kTableAt = kRingAt + C::kStages * kStageBytes;
  static constexpr int kValuesAt = kTableAt + (kNeedsTable ? kNf4TableBytes : 0);
  static constexpr int kPlanesAt = kValuesAt + align(Prologue<C>::kBytes);
  static constexpr int kPartialsAt = kPlanesAt + (kBitPlanes ? C::kK : 0);
  static constexpr int kScratchAt = kPartialsAt + kMaxTiles * C::kWarps * 16 * 4;
  static constexpr int kBarriersAt = kScratchAt + align(Prologue<C>::kScratch * 4);

 public:
  static constexpr int kSharedBytes = kBarriersAt + RingBarriers<C::kStages>::kBytes;
  static constexpr int kBlockThreads = kThreads + 32;

  __device__ static void run(const DenseArguments& p) {
    extern __shared__ __align__(128) uint8_t shared[];
    const Gemv block(shared);
    if (threadIdx.x == kThreads) block.barriers_.init(kHopper ? 1 : 32, C::kWarps);
    __syncthreads();
    if (threadIdx.x >= kThreads) block.produce(p);
    else block.consume(p);
  }

 private:
  uint8_t* const shared_;
  const uint32_t base_;
  const RingBarriers<C::kStages> barriers_;
  /// This block's tiles and units.
  const int firstTile_, tiles_, units_, stages_;

  static constexpr int kPerBlock = S::kTiles / C::kBlocks, kExtra = S::kTiles % C::kBlocks;

  __device__ __forceinline__ explicit Gemv(uint8_t* shared)
      : shared_(shared), base_(sharedAddress(shared)), barriers_{base_ + kBarriersAt},
        firstTile_(blockIdx.x * kPerBlock + min(static_cast<int>(blockIdx.x), kExtra)),
        tiles_(kPerBlock + (static_cast<int>(blockIdx.x) < kExtra)), units_(tiles_ * S::kUnits),
        stages_((units_ + C::kStageUnits - 1) / C::kStageUnits) {}

  // ---- Load -----------------------------------------------------------------------------------------------------------

  __device__ __forceinline__ void produce(const DenseArguments& p) const {
    const int lane = threadIdx.x % 32;
    if (kHopper && lane != 0) return;
    launchDependents();
    const uint8_t* weights = p.weight + static_cast<size_t>(firstTile_) * S::kUnits * T::kUnitBytes;
    const uint8_t* scales = static_cast<const uint8_t*>(p.scale) + static_cast<size_t>(firstTile_) * S::kUnits * S::kScaleBytesPerUnit;
    RingCursor<C::kStages> cursor;
    for (int i = 0; i < stages_; ++i, cursor.advance()) {
      if (i >= C::kStages) barrierWait(barriers_.empty(cursor.slot), cursor.parity ^ 1);
      const uint32_t stage = base_ + kRingAt + cursor.slot * kStageBytes;
      const uint32_t full = barriers_.full(cursor.slot);
      const int units = min(C::kStageUnits, units_ - i * C::kStageUnits);
#if __CUDA_ARCH__ >= 900
      barrierArriveExpect(full, units * (T::kUnitBytes + S::kScaleBytesPerUnit));
#endif
      fetchStreaming(stage, weights + static_cast<size_t>(i) * kStageWeightBytes, units * T::kUnitBytes, full, lane);
      if constexpr (S::kScaled) {
        fetchStreaming(stage + kStageWeightBytes, scales + static_cast<size_t>(i) * kStageScaleBytes, units * S::kScaleBytesPerUnit, full,
                       lane);
      }
#if __CUDA_ARCH__ >= 900
      if (i == C::kStages - 1) prefetch(weights);
#else
      copyAsyncArrive(full);
#endif
    }
    prefetchNext<C>(p, lane, 1);
  }

#if __CUDA_ARCH__ >= 900
  /// What follows the ring goes to L2 while the kernel before is still at work.
  __device__ __forceinline__ void prefetch(const uint8_t* weights) const {
    constexpr int kPiece = 16384;
    const int begin = C::kStages * kStageWeightBytes;
    const int end = min(begin + C::kPrefetchBytes, units_ * T::kUnitBytes);
    for (int at = begin; at < end; at += kPiece) bulkPrefetchL2(weights + at, min(kPiece, end - at));
  }
#endif

  // ---- Decode and compute -------------------------------------------------------------------------------------------------

  __device__ __forceinline__ void consume(const DenseArguments& p) const {
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;

    Prologue<C> prologue;
    prologue.begin(p, thread);
    RowTerms<C> terms[kOutputsPerThread], upTerms[S::kSilu ? kOutputsPerThread : 1];
    float residual[kOutputsPerThread];
    const int firstOutput = firstTile_ * S::kTileOutputs, outputs = min(tiles_ * S::kTileOutputs, S::kOutputs - firstOutput);
#pragma unroll
    for (int i = 0; i < kOutputsPerThread; ++i) {
      const int o = thread + i * kThreads;
      if (o >= outputs) continue;
      terms[i].load(p, firstOutput + o);
      if constexpr (S::kSilu) upTerms[i].load(p, firstOutput + o + S::kOutputs);
    }
    const uint32_t table = base_ + kTableAt + lane * 4;
    if constexpr (kNeedsTable) fillNf4Table(base_ + kTableAt, warp, C::kWarps, lane);

    waitForPrerequisites();
#pragma unroll
    for (int i = 0; i < kOutputsPerThread; ++i) {
      const int o = thread + i * kThreads;
      residual[i] = C::kResidual && o < outputs ? __half2float(__ldcg(p.residual + firstOutput + o)) : 0.0f;
    }
    prologue.run(p, shared_ + kValuesAt, reinterpret_cast<float*>(shared_ + kScratchAt), thread);
    if constexpr (kBitPlanes) transposeBits(thread);

    Sum* partials = reinterpret_cast<Sum*>(shared_ + kPartialsAt) + warp * 16;
    Sum sums[2][4] = {};
    RingCursor<C::kStages> cursor;
    uint32_t words[kUnitsPerWarp][T::kWords], scales[kUnitsPerWarp];
    if constexpr (S::kUnits % C::kStageUnits == 0) {
      // Tiles end where stages end: no branch inside a stage, so that its units overlap.
      for (int tile = 0; tile < tiles_; ++tile) {
        for (int first = warp; first < S::kUnits; first += C::kStageUnits, cursor.advance()) {
          takeStage(cursor, warp, lane, words, scales);
#pragma unroll
          for (int u = 0; u < kUnitsPerWarp; ++u) multiplyUnit(words[u], scales[u], first + u * C::kWarps, lane, table, sums);
        }
        store(sums, partials + tile * C::kWarps * 16, lane);
      }
    } else {
      int unit = warp;  // next unit of this warp, in its tile
      int tile = 0;
      const auto finishTiles = [&] {
        for (; unit >= S::kUnits && tile < tiles_; unit -= S::kUnits, ++tile) store(sums, partials + tile * C::kWarps * 16, lane);
      };
      finishTiles();
      for (int i = 0; i < stages_; ++i, cursor.advance()) {
        takeStage(cursor, warp, lane, words, scales);
#pragma unroll
        for (int u = 0; u < kUnitsPerWarp; ++u) {
          if (tile == tiles_) break;
          multiplyUnit(words[u], scales[u], unit, lane, table, sums);
          unit += C::kWarps;
          finishTiles();
        }
      }
    }
    // ---- Store: sums of the warps, epilogue ---------------------------------------------------------------------------
    namedBarrier(1, kThreads);
#pragma unroll
    for (int i = 0; i < kOutputsPerThread; ++i) {
      const int o = thread + i * kThreads;
      if (o >= outputs) continue;
      const float value = terms[i].apply(total(o / S::kTileOutputs, o % S::kTileOutputs, prologue.sum), prologue.xScale);
      float up = 0.0f;
      if constexpr (S::kSilu) up = upTerms[i].apply(total(o / 8, o % 8 + 8, prologue.sum), prologue.xScale);
      p.y[firstOutput + o] = finish<C>(value, up, residual[i]);
    }
  }

  /// Reads this warp's units of a stage into registers and gives the stage back.
  __device__ __forceinline__ void takeStage(const RingCursor<C::kStages>& cursor, int warp, int lane,
                                            uint32_t (&words)[kUnitsPerWarp][T::kWords], uint32_t (&scales)[kUnitsPerWarp]) const {
    barrierWait(barriers_.full(cursor.slot), cursor.parity);
    const uint32_t stage = base_ + kRingAt + cursor.slot * kStageBytes;
#pragma unroll
    for (int u = 0; u < kUnitsPerWarp; ++u) {
      const int inStage = warp + u * C::kWarps;
      loadUnit<C::kWeight>(stage + inStage * T::kUnitBytes, lane, words[u]);
      if constexpr (S::kScaled) {
        const uint32_t at = stage + kStageWeightBytes + inStage / S::kUnitsPerScale * S::kScaleBytes;
        scales[u] = T::kIsMx ? loadShared2(at + lane / 4 * 2) : loadShared4(at + lane / 4 * 4);
      } else {
        scales[u] = 0;
      }
    }
    __syncwarp();
    if (lane == 0) barrierArrive(barriers_.empty(cursor.slot));
  }

  /// sums += unit · activations, for one tile; lanes' rows g and g + 8.
  __device__ __forceinline__ void multiplyUnit(const uint32_t (&words)[T::kWords], uint32_t scale, int unit, int lane, uint32_t table,
                                               Sum (&sums)[2][4]) const {
    if constexpr (kBitPlanes) {
      const uint2 planes = loadShared8(base_ + kPlanesAt + unit * T::kUnitK + lane * 8);
      mmaAndPopcount(sums[0], words, planes.x, planes.y);
    } else {
      constexpr int kStepBytes = T::kRunBytes * 4;
      const uint32_t run = base_ + kValuesAt + unit * T::kUnitK * T::kActivationBytes + lane % 4 * T::kRunBytes;
      Sum fresh[2][4] = {};
      Sum(&into)[2][4] = S::kScaled ? fresh : sums;
#pragma unroll
      for (int step = 0; step < T::kSteps; ++step) {
        uint32_t a[2][4], b[4];
        loadActivations<C::kWeight>(run + step * kStepBytes, b);
        decodeStep<C::kWeight>(words, step, table, a);
        multiply<C::kWeight>(into[0], a[0], b[0], b[1]);
        multiply<C::kWeight>(into[1], a[1], b[2], b[3]);
      }
      if constexpr (S::kScaled) {
        float g, h;
        if constexpr (T::kIsMx) {
          const float x = e8m0(loadShared1(base_ + kValuesAt + Prologue<C>::kValueBytes + unit)) * T::kProductScale;
          g = e8m0(scale & 0xff) * x, h = e8m0(scale >> 8) * x;
        } else {
          const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(&scale));
          g = pair.x, h = pair.y;
        }
        // All columns are the same token: one of the two that a lane holds is enough.
        sums[0][0] = fmaf(fresh[0][0] + fresh[1][0], g, sums[0][0]);
        sums[0][2] = fmaf(fresh[0][2] + fresh[1][2], h, sums[0][2]);
      }
    }
  }

  /// Leaves this warp's sums of a tile's 16 rows in shared memory and clears them.
  __device__ __forceinline__ void store(Sum (&sums)[2][4], Sum* partials, int lane) const {
    Sum g, h;
    if constexpr (kBitPlanes) {
      // Column p counts bit p: weights 1, 2, 4, … 64 and −128 (two's complement). Lane t has columns 2t and 2t + 1.
      const int t = lane % 4, low = 1 << 2 * t, high = t == 3 ? -128 : 2 << 2 * t;
      g = sums[0][0] * low + sums[0][1] * high, h = sums[0][2] * low + sums[0][3] * high;
      g += __shfl_xor_sync(0xffffffffu, g, 1), h += __shfl_xor_sync(0xffffffffu, h, 1);
      g += __shfl_xor_sync(0xffffffffu, g, 2), h += __shfl_xor_sync(0xffffffffu, h, 2);
    } else {
      g = sums[0][0] + sums[1][0], h = sums[0][2] + sums[1][2];
    }
    if (lane % 4 == 0) partials[lane / 4] = g, partials[8 + lane / 4] = h;
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[0][i] = sums[1][i] = 0;
  }

  /// The whole sum of a row of one of this block's tiles, unscaled.
  __device__ __forceinline__ float total(int tile, int row, int32_t codeSum) const {
    const Sum* partials = reinterpret_cast<const Sum*>(shared_ + kPartialsAt) + tile * C::kWarps * 16 + row;
    Sum sum = partials[0];
#pragma unroll
    for (int w = 1; w < C::kWarps; ++w) sum += partials[w * 16];
    if constexpr (T::kIsInt1) return static_cast<float>(2 * sum - codeSum);
    else return sum * (S::kScaled ? 1.0f : T::kProductScale);
  }

  /// INT8 codes to bit planes: the word of (unit, plane p, run t, half j) at ((unit·8 + p)·4 + t)·2 + j has, at the bit
  /// where a weight word has some k, bit p of that k's code. A thread takes one word of weights: 32 codes, 8 words.
  __device__ __forceinline__ void transposeBits(int thread) const {
    for (int task = thread; task < C::kK / 32; task += kThreads) {
      const int t = task % 4, j = task / 4 % 2, unit = task / 8;
      const uint32_t codes = base_ + kValuesAt + unit * 256 + j * 128 + t * 16;
      const uint4 low = loadShared16(codes), high = loadShared16(codes + 64);
      uint32_t w[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      // Transposes four 8 × 8 bit matrices at once (one per byte column): swap blocks of 1, 2 and 4.
      swapBits<1>(w, 0x55555555u);
      swapBits<2>(w, 0x33333333u);
      swapBits<4>(w, 0x0f0f0f0fu);
#pragma unroll
      for (int plane = 0; plane < 8; ++plane) {
        *reinterpret_cast<uint32_t*>(shared_ + kPlanesAt + unit * 256 + plane * 32 + t * 8 + j * 4) = w[plane];
      }
    }
    namedBarrier(1, kThreads);
  }

  template <int kDistance>
  __device__ __forceinline__ static void swapBits(uint32_t (&w)[8], uint32_t mask) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i & kDistance) continue;
      const uint32_t a = w[i], b = w[i | kDistance];
      w[i] = (a & mask) | (b & mask) << kDistance;
      w[i | kDistance] = (a >> kDistance & mask) | (b & ~mask);
    }
  }
};

template <class C>
__device__ __forceinline__ void gemv(const DenseArguments& p) {
  Gemv<C>::run(p);
}

}  // namespace ladder
