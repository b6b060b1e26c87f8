// The dense product on the host: all of it in FP32 tiles for inference, or sampled rows and columns in FP64 for comparison.
// Follows lib/artifact/operators.ts, denseSchema.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "spec.h"

namespace ladder::reference {

/// y float16 [m, outputColumns].
void runDense(const DenseSpec& spec, const DenseInputs& inputs, uint16_t* y, const std::atomic<bool>* cancelled);

/// Rows × columns of the output before its rounding to float16, accumulated in FP64: y[row][column].
std::vector<double> sampleDense(const DenseSpec& spec, const DenseInputs& inputs, const std::vector<int64_t>& rows, const std::vector<int64_t>& columns);

}  // namespace ladder::reference
