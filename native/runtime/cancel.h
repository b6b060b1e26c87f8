// The wish to end an operation early, as every loop that takes time looks at it.
#pragma once

#include <atomic>

#include "error.h"

namespace ladder::runtime {

using CancelFlag = std::atomic<bool>;

/// @throws Error ABORTED when the flag is set
inline void throwIfCancelled(const CancelFlag& cancelled) {
  if (cancelled.load(std::memory_order_relaxed)) throw Error("ABORTED", "the operation was aborted");
}

}  // namespace ladder::runtime
