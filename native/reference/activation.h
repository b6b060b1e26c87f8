// Activations on their way into a product: norm, rounding or quantisation per token, and back to values.
// Shared by the dense product's prologue and by the operators norm and quantise. All steps in FP32, sums in FP64.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "spec.h"

namespace ladder::reference {

/// Norm of row `row`: h[k], FP32.
void normRow(const ActivationSpec& spec, const ActivationInputs& inputs, int64_t row, float* h);

/// Quantises h[k]; `codes` takes k bytes, `scales` one float or k/32 E8M0 codes. Not for fp16.
void quantiseRow(const ActivationSpec& spec, const float* h, uint8_t* codes, uint8_t* scales);

/// Value of a stored activation code, before its scale.
float activationCodeToFloat(ActivationFormat format, uint8_t code);

/// What row `row` multiplies with: k values into `values` (MX: with the blocks' scales), and returns the row's own scale.
float activationRow(const DenseSpec& spec, const DenseInputs& inputs, int64_t row, float* values);

/// The operators norm and quantise for all rows; `outputs` are their buffers (float16, or codes and scales).
void runActivation(const ActivationSpec& spec, const ActivationInputs& inputs, const std::vector<MutableBuffer>& outputs,
                   const std::atomic<bool>* cancelled);

}  // namespace ladder::reference
