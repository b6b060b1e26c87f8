// What TVM's lowering leaves to cuDNN (its functions `tvm.contrib.cudnn.…`), by kernels of the addon: any shape, right, not fast.
// Their code is contrib_ptx.h's.
#pragma once

#include <cstdint>

#include "embedded_module.h"

namespace ladder::cuda {

/// Offsets in bytes between neighbours; a kernel that is read backwards has negative ones.
struct ImageStrides {
  int64_t outer;  // image; of weights the output channel
  int64_t channel;
  int64_t row;
  int64_t column;
};

/// y[n, o, i, j] = Σ over c, r, s of x[n, g(o) + c, i·stride + r·dilation − padding, …] · w[o, c, r, s], summed in FP32; what lies
/// outside of x is 0. The kernel reads this structure as it lies here.
struct Convolution {
  uint64_t outputs;    // elements of y
  uint64_t extent[3];  // of y without the batch, in its order
  uint64_t channelsLast;
  uint64_t groupOutputs;  // channels of y and of x in each group
  uint64_t groupInputs;
  uint64_t height, width;  // of x
  uint64_t kernelHeight, kernelWidth;
  int64_t stride[2], padding[2], dilation[2];
  ImageStrides x, w;
};
static_assert(sizeof(Convolution) == 200);

/// y = exp(x − max) / Σ exp(x − max) along the middle of three dimensions, dense.
struct Softmax { uint64_t outer, extent, inner; };

/// FP16 or FP32 in and out, sums in FP32. Any thread may launch.
class ContribKernels {
 public:
  explicit ContribKernels(int ordinal);
  /// Those of a device, compiled by the driver at the first call in the process, and kept.
  static ContribKernels& of(int ordinal);

  void convolution(const Stream& stream, DevicePointer x, DevicePointer w, DevicePointer y, bool half, Convolution shape);
  void softmax(const Stream& stream, DevicePointer x, DevicePointer y, bool half, const Softmax& shape);

 private:
  EmbeddedModule module_;
};

}  // namespace ladder::cuda
