// Attention over the tokens of the input on the host: all of it for inference, or sampled rows and columns for comparison.
// Follows lib/artifact/operators.ts, attentionSchema.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "spec.h"

namespace ladder::reference {

/// y float16 [batch·seq, heads·headDim].
void runAttention(const AttentionSpec& spec, const uint16_t* qkv, uint16_t* y, const std::atomic<bool>* cancelled);

/// Rows × columns of the output before its rounding to float16, in FP64: y[row][column]. Both lists ascend.
std::vector<double> sampleAttention(const AttentionSpec& spec, const uint16_t* qkv, const std::vector<int64_t>& rows, const std::vector<int64_t>& columns);

}  // namespace ladder::reference
