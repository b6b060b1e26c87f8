// attention: softmax(q·kᵀ/√d + bias)·v per head over the tokens of each sequence, all or (causal) up to the query's, without cache. qkv [batch·seq,
// (heads + 2·kvHeads)·headDim] → [batch·seq, heads·headDim]. Rotary embedding: Su et al. 2021 in its rotate-half form; ALiBi
// slopes: Press et al. 2022. Rows of other sequences and heads of other groups are not needed for a sample.
#include <algorithm>
#include <cmath>

#include "../parallel.h"
#include "../primitives.h"
#include "../sums.h"

namespace ladder::reference {
namespace {

enum class Position { kRope, kAlibi, kNone };

/// cos and sin of every position's angles: [seq][headDim/2].
template <typename Real>
struct Rotation {
  std::vector<Real> cosines, sines;
};

/// Keys and values of one sequence and key head: [seq][headDim] each.
template <typename Real>
struct KeyValues {
  std::vector<Real> keys, values;
};

/// Rows of one sequence and columns of one key head's group, as ranges of a region's positions.
struct Item { int64_t sequence, kvHead, firstRow, endRow, firstColumn, endColumn; };

/// The region of qkv that was gathered, dense.
template <typename Real>
struct Source {
  const Real* values;
  const Region& region;
  const Real* at(int64_t row, int64_t column) const { return values + region[0].find(row) * region[1].size() + region[1].find(column); }
};

class Attention : public PrimitiveOf<Attention> {
 public:
  explicit Attention(const NodeView& node)
      : batch_(node.dimension("batch")), seq_(node.dimension("seq")), heads_(node.dimension("heads")), kvHeads_(node.dimension("kvHeads")),
        headDim_(node.dimension("headDim")), interleaved_(node.choice<bool>("order", {{"concatenated", false}, {"interleaved", true}})),
        position_(node.choice<Position>("position", {{"rope", Position::kRope}, {"alibi", Position::kAlibi}, {"none", Position::kNone}})),
        ropeBase_(node.positive("ropeBase")), causal_(node.choice<bool>("mask", {{"none", false}, {"causal", true}}, false)) {
    node.requireInputs(1, 1);
    if (heads_ % kvHeads_ != 0)
      node.unsupported("heads = " + std::to_string(heads_) + " is not a multiple of kvHeads = " + std::to_string(kvHeads_));
    if (interleaved_ && heads_ != kvHeads_) node.unsupported("interleaved order needs as many key heads as query heads");
    if (position_ == Position::kRope && headDim_ % 2 != 0)
      node.unsupported("rope needs an even headDim but it is " + std::to_string(headDim_));
    const std::vector<int64_t> qkv = node.extents("qkv", node.input(0), 2);
    const std::vector<int64_t> output = node.extents("output", node.output(), 2);
    // Products of two 31-bit numbers; the third factor is divided away.
    node.requireExtent("qkv", batch_ * seq_, qkv[0]);
    if (qkv[1] % headDim_ != 0 || qkv[1] / headDim_ != heads_ + 2 * kvHeads_)
      node.refuse("qkv", "(heads + 2·kvHeads)·headDim columns", std::to_string(qkv[1]));
    node.requireExtent("output", batch_ * seq_, output[0]);
    node.requireExtent("output", heads_ * headDim_, output[1]);
    node.requireNumbers();
  }

  Region needed(size_t, const Region& produced) const override {
    std::vector<int64_t> rows, columns;
    for (const Item& item : items(produced)) {
      if (item.firstColumn == 0) addRange(rows, item.sequence * seq_, seq_);
      if (item.firstRow != 0) continue;
      addRange(columns, headColumn(1, item.kvHead), headDim_);
      addRange(columns, headColumn(2, item.kvHead), headDim_);
      for (int64_t i = item.firstColumn, last = -1; i < item.endColumn; ++i) {
        const int64_t head = produced[1][i] / headDim_;
        if (head != last) addRange(columns, headColumn(0, head), headDim_);
        last = head;
      }
    }
    return {Coordinates::of(std::move(rows)), Coordinates::of(std::move(columns))};
  }

  template <typename Real>
  void compute(const std::vector<Operand<Real>>& inputs, Computed<Real>& result, const CancelFlag* cancelled) const {
    const Region region = needed(0, result.region);
    std::vector<Real> scratch;
    const Source<Real> source{inputs[0].view(region, scratch, cancelled), region};
    const Rotation<Real> rotation = makeRotation<Real>();
    const std::vector<Item> list = items(result.region);
    const Coordinates& rows = result.region[0];
    const Coordinates& columns = result.region[1];
    result.reals.resize(static_cast<size_t>(volume(result.region)));
    parallelFor(static_cast<int64_t>(list.size()), 1, cancelled, [&](int64_t begin, int64_t end) {
      std::vector<Real> scores;
      std::vector<Real> out(static_cast<size_t>(headDim_));
      for (int64_t i = begin; i < end; ++i) {
        const Item& item = list[static_cast<size_t>(i)];
        const KeyValues<Real> kv = loadKeyValues(source, rotation, item);
        for (int64_t row = item.firstRow; row < item.endRow; ++row) {
          Real* target = result.reals.data() + row * columns.size();
          for (int64_t column = item.firstColumn, computed = -1; column < item.endColumn; ++column) {
            const int64_t head = columns[column] / headDim_;
            if (head != computed) attend(source, rotation, kv, rows[row], head, scores, out.data());
            computed = head;
            target[column] = out[static_cast<size_t>(columns[column] % headDim_)];
          }
        }
      }
    });
  }

 private:
  static void addRange(std::vector<int64_t>& list, int64_t first, int64_t count) {
    for (int64_t i = 0; i < count; ++i) list.push_back(first + i);
  }

  /// A region's sequences × key heads, whose keys and values are loaded once each.
  std::vector<Item> items(const Region& region) const {
    const auto stretches = [](const Coordinates& coordinates, int64_t width) {
      std::vector<int64_t> ends;
      for (int64_t i = 1; i <= coordinates.size(); ++i) {
        if (i == coordinates.size() || coordinates[i] / width != coordinates[i - 1] / width) ends.push_back(i);
      }
      return ends;
    };
    const int64_t groupWidth = headDim_ * (heads_ / kvHeads_);
    const std::vector<int64_t> columnEnds = stretches(region[1], groupWidth);
    std::vector<Item> list;
    int64_t row = 0;
    for (const int64_t endRow : stretches(region[0], seq_)) {
      int64_t column = 0;
      for (const int64_t endColumn : columnEnds) {
        list.push_back({region[0][row] / seq_, region[1][column] / groupWidth, row, endRow, column, endColumn});
        column = endColumn;
      }
      row = endRow;
    }
    return list;
  }

  template <typename Real>
  Rotation<Real> makeRotation() const {
    Rotation<Real> rotation;
    if (position_ != Position::kRope) return rotation;
    for (int64_t position = 0; position < seq_; ++position) {
      for (int64_t i = 0; i < headDim_ / 2; ++i) {
        const double angle =
            static_cast<double>(position) * std::pow(ropeBase_, -2.0 * static_cast<double>(i) / static_cast<double>(headDim_));
        rotation.cosines.push_back(static_cast<Real>(std::cos(angle)));
        rotation.sines.push_back(static_cast<Real>(std::sin(angle)));
      }
    }
    return rotation;
  }

  /// Slope of a head. Heads beyond the largest power of two p take every other slope of 2p heads.
  double alibiSlope(int64_t head) const {
    int64_t power = 1;
    while (power * 2 <= heads_) power *= 2;
    if (head < power) return std::exp2(-8.0 * static_cast<double>(head + 1) / static_cast<double>(power));
    return std::exp2(-4.0 * static_cast<double>(2 * (head - power) + 1) / static_cast<double>(power));
  }

  /// First column of a query, key or value head within a row of qkv. Part: 0 q, 1 k, 2 v.
  int64_t headColumn(int part, int64_t head) const {
    if (interleaved_) return (3 * head + part) * headDim_;
    const int64_t before = part == 0 ? 0 : part == 1 ? heads_ : heads_ + kvHeads_;
    return (before + head) * headDim_;
  }

  /// One head of one row, rotated unless it is a value.
  template <typename Real>
  void loadHead(const Source<Real>& source, const Rotation<Real>& rotation, int64_t row, int part, int64_t head, Real* values) const {
    std::copy_n(source.at(row, headColumn(part, head)), headDim_, values);
    if (part == 2 || position_ != Position::kRope) return;
    const int64_t half = headDim_ / 2;
    const Real* cosines = rotation.cosines.data() + row % seq_ * half;
    const Real* sines = rotation.sines.data() + row % seq_ * half;
    for (int64_t i = 0; i < half; ++i) {
      const Real low = values[i];
      const Real high = values[i + half];
      values[i] = low * cosines[i] - high * sines[i];
      values[i + half] = high * cosines[i] + low * sines[i];
    }
  }

  template <typename Real>
  KeyValues<Real> loadKeyValues(const Source<Real>& source, const Rotation<Real>& rotation, const Item& item) const {
    const auto size = static_cast<size_t>(seq_ * headDim_);
    KeyValues<Real> result{std::vector<Real>(size), std::vector<Real>(size)};
    for (int64_t token = 0; token < seq_; ++token) {
      loadHead(source, rotation, item.sequence * seq_ + token, 1, item.kvHead, result.keys.data() + token * headDim_);
      loadHead(source, rotation, item.sequence * seq_ + token, 2, item.kvHead, result.values.data() + token * headDim_);
    }
    return result;
  }

  /// out[headDim] = softmax(q·kᵀ/√d + bias)·v for one query row and head, over the keys that it sees. `scores` is scratch.
  template <typename Real>
  void attend(const Source<Real>& source, const Rotation<Real>& rotation, const KeyValues<Real>& kv, int64_t row, int64_t head,
              std::vector<Real>& scores, Real* out) const {
    std::vector<Real> query(static_cast<size_t>(headDim_));
    loadHead(source, rotation, row, 0, head, query.data());
    const Real scale = 1 / std::sqrt(static_cast<Real>(headDim_));
    const auto slope = static_cast<Real>(position_ == Position::kAlibi ? alibiSlope(head) : 0);
    const int64_t keys = causal_ ? row % seq_ + 1 : seq_;
    scores.resize(static_cast<size_t>(keys));
    for (int64_t token = 0; token < keys; ++token) {
      const Real* key = kv.keys.data() + token * headDim_;
      const Real dot = dotProduct<Real>(query.data(), key, headDim_);
      scores[static_cast<size_t>(token)] = dot * scale + slope * static_cast<Real>(token);
    }
    const Real largest = *std::max_element(scores.begin(), scores.end());
    Real sum = 0;
    for (Real& score : scores) sum += score = std::exp(score - largest);
    std::fill_n(out, headDim_, Real{0});
    for (int64_t token = 0; token < keys; ++token) {
      const Real weight = scores[static_cast<size_t>(token)] / sum;
      const Real* value = kv.values.data() + token * headDim_;
      for (int64_t i = 0; i < headDim_; ++i) out[i] += weight * value[i];
    }
  }

  int64_t batch_, seq_, heads_, kvHeads_, headDim_;
  bool interleaved_;
  Position position_;
  double ropeBase_;
  bool causal_;
};

}  // namespace

std::unique_ptr<Primitive> makeAttention(const NodeView& node, const ValueTables&) { return std::make_unique<Attention>(node); }

}  // namespace ladder::reference
