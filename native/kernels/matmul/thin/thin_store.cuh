// What follows the products of a few tokens: sums of warps that share k meet in the block, sums of blocks that share k in the
// cluster, every one in a fixed order; then epilogue and store. For blocks of thin.cuh and of warpgroup.cuh, which say as
// `L` who has which tile (L::tileOf), how many share k, and where in shared memory there is room.
// A fragment is a tile's sums for 8 tokens, as mma leaves them: rows g and g + 8, tokens 2t and 2t + 1.
#pragma once
#include "matmul/operator.cuh"

namespace ladder {

template <class C, class L>
struct ThinStore {
  using T = FormatTraits<C::kWeight>;
  using S = DenseShape<C>;
  using Sum = Accumulator<C::kWeight>;
  using Sums = Sum[L::kWarpTiles][L::kTokenTiles][4];

  const L& b;

  /// By the whole block: those of the ring and those of the exchange, before anyone uses them. `full`, `empty`: arrivals that a
  /// stage waits for.
  __device__ __forceinline__ static void initBarriers(const L& block, int full, int empty) {
    if (threadIdx.x == L::kThreads) {
      block.barriers.init(full, empty);
      barrierInit(block.base + L::kReadyAt, 1);
      barrierInit(block.base + L::kFreeAt, L::kSplit * L::kWarps);
      fenceBarrierInit();
    }
    __syncthreads();
#if __CUDA_ARCH__ >= 900
    // Every block's barriers exist before another one arrives on them.
    if constexpr (L::kSplit > 1) clusterBarrier();
#endif
  }

  /// By the block's consumers: what the epilogue needs of each of the group's rows, before `waitForPrerequisites` …
  __device__ __forceinline__ void fetchTerms(const DenseArguments& p, int thread) const {
    if constexpr (L::kHasTerms) {
      for (int row = thread; row < b.tiles * 16; row += L::kThreads) {
        const int n = (b.firstTile + row / 16) * S::kTileOutputs + (S::kSilu ? row % 8 + (row % 16 < 8 ? 0 : S::kOutputs) : row % 16);
        RowTerms<C> terms;
        if (n < C::kN) terms.load(p, n);
        reinterpret_cast<RowTerms<C>*>(b.shared + L::kTermsAt)[row] = terms;
      }
    }
  }

  /// … and of each token, after it.
  __device__ __forceinline__ void fetchTokenScales(const DenseArguments& p, int thread) const {
    if constexpr (L::kHasTokenScales) {
      for (int token = thread; token < C::kM; token += L::kThreads) {
        reinterpret_cast<float*>(b.shared + L::kTokenScalesAt)[token] = __ldcg(static_cast<const float*>(p.xScale) + token);
      }
    }
  }

  /// The sums of a pass that this warp has, from all its products to y.
  __device__ __forceinline__ void run(const DenseArguments& p, int pass, int warp, int lane, Sums& sums) const {
    const int warpN = warp % L::kWarpsN, warpK = warp / L::kWarpsN;
    reduceWarps(sums, warpN, warpK, lane);
    if constexpr (L::kSplit == 1) {
      storeSums(p, pass, warpN, warpK, lane, sums);
    } else {
      exchange(p, pass, warp, warpN, warpK, lane, sums);
    }
  }

 private:
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

  /// Who has the block's sums of a warp's tile in the end: warps of warpK 0 and 1 in turn, so that both have an epilogue to do.
  __device__ __forceinline__ static constexpr int holderOf(int i) { return L::kWarpsK > 1 ? i % 2 : 0; }

  /// Leaves the block's sums with their holders: upper halves hand over to lower halves, a tile at a time.
  __device__ __forceinline__ void reduceWarps(Sums& sums, int warpN, int warpK, int lane) const {
#pragma unroll
    for (int half = L::kWarpsK / 2; half > 0; half /= 2) {
      uint4* const fragments =
          reinterpret_cast<uint4*>(b.shared + L::kTreeAt) + ((warpK % half) * L::kWarpsN + warpN) * L::kTokenTiles * 32 + lane;
#pragma unroll
      for (int i = 0; i < L::kWarpTiles; ++i) {
        const bool upper = half == 1 ? warpK == 1 - holderOf(i) : warpK >= half;
        if (warpK < 2 * half && upper) {
#pragma unroll
          for (int j = 0; j < L::kTokenTiles; ++j) fragments[j * 32] = bits(sums[i][j]);
        }
        namedBarrier(1, L::kThreads);
        if (warpK < 2 * half && !upper) {
#pragma unroll
          for (int j = 0; j < L::kTokenTiles; ++j) add(sums[i][j], fragments[j * 32]);
        }
        namedBarrier(1, L::kThreads);
      }
    }
  }

  __device__ __forceinline__ void storeSums(const DenseArguments& p, int pass, int warpN, int warpK, int lane, const Sums& sums) const {
#pragma unroll
    for (int i = 0; i < L::kWarpTiles; ++i) {
      const int tile = L::tileOf(warpN, i);
      if (warpK == holderOf(i) && tile < b.passTiles(pass)) {
        Residual residual[L::kTokenTiles];
#pragma unroll
        for (int j = 0; j < L::kTokenTiles; ++j) loadResidual(p, pass * L::kPassTiles + tile, j, lane, residual[j]);
#pragma unroll
        for (int j = 0; j < L::kTokenTiles; ++j) storeFragment(p, pass * L::kPassTiles + tile, j, lane, sums[i][j], residual[j]);
      }
    }
  }

  /// Each block pushes its part of every tile to the tile's owner (tile modulo blocks), which adds the parts in order. The
  /// owner's barrier counts the bytes.
  __device__ __forceinline__ void exchange(const DenseArguments& p, int pass, int warp, int warpN, int warpK, int lane,
                                           const Sums& sums) const {
#if __CUDA_ARCH__ >= 900
    const int tiles = b.passTiles(pass);
    // The place for parts is free when all blocks have read the last pass's, or, if it lies in the ring, all of the ring.
    const int uses = L::kExchangeInRing ? pass + 1 : pass;
    if (L::kExchangeInRing) giveBack(lane);
    const int owned = (tiles - b.rank + L::kSplit - 1) / L::kSplit * L::kTokenTiles;
    if (warp == 0 && lane == 0) barrierArriveExpect(b.base + L::kReadyAt, owned * L::kSplit * L::kFragmentBytes);
    if (warpK < 2) {
      if (uses > 0) barrierWaitCluster(b.base + L::kFreeAt, (uses - 1) & 1);
#pragma unroll
      for (int i = 0; i < L::kWarpTiles; ++i) {
        const int tile = L::tileOf(warpN, i);
        if (warpK == holderOf(i) && tile < tiles) {
          const uint32_t place = (b.rank * L::kOwnedTiles + tile / L::kSplit) * L::kTokenTiles * L::kFragmentBytes + lane * 16;
          const uint32_t to = remoteAddress(b.base + L::kExchangeAt + place, tile % L::kSplit);
          const uint32_t ready = remoteAddress(b.base + L::kReadyAt, tile % L::kSplit);
#pragma unroll
          for (int j = 0; j < L::kTokenTiles; ++j) storeRemote16(to + j * L::kFragmentBytes, bits(sums[i][j]), ready);
        }
      }
    }
    constexpr int kMine = (L::kOwnedTiles * L::kTokenTiles + L::kWarps - 1) / L::kWarps;
    const auto mine = [&](int i) { return pass * L::kPassTiles + i / L::kTokenTiles * L::kSplit + b.rank; };
    Residual residual[kMine];
#pragma unroll
    for (int m = 0; m < kMine; ++m) {
      const int i = warp + m * L::kWarps;
      if (i < owned) loadResidual(p, mine(i), i % L::kTokenTiles, lane, residual[m]);
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
      storeFragment(p, mine(i), i % L::kTokenTiles, lane, sum, residual[m]);
    }
    if (!L::kExchangeInRing && pass + 1 < b.passes) giveBack(lane);
#endif
  }

#if __CUDA_ARCH__ >= 900
  /// This warp no longer reads where the blocks of the cluster put their parts.
  __device__ __forceinline__ void giveBack(int lane) const {
    __syncwarp();
    if (lane < L::kSplit) barrierArriveRemote(remoteAddress(b.base + L::kFreeAt, lane));
  }
#endif

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
      if ((L::kTokens == C::kM || token < C::kM) && (C::kN % 16 == 0 || n < C::kN)) f(e, static_cast<size_t>(token) * S::kOutputs + n);
    }
  }

  __device__ __forceinline__ void loadResidual(const DenseArguments& p, int localTile, int tokenTile, int lane, Residual& residual) const {
    if constexpr (C::kResidual)
      forOutputs(localTile, tokenTile, lane, [&](int e, size_t at) { residual.values[e] = __ldcg(p.residual + at); });
  }

  __device__ __forceinline__ void storeFragment(const DenseArguments& p, int localTile, int tokenTile, int lane, const Sum (&sums)[4],
                                                const Residual& residual) const {
    RowTerms<C> terms[2];
    float xScale[2] = {L::kSumScale, L::kSumScale};
    if constexpr (L::kHasTerms) {
      const RowTerms<C>* rows = reinterpret_cast<const RowTerms<C>*>(b.shared + L::kTermsAt) + localTile * 16 + lane / 4;
      terms[0] = rows[0], terms[1] = rows[8];
    }
    if constexpr (L::kHasTokenScales) {
      const float* scales = reinterpret_cast<const float*>(b.shared + L::kTokenScalesAt) + tokenTile * 8 + lane % 4 * 2;
      xScale[0] *= scales[0], xScale[1] *= scales[1];
    }
    float values[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) values[e] = terms[e / 2].apply(static_cast<float>(sums[e]), xScale[e % 2]);
    forOutputs(localTile, tokenTile, lane, [&](int e, size_t at) {
      p.y[at] = finish<C>(values[e], values[(e + 2) % 4], C::kResidual ? __half2float(residual.values[e]) : 0.0f);
    });
  }
};

}  // namespace ladder
