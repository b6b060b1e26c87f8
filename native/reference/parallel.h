// Runs a loop's iterations on all host cores. Owns the threads for the time of one call; knows nothing of the work.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace ladder::reference {

/// Calls body(begin, end) for disjoint ranges that cover 0…count-1, at most `grain` long, from several threads. The first
/// exception of a body ends the loop and is thrown here, as is ABORTED when `cancelled` (may be null) becomes true.
void parallelFor(int64_t count, int64_t grain, const std::atomic<bool>* cancelled, const std::function<void(int64_t, int64_t)>& body);

}  // namespace ladder::reference
