// Arrays of binary16 to FP32 and back, through F16C where the processor has it. Single values: floats.h.
#pragma once

#include <cstdint>

namespace ladder::reference {

/// `source` need not be aligned.
void halvesToFloats(const void* source, int64_t count, float* values);

/// Rounds to nearest even; `target` need not be aligned.
void floatsToHalves(const float* values, int64_t count, void* target);

}  // namespace ladder::reference
