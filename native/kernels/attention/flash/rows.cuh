// What a warp does with its 16 queries in attention by tiles, whatever multiplies: load and turn them, mask and weigh scores, store
// results. Registers lie as the operands and sums of mma.sync m16n8k16 and of wgmma's warps do: lane l has rows l/4 and l/4 + 8 and,
// of each 8 columns, 2·(l%4) and the next one.
//
//   queries  q[s][0, 1]: rows l/4, l/4 + 8, piece 2s;  q[s][2, 3]: piece 2s + 1        two channels each
//   scores   s[i][0, 1]: row l/4, columns 8i + 2·(l%4) + 0, 1;  s[i][2, 3]: row l/4 + 8
#pragma once
#include <math.h>
#include <math_constants.h>

#include "attention/flash/shape.cuh"
#include "core/ptx.cuh"

namespace ladder {

/// 2^x, of 2 ulp; 0 for −∞.
__device__ __forceinline__ float exp2Fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ uint32_t packHalf2(float low, float high) {
  const __half2 packed = __floats2half2_rn(low, high);
  return reinterpret_cast<const uint32_t&>(packed);
}

/// A warp's queries: 16 rows from `first` on, those outside of the sequence as its nearest.
template <class C>
struct FlashRows {
  using S = FlashShape<C>;
  static constexpr int kSteps = S::kDim / 16;
  int first, row[2];

  __device__ __forceinline__ FlashRows(const FlashTile& tile, int firstOfWarp, int lane) : first(firstOfWarp) {
#pragma unroll
    for (int h = 0; h < 2; ++h) row[h] = min(max(first + lane / 4 + 8 * h, tile.firstRow), tile.endRow - 1);
  }

  /// As they lie in qkv.
  __device__ __forceinline__ void load(uint32_t (&q)[kSteps][4], const void* qkv, int head, int lane) const {
    const int firstPiece = S::firstPiece(Part::kQuery, head);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const uint8_t* base = static_cast<const uint8_t*>(qkv) + S::offset(row[h], S::kAligned ? firstPiece : 0) + lane % 4 * 4;
#pragma unroll
      for (int p = 0; p < S::kPieces; ++p) {
        const int piece = S::kAligned ? p : firstPiece + p;
        q[p / 2][p % 2 * 2 + h] = __ldcg(reinterpret_cast<const uint32_t*>(base + piece / 8 * S::kPanelBytes + piece % 8 * 128));
      }
    }
  }

  /// cos and sin of the angles that pairs of channels c and c + d/2 turn by, from the table.
  using Angles = float4[2][S::kPieces / 2];
  __device__ __forceinline__ void loadAngles(Angles& angles, const void* table, int firstRow, int lane) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float4* own = static_cast<const float4*>(table) + static_cast<int64_t>(row[h] - firstRow) * (S::kDim / 4) + lane % 4;
#pragma unroll
      for (int p = 0; p < S::kPieces / 2; ++p) angles[h][p] = __ldcg(own + 4 * p);
    }
  }
  __device__ __forceinline__ static void turn(uint32_t (&q)[kSteps][4], const Angles& angles) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int p = 0; p < S::kPieces / 2; ++p) {
        const float4 angle = angles[h][p];
        uint32_t& low = q[p / 2][p % 2 * 2 + h];
        uint32_t& high = q[p / 2 + kSteps / 2][p % 2 * 2 + h];
        const float2 a = __half22float2(reinterpret_cast<const __half2&>(low)), b = __half22float2(reinterpret_cast<const __half2&>(high));
        low = packHalf2(a.x * angle.x - b.x * angle.y, a.y * angle.z - b.y * angle.w);
        high = packHalf2(b.x * angle.x + a.x * angle.y, b.y * angle.z + a.y * angle.w);
      }
    }
  }

  /// Whether some of these queries must not see some key of the block at row `firstKey`.
  template <int kKeys>
  __device__ __forceinline__ bool masks(const FlashTile& tile, int firstKey) const {
    if (S::kOddStarts && firstKey < tile.firstRow) return true;
    if (C::kCausal && firstKey + kKeys > first + 1) return true;
    return (S::kOddStarts || C::kSeq % kKeys != 0) && firstKey + kKeys > tile.endRow;
  }

  /// −∞ for keys outside of the sequence, and for those after the query if causal.
  template <int kTiles>
  __device__ __forceinline__ void mask(float (&s)[kTiles][4], const FlashTile& tile, int firstKey, int lane) const {
    const int own = firstKey + lane % 4 * 2;
    const int begin = tile.firstRow - own;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int end = (C::kCausal ? row[h] + 1 : tile.endRow) - own;
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int key = 8 * i + e;
          if (key >= end || (S::kOddStarts && key < begin)) s[i][2 * h + e] = -INFINITY;
        }
      }
    }
  }

  /// o · inverse as FP16; rows of the sequence only, and zeros for rows past m that panels have.
  __device__ __forceinline__ void store(void* y, const float (&o)[S::kDim / 8][4], const float (&inverse)[2], const FlashTile& tile,
                                        int lane) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int own = first + lane / 4 + 8 * h;
      const bool inside = own >= tile.firstRow && own < tile.endRow;
      const bool padding = C::kPanelResult && S::kPaddedRows != S::kRows && own >= S::kRows && own < S::kPaddedRows;
      if (!inside && !padding) continue;
      const int firstPiece = tile.head * S::kPieces;
#pragma unroll
      for (int p = 0; p < S::kPieces; ++p) {
        const int64_t offset =
            C::kPanelResult ? S::offset(own, firstPiece + p) : (static_cast<int64_t>(own) * (C::kHeads * S::kPieces) + firstPiece + p) * 16;
        const uint32_t value = packHalf2(o[p][2 * h] * inverse[h], o[p][2 * h + 1] * inverse[h]);
        *reinterpret_cast<uint32_t*>(static_cast<uint8_t*>(y) + offset + lane % 4 * 4) = inside ? value : 0;
      }
    }
  }
};

/// Running softmax of a warp's queries over blocks of keys, base 2: weights are 2^(score − largest), `largest` that of the keys so far.
/// With ALiBi scores are taken in units of the slope, in which a key is worth 1 more than the one before it, and the query's last
/// possible key 0 (a query's constant falls out, and what counts is small).
template <class C>
struct FlashSoftmax {
  static constexpr bool kAlibi = C::kPosition == Position::kAlibi;
  float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  float scale;      // of q·k: log2(e) / √d, with ALiBi in units of the slope
  float slope = 0;  // times log2(e)

  __device__ __forceinline__ explicit FlashSoftmax(int head) : scale(CUDART_L2E_F * rsqrtf(static_cast<float>(C::kHeadDim))) {
    if constexpr (kAlibi) {
      slope = CUDART_L2E_F * alibiSlope<C::kHeads>(head);
      scale /= slope;
    }
  }

  /// Scores become weights. `factor`: what sums of earlier blocks are multiplied by. `firstKey`: of the block, counted from the last key.
  template <int kTiles>
  __device__ __forceinline__ void weigh(float (&s)[kTiles][4], int firstKey, int lane, float (&factor)[2]) {
    // Both rows together, in two chains each: a warp is alone on its scheduler while it is here.
    const float base = kAlibi ? slope * static_cast<float>(firstKey + lane % 4 * 2) : 0.0f;
    const float times = kAlibi ? slope : scale;
    float most[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, total[4] = {}, offset[2];
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        if constexpr (kAlibi) s[i][e] = fmaf(s[i][e], scale, static_cast<float>(8 * i + e % 2));
        most[e] = fmaxf(most[e], s[i][e]);
      }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float row = fmaxf(most[2 * h], most[2 * h + 1]);
      if constexpr (kAlibi) row = fmaf(row, slope, base);
      row = fmaxf(row, __shfl_xor_sync(0xffffffffu, row, 1));
      row = fmaxf(row, __shfl_xor_sync(0xffffffffu, row, 2));
      const float before = largest[h];
      largest[h] = fmaxf(before, row);
      offset[h] = kAlibi ? base - largest[h] : -largest[h] * scale;
      factor[h] = exp2Fast(kAlibi ? before - largest[h] : (before - largest[h]) * scale);
    }
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        s[i][e] = exp2Fast(fmaf(s[i][e], times, offset[e / 2]));
        total[e] += s[i][e];
      }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) sum[h] = fmaf(sum[h], factor[h], total[2 * h] + total[2 * h + 1]);
  }

  /// 1 / sum of all weights, when there are no more keys.
  __device__ __forceinline__ void finish(float (&inverse)[2]) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float total = sum[h];
      total += __shfl_xor_sync(0xffffffffu, total, 1);
      total += __shfl_xor_sync(0xffffffffu, total, 2);
      inverse[h] = 1.0f / total;
    }
  }
};

/// Weights of 16 keys as operand A of the product with the values.
__device__ __forceinline__ void packWeights(uint32_t (&p)[4], const float (&low)[4], const float (&high)[4]) {
  p[0] = packHalf2(low[0], low[1]);
  p[1] = packHalf2(low[2], low[3]);
  p[2] = packHalf2(high[0], high[1]);
  p[3] = packHalf2(high[2], high[3]);
}

template <int kTiles>
__device__ __forceinline__ void rescale(float (&o)[kTiles][4], const float (&factor)[2]) {
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    o[i][0] *= factor[0], o[i][1] *= factor[0];
    o[i][2] *= factor[1], o[i][3] *= factor[1];
  }
}

}  // namespace ladder
