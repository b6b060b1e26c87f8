// Turns a CUresult into an Error: code, CUDA name and text, a remedy, and whether the context is lost.
#pragma once

#include <string>

#include "../runtime/error.h"
#include "driver.h"

namespace ladder::cuda {

/// Whether the context is unusable after `result`: every later call in this process fails too.
bool isSticky(Result result) noexcept;

/// The Error for a failed call.
/// @param doing what was tried, in words: "copying 4096 bytes to the device"
Error failure(Result result, const std::string& doing, ErrorContext context = {});

/// Throws when `result` is not success.
inline void check(Result result, const char* doing) {
  if (result != kSuccess) throw failure(result, doing);
}

/// 1536 → "1.5 KiB": for messages.
std::string bytesText(uint64_t bytes);

}  // namespace ladder::cuda
