// Runs one operator on drawn inputs and compares its outputs with the reference, or, where nothing says what the operator
// computes, checks what needs no reference: that all is written, finite, and the same twice.
#pragma once

#include "executor.h"

namespace ladder::runtime {

/// One result per output. Inputs with a fill are filled; the outputs are poisoned before each of two runs.
/// For an operator without a program `compared` is 0 and the errors are NaN; where it writes over its inputs, it runs once,
/// on nothing poisoned.
/// @throws Error UNSUPPORTED for an operator with a program that writes over its inputs; BAD_ARGUMENT, OUT_OF_MEMORY, ABORTED
std::vector<VerifyOutput> verifyOperator(Executor& executor, size_t index, const VerifyOptions& options, const CancelFlag& cancelled);

}  // namespace ladder::runtime
