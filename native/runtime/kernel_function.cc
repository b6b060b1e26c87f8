// Argument packing. Little-endian hosts only: an integer argument's low bytes are at the address of its 64-bit value.
#include "kernel_function.h"

#include <limits>

#include "../tvm_abi/operator_stream.h"

namespace ladder::runtime {
namespace {

constexpr int kTagSharedMemory = 6;

int tagIndex(const std::string& tag, const std::string& kernel) {
  static constexpr const char* kTags[] = {
      "blockIdx.x", "blockIdx.y", "blockIdx.z", "threadIdx.x", "threadIdx.y", "threadIdx.z", "tir.use_dyn_shared_memory"};
  for (int i = 0; i <= kTagSharedMemory; ++i) {
    if (tag == kTags[i]) return i;
  }
  throw Error("BAD_MODULE",
              "kernel `" + kernel + "` has the unknown launch tag `" + tag + "`; expected blockIdx, threadIdx or tir.use_dyn_shared_memory",
              {{"kernel", kernel}, {"tag", tag}});
}

bool isFloat32(const DataType& type, const std::string& kernel) {
  const bool known = type.lanes == 1 && (type.code == 3 || ((type.code == 0 || type.code == 1) && type.bits <= 64) ||
                                         (type.code == 2 && (type.bits == 32 || type.bits == 64)));
  if (!known) {
    throw Error("BAD_MODULE",
                "kernel `" + kernel + "` takes an argument of type " + type.name + "; expected pointers, integers, float32 or float64",
                {{"kernel", kernel}, {"type", type.name}});
  }
  return type.code == 2 && type.bits == 32;
}

}  // namespace

KernelFunction::KernelFunction(cuda::Kernel kernel, const PlanKernel& plan, const cuda::Stream& stream, bool programmatic)
    : kernel_(std::move(kernel)), stream_(stream), programmatic_(programmatic && plan.programmaticStreamSerialization) {
  for (const DataType& type : plan.argumentTypes) isFloat32_.push_back(isFloat32(type, plan.name));
  for (const std::string& tag : plan.launchTags) tags_.push_back(tagIndex(tag, plan.name));
  pointers_.resize(isFloat32_.size());
  floats_.resize(isFloat32_.size());
}

void KernelFunction::call(tvm_abi::Value* arguments, int*, int count, tvm_abi::Value*, int*) {
  const size_t argumentCount = isFloat32_.size();
  if (static_cast<size_t>(count) != argumentCount + tags_.size()) {
    throw Error("BAD_MODULE",
                "model.so calls kernel `" + kernel_.name() + "` with " + std::to_string(count) + " values; its device code wants " +
                    std::to_string(argumentCount) + " arguments and " + std::to_string(tags_.size()) + " launch extents",
                {{"kernel", kernel_.name()}});
  }
  for (size_t i = 0; i < argumentCount; ++i) {
    if (isFloat32_[i]) {
      floats_[i] = static_cast<float>(arguments[i].real);
      pointers_[i] = &floats_[i];
    } else {
      pointers_[i] = &arguments[i];
    }
  }
  cuda::LaunchShape shape;
  for (size_t i = 0; i < tags_.size(); ++i) {
    const int64_t value = arguments[argumentCount + i].integer;
    const int tag = tags_[i];
    if (value < (tag == kTagSharedMemory ? 0 : 1) || value > std::numeric_limits<int32_t>::max()) {
      throw Error("BAD_MODULE", "model.so launches kernel `" + kernel_.name() + "` with an extent of " + std::to_string(value),
                  {{"kernel", kernel_.name()}});
    }
    const auto extent = static_cast<unsigned>(value);
    if (tag == kTagSharedMemory) {
      shape.dynamicSharedBytes = extent;
    } else {
      (tag < 3 ? shape.grid[tag] : shape.block[tag - 3]) = extent;
    }
  }
  kernel_.launch(shape, stream_, pointers_.data(), programmatic_);
  ++tvm_abi::launches();
}

}  // namespace ladder::runtime
