// Plain loops over blocks that the compiler makes vectors of; threads take ranges of blocks.
#include "elements.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <numeric>

#include "../reference/floats.h"
#include "../reference/half_arrays.h"
#include "../reference/parallel.h"

namespace ladder::runtime {
namespace {

constexpr int64_t kGrainBytes = 4 << 20;

template <typename Word>
Word load(const uint8_t* at) {
  Word word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

/// Adds up body(first, count) over ranges of elements.
template <typename Body>
int64_t sumOver(int64_t count, int64_t width, const CancelFlag* cancelled, Body body) {
  std::atomic<int64_t> total{0};
  reference::parallelFor(count, std::max<int64_t>(1, kGrainBytes / width), cancelled,
                         [&](int64_t begin, int64_t end) { total += body(begin, end - begin); });
  return total;
}

/// Counts words for which test(index) holds. Counters are as wide as the words, so that a vector holds as many of both.
template <typename Word, typename Test>
int64_t countWords(int64_t count, Test test) {
  constexpr int64_t kBlock = sizeof(Word) == 1 ? 255 : 4096;
  int64_t total = 0;
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t end = std::min(count, first + kBlock);
    Word found = 0;
    for (int64_t i = first; i < end; ++i) found = static_cast<Word>(found + (test(i) ? 1 : 0));
    total += static_cast<int64_t>(found);
  }
  return total;
}

template <typename Word>
int64_t countMasked(const Elements& elements, Word mask, const CancelFlag* cancelled) {
  return sumOver(static_cast<int64_t>(elements.bytes / sizeof(Word)), sizeof(Word), cancelled, [&](int64_t begin, int64_t count) {
    const uint8_t* data = elements.data + begin * static_cast<int64_t>(sizeof(Word));
    return countWords<Word>(count, [&](int64_t i) { return (load<Word>(data + i * static_cast<int64_t>(sizeof(Word))) & mask) == mask; });
  });
}

template <typename Word>
int64_t countPoisoned(const Elements& first, const uint8_t* second, const uint8_t (&poisons)[2], const CancelFlag* cancelled) {
  Word own[2];
  for (int run = 0; run < 2; ++run) std::memset(&own[run], poisons[run], sizeof(Word));
  constexpr auto kWidth = static_cast<int64_t>(sizeof(Word));
  return sumOver(static_cast<int64_t>(first.bytes) / kWidth, kWidth, cancelled, [&](int64_t begin, int64_t count) {
    const uint8_t* a = first.data + begin * kWidth;
    const uint8_t* b = second + begin * kWidth;
    return countWords<Word>(count, [&](int64_t i) { return load<Word>(a + i * kWidth) == own[0] && load<Word>(b + i * kWidth) == own[1]; });
  });
}

/// Elements of several lanes that are no word.
int64_t countPoisonedElements(const Elements& first, const uint8_t* second, int64_t width, const uint8_t (&poisons)[2],
                              const CancelFlag* cancelled) {
  const auto is = [width](const uint8_t* element, uint8_t poison) {
    return std::all_of(element, element + width, [poison](uint8_t byte) { return byte == poison; });
  };
  return sumOver(static_cast<int64_t>(first.bytes) / width, width, cancelled, [&](int64_t begin, int64_t count) {
    int64_t found = 0;
    for (int64_t i = begin; i < begin + count; ++i) found += is(first.data + i * width, poisons[0]) && is(second + i * width, poisons[1]);
    return found;
  });
}

constexpr int64_t kBlock = 1024;

/// Values of `count` elements, at most a block, at `source`.
using Decode = void (*)(const uint8_t* source, int64_t count, double* values);

template <typename Number>
void decodeNumbers(const uint8_t* source, int64_t count, double* values) {
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<double>(load<Number>(source + i * static_cast<int64_t>(sizeof(Number))));
}

void decodeHalves(const uint8_t* source, int64_t count, double* values) {
  float floats[kBlock];
  reference::halvesToFloats(source, count, floats);
  std::copy_n(floats, count, values);
}

void decodeBfloats(const uint8_t* source, int64_t count, double* values) {
  for (int64_t i = 0; i < count; ++i) values[i] = reference::floatOf(uint32_t{load<uint16_t>(source + 2 * i)} << 16);
}

/// Sums over numbers, side by side in the lanes of vectors.
struct Sums {
  static constexpr int64_t kLanes = 4;
  double largest[kLanes] = {}, difference[kLanes] = {}, others[kLanes] = {};

  /// The rest of the last lanes must be equal in both.
  void add(const double* values, const double* expected, int64_t count) {
    for (int64_t i = 0; i < count; i += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const double apart = std::fabs(values[i + lane] - expected[i + lane]);
        largest[lane] = largest[lane] < apart ? apart : largest[lane];
        difference[lane] += apart * apart;
        others[lane] += expected[i + lane] * expected[i + lane];
      }
    }
  }
  void add(const Sums& sums) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      largest[lane] = std::max(largest[lane], sums.largest[lane]);
      difference[lane] += sums.difference[lane];
      others[lane] += sums.others[lane];
    }
  }
  Difference finish() const {
    const double squared = std::accumulate(difference, difference + kLanes, 0.0);
    // The sum keeps a NaN that the maximum passes over.
    return {std::isnan(squared) ? squared : *std::max_element(largest, largest + kLanes),
            squared == 0 ? 0 : std::sqrt(squared) / std::sqrt(std::accumulate(others, others + kLanes, 0.0))};
  }
};

Difference differenceOf(const Elements& elements, const uint8_t* others, Decode decode, const CancelFlag* cancelled) {
  const auto width = static_cast<int64_t>(elements.type.bits / 8);
  std::mutex mutex;
  Sums all;
  reference::parallelFor(static_cast<int64_t>(elements.bytes) / width, kGrainBytes / width, cancelled, [&](int64_t begin, int64_t end) {
    Sums own;
    for (int64_t first = begin; first < end; first += kBlock) {
      double values[kBlock], expected[kBlock];
      const int64_t count = std::min(kBlock, end - first);
      decode(elements.data + first * width, count, values);
      decode(others + first * width, count, expected);
      for (int64_t i = count; i % Sums::kLanes != 0; ++i) values[i] = expected[i] = 0;
      own.add(values, expected, count);
    }
    const std::lock_guard<std::mutex> lock(mutex);
    all.add(own);
  });
  return all.finish();
}

Decode decoderOf(const DataType& type) {
  switch (type.code << 8 | type.bits) {
    case 0 << 8 | 8: return decodeNumbers<int8_t>;
    case 0 << 8 | 16: return decodeNumbers<int16_t>;
    case 0 << 8 | 32: return decodeNumbers<int32_t>;
    case 0 << 8 | 64: return decodeNumbers<int64_t>;
    case 1 << 8 | 8: return decodeNumbers<uint8_t>;
    case 1 << 8 | 16: return decodeNumbers<uint16_t>;
    case 1 << 8 | 32: return decodeNumbers<uint32_t>;
    case 1 << 8 | 64: return decodeNumbers<uint64_t>;
    case 2 << 8 | 16: return decodeHalves;
    case 2 << 8 | 32: return decodeNumbers<float>;
    case 2 << 8 | 64: return decodeNumbers<double>;
    case 4 << 8 | 16: return decodeBfloats;
    default: return nullptr;
  }
}

}  // namespace

int64_t countNonFinite(const Elements& elements, const CancelFlag* cancelled) {
  const DataType& type = elements.type;
  // All bits of the exponent set; of E4M3, which has no infinity, those of the mantissa as well.
  if (type.code == 4 && type.bits == 16) return countMasked<uint16_t>(elements, 0x7f80, cancelled);
  if (type.code != 2) return 0;
  switch (type.bits) {
    case 8: return countMasked<uint8_t>(elements, type.name.rfind("e5m2", 0) == 0 ? 0x7c : 0x7f, cancelled);
    case 16: return countMasked<uint16_t>(elements, 0x7c00, cancelled);
    case 32: return countMasked<uint32_t>(elements, 0x7f800000, cancelled);
    case 64: return countMasked<uint64_t>(elements, 0x7ff0000000000000, cancelled);
    default: return 0;
  }
}

int64_t countUnwritten(const Elements& first, const uint8_t* second, const uint8_t (&poisons)[2], const CancelFlag* cancelled) {
  const auto width = static_cast<int64_t>(first.type.elementBytes());
  switch (width) {
    case 1: return countPoisoned<uint8_t>(first, second, poisons, cancelled);
    case 2: return countPoisoned<uint16_t>(first, second, poisons, cancelled);
    case 4: return countPoisoned<uint32_t>(first, second, poisons, cancelled);
    case 8: return countPoisoned<uint64_t>(first, second, poisons, cancelled);
    default: return countPoisonedElements(first, second, width, poisons, cancelled);
  }
}

bool sameBytes(const uint8_t* first, const uint8_t* second, uint64_t bytes, const CancelFlag* cancelled) {
  return sumOver(static_cast<int64_t>(bytes), 1, cancelled, [&](int64_t begin, int64_t count) {
           return int64_t{std::memcmp(first + begin, second + begin, static_cast<size_t>(count)) != 0};
         }) == 0;
}

std::optional<Difference> difference(const Elements& elements, const uint8_t* others, const CancelFlag* cancelled) {
  const Decode decode = decoderOf(elements.type);
  if (!decode) return std::nullopt;
  return differenceOf(elements, others, decode, cancelled);
}

}  // namespace ladder::runtime
