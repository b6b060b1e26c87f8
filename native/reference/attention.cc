// Attention without mask and cache (lib/artifact/operators.ts, attentionSchema). Rotary embedding: Su et al. 2021 in its
// rotate-half form; ALiBi slopes: Press et al. 2022. FP32 for inference, FP64 for comparison.
#include "attention.h"

#include <algorithm>
#include <cmath>

#include "formats.h"
#include "parallel.h"

namespace ladder::reference {
namespace {

/// cos and sin of every position's angles: [seq][headDim/2]. Empty without rope.
template <typename Real>
struct Rotation {
  std::vector<Real> cosines, sines;
};

template <typename Real>
Rotation<Real> makeRotation(const AttentionSpec& spec) {
  Rotation<Real> rotation;
  if (!spec.rope) return rotation;
  const int64_t half = spec.headDim / 2;
  for (int64_t position = 0; position < spec.seq; ++position) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) * std::pow(spec.ropeBase, -2.0 * static_cast<double>(i) / static_cast<double>(spec.headDim));
      rotation.cosines.push_back(static_cast<Real>(std::cos(angle)));
      rotation.sines.push_back(static_cast<Real>(std::sin(angle)));
    }
  }
  return rotation;
}

/// Slope of a head. Heads beyond the largest power of two p take every other slope of 2p heads.
double alibiSlope(int64_t heads, int64_t head) {
  int64_t power = 1;
  while (power * 2 <= heads) power *= 2;
  if (head < power) return std::exp2(-8.0 * static_cast<double>(head + 1) / static_cast<double>(power));
  return std::exp2(-4.0 * static_cast<double>(2 * (head - power) + 1) / static_cast<double>(power));
}

/// First column of a query, key or value head within a row of qkv. Part: 0 q, 1 k, 2 v.
int64_t headColumn(const AttentionSpec& spec, int part, int64_t head) {
  if (spec.interleaved) return (3 * head + part) * spec.headDim;
  const int64_t before = part == 0 ? 0 : part == 1 ? spec.heads : spec.heads + spec.kvHeads;
  return (before + head) * spec.headDim;
}

/// One head of one row, rotated unless it is a value.
template <typename Real>
void loadHead(const AttentionSpec& spec, const uint16_t* qkv, const Rotation<Real>& rotation, int64_t row, int part, int64_t head, Real* values) {
  const uint16_t* source = qkv + row * spec.inputColumns() + headColumn(spec, part, head);
  for (int64_t i = 0; i < spec.headDim; ++i) values[i] = static_cast<Real>(halfToFloat(source[i]));
  if (part == 2 || !spec.rope) return;
  const int64_t half = spec.headDim / 2;
  const Real* cosines = rotation.cosines.data() + row % spec.seq * half;
  const Real* sines = rotation.sines.data() + row % spec.seq * half;
  for (int64_t i = 0; i < half; ++i) {
    const Real low = values[i];
    const Real high = values[i + half];
    values[i] = low * cosines[i] - high * sines[i];
    values[i + half] = high * cosines[i] + low * sines[i];
  }
}

/// Keys and values of one sequence and key head: [seq][headDim] each.
template <typename Real>
struct KeyValues {
  std::vector<Real> keys, values;
};

template <typename Real>
KeyValues<Real> loadKeyValues(const AttentionSpec& spec, const uint16_t* qkv, const Rotation<Real>& rotation, int64_t batch, int64_t kvHead) {
  const auto size = static_cast<size_t>(spec.seq * spec.headDim);
  KeyValues<Real> result{std::vector<Real>(size), std::vector<Real>(size)};
  for (int64_t token = 0; token < spec.seq; ++token) {
    loadHead(spec, qkv, rotation, batch * spec.seq + token, 1, kvHead, result.keys.data() + token * spec.headDim);
    loadHead(spec, qkv, rotation, batch * spec.seq + token, 2, kvHead, result.values.data() + token * spec.headDim);
  }
  return result;
}

/// out[headDim] = softmax(q·kᵀ/√d + bias)·v for one query row and head. `scores` is scratch.
template <typename Real>
void attend(const AttentionSpec& spec, const uint16_t* qkv, const Rotation<Real>& rotation, const KeyValues<Real>& kv, int64_t row, int64_t head,
            std::vector<Real>& scores, Real* out) {
  std::vector<Real> query(static_cast<size_t>(spec.headDim));
  loadHead(spec, qkv, rotation, row, 0, head, query.data());
  const Real scale = 1 / std::sqrt(static_cast<Real>(spec.headDim));
  const auto slope = static_cast<Real>(spec.rope ? 0 : alibiSlope(spec.heads, head));
  scores.resize(static_cast<size_t>(spec.seq));
  for (int64_t token = 0; token < spec.seq; ++token) {
    const Real* key = kv.keys.data() + token * spec.headDim;
    Real dot = 0;
    for (int64_t i = 0; i < spec.headDim; ++i) dot += query[static_cast<size_t>(i)] * key[i];
    scores[static_cast<size_t>(token)] = dot * scale + slope * static_cast<Real>(token);
  }
  const Real largest = *std::max_element(scores.begin(), scores.end());
  Real sum = 0;
  for (Real& score : scores) sum += score = std::exp(score - largest);
  std::fill_n(out, spec.headDim, Real{0});
  for (int64_t token = 0; token < spec.seq; ++token) {
    const Real weight = scores[static_cast<size_t>(token)] / sum;
    const Real* value = kv.values.data() + token * spec.headDim;
    for (int64_t i = 0; i < spec.headDim; ++i) out[i] += weight * value[i];
  }
}

}  // namespace

void runAttention(const AttentionSpec& spec, const uint16_t* qkv, uint16_t* y, const std::atomic<bool>* cancelled) {
  const Rotation<float> rotation = makeRotation<float>(spec);
  const int64_t shared = spec.heads / spec.kvHeads;
  parallelFor(spec.batch * spec.kvHeads, 1, cancelled, [&](int64_t begin, int64_t end) {
    std::vector<float> scores;
    std::vector<float> out(static_cast<size_t>(spec.headDim));
    for (int64_t item = begin; item < end; ++item) {
      const int64_t batch = item / spec.kvHeads;
      const int64_t kvHead = item % spec.kvHeads;
      const KeyValues<float> kv = loadKeyValues(spec, qkv, rotation, batch, kvHead);
      for (int64_t head = kvHead * shared; head < (kvHead + 1) * shared; ++head) {
        for (int64_t row = batch * spec.seq; row < (batch + 1) * spec.seq; ++row) {
          attend(spec, qkv, rotation, kv, row, head, scores, out.data());
          uint16_t* target = y + row * spec.outputColumns() + head * spec.headDim;
          for (int64_t i = 0; i < spec.headDim; ++i) target[i] = floatToHalf(out[static_cast<size_t>(i)]);
        }
      }
    }
  });
}

std::vector<double> sampleAttention(const AttentionSpec& spec, const uint16_t* qkv, const std::vector<int64_t>& rows, const std::vector<int64_t>& columns) {
  const Rotation<double> rotation = makeRotation<double>(spec);
  const int64_t shared = spec.heads / spec.kvHeads;
  std::vector<double> y(rows.size() * columns.size());
  // One item: a sequence and the sampled columns of one key head, whose keys and values are loaded once.
  struct Item { int64_t batch, kvHead; size_t firstRow, endRow, firstColumn, endColumn; };
  std::vector<Item> items;
  for (size_t row = 0; row < rows.size();) {
    const int64_t batch = rows[row] / spec.seq;
    size_t endRow = row;
    while (endRow < rows.size() && rows[endRow] / spec.seq == batch) ++endRow;
    for (size_t column = 0; column < columns.size();) {
      const int64_t kvHead = columns[column] / spec.headDim / shared;
      size_t endColumn = column;
      while (endColumn < columns.size() && columns[endColumn] / spec.headDim / shared == kvHead) ++endColumn;
      items.push_back({batch, kvHead, row, endRow, column, endColumn});
      column = endColumn;
    }
    row = endRow;
  }
  parallelFor(static_cast<int64_t>(items.size()), 1, nullptr, [&](int64_t begin, int64_t end) {
    std::vector<double> scores;
    std::vector<double> out(static_cast<size_t>(spec.headDim));
    for (int64_t i = begin; i < end; ++i) {
      const Item& item = items[static_cast<size_t>(i)];
      const KeyValues<double> kv = loadKeyValues(spec, qkv, rotation, item.batch, item.kvHead);
      for (size_t row = item.firstRow; row < item.endRow; ++row) {
        int64_t computed = -1;
        for (size_t column = item.firstColumn; column < item.endColumn; ++column) {
          const int64_t head = columns[column] / spec.headDim;
          if (head != computed) attend(spec, qkv, rotation, kv, rows[row], head, scores, out.data());
          computed = head;
          y[row * columns.size() + column] = out[static_cast<size_t>(columns[column] % spec.headDim)];
        }
      }
    }
  });
  return y;
}

}  // namespace ladder::reference
