// Loading, and shapes of launches.
#include "embedded_module.h"

#include <algorithm>

#include "failure.h"

namespace ladder::cuda {
namespace {

constexpr unsigned kBlockThreads = 256;
constexpr unsigned kBlocksPerMultiprocessor = 8;  // 2048 threads: all that fit

}  // namespace

EmbeddedModule::EmbeddedModule(const std::string& ptx, int ordinal) : module_(ptx.c_str(), "ptx of the addon", ordinal) {
  Device device = 0;
  int count = 0;
  check(driver().deviceGet(&device, ordinal), "opening the CUDA device");
  check(driver().deviceGetAttribute(&count, kAttributeMultiprocessorCount, device), "reading the number of multiprocessors");
  multiprocessors_ = static_cast<unsigned>(count);
}

Kernel& EmbeddedModule::kernel(const std::string& name) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto found = kernels_.find(name);
  if (found == kernels_.end()) found = kernels_.emplace(name, module_.kernel(name)).first;
  return found->second;
}

LaunchShape EmbeddedModule::shapeFor(uint64_t items) const {
  LaunchShape shape;
  const uint64_t blocks = (items + kBlockThreads - 1) / kBlockThreads;
  shape.grid[0] = static_cast<unsigned>(std::clamp<uint64_t>(blocks, 1, uint64_t{multiprocessors_} * kBlocksPerMultiprocessor));
  shape.block[0] = kBlockThreads;
  return shape;
}

}  // namespace ladder::cuda
