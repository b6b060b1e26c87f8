// Conversion of binary16 arrays: a portable loop, and the F16C instructions chosen at run time.
#include "half_arrays.h"

#include <cstring>

#include "floats.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ladder::reference {
namespace {

void decodePortably(const uint8_t* source, int64_t count, float* values) {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t code;
    std::memcpy(&code, source + 2 * i, 2);
    values[i] = halfToFloat(code);
  }
}

void encodePortably(const float* values, int64_t count, uint8_t* target) {
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t code = floatToHalf(values[i]);
    std::memcpy(target + 2 * i, &code, 2);
  }
}

#if defined(__x86_64__)
__attribute__((target("avx,f16c"))) void decodeF16c(const uint8_t* source, int64_t count, float* values) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm256_storeu_ps(values + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source + 2 * i))));
  }
  decodePortably(source + 2 * i, count - i, values + i);
}

__attribute__((target("avx,f16c"))) void encodeF16c(const float* values, int64_t count, uint8_t* target) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + 2 * i), _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT));
  }
  encodePortably(values + i, count - i, target + 2 * i);
}

bool hasF16c() {
  static const bool has = __builtin_cpu_supports("avx") && __builtin_cpu_supports("f16c");
  return has;
}
#endif

}  // namespace

void halvesToFloats(const void* source, int64_t count, float* values) {
#if defined(__x86_64__)
  if (hasF16c()) return decodeF16c(static_cast<const uint8_t*>(source), count, values);
#endif
  decodePortably(static_cast<const uint8_t*>(source), count, values);
}

void floatsToHalves(const float* values, int64_t count, void* target) {
#if defined(__x86_64__)
  if (hasF16c()) return encodeF16c(values, count, static_cast<uint8_t*>(target));
#endif
  encodePortably(values, count, static_cast<uint8_t*>(target));
}

}  // namespace ladder::reference
