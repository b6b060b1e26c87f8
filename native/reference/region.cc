// Regions and walks over them.
#include "region.h"

#include <iterator>

#include "../runtime/error.h"

namespace ladder::reference {

Coordinates Coordinates::range(int64_t first, int64_t count) {
  Coordinates result;
  result.first_ = first;
  result.count_ = count;
  return result;
}

Coordinates Coordinates::of(std::vector<int64_t> list) {
  if (!std::is_sorted(list.begin(), list.end())) std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
  Coordinates result = range(list.front(), static_cast<int64_t>(list.size()));
  if (list.back() - list.front() + 1 != result.count_) result.list_ = std::move(list);
  return result;
}

int64_t Coordinates::find(int64_t coordinate) const {
  if (list_.empty()) return coordinate - first_;
  return std::lower_bound(list_.begin(), list_.end(), coordinate) - list_.begin();
}

Coordinates Coordinates::slice(int64_t first, int64_t count) const {
  if (list_.empty()) return range(first_ + first, count);
  return of({list_.begin() + first, list_.begin() + first + count});
}

Coordinates unite(const Coordinates& a, const Coordinates& b) {
  if (a == b) return a;
  std::vector<int64_t> list;
  list.reserve(static_cast<size_t>(a.size() + b.size()));
  for (int64_t i = 0; i < a.size(); ++i) list.push_back(a[i]);
  for (int64_t i = 0; i < b.size(); ++i) list.push_back(b[i]);
  return Coordinates::of(std::move(list));
}

Region unite(const Region& a, const Region& b) {
  Region region;
  for (size_t axis = 0; axis < a.size(); ++axis) region.push_back(unite(a[axis], b[axis]));
  return region;
}

int64_t volume(const Region& region) {
  constexpr int64_t kMost = int64_t{1} << 42;
  int64_t places = 1;
  for (const Coordinates& coordinates : region) {
    if (coordinates.size() > kMost / places)
      throw Error("OUT_OF_MEMORY", "a value inside a program has too many numbers to be held; choose a smaller batch");
    places *= coordinates.size();
  }
  return places;
}

Walk::Walk(std::vector<std::vector<int64_t>> offsets) : offsets_(std::move(offsets)) {
  if (offsets_.empty()) offsets_.push_back({0});
  for (size_t axis = 0; axis + 1 < offsets_.size(); ++axis) rows_ *= static_cast<int64_t>(offsets_[axis].size());
  const std::vector<int64_t>& last = offsets_.back();
  for (size_t i = 1; i < last.size(); ++i) contiguous_ = contiguous_ && last[i] == last[i - 1] + 1;
}

int64_t Walk::rowOffset(int64_t row) const {
  int64_t offset = 0;
  for (size_t axis = offsets_.size() - 1; axis-- > 0;) {
    const auto extent = static_cast<int64_t>(offsets_[axis].size());
    offset += offsets_[axis][static_cast<size_t>(row % extent)];
    row /= extent;
  }
  return offset;
}

std::vector<int64_t> Walk::stretches() const {
  std::vector<int64_t> ends;
  const std::vector<int64_t>& places = columnOffsets();
  for (size_t i = 1; i <= places.size(); ++i) {
    if (i == places.size() || places[i] != places[i - 1]) ends.push_back(static_cast<int64_t>(i));
  }
  return ends;
}

Walk denseWalk(const Region& part, const Region& whole) {
  std::vector<std::vector<int64_t>> offsets(part.size());
  int64_t stride = 1;
  for (size_t axis = part.size(); axis-- > 0;) {
    for (int64_t i = 0; i < part[axis].size(); ++i) offsets[axis].push_back(whole[axis].find(part[axis][i]) * stride);
    stride *= whole[axis].size();
  }
  return Walk(std::move(offsets));
}

}  // namespace ladder::reference
