// The dense product on the host (lib/artifact/operators.ts, denseSchema).
// Inference walks the weight's tiles in stored order, each decoded once for all tokens: a tile's dot products accumulate in
// FP32 over at most kTileColumns elements (exact for integer formats), the sum over tiles in FP64.
#include "dense.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "activation.h"
#include "formats.h"
#include "parallel.h"
#include "weights.h"

namespace ladder::reference {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileColumns = 1024;
/// Tokens per pass over the weights: bounds the accumulators of a pass.
constexpr int64_t kTokensPerPass = 64;

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
[[gnu::always_inline]] inline void dotTile(const float* tile, int64_t rows, const float* x, int64_t tokens, int64_t pitch, double* sums, int64_t sumPitch) {
  int64_t row = 0;
  for (; row + 2 <= rows; row += 2) {
    int64_t token = 0;
    for (; token + 4 <= tokens; token += 4) dotBlock<2, 4>(tile + row * pitch, x + token * pitch, pitch, sums + row * sumPitch + token, sumPitch);
    for (; token < tokens; ++token) dotBlock<2, 1>(tile + row * pitch, x + token * pitch, pitch, sums + row * sumPitch + token, sumPitch);
  }
  for (; row < rows; ++row) {
    for (int64_t token = 0; token < tokens; ++token) dotBlock<1, 1>(tile + row * pitch, x + token * pitch, pitch, sums + row * sumPitch + token, sumPitch);
  }
}

void dotTilePortably(const float* tile, int64_t rows, const float* x, int64_t tokens, int64_t pitch, double* sums, int64_t sumPitch) {
  dotTile(tile, rows, x, tokens, pitch, sums, sumPitch);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void dotTileAvx2(const float* tile, int64_t rows, const float* x, int64_t tokens, int64_t pitch, double* sums, int64_t sumPitch) {
  dotTile(tile, rows, x, tokens, pitch, sums, sumPitch);
}
#endif

using DotTile = void (*)(const float*, int64_t, const float*, int64_t, int64_t, double*, int64_t);

DotTile bestDotTile() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return dotTileAvx2;
#endif
  return dotTilePortably;
}

template <typename Real>
Real activate(Function function, Real gate, Real up) {
  if (function == Function::kSiluMul) return gate / (1 + std::exp(-gate)) * up;
  constexpr Real kSqrt2OverPi = static_cast<Real>(0.79788456080286535588);
  return Real{0.5} * gate * (1 + std::tanh(kSqrt2OverPi * (gate + static_cast<Real>(0.044715) * gate * gate * gate)));
}

/// One output element from its sums (the second only for silu_mul), before the rounding to float16.
template <typename Real>
Real epilogue(const DenseSpec& spec, const DenseInputs& inputs, int64_t row, int64_t column, float rowScale, Real sum, Real upSum) {
  const auto scaled = [&](Real value, int64_t n) {
    Real result = value * static_cast<Real>(rowScale);
    if (spec.group == -1 && inputs.scale) result *= static_cast<Real>(decodeScale(spec.weight, inputs.scale, n));
    if (inputs.bias) result += static_cast<Real>(halfToFloat(inputs.bias[n]));
    return result;
  };
  Real value = scaled(sum, column);
  if (spec.function == Function::kSiluMul) value = activate(spec.function, value, scaled(upSum, column + spec.n / 2));
  else if (spec.function == Function::kGeluTanh) value = activate(spec.function, value, Real{0});
  if (inputs.residual) value += static_cast<Real>(halfToFloat(inputs.residual[row * spec.n + column]));
  return value;
}

/// Activations of one pass, in the order in which the weight's tiles consume them: x[column tile][token][pitch], zero padded.
struct PassActivations {
  std::vector<float> values;
  std::vector<float> rowScales;
};

PassActivations arrangeActivations(const DenseSpec& spec, const DenseInputs& inputs, const TileReader& reader, int64_t firstRow, int64_t tokens,
                                   const std::atomic<bool>* cancelled) {
  const LayoutAxis& axis = spec.layout.k;
  const int64_t pitch = reader.pitch();
  const int64_t columns = reader.columns();
  PassActivations pass{std::vector<float>(static_cast<size_t>(reader.columnTiles() * tokens * pitch)), std::vector<float>(static_cast<size_t>(tokens))};
  parallelFor(tokens, 1, cancelled, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(spec.activation.k));
    for (int64_t token = begin; token < end; ++token) {
      pass.rowScales[static_cast<size_t>(token)] = activationRow(spec, inputs, firstRow + token, row.data());
      for (int64_t rank = 0; rank < axis.extent(); ++rank) {
        const int64_t tile = rank / columns;
        pass.values[static_cast<size_t>((tile * tokens + token) * pitch + rank % columns)] = row[static_cast<size_t>(axis.logicalOfRank[static_cast<size_t>(rank)])];
      }
    }
  });
  return pass;
}

}  // namespace

void runDense(const DenseSpec& spec, const DenseInputs& inputs, uint16_t* y, const std::atomic<bool>* cancelled) {
  static const DotTile dot = bestDotTile();
  const TileReader reader(spec, inputs, kTileRows, kTileColumns);
  const int64_t rows = reader.rows();
  const int64_t pitch = reader.pitch();
  const int64_t outputColumns = spec.outputColumns();
  for (int64_t first = 0; first < spec.activation.m; first += kTokensPerPass) {
    const int64_t tokens = std::min(kTokensPerPass, spec.activation.m - first);
    const PassActivations pass = arrangeActivations(spec, inputs, reader, first, tokens, cancelled);
    std::vector<double> products(static_cast<size_t>(spec.n * tokens));  // [n][token]
    // A range of row tiles is wide enough that its stored stretch is long, and narrow enough to balance the threads.
    parallelFor(reader.rowTiles(), 4, cancelled, [&](int64_t begin, int64_t end) {
      std::vector<float> tile(static_cast<size_t>(rows * pitch));
      std::vector<float> scratch(static_cast<size_t>(rows * reader.columns()));
      std::vector<double> sums(static_cast<size_t>(rows * tokens));
      for (int64_t rowTile = begin; rowTile < end; ++rowTile) {
        std::fill(sums.begin(), sums.end(), 0.0);
        for (int64_t columnTile = 0; columnTile < reader.columnTiles(); ++columnTile) {
          reader.read(rowTile, columnTile, tile.data(), scratch.data());
          dot(tile.data(), rows, pass.values.data() + columnTile * tokens * pitch, tokens, pitch, sums.data(), tokens);
        }
        for (int64_t row = 0; row < rows; ++row) {
          const int64_t n = spec.layout.n.logicalOfRank[static_cast<size_t>(rowTile * rows + row)];
          if (n < spec.n) std::copy_n(sums.data() + row * tokens, tokens, products.data() + n * tokens);
        }
      }
    });
    parallelFor(outputColumns, 1024, cancelled, [&](int64_t begin, int64_t end) {
      for (int64_t token = 0; token < tokens; ++token) {
        const float rowScale = pass.rowScales[static_cast<size_t>(token)];
        for (int64_t column = begin; column < end; ++column) {
          const auto sum = static_cast<float>(products[static_cast<size_t>(column * tokens + token)]);
          const auto up = spec.function == Function::kSiluMul ? static_cast<float>(products[static_cast<size_t>((column + spec.n / 2) * tokens + token)]) : 0.0f;
          y[(first + token) * outputColumns + column] = floatToHalf(epilogue(spec, inputs, first + token, column, rowScale, sum, up));
        }
      }
    });
  }
}

std::vector<double> sampleDense(const DenseSpec& spec, const DenseInputs& inputs, const std::vector<int64_t>& rows, const std::vector<int64_t>& columns) {
  const int64_t k = spec.activation.k;
  const auto rowCount = static_cast<int64_t>(rows.size());
  const auto columnCount = static_cast<int64_t>(columns.size());
  std::vector<float> x(static_cast<size_t>(rowCount * k));
  std::vector<float> rowScales(rows.size());
  parallelFor(rowCount, 1, nullptr, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) rowScales[static_cast<size_t>(i)] = activationRow(spec, inputs, rows[static_cast<size_t>(i)], x.data() + i * k);
  });
  std::vector<double> y(static_cast<size_t>(rowCount * columnCount));
  parallelFor(columnCount, 1, nullptr, [&](int64_t begin, int64_t end) {
    std::vector<double> weights(static_cast<size_t>(k));
    std::vector<double> sums[2];
    for (int64_t j = begin; j < end; ++j) {
      const int64_t column = columns[static_cast<size_t>(j)];
      for (int part = 0; part < (spec.function == Function::kSiluMul ? 2 : 1); ++part) {
        decodeRow(spec, inputs, column + part * (spec.n / 2), weights.data());
        sums[part].assign(rows.size(), 0.0);
        for (int64_t i = 0; i < rowCount; ++i) {
          double sum = 0;
          for (int64_t l = 0; l < k; ++l) sum += weights[static_cast<size_t>(l)] * static_cast<double>(x[static_cast<size_t>(i * k + l)]);
          sums[part][static_cast<size_t>(i)] = sum;
        }
      }
      for (int64_t i = 0; i < rowCount; ++i) {
        const double up = sums[1].empty() ? 0 : sums[1][static_cast<size_t>(i)];
        y[static_cast<size_t>(i * columnCount + j)] = epilogue(spec, inputs, rows[static_cast<size_t>(i)], column, rowScales[static_cast<size_t>(i)], sums[0][static_cast<size_t>(i)], up);
      }
    }
  });
  return y;
}

}  // namespace ladder::reference
