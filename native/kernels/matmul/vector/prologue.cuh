// Activations of one token, prepared by each block for itself: norm, per-token quantisation, and placement in shared memory
// in the form that the product reads (decode.cuh). Formulas and rounding: lib/operators/norm.ts and quantise.ts.
// Steps: fetch x (and, before the wait, the norm's parameters) → statistics → values → amax → codes.
// K ≤ 64 values per thread stay in registers between the steps; longer rows are read again from L2.
#pragma once
#include "formats/quantise.cuh"
#include "matmul/operator.cuh"

namespace ladder {

/// a / b rounded to nearest, given inv = 1 / b rounded to nearest (Markstein's correction).
__device__ __forceinline__ float divide(float a, float b, float inv) {
  const float q = a * inv;
  return fmaf(fmaf(-q, b, a), inv, q);
}

template <class C>
class Prologue {
  using T = FormatTraits<C::kWeight>;
  static constexpr int kThreads = C::kWarps * 32;
  static constexpr int kVectors = C::kK / 8;  // of 8 values: 16 bytes of FP16
  static constexpr int kPerThread = (kVectors + kThreads - 1) / kThreads;
  static constexpr bool kHold = kPerThread <= 8;
  static constexpr int kHeld = kHold ? kPerThread : 1;
  static constexpr bool kHasNorm = C::kNorm != Norm::kNone;
  static constexpr bool kHasBeta = C::kNorm == Norm::kLayer;
  /// The norm's parameters too, where registers allow.
  static constexpr bool kHoldGain = kHold && kHasNorm && !kHasBeta && kPerThread <= 4;

 public:
  /// Shared memory of the prepared activations: values, then E8M0 scales (MX).
  static constexpr int kValueBytes = C::kK * T::kActivationBytes;
  static constexpr int kBytes = kValueBytes + (T::kIsMx ? C::kK / 32 : 0);
  /// Floats of scratch for reductions.
  static constexpr int kScratch = 4 * C::kWarps;

  float xScale = 1.0f;
  /// Σ codes, for INT1.
  int32_t sum = 0;

  /// Fetches what does not depend on earlier kernels.
  __device__ __forceinline__ void begin(const DenseArguments& p, int thread) {
#pragma unroll
    for (int i = 0; kHasNorm && i < kPerThread; ++i) {
      const int v = thread + i * kThreads;
      if (v >= kVectors) continue;
      if constexpr (kHoldGain) {
        gain_[i] = reinterpret_cast<const uint4*>(p.gain)[v];
      } else if (v % 8 == 0) {
        prefetchL2(p.gain + v * 8);
        if constexpr (kHasBeta) prefetchL2(p.beta + v * 8);
      }
    }
  }

  /// After the wait: fills `values` (and MX scales behind them) together with the block's other consumer threads.
  __device__ __forceinline__ void run(const DenseArguments& p, uint8_t* values, float* scratch, int thread) {
    if constexpr (C::kQuantisedInput) {
      copyQuantised(p, values, scratch, thread);
    } else {
      if constexpr (kHold) {
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
          const int v = thread + i * kThreads;
          if (v < kVectors) x_[i] = __ldcg(static_cast<const uint4*>(p.x) + v);
        }
      }
      statistics(p, scratch, thread);
      if constexpr (T::kIsMx) storeMx(p, values, thread);
      else if constexpr (T::kActivationBytes == 1) storeQuantised(p, values, scratch + 2 * C::kWarps, thread);
      else storeHalf(p, values, thread);
    }
    namedBarrier(1, kThreads);
  }

 private:
  uint4 x_[kHeld], gain_[kHoldGain ? kPerThread : 1];
  float mean_ = 0.0f, inverse_ = 1.0f;

  /// Calls f(v, x[8]) for each vector of this thread.
  template <class F>
  __device__ __forceinline__ void forEach(const DenseArguments& p, int thread, F f) {
#pragma unroll(kHold ? kPerThread : 7)
    for (int i = 0; i < kPerThread; ++i) {
      const int v = thread + i * kThreads;
      if (v >= kVectors) continue;
      float x[8];
      unpackHalves(kHold ? x_[kHold ? i : 0] : __ldcg(static_cast<const uint4*>(p.x) + v), x);
      f(i, v, x);
    }
  }

  /// The same with normalised values.
  template <class F>
  __device__ __forceinline__ void forEachValue(const DenseArguments& p, int thread, F f) {
    forEach(p, thread, [&](int i, int v, float (&x)[8]) {
      if constexpr (kHasNorm) {
        float gain[8], beta[8] = {};
        unpackHalves(kHoldGain ? gain_[kHoldGain ? i : 0] : reinterpret_cast<const uint4*>(p.gain)[v], gain);
        if constexpr (kHasBeta) unpackHalves(reinterpret_cast<const uint4*>(p.beta)[v], beta);
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          x[e] = (x[e] - mean_) * inverse_ * gain[e];
          if constexpr (kHasBeta) x[e] += beta[e];
        }
      }
      f(v, x);
    });
  }

  /// Reduces over the consumer threads; every call needs its own scratch[kWarps].
  template <class V, class F>
  __device__ __forceinline__ static V reduce(V value, V* scratch, int thread, F f) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) value = f(value, __shfl_xor_sync(0xffffffffu, value, mask));
    if (thread % 32 == 0) scratch[thread / 32] = value;
    namedBarrier(1, kThreads);
    value = scratch[0];
#pragma unroll
    for (int w = 1; w < C::kWarps; ++w) value = f(value, scratch[w]);
    return value;
  }

  __device__ __forceinline__ void statistics(const DenseArguments& p, float* scratch, int thread) {
    if constexpr (C::kNorm == Norm::kLayer) {
      float sum = 0.0f;
      forEach(p, thread, [&](int, int, float (&x)[8]) {
#pragma unroll
        for (int e = 0; e < 8; ++e) sum += x[e];
      });
      mean_ = reduce(sum, scratch, thread, Add{}) * (1.0f / C::kK);
    }
    if constexpr (kHasNorm) {
      float squares = 0.0f;
      forEach(p, thread, [&](int, int, float (&x)[8]) {
#pragma unroll
        for (int e = 0; e < 8; ++e) squares = fmaf(x[e] - mean_, x[e] - mean_, squares);
      });
      inverse_ = rsqrtf(reduce(squares, scratch + C::kWarps, thread, Add{}) * (1.0f / C::kK) + C::kEps);
    }
  }

  __device__ __forceinline__ void storeHalf(const DenseArguments& p, uint8_t* values, int thread) {
    forEachValue(p, thread, [&](int v, float (&h)[8]) { reinterpret_cast<uint4*>(values)[v] = packHalves(h); });
  }

  __device__ __forceinline__ void storeQuantised(const DenseArguments& p, uint8_t* values, float* scratch, int thread) {
    float amax = 0.0f;
    forEachValue(p, thread, [&](int, float (&h)[8]) { amax = fmaxf(amax, largestMagnitude(h)); });
    amax = reduce(amax, scratch, thread, Max{});
    xScale = tokenScale<T::kIsInt1 ? ActivationFormat::kInt8 : T::kIsE4m3 ? ActivationFormat::kFp8E4m3 : ActivationFormat::kFp8E5m2>(amax);
    const float inverse = __frcp_rn(xScale);
    forEachValue(p, thread, [&](int v, float (&h)[8]) {
      uint2 codes;
      if constexpr (T::kIsInt1) {
        uint32_t packed[2] = {};
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          const int q = __float2int_rn(divide(h[e], xScale, inverse));
          sum += q;
          packed[e / 4] |= (q & 0xff) << (e % 4 * 8);
        }
        codes = make_uint2(packed[0], packed[1]);
      } else {
#pragma unroll
        for (int e = 0; e < 8; ++e) h[e] = divide(h[e], xScale, inverse);
        codes = encodeFp8<T::kIsE4m3>(h);
      }
      reinterpret_cast<uint2*>(values)[v] = codes;
    });
    if constexpr (T::kIsInt1) sum = reduce(sum, reinterpret_cast<int32_t*>(scratch + C::kWarps), thread, Add{});
  }

  /// Four neighbouring lanes hold a block of 32.
  __device__ __forceinline__ void storeMx(const DenseArguments& p, uint8_t* values, int thread) {
    constexpr ActivationFormat kFormat = T::kIsE4m3 ? ActivationFormat::kMxfp8E4m3 : ActivationFormat::kMxfp8E5m2;
    forEachValue(p, thread, [&](int v, float (&h)[8]) {
      uint32_t code;
      reinterpret_cast<uint2*>(values)[v] = quantiseMx<kFormat>(h, code);
      if (v % 4 == 0) values[kValueBytes + v / 4] = static_cast<uint8_t>(code);
    });
  }

  __device__ __forceinline__ void copyQuantised(const DenseArguments& p, uint8_t* values, float* scratch, int thread) {
    static_assert(!C::kQuantisedInput || (!kHasNorm && T::kActivationBytes == 1));
    for (int v = thread; v < C::kK / 16; v += kThreads) {
      const uint4 codes = __ldcg(static_cast<const uint4*>(p.x) + v);
      reinterpret_cast<uint4*>(values)[v] = codes;
      if constexpr (T::kIsInt1)
        sum = __dp4a(0x01010101, static_cast<int>(codes.x),
                     __dp4a(0x01010101, static_cast<int>(codes.y),
                            __dp4a(0x01010101, static_cast<int>(codes.z), __dp4a(0x01010101, static_cast<int>(codes.w), sum))));
    }
    if constexpr (T::kIsMx) {
      for (int b = thread; b < C::kK / 32; b += kThreads) values[kValueBytes + b] = __ldcg(static_cast<const uint8_t*>(p.xScale) + b);
    } else {
      xScale = __ldcg(static_cast<const float*>(p.xScale));
    }
    if constexpr (T::kIsInt1) sum = reduce(sum, reinterpret_cast<int32_t*>(scratch), thread, Add{});
  }
};

}  // namespace ladder
