// Positions in attention: rotary embedding in its rotate-half form (Su et al. 2021), and ALiBi slopes (Press et al. 2022).
// Angles are kept in turns, as an unevaluated sum of two floats: the fraction of a turn is then exact to FP32 at any position,
// where position · frequency in radians would have lost its low bits to the whole turns.
#pragma once
#include <stdint.h>

namespace ladder {

/// Turns per position of one pair of dimensions: high + low.
struct Frequency { float high, low; };

/// base^(−2i/headDim) / 2π for pair i; log2Base is log2(base). FP64, once per thread, before the kernel waits for its input.
__device__ __forceinline__ Frequency rotaryFrequency(int pair, int headDim, double log2Base) {
  constexpr double kTurnsPerRadian = 0.15915494309189533577;
  const double turns = exp2(-2.0 * pair / headDim * log2Base) * kTurnsPerRadian;
  const float high = static_cast<float>(turns);
  return {high, static_cast<float>(turns - high)};
}

/// Rotates (low, high) = (x[i], x[i + headDim/2]) by `position` times the frequency.
__device__ __forceinline__ void rotate(float& low, float& high, int position, Frequency frequency) {
  const float p = static_cast<float>(position);
  const float turns = p * frequency.high;
  const float rest = fmaf(p, frequency.high, -turns) + p * frequency.low;
  float sine, cosine;
  sincospif(2.0f * (turns - rintf(turns) + rest), &sine, &cosine);
  const float rotated = low * cosine - high * sine;
  high = high * cosine + low * sine;
  low = rotated;
}

/// The largest power of two not above `value`.
__host__ __device__ constexpr int powerOfTwoBelow(int value) { return value < 2 ? 1 : 2 * powerOfTwoBelow(value / 2); }

/// Slope of a head. Heads beyond the largest power of two p take every other slope of 2p heads.
template <int kHeads>
__device__ __forceinline__ float alibiSlope(int head) {
  constexpr int kPower = powerOfTwoBelow(kHeads);
  return head < kPower ? exp2f(-8.0f / kPower * (head + 1)) : exp2f(-4.0f / kPower * (2 * (head - kPower) + 1));
}

}  // namespace ladder
