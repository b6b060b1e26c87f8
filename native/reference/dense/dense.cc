// dense: [m, n] = x [m, c] · weight [n, k]ᵀ, whatever they are stored as.
// Inference walks a stored weight's tiles in stored order, each decoded once for all tokens: a tile's dot products accumulate
// in FP32 over at most kTileColumns elements, the sum over tiles in FP64. Everything else gathers the channels that are asked.
#include <algorithm>
#include <numeric>
#include <type_traits>

#include "../parallel.h"
#include "../primitives.h"
#include "../sums.h"
#include "dot.h"
#include "tile_reader.h"

namespace ladder::reference {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileColumns = 1024;
/// Tokens per walk over the weights: bounds the accumulators.
constexpr int64_t kTokensPerWalk = 64;
/// Channels that are gathered at once.
constexpr int64_t kChannels = 8;

class Dense : public PrimitiveOf<Dense> {
 public:
  explicit Dense(const NodeView& node) {
    node.requireInputs(2, 2);
    const std::vector<int64_t> x = node.extents("x", node.input(0), 2);
    const std::vector<int64_t> weight = node.extents("weight", node.input(1), 2);
    const std::vector<int64_t> output = node.extents("output", node.output(), 2);
    contracted_ = x[1];
    channels_ = weight[0];
    node.requireExtent("weight", contracted_, weight[1]);
    node.requireExtent("output", x[0], output[0]);
    node.requireExtent("output", channels_, output[1]);
    node.requireNumbers();
  }

  Region needed(size_t input, const Region& produced) const override { return {produced[input], Coordinates::range(0, contracted_)}; }
  bool gathers(size_t input) const override { return input == 0; }

  template <typename Real>
  void compute(const std::vector<Operand<Real>>& inputs, Computed<Real>& result, const CancelFlag* cancelled) const {
    std::vector<Real> scratch;
    const Real* x = inputs[0].view(needed(0, result.region), scratch, cancelled);
    result.reals.resize(static_cast<size_t>(volume(result.region)));
    if constexpr (std::is_same_v<Real, float>) {
      const StoredTensor* weight = inputs[1].stored();
      if (weight && result.region[1].covers(channels_))
        return walkTiles(*weight, x, result.region[0].size(), result.reals.data(), cancelled);
    }
    multiplyChannels(inputs[1], x, result, cancelled);
  }

 private:
  /// y[token][channel], all channels.
  void walkTiles(const StoredTensor& weight, const float* x, int64_t allTokens, float* y, const CancelFlag* cancelled) const {
    static const DotTile dot = bestDotTile();
    const TileReader reader(weight, kTileRows, kTileColumns);
    const int64_t rows = reader.rows();
    const int64_t pitch = reader.pitch();
    for (int64_t first = 0; first < allTokens; first += kTokensPerWalk) {
      const int64_t tokens = std::min(kTokensPerWalk, allTokens - first);
      const std::vector<float> arranged = arrange(reader, x + first * contracted_, tokens, cancelled);
      // A range of row tiles is wide enough that its stored stretch is long, and narrow enough to balance the threads.
      std::vector<float> products(static_cast<size_t>(channels_ * tokens));  // [channel][token]
      parallelFor(reader.rowTiles(), 4, cancelled, [&](int64_t begin, int64_t end) {
        std::vector<float> tile(static_cast<size_t>(rows * pitch));
        std::vector<float> scratch(static_cast<size_t>(rows * reader.columns()));
        std::vector<double> sums(static_cast<size_t>(rows * tokens));
        for (int64_t rowTile = begin; rowTile < end; ++rowTile) {
          std::fill(sums.begin(), sums.end(), 0.0);
          for (int64_t columnTile = 0; columnTile < reader.columnTiles(); ++columnTile) {
            reader.read(rowTile, columnTile, tile.data(), scratch.data());
            dot(tile.data(), rows, arranged.data() + columnTile * tokens * pitch, tokens, pitch, sums.data(), tokens);
          }
          for (int64_t row = 0; row < rows; ++row) {
            const int64_t channel = reader.channel(rowTile * rows + row);
            if (channel < 0) continue;
            const float scale = reader.channelScale(channel);
            const double* from = sums.data() + row * tokens;
            std::transform(from, from + tokens, products.data() + channel * tokens,
                           [scale](double sum) { return static_cast<float>(sum) * scale; });
          }
        }
      });
      transpose(products.data(), tokens, y + first * channels_, cancelled);
    }
  }

  /// y[token][channel] of products[channel][token], in blocks that stay in the cache.
  void transpose(const float* products, int64_t tokens, float* y, const CancelFlag* cancelled) const {
    constexpr int64_t kSide = 16;
    parallelFor(channels_, 64 * kSide, cancelled, [&](int64_t begin, int64_t end) {
      for (int64_t first = begin; first < end; first += kSide) {
        const int64_t last = std::min(first + kSide, end);
        for (int64_t token = 0; token < tokens; ++token) {
          for (int64_t channel = first; channel < last; ++channel) y[token * channels_ + channel] = products[channel * tokens + token];
        }
      }
    });
  }

  /// Activations in the order in which the weight's tiles consume them: [column tile][token][pitch], 0 where there is padding.
  std::vector<float> arrange(const TileReader& reader, const float* x, int64_t tokens, const CancelFlag* cancelled) const {
    const int64_t columns = reader.columns();
    const int64_t pitch = reader.pitch();
    std::vector<float> arranged(static_cast<size_t>(reader.columnTiles() * tokens * pitch));
    parallelFor(tokens, 1, cancelled, [&](int64_t begin, int64_t end) {
      for (int64_t token = begin; token < end; ++token) {
        for (int64_t rank = 0; rank < reader.columnTiles() * columns; ++rank) {
          const int64_t column = reader.column(rank);
          if (column >= 0)
            arranged[static_cast<size_t>((rank / columns * tokens + token) * pitch + rank % columns)] = x[token * contracted_ + column];
        }
      }
    });
    return arranged;
  }

  template <typename Real>
  void multiplyChannels(const Operand<Real>& weight, const Real* x, Computed<Real>& result, const CancelFlag* cancelled) const {
    const Coordinates& channels = result.region[1];
    const int64_t tokens = result.region[0].size();
    parallelFor((channels.size() + kChannels - 1) / kChannels, 1, cancelled, [&](int64_t begin, int64_t end) {
      std::vector<Real> rows;
      for (int64_t first = begin * kChannels; first < std::min(end * kChannels, channels.size()); first += kChannels) {
        const Coordinates block = channels.slice(first, std::min(kChannels, channels.size() - first));
        rows.resize(static_cast<size_t>(block.size() * contracted_));
        weight.gather({block, Coordinates::range(0, contracted_)}, rows.data());
        for (int64_t channel = 0; channel < block.size(); ++channel) {
          const Real* w = rows.data() + channel * contracted_;
          for (int64_t token = 0; token < tokens; ++token) {
            const Real* v = x + token * contracted_;
            result.reals[static_cast<size_t>(token * channels.size() + first + channel)] =
                static_cast<Real>(dotProduct<double>(w, v, contracted_));
          }
        }
      }
    });
  }

  int64_t contracted_ = 0;
  int64_t channels_ = 0;
};

}  // namespace

std::unique_ptr<Primitive> makeDense(const NodeView& node, const ValueTables&) { return std::make_unique<Dense>(node); }

}  // namespace ladder::reference
