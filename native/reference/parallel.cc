// Loops over host threads: ranges are handed out by one atomic counter, so that slow ranges do not hold up the others.
// The work itself belongs to the callers.
#include "parallel.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "../runtime/error.h"

namespace ladder::reference {

void parallelFor(int64_t count, int64_t grain, const std::atomic<bool>* cancelled, const std::function<void(int64_t, int64_t)>& body) {
  const int64_t ranges = (count + grain - 1) / grain;
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    try {
      for (int64_t range; (range = next.fetch_add(1)) < ranges;) {
        if (cancelled && cancelled->load(std::memory_order_relaxed)) throw Error("ABORTED", "the computation on the CPU was aborted");
        body(range * grain, std::min(count, (range + 1) * grain));
      }
    } catch (...) {
      next.store(ranges);
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };

  const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
  std::vector<std::thread> helpers;
  for (int64_t i = 1; i < std::min(cores, ranges); ++i) {
    try {
      helpers.emplace_back(work);
    } catch (const std::system_error&) {
      break;  // No thread to be had: the remaining ones do its share.
    }
  }
  work();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace ladder::reference
