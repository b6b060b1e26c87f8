// A loaded device image (PTX, cubin or fatbin) and its kernels, and how they are launched.
// What a kernel's arguments are is left to the callers.
#pragma once

#include <string>
#include <vector>

#include "driver.h"
#include "handles.h"

namespace ladder::cuda {

/// Extents of one launch.
struct LaunchShape {
  unsigned grid[3] = {1, 1, 1};
  unsigned block[3] = {1, 1, 1};
  unsigned dynamicSharedBytes = 0;
};

/// A kernel of a Module, which must outlive it.
class Kernel {
 public:
  Kernel(FunctionHandle function, std::string name) : function_(function), name_(std::move(name)) {}

  /// Enqueues the kernel. More than 48 KiB of dynamic shared memory is asked of the driver at the first launch that needs it.
  /// @param arguments one pointer per parameter
  /// @param programmatic lets the kernel begin while the one before it drains; ignored where the driver has no such launch
  /// @throws Error CUDA with kernel, grid and block
  void launch(const LaunchShape& shape, const Stream& stream, void** arguments, bool programmatic = false);
  const std::string& name() const noexcept { return name_; }

 private:
  FunctionHandle function_;
  std::string name_;
  unsigned allowedSharedBytes_ = 48 * 1024;
};

/// Owns a CUmodule.
class Module {
 public:
  /// @param image PTX must end with a NUL byte
  /// @param format for messages: ptx, cubin, fatbin
  /// @throws Error WRONG_ARCHITECTURE, CUDA; with the JIT compiler's log
  Module(const void* image, const std::string& format, int ordinal);
  ~Module();
  Module(Module&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Module& operator=(Module&&) = delete;
  /// @throws Error MISSING_SYMBOL when the image has no such kernel
  Kernel kernel(const std::string& name) const;

 private:
  ModuleHandle handle_ = nullptr;
};

/// e.g. {9, 0}
std::pair<int, int> computeCapability(int ordinal);

}  // namespace ladder::cuda
