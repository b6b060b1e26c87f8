// Arguments checked, tensors turned into extents and strides: a kernel must not reach beyond what model.so hands over.
#include "cudnn_functions.h"

#include <algorithm>
#include <array>

#include "../cuda/contrib_kernels.h"
#include "operator_stream.h"

namespace ladder::tvm_abi {
namespace {

constexpr const char* kConvolution = "tvm.contrib.cudnn.conv2d.forward";
constexpr const char* kSoftmax = "tvm.contrib.cudnn.softmax.forward";
constexpr int kFloat = 2;

std::string shapeText(const Tensor& tensor) {
  std::string text = "[";
  for (int i = 0; i < tensor.dimensions; ++i) text += (i ? ", " : "") + std::to_string(tensor.shape[i]);
  return text + "]";
}

int64_t elements(const Tensor& tensor) {
  int64_t product = 1;
  for (int i = 0; i < tensor.dimensions; ++i) product *= tensor.shape[i];
  return product;
}

bool isDense(const Tensor& tensor) {
  int64_t stride = 1;
  for (int i = tensor.dimensions - 1; tensor.strides && i >= 0; --i) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != stride) return false;
    stride *= tensor.shape[i];
  }
  return true;
}

/// The arguments of one call of `function`.
class Arguments {
 public:
  Arguments(const char* function, Value* values, const int* codes, int count)
      : function_(function), values_(values), codes_(codes), count_(count) {}

  Error bad(const std::string& what) const { return Error("BAD_MODULE", std::string("model.so calls `") + function_ + "` with " + what); }
  Error unsupported(const std::string& what) const {
    return Error("UNSUPPORTED", std::string("model.so calls `") + function_ + "` with " + what);
  }

  int64_t integer(int index) const {
    if (index >= count_ || codes_[index] != kCodeInt) throw bad("no integer as argument " + std::to_string(index));
    return values_[index].integer;
  }
  /// A dense tensor of float16 or float32 on the GPU.
  const Tensor& tensor(int index) const {
    if (index >= count_ || codes_[index] != kCodeTensor) throw bad("no tensor as argument " + std::to_string(index));
    const Tensor& tensor = *static_cast<const Tensor*>(values_[index].handle);
    if (tensor.deviceType != kDeviceCuda) throw unsupported("a tensor that is not on a GPU");
    if (tensor.typeCode != kFloat || tensor.lanes != 1 || (tensor.bits != 16 && tensor.bits != 32))
      throw unsupported("a tensor of another type than float16 and float32");
    if (!isDense(tensor)) throw unsupported("a tensor of shape " + shapeText(tensor) + " that is not stored densely");
    return tensor;
  }

 private:
  const char* function_;
  const Value* values_;
  const int* codes_;
  int count_;
};

cuda::DevicePointer pointerOf(const Tensor& tensor) { return reinterpret_cast<cuda::DevicePointer>(tensor.data) + tensor.byteOffset; }

/// Where a tensor of four dimensions keeps image, channel, row and column.
using Order = std::array<int, 4>;
constexpr Order kChannelsFirst{0, 1, 2, 3};
constexpr Order kChannelsLast{0, 3, 1, 2};

std::array<int64_t, 4> extentsOf(const Tensor& tensor, const Order& order) {
  std::array<int64_t, 4> extents{};
  for (size_t i = 0; i < 4; ++i) extents[i] = tensor.shape[order[i]];
  return extents;
}

cuda::ImageStrides stridesOf(const Tensor& tensor, const Order& order) {
  std::array<int64_t, 4> strides{};
  int64_t stride = tensor.bits / 8;
  for (int axis = 3; axis >= 0; --axis) {
    strides[static_cast<size_t>(std::find(order.begin(), order.end(), axis) - order.begin())] = stride;
    stride *= tensor.shape[axis];
  }
  return {strides[0], strides[1], strides[2], strides[3]};
}

}  // namespace

void CudnnConvolution::call(Value* values, int* codes, int count, Value*, int*) {
  const Arguments arguments(kConvolution, values, codes, count);
  const int64_t mode = arguments.integer(0);
  const int64_t format = arguments.integer(1);
  if (format != 0 && format != 1)
    throw arguments.unsupported("tensor format " + std::to_string(format) + "; expected 0 (NCHW) or 1 (NHWC)");
  if (mode != 0 && mode != 1) throw arguments.bad("mode " + std::to_string(mode));
  cuda::Convolution shape{};
  for (int i = 0; i < 2; ++i) {
    shape.padding[i] = arguments.integer(3 + i);
    shape.stride[i] = arguments.integer(5 + i);
    shape.dilation[i] = arguments.integer(7 + i);
  }
  const Tensor& x = arguments.tensor(9);
  const Tensor& w = arguments.tensor(10);
  const Tensor& y = arguments.tensor(11);
  const int64_t groups = count > 13 ? arguments.integer(13) : 1;

  const std::string shapes =
      "x " + shapeText(x) + ", w " + shapeText(w) + ", y " + shapeText(y) + ", " + std::to_string(groups) + " groups";
  const auto fits = [&](bool condition) {
    if (!condition) throw arguments.bad("tensors that do not belong together: " + shapes);
  };
  fits(x.dimensions == 4 && w.dimensions == 4 && y.dimensions == 4 && x.bits == w.bits && x.bits == y.bits);
  const Order& order = format == 0 ? kChannelsFirst : kChannelsLast;
  const auto from = extentsOf(x, order);
  const auto kernel = extentsOf(w, order);
  const auto to = extentsOf(y, order);
  for (const auto& extents : {from, kernel, to})
    fits(std::all_of(extents.begin(), extents.end(), [](int64_t extent) { return extent > 0; }));
  fits(groups > 0 && kernel[0] % groups == 0 && from[1] == kernel[1] * groups && to[0] == from[0] && to[1] == kernel[0]);
  for (size_t i = 0; i < 2; ++i) {
    fits(shape.stride[i] > 0 && shape.dilation[i] > 0 && shape.padding[i] >= 0);
    const int64_t reach = from[2 + i] + 2 * shape.padding[i] - (kernel[2 + i] - 1) * shape.dilation[i] - 1;
    fits(reach >= 0 && to[2 + i] == reach / shape.stride[i] + 1);
  }

  shape.outputs = static_cast<uint64_t>(elements(y));
  for (int i = 0; i < 3; ++i) shape.extent[i] = static_cast<uint64_t>(y.shape[1 + i]);
  shape.channelsLast = format == 1;
  shape.groupOutputs = static_cast<uint64_t>(kernel[0] / groups);
  shape.groupInputs = static_cast<uint64_t>(kernel[1]);
  shape.height = static_cast<uint64_t>(from[2]);
  shape.width = static_cast<uint64_t>(from[3]);
  shape.kernelHeight = static_cast<uint64_t>(kernel[2]);
  shape.kernelWidth = static_cast<uint64_t>(kernel[3]);
  shape.x = stridesOf(x, order);
  shape.w = stridesOf(w, order);
  cuda::DevicePointer first = pointerOf(w);
  if (mode == 0) {  // from its last element on
    first += static_cast<uint64_t>((kernel[2] - 1) * shape.w.row + (kernel[3] - 1) * shape.w.column);
    shape.w.row = -shape.w.row;
    shape.w.column = -shape.w.column;
  }
  const OperatorStream& target = operatorStream(kConvolution);
  cuda::ContribKernels::of(target.ordinal).convolution(target.stream, pointerOf(x), first, pointerOf(y), x.bits == 16, shape);
  ++launches();
}

void CudnnSoftmax::call(Value* values, int* codes, int count, Value*, int*) {
  const Arguments arguments(kSoftmax, values, codes, count);
  const Tensor& x = arguments.tensor(0);
  const Tensor& y = arguments.tensor(1);
  const int64_t axis = arguments.integer(2) + (arguments.integer(2) < 0 ? x.dimensions : 0);
  if (axis < 0 || axis >= x.dimensions || x.bits != y.bits || elements(x) != elements(y))
    throw arguments.bad("tensors that do not belong together: x " + shapeText(x) + ", y " + shapeText(y) + ", axis " +
                        std::to_string(axis));
  cuda::Softmax shape{1, static_cast<uint64_t>(x.shape[axis]), 1};
  for (int i = 0; i < x.dimensions; ++i) {
    if (i != axis) (i < axis ? shape.outer : shape.inner) *= static_cast<uint64_t>(x.shape[i]);
  }
  const OperatorStream& target = operatorStream(kSoftmax);
  cuda::ContribKernels::of(target.ordinal).softmax(target.stream, pointerOf(x), pointerOf(y), x.bits == 16, shape);
  ++launches();
}

}  // namespace ladder::tvm_abi
