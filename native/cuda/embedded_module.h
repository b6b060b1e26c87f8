// Device code that the addon brings as PTX, compiled by the driver for one device.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "module.h"

namespace ladder::cuda {

/// A module and its kernels by name. Any thread may launch.
class EmbeddedModule {
 public:
  EmbeddedModule(const std::string& ptx, int ordinal);
  Kernel& kernel(const std::string& name);
  /// For loops of a grid's stride: a thread per item, no more than fit on the device at once; whole warps.
  LaunchShape shapeFor(uint64_t items) const;

 private:
  std::mutex mutex_;  // guards kernels_
  Module module_;
  std::map<std::string, Kernel> kernels_;
  unsigned multiprocessors_;
};

/// One `Kernels` per device, made at the first call in the process, and kept.
template <typename Kernels>
class PerDevice {
 public:
  Kernels& of(int ordinal) {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto& kernels = kernels_[ordinal];
    if (!kernels) kernels = std::make_unique<Kernels>(ordinal);
    return *kernels;
  }
  bool has(int ordinal) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return kernels_[ordinal] != nullptr;
  }

 private:
  std::mutex mutex_;
  std::map<int, std::unique_ptr<Kernels>> kernels_;
};

}  // namespace ladder::cuda
