// The global functions in which TVM's lowering calls cuDNN, run without it by cuda/contrib_kernels.h.
#pragma once

#include "packed_function.h"

namespace ladder::tvm_abi {

/// `tvm.contrib.cudnn.conv2d.forward`: mode, format, algorithm, padding, stride and dilation of rows and columns, x, w, y, the type
/// that cuDNN sums in, groups (1 where it is left out). x and y are NCHW (format 0, w OIHW) or NHWC (1, w OHWI); mode 0 reads the
/// kernel backwards, 1 as it is. The algorithm and the type are cuDNN's affair: sums are FP32.
class CudnnConvolution final : public PackedFunction {
 public:
  /// @throws Error UNSUPPORTED, BAD_MODULE with the shapes
  void call(Value* arguments, int* codes, int count, Value* result, int* resultCode) override;
};

/// `tvm.contrib.cudnn.softmax.forward`: x, y, axis (negative from behind).
class CudnnSoftmax final : public PackedFunction {
 public:
  /// @throws Error UNSUPPORTED, BAD_MODULE with the shapes
  void call(Value* arguments, int* codes, int count, Value* result, int* resultCode) override;
};

}  // namespace ladder::tvm_abi
