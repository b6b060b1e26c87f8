// A unit of separable.cuh for few images, whose bands of rows are fewer than multiprocessors: a cluster of kCluster blocks per band shares
// out channels, by eight. What counts is how long a band takes from the end of the kernel before: all weights are in registers by then.
//
//   x of the band → m of the block's channels of the middle → d of these, to all blocks → results of the block's output channels
//
// A warp has eight weight rows of each product, all of k, and multiplies them by 16 pixels or places at a time. d goes to the others' shared
// memory by st.async, 16 bytes at a time, and each block's barrier counts the bytes of all: no block ends before it has all, so that nobody
// writes to one that has ended.
//
// Shared memory: | x, [pixels][k] as in separable.cuh | d, [places][c] as there | m, [pixels][the block's channels] | barrier |
// Without kExpand m is x of the block's channels.
//
// C: as separable.cuh, without kMBlocks, kNBlocks and kRun; kCluster. Architectures: sm_90a. Tests: test/gpu/image-kernels.test.ts.
#pragma once
#include <type_traits>

#include "conv/separable_unit.cuh"
#include "core/ptx.cuh"

namespace ladder {

template <class C>
struct SeparableCluster {
  using U = SeparableUnit<C>;
  static constexpr bool kFp8 = U::kFp8;
  static constexpr int kThreads = C::kWarps * 32, kPixels = U::kPixels, kPlaces = U::kPlaces;
  static constexpr int kBlocks = C::kImages * U::kBands * C::kCluster;

  /// Eights of channels, and how many a block has at most.
  static constexpr int kMidEights = (C::kMid + 7) / 8, kMidShare = (kMidEights + C::kCluster - 1) / C::kCluster;
  static constexpr int kOutEights = (C::kOut + 7) / 8, kOutShare = (kOutEights + C::kCluster - 1) / C::kCluster;
  static_assert(kMidShare <= C::kWarps && kOutShare <= C::kWarps);

  __host__ __device__ static constexpr int padded(int rows) { return (rows + 15) / 16 * 16; }
  static constexpr int kXPitch = U::pitch(C::kIn), kDPitch = U::pitch(C::kMid), kMPitch = kMidShare * 16;
  static constexpr int kDAt = C::kExpand ? padded(kPixels) * kXPitch : 0, kMAt = kDAt + padded(kPlaces) * kDPitch;
  static constexpr int kBarrierAt = kMAt + kPixels * kMPitch, kSharedBytes = kBarrierAt + 16;

  /// Eights of a block.
  struct Share {
    const int first, count;
    __device__ __forceinline__ Share(int eights, int rank)
        : first(eights * rank / C::kCluster), count(eights * (rank + 1) / C::kCluster - first) {}
  };

  const SeparableArguments& p;
  const uint32_t base;
  const typename U::Band band;
  const Share mid, out;

  __device__ static void run(const SeparableArguments& p) {
    extern __shared__ __align__(1024) uint8_t shared[];
    const int rank = blockIdx.x % C::kCluster;
    SeparableCluster{p, sharedAddress(shared), typename U::Band(blockIdx.x / C::kCluster), Share(kMidEights, rank), Share(kOutEights, rank)}
        .compute();
  }

 private:
#if __CUDA_ARCH__ >= 900
  __device__ __forceinline__ void compute() const {
    const uint32_t barrier = base + kBarrierAt;
    if (threadIdx.x == 0) {
      barrierInit(barrier, 1);
      fenceBarrierInit();
      barrierArriveExpect(barrier, kPlaces * kMidEights * 16);
    }
    // Parameters, which no kernel writes.
    Product<C::kIn, C::kMid, kPixels, kMidShare> first;
    if constexpr (C::kExpand) {
      first.load(p.expand, mid);
      first.loadTerms(p.expandScale, p.expandBias);
    }
    Depthwise depthwise;
    depthwise.load(p, mid);
    Product<C::kMid, C::kOut, kPlaces, kOutShare> last;
    last.load(p.project, out);
    const float xScale = C::kExpand ? scaleOf(p.xScale) : 1.0f, midScale = scaleOf(p.midScale);
    float xInverse = __frcp_rn(xScale), midInverse = __frcp_rn(midScale);
    const typename U::Projected results{p, band.firstPlace(), band.places(), Results<C>::inverse(p.result)};
    workOut(xInverse);
    workOut(midInverse);
    launchDependents();
    clearPads();
    // Every block's barrier exists before another one writes to it.
    __syncthreads();
    clusterBarrier();
    waitForPrerequisites();

    const Pixels pixels(*this);
    pixels.store(base, xInverse);
    __syncthreads();
    if constexpr (C::kExpand) {
      first.forTasks([&](int, int row, int) {
        float sums[4];
        first.multiply(base, row, sums);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (row + i * 8 >= kPixels) continue;
          const float2 value = U::resultsOf(sums + i * 2, first.terms, xScale);
          U::storeWord(base + kMAt + (row + i * 8) * kMPitch + first.eight * 16 + threadIdx.x % 4 * 4,
                       U::bits(__floats2half2_rn(C::first(value.x), C::first(value.y))));
        }
      });
      __syncthreads();
    }
    depthwise.run(*this, midInverse);
    // These come while d does.
    last.loadTerms(p.projectScale, p.projectBias);
    uint32_t other[last.kTasks][2];
    last.forTasks([&](int task, int row, int n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) other[task][i] = n < C::kOut ? results.ahead(row + i * 8, n) : 0;
    });
    barrierWaitCluster(barrier, 0);
    last.forTasks([&](int task, int row, int n) {
      float sums[4];
      last.multiply(base + kDAt, row, sums);
      if (n >= C::kOut) return;
#pragma unroll
      for (int i = 0; i < 2; ++i) results.finish(row + i * 8, n, U::resultsOf(sums + i * 2, last.terms, midScale), other[task][i]);
    });
    Results<C>::storeScale(p.result);
  }

  // ---- Memory -------------------------------------------------------------------------------------------------------------

  // What depends on no other kernel is to be done before the wait, where compilers move what is only needed later: loads of parameters,
  // and values that are worked out.
  __device__ __forceinline__ static uint32_t early4(const void* from) {
    uint32_t v;
    asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(v) : "l"(from));
    return v;
  }
  __device__ __forceinline__ static uint2 early8(const void* from) {
    uint2 v;
    asm volatile("ld.global.nc.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(from));
    return v;
  }
  __device__ __forceinline__ static uint4 early16(const void* from) {
    uint4 v;
    asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
    return v;
  }
  __device__ __forceinline__ static void workOut(float& value) { asm volatile("" : "+f"(value)); }
  __device__ __forceinline__ static __half2 pairOf(uint32_t word) { return *reinterpret_cast<const __half2*>(&word); }
  __device__ __forceinline__ static float scaleOf(const float* from) { return kFp8 ? __uint_as_float(early4(from)) : 1.0f; }

  /// What is past the channels of x and of d, up to a step of k.
  __device__ __forceinline__ void clearPads() const {
    if constexpr (C::kExpand) clearColumns<C::kIn, kPixels>(base);
    clearColumns<kMidEights * 8, kPlaces>(base + kDAt);
  }
  template <int kColumns, int kRowCount>
  __device__ __forceinline__ static void clearColumns(uint32_t matrix) {
    constexpr int kPads = U::steps(kColumns) * 16 - kColumns / 2;
    if constexpr (kPads > 0) {
      for (int i = threadIdx.x; i < kRowCount * kPads; i += kThreads)
        U::storeWord(matrix + U::at(i / kPads, kColumns * 2 + i % kPads * 4, U::pitch(kColumns)), 0);
    }
  }

  // ---- Pixels ---------------------------------------------------------------------------------------------------------------

  __host__ __device__ static constexpr int powerOfTwo(int atLeast) { return atLeast > 1 ? 2 * powerOfTwo((atLeast + 1) / 2) : 1; }

  /// A thread's part of x, or without kExpand of the block's channels of it. Through registers: on Hopper cp.async costs more instructions
  /// than a load and a store.
  struct Pixels {
    static constexpr int kBits = C::kXPitch * 2 | C::kXFirst * 2 | C::kIn * 2 | 16, kUnit = kBits & -kBits;
    using Unit = std::conditional_t<kUnit == 16, uint4, std::conditional_t<kUnit == 8, uint2, uint32_t>>;
    /// Threads of a row: a power of two, so that a thread has the same bytes of every row that it copies.
    static constexpr int kRowThreads = powerOfTwo((C::kExpand ? C::kIn * 2 : kMPitch) / kUnit), kAtOnce = kThreads / kRowThreads;
    static constexpr int kTurns = (kPixels + kAtOnce - 1) / kAtOnce;
    static_assert(kAtOnce > 0);
    Unit units[kTurns];
    const int row = threadIdx.x / kRowThreads, byte = threadIdx.x % kRowThreads * kUnit;
    bool isThere;

    __device__ __forceinline__ explicit Pixels(const SeparableCluster& block) {
      constexpr int kImagePixels = C::kHeight * C::kWidth;
      const int firstByte = C::kExpand ? 0 : block.mid.first * 16;
      isThere = byte < (C::kExpand ? C::kIn * 2 : min(block.mid.count * 16, C::kIn * 2 - firstByte));
      const auto* const image =
          reinterpret_cast<const uint8_t*>(block.p.x + static_cast<int64_t>(block.band.image) * (kImagePixels * C::kXPitch) + C::kXFirst) +
          firstByte + (isThere ? byte : 0);
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn) {
        // What is not in the image is read elsewhere in it, and never looked at.
        const int pixel = min(max(block.band.top * C::kWidth + turn * kAtOnce + row, 0), kImagePixels - 1);
        units[turn] = __ldcg(reinterpret_cast<const Unit*>(image + pixel * (C::kXPitch * 2)));
      }
    }

    /// As codes, where the first product has any. @param inverse of x's scale
    __device__ __forceinline__ void store(uint32_t base, float inverse) const {
      if (!isThere) return;
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn) {
        // Eight rows further a row has the same order of pieces.
        constexpr int kEight = 8;
        const int first = turn * kAtOnce / kEight * kEight, near = row + turn * kAtOnce % kEight;
        if ((turn + 1) * kAtOnce > kPixels && first + near >= kPixels) continue;
        const uint32_t to =
            C::kExpand ? base + first * kXPitch + U::at(near, byte, kXPitch) : base + kMAt + (first + near) * kMPitch + byte;
        storeUnit(to, units[turn],
                  [&](uint32_t word) { return kFp8 && C::kExpand ? U::rounded(__half22float2(pairOf(word)), inverse) : word; });
      }
    }

   private:
    template <class F>
    __device__ __forceinline__ static void storeUnit(uint32_t to, uint32_t unit, F f) {
      U::storeWord(to, f(unit));
    }
    template <class F>
    __device__ __forceinline__ static void storeUnit(uint32_t to, uint2 unit, F f) {
      U::storeTwo(to, make_uint2(f(unit.x), f(unit.y)));
    }
    template <class F>
    __device__ __forceinline__ static void storeUnit(uint32_t to, uint4 unit, F f) {
      storeShared16(to, make_uint4(f(unit.x), f(unit.y), f(unit.z), f(unit.w)));
    }
  };

  // ---- Products -------------------------------------------------------------------------------------------------------------

  /// A warp's part of a product: eight weight rows, with the terms of the lane's two results, and every kGroups-th 16 of the rows.
  template <int kK, int kN, int kRowCount, int kShare>
  struct Product {
    static constexpr int kSteps = U::steps(kK), kGroups = C::kWarps / kShare, kTasks = (padded(kRowCount) / 16 + kGroups - 1) / kGroups;
    std::conditional_t<kFp8, uint2, uint4> weights[kSteps];
    typename U::Terms terms;
    /// The warp's eight of the block's, and the first result of the lane's.
    int eight, n;
    bool isThere;

    __device__ __forceinline__ void load(const uint8_t* from, const Share& share) {
      const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
      eight = warp % kShare;
      isThere = warp / kShare < kGroups && eight < share.count;
      const int row = min(share.first + eight, (kN + 7) / 8 - 1);
      n = row * 8 + lane % 4 * 2;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const int at = (row * kSteps + step) * 32 + lane;
        if constexpr (kFp8) weights[step] = early8(from + at * 8);
        else weights[step] = early16(from + at * 16);
      }
    }
    __device__ __forceinline__ void loadTerms(const __half* scale, const __half* bias) {
      terms = typename U::Terms{};
      if (n >= kN) return;
      if constexpr (kFp8) terms.scale = pairOf(early4(scale + n));
      terms.bias = pairOf(early4(bias + n));
    }
    __device__ __forceinline__ static uint4 halves(uint4 weights) { return weights; }
    __device__ __forceinline__ static uint4 halves(uint2 codes) {
      return make_uint4(U::decoded(codes.x), U::decoded(codes.x >> 16), U::decoded(codes.y), U::decoded(codes.y >> 16));
    }

    /// Calls f(task, first of the lane's rows, first of its results); the other row is 8 further.
    template <class F>
    __device__ __forceinline__ void forTasks(F f) const {
#pragma unroll
      for (int task = 0; task < kTasks; ++task) {
        const int block = task * kGroups + threadIdx.x / 32 / kShare;
        if (isThere && block < padded(kRowCount) / 16) f(task, block * 16 + threadIdx.x % 32 / 4, n);
      }
    }

    /// Sums of a task: several by turns, so that products need not wait for each other.
    __device__ __forceinline__ void multiply(uint32_t x, int row, float (&sums)[4]) const {
      constexpr int kParts = kSteps > 1 ? 4 : 2;
      float parts[kParts][4] = {};
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const int byte = step * 64 + threadIdx.x % 4 * 16;
        const uint4 low = loadShared16(x + U::at(row, byte, U::pitch(kK))), high = loadShared16(x + U::at(row + 8, byte, U::pitch(kK)));
        const uint32_t a[2][4] = {{low.x, high.x, low.y, high.y}, {low.z, high.z, low.w, high.w}};
        const uint4 b = halves(weights[step]);
        mmaFp16(parts[step * 2 % kParts], a[0], b.x, b.y);
        mmaFp16(parts[step * 2 % kParts + 1], a[1], b.z, b.w);
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        sums[e] = parts[0][e] + parts[1][e];
        if constexpr (kParts == 4) sums[e] += parts[2][e] + parts[3][e];
      }
    }
  };

  // ---- Depthwise ------------------------------------------------------------------------------------------------------------

  /// A thread's two channels, of every kTeams-th place.
  struct Depthwise {
    static constexpr int kPairs = kMidShare * 4, kTeams = kThreads / kPairs;
    uint32_t taps[9], bias;

    __device__ __forceinline__ void load(const SeparableArguments& p, const Share& share) {
      const int channel = share.first * 8 + threadIdx.x % kPairs * 2;
      const bool exists = channel < C::kMid;
#pragma unroll
      for (int tap = 0; tap < 9; ++tap) taps[tap] = exists ? early4(p.depth + tap * C::kMid + channel) : 0;
      bias = exists ? early4(p.depthBias + channel) : 0;
    }

    /// d of the block's channels, zeros past the last one, to all blocks of the cluster. @param inverse of d's scale
    __device__ __forceinline__ void run(const SeparableCluster& block, float inverse) const {
      const int pair = threadIdx.x % kPairs, team = threadIdx.x / kPairs, lane = threadIdx.x % 32;
      const bool isThere = team < kTeams && pair / 4 < block.mid.count;
      const bool exists = block.mid.first * 8 + pair * 2 < C::kMid;
      // Four lanes have an eight of a place, and share out the blocks that it goes to.
      constexpr int kPeers = (C::kCluster + 3) / 4;
      uint32_t peers[kPeers];
#pragma unroll
      for (int i = 0; i < kPeers; ++i) peers[i] = remoteAddress(block.base, (lane % 4 + i * 4) % C::kCluster);
      const bool sends = isThere && lane % 4 < C::kCluster;
#pragma unroll 1
      for (int first = 0; first < kPlaces; first += kTeams) {
        const int place = first + team, row = place / C::kOutWidth, left = place % C::kOutWidth * C::kStride - 1;
        uint32_t under[9];
#pragma unroll
        for (int tap = 0; tap < 9; ++tap) {
          const int y = row * C::kStride + tap / 3, x = left + tap % 3;
          const bool isInside = isThere && place < kPlaces && block.band.isInside(y) && static_cast<uint32_t>(x) < C::kWidth;
          under[tap] = isInside ? loadShared4(block.base + kMAt + (y * C::kWidth + x) * kMPitch + pair * 4) : 0;
        }
        float2 sum = __half22float2(pairOf(bias));
#pragma unroll
        for (int tap = 0; tap < 9; ++tap) {
          const float2 value = __half22float2(pairOf(under[tap])), weight = __half22float2(pairOf(taps[tap]));
          sum.x = fmaf(value.x, weight.x, sum.x), sum.y = fmaf(value.y, weight.y, sum.y);
        }
        sum = make_float2(C::middle(sum.x), C::middle(sum.y));
        const uint32_t own = exists ? kFp8 ? U::rounded(sum, inverse) : U::bits(__floats2half2_rn(sum.x, sum.y)) : 0;
        uint32_t words[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) words[i] = __shfl_sync(0xffffffffu, own, lane / 4 * 4 + i);
        if (!sends || place >= kPlaces) continue;
        const uint32_t at = kDAt + U::at(place, (block.mid.first + pair / 4) * 16, kDPitch);
#pragma unroll
        for (int i = 0; i < kPeers; ++i)
          storeRemote16(peers[i] + at, make_uint4(words[0], words[1], words[2], words[3]), peers[i] + kBarrierAt);
      }
    }
  };
#endif
};

/// By kBlocks blocks of kThreads threads with kSharedBytes of shared memory, in clusters of kCluster.
template <class C>
__device__ __forceinline__ void separableClusterConvolution(const SeparableArguments& p) {
#if __CUDA_ARCH__ >= 900
  SeparableCluster<C>::run(p);
#endif
}

}  // namespace ladder
