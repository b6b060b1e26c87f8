// What follows the sums of a tile of tile.cuh: scales, bias, what the program does then (C::apply), a residual, the result in rows as
// formats/results.cuh stores it.
// A warp's sums go through shared memory, 16 rows at a time, so that every lane has 8 outputs of a row: what it reads and writes are
// 16 bytes, and functions see numbers in FP32. Where a cluster shares out k, each block lays down all its sums, and finishes its part of
// the rows from those of all blocks, in the blocks' order: the same sum every time.
#pragma once
#include "matmul/tile/tile_block.cuh"

namespace ladder {

// ---- PTX ----------------------------------------------------------------------------------------------------------------

#if __CUDA_ARCH__ >= 900
/// All threads of the cluster; what they wrote to shared memory before they arrived is seen after the wait.
__device__ __forceinline__ void clusterArrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ __forceinline__ void clusterWait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

__device__ __forceinline__ uint4 loadRemote16(uint32_t remote) {
  uint4 v;
  asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(remote) : "memory");
  return v;
}
#endif

// ---- Functions ------------------------------------------------------------------------------------------------------------

/// What the hardware has of 1 / x and 2ˣ, to 2⁻²²; subnormal numbers are zero, which spares the scaling around them.
__device__ __forceinline__ float reciprocalNear(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float exp2Near(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

constexpr float kLog2OfE = 1.44269504f;
__device__ __forceinline__ float expNear(float x) { return exp2Near(x * kLog2OfE); }
__device__ __forceinline__ float divideNear(float x, float y) { return x * reciprocalNear(y); }

/// The error function to 2⁻²²: Abramowitz and Stegun, 7.1.26.
__device__ __forceinline__ float erfNear(float x) {
  const float a = fabsf(x), t = reciprocalNear(1.0f + 0.3275911f * a);
  const float series = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
  return copysignf(1.0f - series * exp2Near(a * (a * -kLog2OfE)), x);
}

// ---- Rows of outputs ----------------------------------------------------------------------------------------------------

/// A tile's rows as rows of results.
template <class C>
struct AllRows {
  static constexpr bool kAreRows = true;
  __device__ __forceinline__ static int of(int row) { return row; }
};

/// @tparam Rows which rows a tile's are; others' sums, of row −1, are dropped
template <class C, class Rows = AllRows<C>>
struct TileStore {
  using L = TileBlock<C>;
  using Sum = typename L::Sum;
  using Sums = Sum[L::kRowBlocks][L::kOutBlocks][4];
  /// Weight rows of an output.
  static constexpr int kParts = C::kPairs ? 2 : 1;

  const TileArguments& p;
  /// Scales and biases of the tile's weight rows, in shared memory; the first of these rows.
  const uint32_t ofTile;
  const int firstWeightRow;
  /// Of the codes' scale.
  const float inverse = Results<C>::inverse(p.result);
  /// What sums are to be multiplied by, the same for all rows.
  const float oneScale = L::kSumScale * (C::kOneScale && !L::kFolded ? *static_cast<const float*>(p.xScale) : 1.0f);
  const float secondScale = L::kPacked || L::kRescaled ? L::kSumScale * *static_cast<const float*>(p.xScale2) : 0.0f;

  /// Of 8 outputs: what is the same for all rows.
  struct Terms { uint4 scale[kParts], bias[kParts], secondScale, secondBias; };
  /// And of one row.
  struct RowTerms8 {
    uint4 residual;
    float xScale, secondScale;
  };

  /// @param weightRow the first of 8, with kPairs of 16
  __device__ __forceinline__ Terms terms(int weightRow) const {
    Terms terms = {};
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const uint32_t at = ofTile + (weightRow - firstWeightRow + i * 8) * 2;
      if constexpr (C::kScaled && !L::kFolded) terms.scale[i] = loadShared16(at);
      if constexpr (L::kPacked || L::kRescaled) terms.secondScale = loadShared16(at + L::kVectorBytes);
      if constexpr (C::kBias) terms.bias[i] = loadShared16(at + L::kBiasesAt);
      if constexpr (C::Second::kBias) terms.secondBias = loadShared16(at + L::kBiasesAt + C::kBias * L::kVectorBytes);
    }
    return terms;
  }

  __device__ __forceinline__ RowTerms8 rowTerms(int row, int channel) const {
    return {residual(row, channel), oneScale * rowScale(row), secondScale};
  }

  __device__ __forceinline__ float rowScale(int row) const {
    if constexpr (C::kRowScales) return static_cast<const float*>(p.xScale)[min(row, L::kM - 1)];
    return 1.0f;
  }

  __device__ __forceinline__ uint4 residual(int row, int channel) const {
    if constexpr (C::kResidual) {
      if (L::kM % C::kTileRows == 0 || row < L::kM) return load8(p.residual, residualOf(row), channel, L::kOutputs);
    }
    return {};
  }

  /// Rows of an image. With kTokens it has one more result before them, the token, and the residual is the same of all images.
  static constexpr int kImageRows = C::kOutHeight * C::kOutWidth;
  static_assert(!C::kTokens || (C::kResidual && !L::kMx && C::kCodes == ActivationFormat::kFp16));
  __device__ __forceinline__ static int residualOf(int row) { return C::kTokens ? row % kImageRows + 1 : row; }
  __device__ __forceinline__ static int resultOf(int row) { return C::kTokens ? row + row / kImageRows + 1 : row; }

  /// 8 outputs of a row.
  __device__ __forceinline__ void finish(int row, int channel, const Sum (&sums)[kParts][8], const Terms& terms,
                                         const RowTerms8& ofRow) const {
    float results[8];
    apply(sums, terms, ofRow, results);
    if ((!Rows::kAreRows || L::kM % C::kTileRows != 0) && static_cast<uint32_t>(row) >= L::kM) return;
    Results<C>::template store<L::kOutputs>(p.result, resultOf(row), channel, results, inverse);
    if constexpr (C::kTokens) {
      if (row % kImageRows == 0) storeToken(resultOf(row) - 1, channel);
    }
  }

  /// 8 outputs of an image's token, which has the first position.
  __device__ __forceinline__ void storeToken(int row, int channel) const {
    float token[8], position[8];
    unpackHalves(load8(p.token, 0, channel, L::kOutputs), token);
    unpackHalves(load8(p.residual, 0, channel, L::kOutputs), position);
#pragma unroll
    for (int e = 0; e < 8; ++e) token[e] += position[e];
    Results<C>::template store<L::kOutputs>(p.result, row, channel, token, inverse);
  }

  __device__ __forceinline__ static void apply(const Sum (&sums)[kParts][8], const Terms& terms, const RowTerms8& ofRow,
                                               float (&results)[8]) {
    float values[kParts][8], residual[8];
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      float scale[8], bias[8], secondScale[8], secondBias[8];
      unpackHalves(terms.scale[i], scale), unpackHalves(terms.bias[i], bias);
      unpackHalves(terms.secondScale, secondScale), unpackHalves(terms.secondBias, secondBias);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        float value = static_cast<float>(sums[i][e]);
        if constexpr (L::kPacked) {
          const int second = lowerOf(sums[i][e]);
          value = static_cast<float>((sums[i][e] - second) >> L::kShift) * (scale[e] * ofRow.xScale) +
                  static_cast<float>(second) * (secondScale[e] * ofRow.secondScale);
        } else if constexpr (L::kRescaled) {
          value *= nonZero(secondScale[e] * ofRow.secondScale);
        } else if constexpr (!L::kFolded) {
          if constexpr (C::kRowScales || C::kOneScale || L::kSumScale != 1.0f) value *= ofRow.xScale;
          if constexpr (C::kScaled) value *= scale[e];
        }
        if constexpr (C::kBias) value += bias[e];
        if constexpr (C::Second::kBias) value += secondBias[e];
        values[i][e] = value;
      }
    }
    unpackHalves(ofRow.residual, residual);
#pragma unroll
    for (int e = 0; e < 8; ++e) results[e] = C::apply(values[0][e], values[kParts - 1][e], residual[e]);
  }

  // ---- Of two products ------------------------------------------------------------------------------------------------------

  using Parts = typename L::Part[L::kRowBlocks][L::kOutBlocks][4];

  /// What sums of the first and of the second product are to be multiplied by, but for scales of weight rows.
  __device__ __forceinline__ static float2 factors(const TileArguments& p) {
    float2 factors = {L::kSumScale, L::kSumScale};
    if constexpr (L::kFolded || L::kRescaled)
      factors.x *= *static_cast<const float*>(p.xScale), factors.y *= *static_cast<const float*>(p.xScale2);
    return factors;
  }

  /// The unit of a row of weights whose scale is zero is one: all of its codes are zero.
  __device__ __forceinline__ static float nonZero(float unit) { return unit == 0 ? 1.0f : unit; }

  /// The second product's part of a packed sum, which reaches less than half of what the first's is a multiple of.
  __device__ __forceinline__ static int lowerOf(int sum) {
    constexpr int kAbove = 32 - L::kShift - L::kUnitBits;
    return sum << kAbove >> kAbove;
  }

  /// The first product's sums, whole, become what the second's are added to. @param factors of both; @param warpN the warp's outputs of the tile
  __device__ __forceinline__ void turn(Parts& sums, float2 factors, int warpN, int lane) const {
#pragma unroll
    for (int j = 0; j < L::kOutBlocks; ++j) {
      float ratios[2] = {1.0f, 1.0f};
      if constexpr (L::kRescaled) {
        const float2 scale = scalesOf(0, j, warpN, lane), secondScale = scalesOf(1, j, warpN, lane);
        ratios[0] = __fdividef(scale.x * factors.x, nonZero(secondScale.x * factors.y));
        ratios[1] = __fdividef(scale.y * factors.x, nonZero(secondScale.y * factors.y));
      }
#pragma unroll
      for (int i = 0; i < L::kRowBlocks; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if constexpr (L::kPacked) sums[i][j][e] <<= L::kShift;
          else sums[i][j][e] *= ratios[e % 2];
        }
      }
    }
  }

  /// Of two weight rows of a product, as fragments of sums have them.
  __device__ __forceinline__ float2 scalesOf(int product, int j, int warpN, int lane) const {
    const uint32_t two = loadShared4(ofTile + product * L::kVectorBytes + (warpN * C::kWarpOutputs + j * 8 + lane % 4 * 2) * 2);
    return __half22float2(reinterpret_cast<const __half2&>(two));
  }

  /// sums += what a product's sums stand for. @param factors of both; @param warpN the warp's outputs of the tile
  __device__ __forceinline__ void fold(const Parts& parts, bool isSecond, float2 factors, int warpN, int lane, Sums& sums) const {
    const float factor = isSecond ? factors.y : factors.x;
#pragma unroll
    for (int j = 0; j < L::kOutBlocks; ++j) {
      const float2 scale = scalesOf(isSecond, j, warpN, lane);
      const float ofColumns[2] = {scale.x * factor, scale.y * factor};
#pragma unroll
      for (int i = 0; i < L::kRowBlocks; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[i][j][e] += static_cast<float>(parts[i][j][e]) * ofColumns[e % 2];
      }
    }
  }

  // ---- Of a warp ----------------------------------------------------------------------------------------------------------

  /// Vectors of 8 outputs in a row that the warp turns; each lane has one column of them.
  static constexpr int kRowVectors = L::kRowVectors, kTurnRows = L::kTurnRows, kLaneVectors = kTurnRows * kRowVectors / 32;
  static constexpr int kLaneStep = 32 / kRowVectors, kTurnBlocks = L::kTurnOutputs / 8;
  static_assert(32 % kRowVectors == 0);

  /// A warp's turns, groups of outputs after each other. So many turns' residuals are on their way at once, the first of them since before the
  /// tile's products, as registers have room for: they come from memory one after the other otherwise.
  static constexpr int kRowTurns = C::kWarpRows / kTurnRows, kTurns = kRowTurns * (L::kOutBlocks / kTurnBlocks);
  static constexpr int kMostAhead = !C::kResidual         ? 1
                                    : !C::kWgmma          ? 2
                                    : L::kOutBlocks == 16 ? 3
                                                          : 4,
                       kAhead = kMostAhead < kTurns ? kMostAhead : kTurns;
  /// By wgmma a warp has few rows, whose scales stay.
  static constexpr int kRowsAhead = C::kWgmma ? kRowTurns : kAhead, kRowsOfLane = kLaneVectors > 0 ? kLaneVectors : 1;
  struct Ahead {
    uint4 residuals[kAhead][kRowsOfLane];
    float rowScales[kRowsAhead][kRowsOfLane];
  };

  /// What is on its way first. @param row, weightRow of the warp's first sum
  __device__ __forceinline__ void begin(int row, int weightRow, int lane, Ahead& ahead) const {
#pragma unroll
    for (int turn = 0; turn < kAhead; ++turn) loadResiduals(turn, row, weightRow, lane, ahead);
#pragma unroll
    for (int turn = 0; turn < kRowsAhead; ++turn) loadRowScales(turn, row, lane, ahead);
  }

  __device__ __forceinline__ static int rowOf(int turn, int vector, int row, int lane) {
    return row + turn % kRowTurns * kTurnRows + lane / kRowVectors + vector * kLaneStep;
  }
  __device__ __forceinline__ void loadResiduals(int turn, int row, int weightRow, int lane, Ahead& ahead) const {
#pragma unroll
    for (int v = 0; v < kLaneVectors; ++v)
      ahead.residuals[turn % kAhead][v] = residual(rowOf(turn, v, row, lane), channelOf(turn / kRowTurns, weightRow, lane));
  }
  __device__ __forceinline__ void loadRowScales(int turn, int row, int lane, Ahead& ahead) const {
#pragma unroll
    for (int v = 0; v < kLaneVectors; ++v) ahead.rowScales[turn % kRowsAhead][v] = rowScale(rowOf(turn, v, row, lane));
  }

  __device__ __forceinline__ static int channelOf(int group, int weightRow, int lane) {
    return (weightRow + group * L::kTurnOutputs) / kParts + lane % kRowVectors * 8;
  }

  /// @param place the warp's own, in shared memory; @param row, weightRow of the warp's first sum
  __device__ __forceinline__ void run(const Sums& sums, uint32_t place, int row, int weightRow, int lane) const {
    Ahead ahead;
    begin(row, weightRow, lane, ahead);
    run(sums, place, row, weightRow, lane, ahead);
  }
  __device__ __forceinline__ void run(const Sums& sums, uint32_t place, int row, int weightRow, int lane, Ahead& ahead) const {
    static_assert(kLaneVectors > 0);
    const int column = lane % kRowVectors;
#pragma unroll
    for (int group = 0; group < kTurns / kRowTurns; ++group) {
      // Packed sums leave no registers for them meanwhile.
      const int ofGroup = weightRow + group * L::kTurnOutputs + column * kParts * 8;
      const Terms held = L::kPacked ? Terms{} : terms(ofGroup);
#pragma unroll
      for (int i = 0; i < kRowTurns; ++i) {
        const int turn = group * kRowTurns + i;
#pragma unroll
        for (int half = 0; half < kTurnRows / 8; ++half) {
          const int ofWarp = i * (kTurnRows / 8) + half;
          lay<kTurnBlocks>(sums[ofWarp / 2], group * kTurnBlocks, ofWarp % 2, place + half * 8 * L::kTurnPitch, L::kTurnPitch, lane);
        }
        __syncwarp();
#pragma unroll
        for (int v = 0; v < kLaneVectors; ++v) {
          const uint32_t from = place + (lane / kRowVectors + v * kLaneStep) * L::kTurnPitch + column * kParts * 32;
          Sum eight[kParts][8];
#pragma unroll
          for (int part = 0; part < kParts; ++part) read8<true>(from + part * 32, eight[part]);
          const RowTerms8 ofRow = {ahead.residuals[turn % kAhead][v], oneScale * ahead.rowScales[turn % kRowsAhead][v], secondScale};
          finish(Rows::of(rowOf(turn, v, row, lane)), channelOf(group, weightRow, lane), eight, L::kPacked ? terms(ofGroup) : held, ofRow);
        }
        if (turn + kAhead < kTurns) loadResiduals(turn + kAhead, row, weightRow, lane, ahead);
        if (!C::kWgmma && turn + kRowsAhead < kTurns) loadRowScales(turn + kRowsAhead, row, lane, ahead);
        __syncwarp();
      }
    }
  }

  // ---- Of a block -----------------------------------------------------------------------------------------------------------

  /// The tile's residual comes to L2 while its products are summed.
  __device__ __forceinline__ void prefetchResidual(int row, int weightRow) const {
    if constexpr (C::kResidual && !C::kTokens) {
      constexpr int kLine = 64, kRowLines = (C::kTileOutputs / kParts + kLine - 1) / kLine;
      for (int i = threadIdx.x; i < C::kTileRows * kRowLines; i += L::kBlockThreads) {
        const int ofAll = row + i / kRowLines, channel = weightRow / kParts + i % kRowLines * kLine;
        if (ofAll < L::kM && channel < L::kOutputs) prefetchL2(p.residual + static_cast<size_t>(ofAll) * L::kOutputs + channel);
      }
    }
  }

  /// Before a tile's products; mma.sync's leave no registers for it.
  __device__ __forceinline__ void beginTile(int tile, int warpM, int warpN, int lane, Ahead& ahead) const {
    prefetchResidual(L::rowOf(tile), L::outputOf(tile));
    if constexpr (C::kSplit == 1 && C::kWgmma)
      begin(L::rowOf(tile) + warpM * C::kWarpRows, L::outputOf(tile) + warpN * C::kWarpOutputs, lane, ahead);
  }

  /// @param rank the block's in its cluster; @param warpM, warpN the warp's part of the tile
  __device__ __forceinline__ void finishTile(const Sums& sums, uint32_t base, int tile, int rank, int warpM, int warpN, int lane,
                                             Ahead& ahead) const {
    if constexpr (C::kSplit == 1) {
      const int row = L::rowOf(tile) + warpM * C::kWarpRows, weightRow = L::outputOf(tile) + warpN * C::kWarpOutputs;
      if constexpr (!C::kWgmma) begin(row, weightRow, lane, ahead);
      run(sums, base + L::kTurnAt + (warpM * L::kWarpsN + warpN) * L::kTurnBytes, row, weightRow, lane, ahead);
    } else {
#if __CUDA_ARCH__ >= 900
      // The ring is empty, and nobody reads it any more.
      waitForCopies<0>();
      __syncthreads();
#pragma unroll
      for (int i = 0; i < 2 * L::kRowBlocks; ++i)
        lay<L::kOutBlocks>(sums[i / 2], 0, i % 2, base + (warpM * C::kWarpRows + i * 8) * L::kSumPitch + warpN * C::kWarpOutputs * 4,
                           L::kSumPitch, lane);
      runSplit(base, L::rowOf(tile), L::outputOf(tile), rank);
#endif
    }
  }

  // ---- Of warps that share out k ------------------------------------------------------------------------------------------

  /// Each warp of a part lays down its sums, from `base` on; then all threads finish the tile from those of kPartsOfK parts, in order.
  /// @param row, weightRow the tile's first
  template <int kPartsOfK, int kThreads>
  __device__ __forceinline__ void runParts(const Sums& sums, uint32_t base, int part, int warpN, int row, int weightRow, int lane) const {
    constexpr int kTileVectors = C::kTileOutputs / 8 / kParts, kVectors = C::kTileRows * kTileVectors;
#pragma unroll
    for (int i = 0; i < 2 * L::kRowBlocks; ++i)
      lay<L::kOutBlocks>(sums[i / 2], 0, i % 2, base + part * L::kSumBytes + i * 8 * L::kSumPitch + warpN * C::kWarpOutputs * 4,
                         L::kSumPitch, lane);
    RowTerms8 ofRow = rowTermsOf(min(static_cast<int>(threadIdx.x), kVectors - 1), row, weightRow);
    __syncthreads();
    for (int i = threadIdx.x; i < kVectors; i += kThreads) {
      const int ofTile = i / kTileVectors, column = i % kTileVectors;
      if (i >= kThreads) ofRow = rowTermsOf(i, row, weightRow);
      Sum total[kParts][8] = {};
#pragma unroll
      for (int from = 0; from < kPartsOfK; ++from) {
#pragma unroll
        for (int half = 0; half < kParts; ++half) {
          Sum eight[8];
          read8(base + from * L::kSumBytes + ofTile * L::kSumPitch + (column * kParts + half) * 32, eight);
#pragma unroll
          for (int e = 0; e < 8; ++e) total[half][e] += eight[e];
        }
      }
      finish(row + ofTile, weightRow / kParts + column * 8, total, terms(weightRow + column * kParts * 8), ofRow);
    }
  }

  /// Half of 16 rows of sums, as the fragments have them, to 8 rows of `pitch` bytes.
  template <int kBlocks>
  __device__ __forceinline__ static void lay(const Sum (&sums)[L::kOutBlocks][4], int first, int half, uint32_t to, int pitch, int lane) {
#pragma unroll
    for (int j = 0; j < kBlocks; ++j) {
      asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(to + lane / 4 * pitch + j * 32 + lane % 4 * 8),
                   "r"(bits(sums[first + j][half * 2])), "r"(bits(sums[first + j][half * 2 + 1]))
                   : "memory");
    }
  }

  // ---- Of a cluster -------------------------------------------------------------------------------------------------------

#if __CUDA_ARCH__ >= 900
  /// @param sums laid down by all blocks of the cluster, from `base` on; @param row, weightRow the tile's first
  __device__ __forceinline__ void runSplit(uint32_t base, int row, int weightRow, int rank) const {
    constexpr int kTileVectors = C::kTileOutputs / 8 / kParts;
    clusterArrive();
    const int first = C::kTileRows * rank / C::kSplit, rows = C::kTileRows * (rank + 1) / C::kSplit - first;
    const int vectors = rows * kTileVectors;
    RowTerms8 ofRow = rowTermsOf(min(static_cast<int>(threadIdx.x), vectors - 1), first + row, weightRow);
    clusterWait();
    for (int i = threadIdx.x; i < vectors; i += L::kBlockThreads) {
      const int ofRows = first + i / kTileVectors, column = i % kTileVectors, channel = weightRow / kParts + column * 8;
      if (i >= L::kBlockThreads) ofRow = rowTermsOf(i, first + row, weightRow);
      Sum total[kParts][8] = {};
#pragma unroll
      for (int block = 0; block < C::kSplit; ++block) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          const uint32_t at = remoteAddress(base + ofRows * L::kSumPitch + (column * kParts + part) * 32, block);
          const uint4 low = loadRemote16(at), high = loadRemote16(at + 16);
          const uint32_t words[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
          for (int e = 0; e < 8; ++e) total[part][e] += value(words[e]);
        }
      }
      finish(row + ofRows, channel, total, terms(weightRow + column * kParts * 8), ofRow);
    }
    // No block ends before the others have read its sums.
    clusterArrive();
    clusterWait();
  }
#endif

  __device__ __forceinline__ static Sum value(uint32_t bits) {
    if constexpr (std::is_same_v<Sum, int32_t>) return static_cast<int32_t>(bits);
    else return __uint_as_float(bits);
  }

  /// Eight lanes read 16 bytes each at once: where neighbours' are 32 · kParts apart, every other group of those that share banks has its
  /// upper half first, which is worth its instructions where there are many of them.
  template <bool kSwaps = false>
  __device__ __forceinline__ static void read8(uint32_t from, Sum (&sums)[8]) {
    const bool swap = kSwaps && threadIdx.x / (4 / kParts) % 2;
    const uint4 first = loadShared16(from + swap * 16), second = loadShared16(from + 16 - swap * 16);
    const uint4 low = swap ? second : first, high = swap ? first : second;
    const uint32_t words[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int e = 0; e < 8; ++e) sums[e] = value(words[e]);
  }

 private:
  /// Of a vector of the tile's.
  __device__ __forceinline__ RowTerms8 rowTermsOf(int vector, int row, int weightRow) const {
    constexpr int kTileVectors = C::kTileOutputs / 8 / kParts;
    return rowTerms(row + vector / kTileVectors, weightRow / kParts + vector % kTileVectors * 8);
  }

  __device__ __forceinline__ static uint32_t bits(Sum sum) {
    if constexpr (std::is_same_v<Sum, int32_t>) return static_cast<uint32_t>(sum);
    else return __float_as_uint(sum);
  }
  /// Eight numbers of a row of `columns`, zeros past its end.
  __device__ __forceinline__ static uint4 load8(const __half* from, int row, int column, int columns) {
    uint4 eight = {};
    from += static_cast<size_t>(row) * L::kOutputs + column;
    if constexpr (L::kOutputs % 8 == 0) {
      if (column < columns) eight = *reinterpret_cast<const uint4*>(from);
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e)
        if (column + e < columns) reinterpret_cast<__half*>(&eight)[e] = from[e];
    }
    return eight;
  }
};

}  // namespace ladder
