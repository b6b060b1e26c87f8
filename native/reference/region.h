// Which coordinates of a value are meant: a list per axis, and all their combinations. Walks over such places in memory.
// Regions know nothing of what is stored there.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace ladder::reference {

/// Coordinates along one axis: ascending, none twice, at least one.
class Coordinates {
 public:
  static Coordinates range(int64_t first, int64_t count);
  /// Any order, repetitions allowed.
  static Coordinates of(std::vector<int64_t> list);

  int64_t size() const { return count_; }
  int64_t operator[](int64_t i) const { return list_.empty() ? first_ + i : list_[static_cast<size_t>(i)]; }
  /// The whole axis.
  bool covers(int64_t extent) const { return list_.empty() && first_ == 0 && count_ == extent; }
  /// Position of a coordinate that is among them.
  int64_t find(int64_t coordinate) const;
  /// Those at positions first…first+count-1.
  Coordinates slice(int64_t first, int64_t count) const;
  bool operator==(const Coordinates& other) const { return first_ == other.first_ && count_ == other.count_ && list_ == other.list_; }

 private:
  Coordinates() = default;
  int64_t first_ = 0;
  int64_t count_ = 0;
  std::vector<int64_t> list_;  // empty: consecutive, from first_ on
};

/// One Coordinates per axis; the last axis varies fastest wherever a region is laid out densely.
using Region = std::vector<Coordinates>;

Coordinates unite(const Coordinates& a, const Coordinates& b);
Region unite(const Region& a, const Region& b);

/// @throws ladder::Error OUT_OF_MEMORY where no memory could hold so many
int64_t volume(const Region& region);

/// Places of a region as sums of one table per axis. A row: all coordinates but the last axis'. No axes: one row of one place.
class Walk {
 public:
  explicit Walk(std::vector<std::vector<int64_t>> offsets);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return static_cast<int64_t>(columnOffsets().size()); }
  int64_t rowOffset(int64_t row) const;
  const std::vector<int64_t>& columnOffsets() const { return offsets_.back(); }
  /// Whether the places of a row follow each other.
  bool contiguous() const { return contiguous_; }
  /// Stretches of a row's columns that have one place, by where each ends.
  std::vector<int64_t> stretches() const;

 private:
  std::vector<std::vector<int64_t>> offsets_;
  int64_t rows_ = 1;
  bool contiguous_ = true;
};

/// The places of `part` in an array that holds `whole` densely.
Walk denseWalk(const Region& part, const Region& whole);

}  // namespace ladder::reference
