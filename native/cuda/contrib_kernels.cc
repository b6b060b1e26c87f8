// Launch shapes and argument packing.
#include "contrib_kernels.h"

#include "contrib_ptx.h"

namespace ladder::cuda {
namespace {

constexpr uint64_t kWarpThreads = 32;

std::string nameOf(const char* kernel, bool half) { return std::string(kernel) + (half ? "_f16" : "_f32"); }

}  // namespace

ContribKernels::ContribKernels(int ordinal) : module_(contribPtx(), ordinal) {}

ContribKernels& ContribKernels::of(int ordinal) {
  static auto* const kernels = new PerDevice<ContribKernels>();
  return kernels->of(ordinal);
}

void ContribKernels::convolution(const Stream& stream, DevicePointer x, DevicePointer w, DevicePointer y, bool half, Convolution shape) {
  void* arguments[] = {&x, &w, &y, &shape};
  module_.kernel(nameOf("ladder_convolution", half)).launch(module_.shapeFor(shape.outputs), stream, arguments);
}

void ContribKernels::softmax(const Stream& stream, DevicePointer x, DevicePointer y, bool half, const Softmax& shape) {
  uint64_t rows = shape.outer * shape.inner;
  uint64_t extent = shape.extent;
  uint64_t inner = shape.inner;
  void* arguments[] = {&x, &y, &rows, &extent, &inner};
  module_.kernel(nameOf("ladder_softmax", half)).launch(module_.shapeFor(rows * kWarpThreads), stream, arguments);
}

}  // namespace ladder::cuda
