// Products of few rows one after the other in one kernel, with the norms, quantisations and residuals between them: what a transformer's
// block does between two attentions. Each row needs only itself, so a cluster takes some rows through all of it, and what its blocks
// make for each other goes through distributed shared memory: 0.6 µs where a launch takes 1.9.
//
//   each stage   r = apply(q(norm(outer(source))) · dequantise(W)ᵀ, residual)
//
// norm, q and outer may be absent. A block computes the outputs of its share of W's rows, for all rows of the cluster. What is normed then
// it gives to all, and each norms all rows anew, which is less than another exchange. What is multiplied at once, of float16, it keeps: it is
// the block's share of k of the next product, whose sums blocks then give each other. Codes it gives to all, once blocks have told each other
// the largest magnitudes of their shares.
//
//   an exchange   every block writes to all blocks by st.async; a barrier in the receiver's memory counts the bytes
//
// It takes 300 cycles and 1 more per 20 bytes that a block sends or receives, with 16 bytes a lane; 8 cost as much. A cluster barrier that
// orders what was written takes 1340: it waits for all that is under way, weights as well.
// A block that has all of an exchange knows that all others have sent it, and no longer read what they read before they did. So two
// barriers take turns, and what is written first after a product goes where no sums are: those of what goes to hidden, or comes from it,
// take the operand's place; others hidden's, and the operand's.
//
// In a product a warp has some outputs of some of k. It copies its weights itself, by cp.async, into a ring of its own, kSlots units ahead,
// also those of later stages: they come while blocks wait for each other.
//
//   shared memory:  | hidden | operand | stream: all channels | the block's share of it | magnitudes that threads, then blocks know, both twice |
//                   | scales of rows | scales, biases; gains, shifts | barriers | rings |
//   hidden, operand, stream: columns of kRows pieces of 16 bytes, rows XOR the column's number % 8
//
// Operands, stored weights and rounding are those of tile.cuh; norms and codes those of norm/activation.cuh.
//
// Where the first source is attention, its heads are shares: each of the first kHeads blocks has one (chain_attention.cuh).
//
// G: kHeads (0: no attention), kM, kRows of a cluster, kWarps of a block, kBlocks of a cluster, kWidth of the stream, kHidden (float16 that is multiplied at once), kSlots.
// C, a stage: as tile.cuh's dense product of kTileRows = kWarpRows = kRows and kTileOutputs = kN / kBlocks, kWarpOutputs = 16; kKWarps that
// share out k, kUnitSteps; kFrom, kTo, kResidualFrom, kNorm, kEps, kOuterNorm, kOuterEps, kActivation, kStores (r), kStoresOuter.
// Architectures: sm_90a. Tests: test/gpu/chain-kernels.test.ts.
#pragma once
#include <tuple>

#include "matmul/chain/chain_attention.cuh"
#include "matmul/tile/tile_store.cuh"
#include "matmul/tile/tile_warp.cuh"
#include "norm/warp.cuh"

namespace ladder {

#if __CUDA_ARCH__ >= 900
/// As storeRemote16 of core/ptx.cuh, of 4 bytes.
__device__ __forceinline__ void storeRemote4(uint32_t remote, float a, uint32_t remoteBarrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(remote), "f"(a), "r"(remoteBarrier)
               : "memory");
}
#endif

/// What a stage reads: the kernel's x, or what an earlier stage wrote.
enum class ChainFrom { kInput, kAttention, kStream, kHidden };
enum class ChainTo { kNowhere, kStream, kHidden };
/// What its last step adds: nothing, a matrix of the kernel's arguments, the stream as it was.
enum class ChainResidual { kNone, kGiven, kStream };

/// Absent operands are null. FP16 unless said otherwise.
struct ChainStageArguments {
  const uint8_t* weight;
  const __half *scale, *bias;  ///< [n]
  const __half *gain, *beta, *outerGain, *outerBeta;  ///< [k]
  const __half* residual;  ///< [m, outputs]
  __half *outer, *y;  ///< results: [m, k], [m, outputs]
};

template <int kCount>
struct ChainArguments {
  const __half* x;  ///< [m, k of the first stage], or q, k and v of all heads
  ChainStageArguments stages[kCount];
};

/// What follows from a stage's configuration.
template <class G, class C>
struct ChainStage {
  using L = TileBlock<C>;
  static_assert(L::kLinear && !L::kMx && !C::kWgmma && C::kSplit == 1 && !C::kOneScale && C::kN == C::kTileOutputs * G::kBlocks);
  static_assert(C::kTileRows == G::kRows && C::kWarpRows == G::kRows && C::kWarpOutputs == 16 && L::kK % (16 * G::kBlocks) == 0);
  static constexpr bool kNormed = C::kNorm != NormKind::kNone, kOuter = C::kOuterNorm != NormKind::kNone;
  static constexpr bool kQuantised = C::kActivation != ActivationFormat::kFp16;
  static_assert(L::kK % L::kPanelK == 0 && kQuantised == C::kRowScales && ActivationTraits<C::kActivation>::kIsInteger == L::kInteger);
  /// Whether results are multiplied as they are: then a block keeps its share, and multiplies it with its share of k of all of W's rows.
  static constexpr bool kDirect = C::kFrom == ChainFrom::kHidden && !kQuantised;

  // A unit of a warp's ring: kUnitSteps steps of all its chunks of 8 weight rows.
  static constexpr int kSteps = L::kPanels * 4, kStepBytes = L::kChunkBytes / 4;
  static constexpr int kBlockSteps = kDirect ? kSteps / G::kBlocks : kSteps, kBlockOutputs = kDirect ? C::kN : C::kTileOutputs;
  static constexpr int kWarpsN = G::kWarps / C::kKWarps, kPairs = kBlockOutputs / 16 / kWarpsN, kWarpSteps = kBlockSteps / C::kKWarps;
  static constexpr int kUnits = kWarpSteps / C::kUnitSteps, kChunkPieces = C::kUnitSteps * kStepBytes / 16;
  static constexpr int kUnitPieces = 2 * kPairs * kChunkPieces;
  static_assert(G::kWarps % C::kKWarps == 0 && kBlockOutputs / 16 % kWarpsN == 0 && kBlockSteps % C::kKWarps == 0 &&
                kWarpSteps % C::kUnitSteps == 0);

  // Of the block's share: eights of channels of a row, and of all rows those of a thread.
  static constexpr int kParts = TileStore<C>::kParts, kInEights = L::kK / 8 / G::kBlocks, kOutEights = C::kTileOutputs / 8 / kParts;
  static constexpr int threadEights(int ofRow) { return (G::kRows * ofRow + G::kWarps * 32 - 1) / (G::kWarps * 32); }
  static constexpr int kOutOfThread = threadEights(kOutEights);
  /// A head's share is wider than another's.
  static constexpr bool kByHeads = C::kFrom == ChainFrom::kAttention;
  static constexpr int kShareEights = kByHeads ? 8 : kInEights, kSources = kByHeads ? G::kHeads : G::kBlocks;
  static constexpr int kShareOfThread = threadEights(kShareEights);
  /// Whether each block makes the operand of all rows for itself: of what comes from outside, and of what is normed.
  static constexpr bool kWhole = C::kFrom == ChainFrom::kInput || C::kFrom == ChainFrom::kStream;
  static constexpr int kPartialBytes = kQuantised && !kWhole ? G::kRows * kShareEights * 8 : 0;
  /// Half a warp's lanes share a row.
  static constexpr int kLaneEights = L::kK / 128;
  static_assert(!kWhole || kLaneEights <= 8);

  static constexpr int kOperandBytes = kDirect ? 0 : L::kPanels * G::kRows * 128;
  static constexpr int kSumPitch = kBlockOutputs * 4 + 32, kSumBytes = G::kRows * kSumPitch, kSumsBytes = C::kKWarps * kSumBytes;
  static constexpr int kReceivedBytes = kDirect ? G::kBlocks * L::kSumBytes : 0;
  /// Whether its sums leave hidden's place alone.
  static constexpr bool kSumsApart = kDirect || C::kTo == ChainTo::kHidden;
  static constexpr int kTermBytes = (L::kTermBytes + 15) / 16 * 16, kVectorBytes = L::kK * 2;
  static constexpr int kNormBytes = kNormed ? (1 + (C::kNorm == NormKind::kLayer)) * kVectorBytes : 0;
  static constexpr int kOuterBytes = kOuter ? (1 + (C::kOuterNorm == NormKind::kLayer)) * kVectorBytes : 0;
  static constexpr int kParameterBytes = kTermBytes + kNormBytes + kOuterBytes;
};

template <class G, class... C>
struct Chain {
  static constexpr int kStages = sizeof...(C);
  using Arguments = ChainArguments<kStages>;
  template <int s>
  using Config = std::tuple_element_t<s, std::tuple<C...>>;
  template <int s>
  using Stage = ChainStage<G, Config<s>>;
  static constexpr int kBlockThreads = G::kWarps * 32;

  __host__ __device__ static constexpr int largest(std::initializer_list<int> numbers) {
    int most = 0;
    for (const int number : numbers) most = number > most ? number : most;
    return most;
  }
  using Attention = ChainAttention<G>;
  /// A block's share, then what all blocks make of theirs. Attention is made where nothing comes before all blocks have theirs: here, or,
  /// of codes, which come an exchange later, in the operand's place.
  static constexpr int kReceivedAt = G::kRows * (G::kHidden / G::kBlocks) * 2;
  static constexpr int kHiddenBytes = largest(
      {kReceivedAt + largest({ChainStage<G, C>::kReceivedBytes...}), G::kHeads > 0 && !Stage<0>::kQuantised ? Attention::kBytes : 0});
  static constexpr int kOperandAt = kHiddenBytes;
  static constexpr int kOperandBytes =
      largest({ChainStage<G, C>::kOperandBytes..., ChainStage<G, C>::kSumsBytes - (ChainStage<G, C>::kSumsApart ? 0 : kHiddenBytes)...,
               G::kHeads > 0 ? Attention::kBytes - kHiddenBytes : 0});
  static constexpr int kStreamAt = kOperandAt + (kOperandBytes + 15) / 16 * 16, kShareAt = kStreamAt + G::kRows * G::kWidth * 2;
  static constexpr int kPartialsAt = kShareAt + G::kRows * (G::kWidth / G::kBlocks) * 2,
                       kPartialBytes = largest({ChainStage<G, C>::kPartialBytes...});
  static constexpr int kKnownAt = kPartialsAt + 2 * kPartialBytes, kKnownBytes = G::kRows * G::kBlocks * 4;
  static constexpr int kScalesAt = kKnownAt + 2 * kKnownBytes, kParametersAt = kScalesAt + G::kRows * 4;
  template <int s>
  __host__ __device__ static constexpr int parametersAt() {
    if constexpr (s == 0) return kParametersAt;
    else return parametersAt<s - 1>() + Stage<s - 1>::kParameterBytes;
  }
  static constexpr int kBarriersAt = parametersAt<kStages - 1>() + Stage<kStages - 1>::kParameterBytes;
  static constexpr int kRingsAt = (kBarriersAt + 16 + 127) / 128 * 128, kSlotBytes = 16 * largest({ChainStage<G, C>::kUnitPieces...});
  static constexpr int kSharedBytes = kRingsAt + G::kWarps * G::kSlots * kSlotBytes;

  const Arguments& p;
  const uint32_t base;
  const int rank, row, warp, lane;
  uint32_t slot = 0, exchange = 0;

#if __CUDA_ARCH__ >= 900
  __device__ static void run(const Arguments& p) {
    extern __shared__ __align__(1024) uint8_t shared[];
    Chain{p,
          sharedAddress(shared),
          static_cast<int>(blockIdx.x % G::kBlocks),
          static_cast<int>(blockIdx.x / G::kBlocks * G::kRows),
          static_cast<int>(threadIdx.x / 32),
          static_cast<int>(threadIdx.x % 32)}
        .runStages();
  }

 private:
  template <int kCount>
  using Eights = float[kCount][8];

  __device__ __forceinline__ void runStages() {
    if (threadIdx.x == 0) {
      barrierInit(base + kBarriersAt, 1), barrierInit(base + kBarriersAt + 8, 1);
      fenceBarrierInit();
    }
    copyParameters<0>();
    commitCopies();
#pragma unroll
    for (int i = 0; i < G::kSlots; ++i) {
      copyUnit<0>(i, i);
      commitCopies();
    }
    launchDependents();
    // All blocks are there, with their barriers.
    clusterBarrier();
    waitForCopies<G::kSlots>();
    __syncthreads();
    waitForPrerequisites();
    if constexpr (Stage<0>::kByHeads) {
      using S = Stage<0>;
      Eights<S::kShareOfThread> values;
      if (rank < G::kHeads) {
        Attention::run(p.x, base, row, rank);
        forEach<S::kShareEights, S::kShareOfThread>(
            [&](int i, int ofCluster, int eight) { unpackHalves(loadShared16(Attention::placeOf(base, ofCluster, eight)), values[i]); });
      }
      give<0>(values);
    } else {
      prepareRows<0>([&](int ofCluster, int eight) { return loadRow8(p.x, ofCluster, eight, Stage<0>::L::kK / 8); });
      __syncthreads();
    }
    runStage<0>();
  }

  /// The operand is there.
  template <int s>
  __device__ __forceinline__ void runStage() {
    using S = Stage<s>;
    using Cs = Config<s>;
    using Warp = TileWarp<Cs>;
    uint4 residual[S::kOutOfThread];
    if constexpr (Cs::kResidualFrom == ChainResidual::kGiven)
      forEach<S::kOutEights, S::kOutOfThread>([&](int i, int ofCluster, int eight) {
        residual[i] = loadRow8(p.stages[s].residual, ofCluster, rank * S::kOutEights + eight, S::kOutEights * G::kBlocks);
      });
    typename Warp::Sums sums[S::kPairs] = {};
    multiply<s>(sums);
    __syncthreads();
    const uint32_t laid = base + (S::kSumsApart ? kOperandAt : 0);
    lay<s>(sums, laid);
    __syncthreads();
    Eights<S::kOutOfThread> values;
    if constexpr (S::kDirect) giveSums<s>(laid);
    finish<s>(S::kDirect ? base + kReceivedAt : laid, residual, values);
    if constexpr (s + 1 < kStages) {
      if constexpr (Stage<s + 1>::kWhole) {
        giveHalves<S::kOutEights, G::kBlocks>(values, kStreamAt);
        prepareRows<s + 1>([&](int ofCluster, int eight) { return loadShared16(placeOf(kStreamAt, ofCluster, eight)); });
        __syncthreads();
      } else if constexpr (Stage<s + 1>::kDirect) {
        forEach<S::kOutEights, S::kOutOfThread>(
            [&](int i, int ofCluster, int eight) { storeShared16(placeOf(0, ofCluster, eight), packHalves(values[i])); });
        __syncthreads();
      } else {
        give<s + 1>(values);
      }
      runStage<s + 1>();
    }
  }

  // ---- What no earlier kernel writes ------------------------------------------------------------------------------------------

  template <int s>
  __device__ __forceinline__ void copyParameters() const {
    using S = Stage<s>;
    const ChainStageArguments& from = p.stages[s];
    TileArguments terms{};
    terms.scale = from.scale, terms.bias = from.bias;
    S::L::template copyTerms<kBlockThreads>(terms, base + parametersAt<s>(), rank * Config<s>::kTileOutputs);
    uint32_t to = base + parametersAt<s>() + S::kTermBytes;
    const auto copyChannels = [&](const __half* channels) {
#pragma unroll 1
      for (int i = threadIdx.x; i < S::L::kK / 8; i += kBlockThreads) copyAsync16(to + i * 16, channels + i * 8);
      to += S::kVectorBytes;
    };
    if constexpr (S::kNormed) copyChannels(from.gain);
    if constexpr (Config<s>::kNorm == NormKind::kLayer) copyChannels(from.beta);
    if constexpr (S::kOuter) copyChannels(from.outerGain);
    if constexpr (Config<s>::kOuterNorm == NormKind::kLayer) copyChannels(from.outerBeta);
    if constexpr (s + 1 < kStages) copyParameters<s + 1>();
  }

  /// Unit `index` of the warp, counted from stage s on, to a slot of its ring.
  template <int s>
  __device__ __forceinline__ void copyUnit(int index, uint32_t to) const {
    using S = Stage<s>;
    if (index < S::kUnits) {
      const int chunk = (S::kDirect ? 0 : rank * (Config<s>::kTileOutputs / 8)) + warp % S::kWarpsN * (2 * S::kPairs);
      const int step = (S::kDirect ? rank * S::kBlockSteps : 0) + warp / S::kWarpsN * S::kWarpSteps + index * Config<s>::kUnitSteps;
      const uint8_t* const from = p.stages[s].weight + (static_cast<size_t>(chunk) * S::kSteps + step) * S::kStepBytes;
#pragma unroll
      for (int i = 0; i < (S::kUnitPieces + 31) / 32; ++i) {
        const int piece = lane + i * 32;
        if (S::kUnitPieces % 32 == 0 || piece < S::kUnitPieces)
          copyAsync16(ringSlot(to) + piece * 16,
                      from + piece / S::kChunkPieces * (S::kSteps * S::kStepBytes) + piece % S::kChunkPieces * 16);
      }
    } else if constexpr (s + 1 < kStages) {
      copyUnit<s + 1>(index - S::kUnits, to);
    }
  }

  __device__ __forceinline__ uint32_t ringSlot(uint32_t index) const { return base + kRingsAt + (warp * G::kSlots + index) * kSlotBytes; }

  // ---- Rows -------------------------------------------------------------------------------------------------------------------

  /// The thread's eights of a matrix that has kEights of them in a row of the block; neighbours are in neighbouring rows. Whole warps have some, or none.
  template <int kEights, int kOfThread, class F>
  __device__ __forceinline__ static void forEach(F f) {
    static_assert(G::kRows * kEights % 32 == 0);
#pragma unroll
    for (int i = 0; i < kOfThread; ++i) {
      const int eight = threadIdx.x + i * kBlockThreads;
      if (G::kRows * kEights % kBlockThreads == 0 || eight < G::kRows * kEights) f(i, eight % G::kRows, eight / G::kRows);
    }
  }

  __device__ __forceinline__ bool exists(int ofCluster) const { return G::kM % G::kRows == 0 || row + ofCluster < G::kM; }

  /// Zeros past the last row.
  __device__ __forceinline__ uint4 loadRow8(const __half* from, int ofCluster, int eight, int rowEights) const {
    return exists(ofCluster) ? __ldcg(reinterpret_cast<const uint4*>(from) + static_cast<size_t>(row + ofCluster) * rowEights + eight)
                             : make_uint4(0, 0, 0, 0);
  }

  __device__ __forceinline__ void storeRow8(__half* to, int ofCluster, int eight, int rowEights, uint4 halves) const {
    if (exists(ofCluster)) reinterpret_cast<uint4*>(to)[static_cast<size_t>(row + ofCluster) * rowEights + eight] = halves;
  }

  /// Where 16 bytes of a row lie.
  __device__ __forceinline__ uint32_t placeOf(int columns, int ofCluster, int piece) const {
    return base + columns + (piece * G::kRows + (ofCluster ^ piece % 8)) * 16;
  }

  /// Where a thread keeps eight numbers of the block's share of the stream.
  __device__ __forceinline__ uint32_t sharePlace(int ofCluster, int eight) const {
    return base + kShareAt + (eight * G::kRows + ofCluster) * 16;
  }

  /// The operand of stage s, of all rows. @param load eight numbers of a row
  template <int s, class Load>
  __device__ __forceinline__ void prepareRows(Load load) const {
    using S = Stage<s>;
    using Cs = Config<s>;
    using Row = WarpRows<8, 1, NormKind::kNone, Cs::kActivation>;
    constexpr int kEights = S::kLaneEights, kNormAt = S::kTermBytes, kOuterAt = kNormAt + S::kNormBytes;
    const int column = lane % 16;
    for (int ofCluster = warp * 2 + lane / 16; ofCluster < G::kRows; ofCluster += G::kWarps * 2) {
      Eights<kEights> values;
#pragma unroll
      for (int i = 0; i < kEights; ++i) unpackHalves(load(ofCluster, column + i * 16), values[i]);
      if constexpr (S::kOuter) {
        norm<kEights, Cs::kOuterNorm>(values, Cs::kOuterEps, base + parametersAt<s>() + kOuterAt);
#pragma unroll
        for (int i = 0; i < kEights; ++i) {
          const uint4 halves = packHalves(values[i]);
          unpackHalves(halves, values[i]);
          const int ofShare = column + i * 16 - rank * S::kInEights;
          if (ofShare < 0 || ofShare >= S::kInEights) continue;
          storeShared16(sharePlace(ofCluster, ofShare), halves);
          if constexpr (Cs::kStoresOuter) storeRow8(p.stages[s].outer, ofCluster, column + i * 16, S::L::kK / 8, halves);
        }
      }
      if constexpr (S::kNormed) norm<kEights, Cs::kNorm>(values, Cs::kEps, base + parametersAt<s>() + kNormAt);
      if constexpr (S::kQuantised) {
        float most = 0.0f;
#pragma unroll
        for (int i = 0; i < kEights; ++i) most = fmaxf(most, largestMagnitude(values[i]));
        const float scale = tokenScale<Cs::kActivation>(warpReduce<16>(most, Max{})), inverse = __frcp_rn(scale);
        if (column == 0) asm volatile("st.shared.f32 [%0], %1;" ::"r"(base + kScalesAt + ofCluster * 4), "f"(scale) : "memory");
#pragma unroll
        for (int i = 0; i < kEights; ++i) {
          const int eight = column + i * 16;
          const uint2 codes = Row::encode(values[i], scale, inverse);
          asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(placeOf(kOperandAt, ofCluster, eight / 2) + eight % 2 * 8), "r"(codes.x),
                       "r"(codes.y)
                       : "memory");
        }
      } else {
#pragma unroll
        for (int i = 0; i < kEights; ++i) storeShared16(placeOf(kOperandAt, ofCluster, column + i * 16), packHalves(values[i]));
      }
    }
  }

  /// Of a row that half a warp has: every 16th eight in a lane. @param parameters gains, then shifts
  template <int kEights, NormKind kKind>
  __device__ __forceinline__ void norm(Eights<kEights>& values, float eps, uint32_t parameters) const {
    constexpr float kInverse = 1.0f / (kEights * 128);
    constexpr bool kShifted = kKind == NormKind::kLayer;
    float mean = 0.0f, squares = 0.0f;
    if constexpr (kShifted) {
#pragma unroll
      for (int i = 0; i < kEights; ++i)
#pragma unroll
        for (int e = 0; e < 8; ++e) mean += values[i][e];
      mean = warpReduce<16>(mean, Add{}) * kInverse;
    }
#pragma unroll
    for (int i = 0; i < kEights; ++i)
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        values[i][e] -= mean;
        squares = fmaf(values[i][e], values[i][e], squares);
      }
    const float inverse = rsqrtf(warpReduce<16>(squares, Add{}) * kInverse + eps);
#pragma unroll
    for (int i = 0; i < kEights; ++i) {
      float gain[8], beta[8] = {};
      unpackHalves(loadShared16(parameters + (lane % 16 + i * 16) * 16), gain);
      if constexpr (kShifted) unpackHalves(loadShared16(parameters + kEights * 256 + (lane % 16 + i * 16) * 16), beta);
#pragma unroll
      for (int e = 0; e < 8; ++e) values[i][e] = fmaf(values[i][e] * inverse, gain[e], beta[e]);
    }
  }

  // ---- Exchanges --------------------------------------------------------------------------------------------------------------

  __device__ __forceinline__ uint32_t barrier() const { return base + kBarriersAt + exchange % 2 * 8; }

  /// Until `bytes` have come from all blocks.
  __device__ __forceinline__ void await(int bytes) {
    if (threadIdx.x == 0) barrierArriveExpect(barrier(), bytes);
    barrierWaitCluster(barrier(), exchange / 2 % 2);
    ++exchange;
  }

  /// 16 bytes for a block.
  __device__ __forceinline__ void tell(uint32_t to, int block, uint4 v) const {
    if (block == rank) storeShared16(to, v);
    else storeRemote16(remoteAddress(to, block), v, remoteAddress(barrier(), block));
  }

  /// Until the shares of the first kSources blocks are there, `bytes` each.
  template <int kSources>
  __device__ __forceinline__ void awaitShares(int bytes) {
    await(bytes * (kSources - (rank < kSources)));
    __syncthreads();
  }

  /// The largest magnitude that a thread knows of its eight numbers of a row, and a block of its share of a row.
  __device__ __forceinline__ uint32_t partialOf(int ofCluster, int eight, int bytes) const {
    return base + kPartialsAt + exchange % 2 * kPartialBytes + (eight * G::kRows + ofCluster) * bytes;
  }
  __device__ __forceinline__ uint32_t knownOf(int ofCluster, int block) const {
    return base + kKnownAt + exchange % 2 * kKnownBytes + (block * G::kRows + ofCluster) * 4;
  }

  /// Makes the operand of stage s, for all blocks, of the numbers that it is made of, of which each block has its share of channels.
  template <int s>
  __device__ __forceinline__ void give(Eights<Stage<s>::kShareOfThread>& values) {
    if constexpr (Stage<s>::kQuantised) giveCodes<s>(values);
    else giveHalves<Stage<s>::kShareEights, Stage<s>::kSources>(values, kOperandAt);
  }

  /// @param columns where they go; kEights in a row of each of the first kSources blocks
  template <int kEights, int kSources, int kOfThread>
  __device__ __forceinline__ void giveHalves(const float (&values)[kOfThread][8], int columns) {
    if (rank < kSources)
      forEach<kEights, kOfThread>([&](int i, int ofCluster, int eight) {
        const uint4 halves = packHalves(values[i]);
        const uint32_t to = placeOf(columns, ofCluster, rank * kEights + eight);
#pragma unroll
        for (int block = 0; block < G::kBlocks; ++block) tell(to, block, halves);
      });
    awaitShares<kSources>(G::kRows * kEights * 16);
  }

  template <int s>
  __device__ __forceinline__ void giveCodes(Eights<Stage<s>::kShareOfThread>& values) {
    using S = Stage<s>;
    using Row = WarpRows<8, 1, NormKind::kNone, Config<s>::kActivation>;
    constexpr int kEights = S::kShareEights, kOfThread = S::kShareOfThread;
    if (rank < S::kSources) {
      forEach<kEights, kOfThread>([&](int i, int ofCluster, int eight) {
        asm volatile("st.shared.f32 [%0], %1;" ::"r"(partialOf(ofCluster, eight, 4)), "f"(largestMagnitude(values[i])) : "memory");
      });
      __syncthreads();
#pragma unroll 1
      for (int i = threadIdx.x; i < G::kRows * G::kBlocks; i += kBlockThreads) {
        const int ofCluster = i % G::kRows, block = i / G::kRows;
        float most = 0.0f;
#pragma unroll
        for (int eight = 0; eight < kEights; ++eight) most = fmaxf(most, __uint_as_float(loadShared4(partialOf(ofCluster, eight, 4))));
        storeRemote4(remoteAddress(knownOf(ofCluster, rank), block), most, remoteAddress(barrier(), block));
      }
    }
    const uint32_t known = knownOf(0, 0);
    await(G::kRows * S::kSources * 4);
    const auto scaleOf = [&](int ofCluster) {
      float most = 0.0f;
#pragma unroll
      for (int block = 0; block < S::kSources; ++block)
        most = fmaxf(most, __uint_as_float(loadShared4(known + (block * G::kRows + ofCluster) * 4)));
      return tokenScale<Config<s>::kActivation>(most);
    };
    if (threadIdx.x < G::kRows)
      asm volatile("st.shared.f32 [%0], %1;" ::"r"(base + kScalesAt + threadIdx.x * 4), "f"(scaleOf(threadIdx.x)) : "memory");
    if (rank < S::kSources) {
      forEach<kEights, kOfThread>([&](int i, int ofCluster, int eight) {
        const float scale = scaleOf(ofCluster);
        const uint2 codes = Row::encode(values[i], scale, __frcp_rn(scale));
        asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(partialOf(ofCluster, eight, 8)), "r"(codes.x), "r"(codes.y) : "memory");
      });
      __syncthreads();
#pragma unroll 1
      for (int i = threadIdx.x; i < G::kRows * (kEights / 2) * G::kBlocks; i += kBlockThreads) {
        const int ofCluster = i % G::kRows, piece = i / G::kRows % (kEights / 2), block = i / (G::kRows * (kEights / 2));
        const uint2 low = loadShared8(partialOf(ofCluster, piece * 2, 8)), high = loadShared8(partialOf(ofCluster, piece * 2 + 1, 8));
        tell(placeOf(kOperandAt, ofCluster, rank * (kEights / 2) + piece), block, make_uint4(low.x, low.y, high.x, high.y));
      }
    }
    awaitShares<S::kSources>(G::kRows * kEights * 8);
  }

  // ---- Products ---------------------------------------------------------------------------------------------------------------

  template <int s, class Sums>
  __device__ __forceinline__ void multiply(Sums& sums) {
    using S = Stage<s>;
    using Warp = TileWarp<Config<s>>;
    // No unrolling: instructions that are read once are no faster than the caches that they come from.
#pragma unroll 1
    for (int unit = 0; unit < S::kUnits; ++unit) {
      waitForCopies<G::kSlots - 1>();
      __syncwarp();
#pragma unroll
      for (int i = 0; i < Config<s>::kUnitSteps; ++i) {
        const int step = warp / S::kWarpsN * S::kWarpSteps + unit * Config<s>::kUnitSteps + i;
        typename Warp::Operands operands;
#pragma unroll
        for (int block = 0; block < S::L::kRowBlocks; ++block)
          loadMatrices(placeOf(S::kDirect ? 0 : kOperandAt, block * 16 + lane % 16, 2 * step + lane / 16), operands.a[block]);
#pragma unroll
        for (int pair = 0; pair < S::kPairs; ++pair) {
          constexpr int kChunkBytes = S::kChunkPieces * 16;
          Warp::template loadWeights<kChunkBytes>(ringSlot(slot) + pair * 2 * kChunkBytes + i * S::kStepBytes, 0, lane, operands);
          Warp::multiply(operands, 0, sums[pair]);
        }
      }
      __syncwarp();
      copyUnit<s>(unit + G::kSlots, slot);
      commitCopies();
      slot = slot + 1 == G::kSlots ? 0 : slot + 1;
    }
  }

  // ---- What follows the sums --------------------------------------------------------------------------------------------------

  template <int s, class Sums>
  __device__ __forceinline__ void lay(const Sums& sums, uint32_t to) const {
    using S = Stage<s>;
    using L = typename S::L;
    const int part = warp / S::kWarpsN, first = warp % S::kWarpsN * S::kPairs;
#pragma unroll
    for (int pair = 0; pair < S::kPairs; ++pair)
#pragma unroll
      for (int i = 0; i < 2 * L::kRowBlocks; ++i)
        TileStore<Config<s>>::template lay<2>(sums[pair][i / 2], 0, i % 2,
                                              to + part * S::kSumBytes + i * 8 * S::kSumPitch + (first + pair) * 64, S::kSumPitch, lane);
  }

  /// Each block's sums of its share of k, to the blocks whose outputs they are.
  template <int s>
  __device__ __forceinline__ void giveSums(uint32_t laid) {
    using S = Stage<s>;
    constexpr int kOwn = Config<s>::kTileOutputs, kFours = Config<s>::kN / 4;
#pragma unroll 1
    for (int i = threadIdx.x; i < G::kRows * kFours; i += kBlockThreads) {
      const int ofCluster = i / kFours, output = i % kFours * 4;
      float total[4] = {};
#pragma unroll
      for (int part = 0; part < Config<s>::kKWarps; ++part) {
        const uint4 four = loadShared16(laid + part * S::kSumBytes + ofCluster * S::kSumPitch + output * 4);
        total[0] += __uint_as_float(four.x), total[1] += __uint_as_float(four.y);
        total[2] += __uint_as_float(four.z), total[3] += __uint_as_float(four.w);
      }
      tell(base + kReceivedAt + rank * S::L::kSumBytes + ofCluster * S::L::kSumPitch + output % kOwn * 4, output / kOwn,
           make_uint4(__float_as_uint(total[0]), __float_as_uint(total[1]), __float_as_uint(total[2]), __float_as_uint(total[3])));
    }
    awaitShares<G::kBlocks>(G::kRows * kOwn * 4);
  }

  /// Results, as float16 has them. @param laid where all sums are, of warps or blocks
  template <int s>
  __device__ __forceinline__ void finish(uint32_t laid, const uint4 (&given)[Stage<s>::kOutOfThread],
                                         Eights<Stage<s>::kOutOfThread>& values) const {
    using S = Stage<s>;
    using Cs = Config<s>;
    using L = typename S::L;
    using Store = TileStore<Cs>;
    constexpr int kSets = S::kDirect ? G::kBlocks : Cs::kKWarps;
    const TileArguments none{};
    const Store store{none, base + parametersAt<s>(), 0, 1.0f};
    forEach<S::kOutEights, S::kOutOfThread>([&](int i, int ofCluster, int eight) {
      typename Store::RowTerms8 terms{};
      if constexpr (Cs::kResidualFrom == ChainResidual::kGiven) terms.residual = given[i];
      if constexpr (Cs::kResidualFrom == ChainResidual::kStream) terms.residual = loadShared16(sharePlace(ofCluster, eight));
      terms.xScale = L::kSumScale;
      if constexpr (Cs::kRowScales) terms.xScale *= __uint_as_float(loadShared4(base + kScalesAt + ofCluster * 4));
      typename L::Sum total[S::kParts][8] = {};
#pragma unroll
      for (int part = 0; part < kSets; ++part)
#pragma unroll
        for (int half = 0; half < S::kParts; ++half) {
          typename L::Sum eightSums[8];
          Store::read8(laid + part * L::kSumBytes + ofCluster * L::kSumPitch + (eight * S::kParts + half) * 32, eightSums);
#pragma unroll
          for (int e = 0; e < 8; ++e) total[half][e] += eightSums[e];
        }
      Store::apply(total, store.terms(eight * S::kParts * 8), terms, values[i]);
      const uint4 halves = packHalves(values[i]);
      unpackHalves(halves, values[i]);
      if constexpr (Cs::kTo == ChainTo::kStream) storeShared16(sharePlace(ofCluster, eight), halves);
      if constexpr (Cs::kStores) storeRow8(p.stages[s].y, ofCluster, rank * S::kOutEights + eight, S::kOutEights * G::kBlocks, halves);
    });
  }
#else
  __device__ static void run(const Arguments&) {}
#endif
};

/// By clusters of G::kBlocks blocks of Chain<…>::kBlockThreads threads with Chain<…>::kSharedBytes of shared memory.
template <class... C>
__device__ __forceinline__ void chainedProducts(const typename Chain<C...>::Arguments& p) {
  Chain<C...>::run(p);
}

}  // namespace ladder
