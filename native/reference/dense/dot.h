// Dot products of a decoded tile with activations, in FP32 vectors, chosen by what the processor has.
#pragma once

#include <cstdint>

namespace ladder::reference {

/// sums[row][token] += tile[row] · x[token] for all pairs; `pitch` values per row of either, a multiple of 8.
using DotTile = void (*)(const float* tile, int64_t rows, const float* x, int64_t tokens, int64_t pitch, double* sums, int64_t sumPitch);

DotTile bestDotTile();

}  // namespace ladder::reference
