// Blocks of rows × tokens share loads; the lanes of a vector are summed last, in FP32, and tiles in FP64.
#include "dot.h"

#include <cstring>

namespace ladder::reference {
namespace {

typedef float Vector __attribute__((vector_size(32)));
constexpr int64_t kLanes = 8;

/// sums[row][token] += tile[row] · x[token] for Rows × Tokens pairs; `pitch` values per row of either, a multiple of 8.
template <int Rows, int Tokens>
[[gnu::always_inline]] inline void dotBlock(const float* tile, const float* x, int64_t pitch, double* sums, int64_t sumPitch) {
  Vector accumulators[Rows][Tokens] = {};
  for (int64_t i = 0; i < pitch; i += kLanes) {
    Vector w[Rows];
    for (int row = 0; row < Rows; ++row) std::memcpy(&w[row], tile + row * pitch + i, sizeof(Vector));
    for (int token = 0; token < Tokens; ++token) {
      Vector v;
      std::memcpy(&v, x + token * pitch + i, sizeof v);
      for (int row = 0; row < Rows; ++row) accumulators[row][token] += w[row] * v;
    }
  }
  for (int row = 0; row < Rows; ++row) {
    for (int token = 0; token < Tokens; ++token) {
      float sum = 0;
      for (int64_t lane = 0; lane < kLanes; ++lane) sum += accumulators[row][token][lane];
      sums[row * sumPitch + token] += sum;
    }
  }
}

/// All pairs of a tile's rows and a pass's tokens.
[[gnu::always_inline]] inline void dotTile(const float* tile, int64_t rows, const float* x, int64_t tokens, int64_t pitch, double* sums,
                                           int64_t sumPitch) {
  int64_t row = 0;
  for (; row + 2 <= rows; row += 2) {
    int64_t token = 0;
    for (; token + 4 <= tokens; token += 4)
      dotBlock<2, 4>(tile + row * pitch, x + token * pitch, pitch, sums + row * sumPitch + token, sumPitch);
    for (; token < tokens; ++token) dotBlock<2, 1>(tile + row * pitch, x + token * pitch, pitch, sums + row * sumPitch + token, sumPitch);
  }
  for (; row < rows; ++row) {
    for (int64_t token = 0; token < tokens; ++token)
      dotBlock<1, 1>(tile + row * pitch, x + token * pitch, pitch, sums + row * sumPitch + token, sumPitch);
  }
}

void dotTilePortably(const float* tile, int64_t rows, const float* x, int64_t tokens, int64_t pitch, double* sums, int64_t sumPitch) {
  dotTile(tile, rows, x, tokens, pitch, sums, sumPitch);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void dotTileAvx2(const float* tile, int64_t rows, const float* x, int64_t tokens, int64_t pitch,
                                                     double* sums, int64_t sumPitch) {
  dotTile(tile, rows, x, tokens, pitch, sums, sumPitch);
}
#endif

}  // namespace

DotTile bestDotTile() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return dotTileAvx2;
#endif
  return dotTilePortably;
}

}  // namespace ladder::reference
