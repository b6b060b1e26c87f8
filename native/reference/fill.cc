// The counter-based generator of fake tensors on the host, several threads, any element first (lib/native.ts, Fill). The CUDA
// side has a kernel of its own that must give the same bytes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "../runtime/error.h"
#include "floats.h"
#include "half_arrays.h"
#include "parallel.h"
#include "reference.h"

namespace ladder::reference {
namespace {

constexpr int64_t kGrainElements = 1 << 18;

enum FillKind { kBits = 0, kUniform = 1, kCode = 2 };

/// u(i): SplitMix64's finaliser over a Weyl sequence, upper half.
inline uint32_t draw(uint64_t key, uint64_t index) {
  uint64_t z = key + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return static_cast<uint32_t>((z ^ (z >> 31)) >> 32);
}

/// Bytes first…first+count-1 of the tensor, each through `map`.
template <typename Map>
void fillBytes(uint64_t key, uint64_t first, uint8_t* target, int64_t count, Map map) {
  int64_t i = 0;
  while (i < count) {
    const uint64_t byte = first + static_cast<uint64_t>(i);
    uint32_t word = draw(key, byte / 4) >> (8 * (byte % 4));
    const int64_t end = std::min<int64_t>(count, i + 4 - static_cast<int64_t>(byte % 4));
    for (; i < end; ++i, word >>= 8) target[i] = map(static_cast<uint8_t>(word));
  }
}

/// Draws `count` uniform values in [low, high].
[[gnu::always_inline]] inline void drawUniform(uint64_t key, uint64_t first, float low, float high, float* values, int64_t count) {
  const float range = high - low;
  for (int64_t i = 0; i < count; ++i) {
    const float fraction = static_cast<float>(draw(key, first + static_cast<uint64_t>(i)) >> 8) * 0x1p-24f;
    values[i] = __builtin_fmaf(fraction, range, low);
  }
}

void drawUniformPortably(uint64_t key, uint64_t first, float low, float high, float* values, int64_t count) {
  drawUniform(key, first, low, high, values, count);
}

#if defined(__x86_64__)
/// The same with the fused multiply-add as an instruction; without it every element is a library call.
__attribute__((target("fma"))) void drawUniformFma(uint64_t key, uint64_t first, float low, float high, float* values, int64_t count) {
  drawUniform(key, first, low, high, values, count);
}
#endif

using DrawUniform = void (*)(uint64_t, uint64_t, float, float, float*, int64_t);

DrawUniform bestDrawUniform() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("fma")) return drawUniformFma;
#endif
  return drawUniformPortably;
}

/// floor(value) as an integer of the type, which wraps like a two's complement cast where it does not fit.
template <typename Integer>
Integer floorTo(float value) {
  const float floored = std::floor(value);
  if (!(std::fabs(floored) < 9.2e18f)) return 0;
  return static_cast<Integer>(static_cast<int64_t>(floored));
}

/// Converts `count` values into elements at `target`, which need not be aligned.
using Convert = void (*)(const float* values, int64_t count, void* target);

template <typename Element, Element (*ConvertOne)(float)>
void convertEach(const float* values, int64_t count, void* target) {
  for (int64_t i = 0; i < count; ++i) {
    const Element element = ConvertOne(values[i]);
    std::memcpy(static_cast<uint8_t*>(target) + i * static_cast<int64_t>(sizeof element), &element, sizeof element);
  }
}

void copyFloats(const float* values, int64_t count, void* target) {
  std::memcpy(target, values, static_cast<size_t>(count) * sizeof(float));
}

using RangeFill = void (*)(const FillSpec&, uint64_t, uint64_t, void*, int64_t, int64_t);

/// Elements begin…end-1 of `target`, whose element 0 is the tensor's element `first`.
template <typename Element, Convert ConvertAll>
void uniformRange(const FillSpec& spec, uint64_t key, uint64_t first, void* target, int64_t begin, int64_t end) {
  static const DrawUniform drawValues = bestDrawUniform();
  constexpr int64_t kChunk = 1024;
  float values[kChunk];
  for (int64_t i = begin; i < end; i += kChunk) {
    const int64_t count = std::min(kChunk, end - i);
    drawValues(key, first + static_cast<uint64_t>(i), spec.low, spec.high, values, count);
    ConvertAll(values, count, static_cast<uint8_t*>(target) + i * static_cast<int64_t>(sizeof(Element)));
  }
}

RangeFill uniformOf(uint8_t typeCode, uint8_t bits) {
  switch (typeCode << 8 | bits) {
    case 0 << 8 | 8: return uniformRange<int8_t, convertEach<int8_t, floorTo<int8_t>>>;
    case 0 << 8 | 16: return uniformRange<int16_t, convertEach<int16_t, floorTo<int16_t>>>;
    case 0 << 8 | 32: return uniformRange<int32_t, convertEach<int32_t, floorTo<int32_t>>>;
    case 0 << 8 | 64: return uniformRange<int64_t, convertEach<int64_t, floorTo<int64_t>>>;
    case 1 << 8 | 8: return uniformRange<uint8_t, convertEach<uint8_t, floorTo<uint8_t>>>;
    case 1 << 8 | 16: return uniformRange<uint16_t, convertEach<uint16_t, floorTo<uint16_t>>>;
    case 1 << 8 | 32: return uniformRange<uint32_t, convertEach<uint32_t, floorTo<uint32_t>>>;
    case 1 << 8 | 64: return uniformRange<uint64_t, convertEach<uint64_t, floorTo<uint64_t>>>;
    case 2 << 8 | 16: return uniformRange<uint16_t, floatsToHalves>;
    case 2 << 8 | 32: return uniformRange<float, copyFloats>;
    case 4 << 8 | 16: return uniformRange<uint16_t, convertEach<uint16_t, floatToBfloat>>;
    default: return nullptr;
  }
}

}  // namespace

void fill(const FillSpec& spec, uint64_t key, uint8_t typeCode, uint8_t bits, uint64_t firstElement, void* target, size_t bytes) {
  const auto elementBytes = static_cast<uint64_t>((bits + 7) / 8);
  if (elementBytes == 0) throw Error("BAD_ARGUMENT", "expected a type of at least 1 bit for `bits` but received 0");
  auto* bytesOut = static_cast<uint8_t*>(target);
  if (spec.kind == kBits || spec.kind == kCode) {
    const uint64_t firstByte = firstElement * elementBytes;
    const uint8_t sign = spec.isSigned ? 0x80 : 0;
    parallelFor(static_cast<int64_t>(bytes), kGrainElements, nullptr, [&](int64_t begin, int64_t end) {
      if (spec.kind == kBits) {
        fillBytes(key, firstByte + static_cast<uint64_t>(begin), bytesOut + begin, end - begin, [](uint8_t r) { return r; });
      } else {
        fillBytes(key, firstByte + static_cast<uint64_t>(begin), bytesOut + begin, end - begin,
                  [&](uint8_t r) { return static_cast<uint8_t>(spec.base + (r & spec.mask) + (r & sign)); });
      }
    });
    return;
  }
  if (spec.kind != kUniform) throw Error("BAD_ARGUMENT", "expected 0, 1 or 2 for `kind` but received " + std::to_string(spec.kind));
  const RangeFill range = uniformOf(typeCode, bits);
  if (!range) {
    throw Error("UNSUPPORTED", "a uniform fill is defined for integers of 8 to 64 bits, float16, bfloat16 and float32, not for type code " +
                                   std::to_string(typeCode) + " with " + std::to_string(bits) + " bits");
  }
  if (bytes % elementBytes != 0)
    throw Error("WRONG_LENGTH", "expected a whole number of elements but received " + std::to_string(bytes) + " bytes");
  parallelFor(static_cast<int64_t>(bytes / elementBytes), kGrainElements, nullptr,
              [&](int64_t begin, int64_t end) { range(spec, key, firstElement, target, begin, end); });
}

}  // namespace ladder::reference
