// Products of few rows one after the other in one kernel, with the norms, quantisations and residuals between them: what a transformer's
// block does between two attentions. Each row needs only itself, so a cluster takes some rows through all of it, and what its blocks
// make for each other goes through distributed shared memory: 0.6 µs where a launch takes 1.9.
//
//   each stage   r = apply(q(norm(outer(source))) · dequantise(W)ᵀ, residual)
//
// norm, q and outer may be absent. A block has its share of the channels, of all rows of the cluster: it computes the outputs of its share
// of W's rows, and norms and quantises its share of them, eight numbers a thread. For that blocks tell each other what they know of each
// row (sums of squares around means, then the largest magnitude), and give each other what they made: all of it is multiplied by all.
//
//   an exchange   every block writes to all blocks by st.async, 128 bytes or more in a row; a barrier in the receiver's memory counts them
//
// No fence waits for anything else under way. A block that has all of an exchange knows that all others have sent it, and no longer read
// what they read before: what an exchange overwrites was read, by all, before the exchange before it was sent. Two barriers and two places
// for what is known of rows take turns; a product's results that are multiplied at once do not go where its own operand is.
// A packet costs 5 cycles, whatever is in it: so what blocks know of rows is summed first, and operands are columns of 16 bytes.
//
// In a product a warp has some outputs of some of k. It copies its weights itself, by cp.async, into a ring of its own, kSlots units ahead,
// also those of later stages: they come while blocks wait for each other.
//
//   shared memory:  | hidden: columns of kRows × 16 bytes | operand: columns | what threads, then blocks know of rows, both twice |
//                   | scales of rows | stream: the block's share | scales, biases, gains, shifts of its channels | barriers | rings |
//   Sums of warps that share out k take the operand's place, and hidden's where nothing is written there.
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
/// As storeRemote16 of core/ptx.cuh, of 8 and 4 bytes.
__device__ __forceinline__ void storeRemote8(uint32_t remote, float a, float b, uint32_t remoteBarrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(remote), "f"(a), "f"(b),
               "r"(remoteBarrier)
               : "memory");
}
__device__ __forceinline__ void storeRemote4(uint32_t remote, float a, uint32_t remoteBarrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(remote), "f"(a), "r"(remoteBarrier) : "memory");
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
  const __half *scale, *bias;                                  ///< [n]
  const __half *gain, *beta, *outerGain, *outerBeta;           ///< [k]
  const __half* residual;                                      ///< [m, outputs]
  __half *outer, *y;                                           ///< results: [m, k], [m, outputs]
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
  /// Whether x is multiplied as it comes.
  static constexpr bool kWhole = C::kFrom == ChainFrom::kInput && !kNormed && !kQuantised;
  /// Whether results before it are.
  static constexpr bool kDirect = C::kFrom == ChainFrom::kHidden && !kQuantised;

  // A unit of a warp's ring: kUnitSteps steps of all its chunks of 8 weight rows.
  static constexpr int kSteps = L::kPanels * 4, kStepBytes = L::kChunkBytes / 4;
  static constexpr int kWarpsN = G::kWarps / C::kKWarps, kPairs = L::kWarpsN / kWarpsN, kWarpSteps = kSteps / C::kKWarps;
  static constexpr int kUnits = kWarpSteps / C::kUnitSteps, kChunkPieces = C::kUnitSteps * kStepBytes / 16;
  static constexpr int kUnitPieces = 2 * kPairs * kChunkPieces;
  static_assert(G::kWarps % C::kKWarps == 0 && L::kWarpsN % kWarpsN == 0 && kSteps % C::kKWarps == 0 && kWarpSteps % C::kUnitSteps == 0);

  // Of the block's share: eights of channels of a row, those of all rows, those of a thread.
  static constexpr int kParts = TileStore<C>::kParts, kInEights = L::kK / 8 / G::kBlocks, kOutEights = C::kTileOutputs / 8 / kParts;
  static constexpr int threadEights(int ofRow) { return (G::kRows * ofRow + G::kWarps * 32 - 1) / (G::kWarps * 32); }
  static constexpr int kInOfThread = threadEights(kInEights), kOutOfThread = threadEights(kOutEights);
  /// A head's share is wider than another's.
  static constexpr int kShareEights = C::kFrom == ChainFrom::kAttention ? 8 : kInEights, kSources = C::kFrom == ChainFrom::kAttention ? G::kHeads : G::kBlocks;
  static constexpr int kShareOfThread = threadEights(kShareEights);
  static constexpr int kPartialBytes = kNormed || kOuter || kQuantised ? G::kRows * kShareEights * 8 : 0;

  static constexpr int kOperandBytes = kDirect ? 0 : L::kPanels * G::kRows * 128, kSumsBytes = C::kKWarps * L::kSumBytes;
  static constexpr int kTermBytes = (L::kTermBytes + 15) / 16 * 16, kVectorBytes = kInEights * 16;
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
  /// Attention is made where nothing comes before all blocks have theirs: hidden's place, or, of codes, which come an exchange later, the operand's.
  static constexpr int kHiddenBytes = largest({G::kRows * G::kHidden * 2, G::kHeads > 0 && !Stage<0>::kQuantised ? Attention::kBytes : 0});
  static constexpr int kOperandAt = kHiddenBytes;
  static constexpr int kOperandBytes = largest(
      {ChainStage<G, C>::kOperandBytes..., ChainStage<G, C>::kSumsBytes - (C::kTo == ChainTo::kHidden ? 0 : kHiddenBytes)...,
       G::kHeads > 0 ? Attention::kBytes - kHiddenBytes : 0});
  static constexpr int kPartialsAt = kOperandAt + (kOperandBytes + 15) / 16 * 16, kPartialBytes = largest({ChainStage<G, C>::kPartialBytes...});
  static constexpr int kKnownAt = kPartialsAt + 2 * kPartialBytes, kKnownBytes = G::kRows * G::kBlocks * 8;
  static constexpr int kScalesAt = kKnownAt + 2 * kKnownBytes, kStreamAt = kScalesAt + G::kRows * 4;
  static constexpr int kParametersAt = kStreamAt + G::kRows * (G::kWidth / G::kBlocks) * 2;
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
    if constexpr (Stage<0>::kWhole) {
      constexpr int kEights = Stage<0>::L::kK / 8;
      for (int i = threadIdx.x; i < G::kRows * kEights; i += kBlockThreads)
        storeShared16(placeOf(kOperandAt, i / kEights, i % kEights), loadRow8(p.x, i / kEights, i % kEights, kEights));
      __syncthreads();
    } else if constexpr (G::kHeads > 0) {
      using S = Stage<0>;
      Eights<S::kShareOfThread> values;
      if (rank < G::kHeads) {
        Attention::run(p.x, base, row, rank);
        forEach<S::kShareEights, S::kShareOfThread>(
            [&](int i, int ofCluster, int eight) { unpackHalves(loadShared16(Attention::placeOf(base, ofCluster, eight)), values[i]); });
      }
      give<0>(values);
    } else {
      using S = Stage<0>;
      Eights<S::kInOfThread> values;
      forEach<S::kInEights, S::kInOfThread>([&](int i, int ofCluster, int eight) {
        unpackHalves(loadRow8(p.x, ofCluster, rank * S::kInEights + eight, S::kInEights * G::kBlocks), values[i]);
      });
      distribute<0>(values);
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
    const uint32_t laid = base + (Cs::kTo == ChainTo::kHidden ? kOperandAt : 0);
    lay<s>(sums, laid);
    __syncthreads();
    Eights<S::kOutOfThread> values;
    finish<s>(laid, residual, values);
    if constexpr (s + 1 < kStages) {
      distribute<s + 1>(values);
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
      for (int i = threadIdx.x; i < S::kInEights; i += kBlockThreads) copyAsync16(to + i * 16, channels + (rank * S::kInEights + i) * 8);
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
      const int part = warp / S::kWarpsN, chunk = rank * (Config<s>::kTileOutputs / 8) + warp % S::kWarpsN * (2 * S::kPairs);
      const uint8_t* const from =
          p.stages[s].weight + (static_cast<size_t>(chunk) * S::kSteps + part * S::kWarpSteps + index * Config<s>::kUnitSteps) * S::kStepBytes;
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

  __device__ __forceinline__ uint32_t ringSlot(uint32_t index) const {
    return base + kRingsAt + (warp * G::kSlots + index) * kSlotBytes;
  }

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

  /// Where 16 bytes of a row of an operand lie.
  __device__ __forceinline__ uint32_t placeOf(int operand, int ofCluster, int piece) const {
    return base + operand + (piece * G::kRows + ofCluster) * 16;
  }

  /// Where a thread keeps eight numbers of the stream.
  __device__ __forceinline__ uint32_t streamPlace(int ofCluster, int eight) const {
    return base + kStreamAt + (eight * G::kRows + ofCluster) * 16;
  }

  // ---- Exchanges --------------------------------------------------------------------------------------------------------------

  __device__ __forceinline__ uint32_t barrier() const { return base + kBarriersAt + exchange % 2 * 8; }

  /// Until `bytes` have come from all blocks.
  __device__ __forceinline__ void await(int bytes) {
    if (threadIdx.x == 0) barrierArriveExpect(barrier(), bytes);
    barrierWaitCluster(barrier(), exchange / 2 % 2);
    ++exchange;
  }

  /// What a thread knows of its eight numbers of a row, and what a block knows of a row, of a number or two of them.
  template <int kNumbers>
  __device__ __forceinline__ uint32_t partialOf(int ofCluster, int eight) const {
    return base + kPartialsAt + exchange % 2 * kPartialBytes + (eight * G::kRows + ofCluster) * (4 * kNumbers);
  }
  template <int kNumbers>
  __device__ __forceinline__ uint32_t knownOf(int ofCluster, int block) const {
    return base + kKnownAt + exchange % 2 * kKnownBytes + (block * G::kRows + ofCluster) * (4 * kNumbers);
  }

  /// Once all threads have said what they know: f(row, address of its place in a block, its barrier) for each row and block.
  template <int kNumbers, class F>
  __device__ __forceinline__ void tell(F f) const {
    __syncthreads();
    for (int i = threadIdx.x; i < G::kRows * G::kBlocks; i += kBlockThreads) {
      const int ofCluster = i % G::kRows, block = i / G::kRows;
      f(ofCluster, remoteAddress(knownOf<kNumbers>(ofCluster, rank), block), remoteAddress(barrier(), block));
    }
  }

  /// Makes the operand of stage s, for all blocks, of the numbers that it is made of, of which each block has its share of channels.
  template <int s>
  __device__ __forceinline__ void distribute(Eights<Stage<s>::kInOfThread>& values) {
    using S = Stage<s>;
    using Cs = Config<s>;
    constexpr int kNormAt = S::kTermBytes, kOuterAt = kNormAt + S::kNormBytes;
    if constexpr (S::kOuter) {
      norm<s, Cs::kOuterNorm>(values, Cs::kOuterEps, base + parametersAt<s>() + kOuterAt);
      forEach<S::kInEights, S::kInOfThread>([&](int i, int ofCluster, int eight) {
        const uint4 halves = packHalves(values[i]);
        unpackHalves(halves, values[i]);
        storeShared16(streamPlace(ofCluster, eight), halves);
        if constexpr (Cs::kStoresOuter)
          storeRow8(p.stages[s].outer, ofCluster, rank * S::kInEights + eight, S::kInEights * G::kBlocks, halves);
      });
    }
    if constexpr (S::kNormed) norm<s, Cs::kNorm>(values, Cs::kEps, base + parametersAt<s>() + kNormAt);
    give<s>(values);
  }

  template <int s>
  __device__ __forceinline__ void give(Eights<Stage<s>::kShareOfThread>& values) {
    if constexpr (Stage<s>::kQuantised) giveCodes<s>(values);
    else giveHalves<s>(values);
  }

  /// Of kCount numbers each: means, and sums of squares around them, as those of all (Chan, Golub, LeVeque 1979).
  template <int kParts, int kCount, bool kShifted>
  __device__ __forceinline__ static float2 join(const float2 (&parts)[kParts]) {
    float mean = 0.0f, squares = 0.0f;
#pragma unroll
    for (const float2& part : parts) mean += part.x, squares += part.y;
    mean *= 1.0f / kParts;
    if constexpr (kShifted) {
#pragma unroll
      for (const float2& part : parts) squares = fmaf((part.x - mean) * kCount, part.x - mean, squares);
    }
    return make_float2(mean, squares);
  }

  __device__ __forceinline__ static float2 loadPair(uint32_t at) {
    const uint2 pair = loadShared8(at);
    return make_float2(__uint_as_float(pair.x), __uint_as_float(pair.y));
  }

  template <int s, NormKind kKind>
  __device__ __forceinline__ void norm(Eights<Stage<s>::kInOfThread>& values, float eps, uint32_t parameters) {
    using S = Stage<s>;
    constexpr bool kShifted = kKind == NormKind::kLayer;
    forEach<S::kInEights, S::kInOfThread>([&](int i, int ofCluster, int eight) {
      float mean = 0.0f, squares = 0.0f;
      if constexpr (kShifted) {
#pragma unroll
        for (int e = 0; e < 8; ++e) mean += values[i][e];
        mean *= 1.0f / 8;
      }
#pragma unroll
      for (int e = 0; e < 8; ++e) squares = fmaf(values[i][e] - mean, values[i][e] - mean, squares);
      asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(partialOf<2>(ofCluster, eight)), "f"(mean), "f"(squares) : "memory");
    });
    tell<2>([&](int ofCluster, uint32_t to, uint32_t counted) {
      float2 parts[S::kInEights];
#pragma unroll
      for (int eight = 0; eight < S::kInEights; ++eight) parts[eight] = loadPair(partialOf<2>(ofCluster, eight));
      const float2 all = join<S::kInEights, 8, kShifted>(parts);
      storeRemote8(to, all.x, all.y, counted);
    });
    const uint32_t known = knownOf<2>(0, 0);
    await(kKnownBytes);
    forEach<S::kInEights, S::kInOfThread>([&](int i, int ofCluster, int eight) {
      float2 parts[G::kBlocks];
#pragma unroll
      for (int block = 0; block < G::kBlocks; ++block) parts[block] = loadPair(known + (block * G::kRows + ofCluster) * 8);
      const float2 all = join<G::kBlocks, S::kInEights * 8, kShifted>(parts);
      const float inverse = rsqrtf(all.y * (1.0f / S::L::kK) + eps);
      float gain[8], beta[8] = {};
      unpackHalves(loadShared16(parameters + eight * 16), gain);
      if constexpr (kShifted) unpackHalves(loadShared16(parameters + S::kVectorBytes + eight * 16), beta);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        values[i][e] = (values[i][e] - all.x) * inverse * gain[e];
        if constexpr (kShifted) values[i][e] += beta[e];
      }
    });
  }

  template <int s>
  __device__ __forceinline__ void giveHalves(const Eights<Stage<s>::kShareOfThread>& values) {
    using S = Stage<s>;
    if (rank < S::kSources)
      forEach<S::kShareEights, S::kShareOfThread>([&](int i, int ofCluster, int eight) {
        const uint4 halves = packHalves(values[i]);
        const uint32_t to = placeOf(S::kDirect ? 0 : kOperandAt, ofCluster, rank * S::kShareEights + eight);
#pragma unroll
        for (int block = 0; block < G::kBlocks; ++block) storeRemote16(remoteAddress(to, block), halves, remoteAddress(barrier(), block));
      });
    await(G::kRows * S::L::kK * 2);
  }

  template <int s>
  __device__ __forceinline__ void giveCodes(Eights<Stage<s>::kShareOfThread>& values) {
    using S = Stage<s>;
    using Row = WarpRows<8, 1, NormKind::kNone, Config<s>::kActivation>;
    constexpr int kEights = S::kShareEights, kOfThread = S::kShareOfThread;
    if (rank < S::kSources) {
      forEach<kEights, kOfThread>([&](int i, int ofCluster, int eight) {
        asm volatile("st.shared.f32 [%0], %1;" ::"r"(partialOf<1>(ofCluster, eight)), "f"(largestMagnitude(values[i])) : "memory");
      });
      tell<1>([&](int ofCluster, uint32_t to, uint32_t counted) {
        float most = 0.0f;
#pragma unroll
        for (int eight = 0; eight < kEights; ++eight) most = fmaxf(most, __uint_as_float(loadShared4(partialOf<1>(ofCluster, eight))));
        storeRemote4(to, most, counted);
      });
    }
    const uint32_t known = knownOf<1>(0, 0);
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
        asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(partialOf<2>(ofCluster, eight)), "r"(codes.x), "r"(codes.y) : "memory");
      });
      __syncthreads();
      for (int i = threadIdx.x; i < G::kRows * (kEights / 2) * G::kBlocks; i += kBlockThreads) {
        const int ofCluster = i % G::kRows, piece = i / G::kRows % (kEights / 2), block = i / (G::kRows * (kEights / 2));
        const uint2 low = loadShared8(partialOf<2>(ofCluster, piece * 2)), high = loadShared8(partialOf<2>(ofCluster, piece * 2 + 1));
        storeRemote16(remoteAddress(placeOf(kOperandAt, ofCluster, rank * (kEights / 2) + piece), block), make_uint4(low.x, low.y, high.x, high.y),
                      remoteAddress(barrier(), block));
      }
    }
    await(G::kRows * S::L::kK);
  }

  // ---- Products ---------------------------------------------------------------------------------------------------------------

  template <int s, class Sums>
  __device__ __forceinline__ void multiply(Sums& sums) {
    using S = Stage<s>;
    using Warp = TileWarp<Config<s>>;
    const uint32_t rows = base + (S::kDirect ? 0 : kOperandAt);
#pragma unroll
    for (int unit = 0; unit < S::kUnits; ++unit) {
      waitForCopies<G::kSlots - 1>();
      __syncwarp();
#pragma unroll
      for (int i = 0; i < Config<s>::kUnitSteps; ++i) {
        const int step = warp / S::kWarpsN * S::kWarpSteps + unit * Config<s>::kUnitSteps + i;
        typename Warp::Operands operands;
#pragma unroll
        for (int block = 0; block < S::L::kRowBlocks; ++block)
          loadMatrices(rows + ((2 * step + lane / 16) * G::kRows + block * 16 + lane % 16) * 16, operands.a[block]);
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
                                              to + part * L::kSumBytes + i * 8 * L::kSumPitch + (first + pair) * 64, L::kSumPitch, lane);
  }

  /// Results, as float16 has them. @param laid where all warps' sums are
  template <int s>
  __device__ __forceinline__ void finish(uint32_t laid, const uint4 (&given)[Stage<s>::kOutOfThread],
                                         Eights<Stage<s>::kOutOfThread>& values) const {
    using S = Stage<s>;
    using Cs = Config<s>;
    using L = typename S::L;
    using Store = TileStore<Cs>;
    const TileArguments none{};
    const Store store{none, base + parametersAt<s>(), 0, 1.0f};
    forEach<S::kOutEights, S::kOutOfThread>([&](int i, int ofCluster, int eight) {
      typename Store::RowTerms8 terms{};
      if constexpr (Cs::kResidualFrom == ChainResidual::kGiven) terms.residual = given[i];
      if constexpr (Cs::kResidualFrom == ChainResidual::kStream) terms.residual = loadShared16(streamPlace(ofCluster, eight));
      terms.xScale = L::kSumScale;
      if constexpr (Cs::kRowScales) terms.xScale *= __uint_as_float(loadShared4(base + kScalesAt + ofCluster * 4));
      typename L::Sum total[S::kParts][8] = {};
#pragma unroll
      for (int part = 0; part < Cs::kKWarps; ++part)
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
      if constexpr (Cs::kTo == ChainTo::kStream) storeShared16(streamPlace(ofCluster, eight), halves);
      if constexpr (Cs::kStores)
        storeRow8(p.stages[s].y, ofCluster, rank * S::kOutEights + eight, S::kOutEights * G::kBlocks, halves);
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
