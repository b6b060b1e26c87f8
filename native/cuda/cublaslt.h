// The vendor library's matrix product, timed: the ceiling that our kernels are compared with.
// libcublasLt (13 or 12) is opened at first use, through declarations of its own in cublaslt.cc; absence is an Error that
// says where it was looked for. Left to others: which shapes matter (lib/baselines/adapters/cublaslt.ts), our own kernels.
#pragma once

#include <cstdint>
#include <string>

namespace ladder::cuda {

/// Operands of the product. FP16 and FP8 (OCP E4M3) accumulate in FP32 and give FP16; INT8 accumulates in and gives INT32.
enum class MatmulType { kFp16, kFp8E4m3, kInt8 };

/// D [m, n] = A [m, k] · B [n, k]ᵀ, all row-major: activations times a dense layer's weights.
struct MatmulProblem {
  int64_t m;
  int64_t n;
  int64_t k;
  MatmulType type;
};

struct MatmulMeasurement {
  double ms;              // median of single products, CUDA events
  double flopsPerSecond;  // 2·m·n·k over ms
  double bytesPerSecond;  // operands and result, each once, over ms
  int algorithms;         // of the heuristic's proposals, those that were timed; the fastest counts
  int samples;
  int64_t libraryVersion;  // as cublasLtGetVersion says: 130000
  int weightCopies;        // B is rotated over as many, so that it comes from device memory and not from the L2 cache
};

/// Times the fastest of the library's algorithms for `problem`. Blocks; needs memory for the operands and 64 MiB.
/// @param libraryPath tried before the usual places; may be empty
/// @throws Error NO_DRIVER, NO_DEVICE, UNSUPPORTED (no library, or no algorithm for this problem on this GPU), BAD_ARGUMENT,
///         OUT_OF_MEMORY, CUDA
MatmulMeasurement measureMatmul(int ordinal, const MatmulProblem& problem, const std::string& libraryPath);

}  // namespace ladder::cuda
