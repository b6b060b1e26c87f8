// How many bytes all executors hold, on the host and on the devices: what leak tests read.
// Buffers add at allocation and subtract at release; nobody else touches the counters.
#pragma once

#include <atomic>
#include <cstdint>

namespace ladder {

struct Accounting {
  std::atomic<int64_t> hostBytes{0};
  std::atomic<int64_t> deviceBytes{0};
};

inline Accounting& accounting() {
  static Accounting counters;
  return counters;
}

}  // namespace ladder
