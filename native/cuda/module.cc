// cuModuleLoadDataEx with its log, and cuLaunchKernelEx with cuLaunchKernel as the older way.
#include "module.h"

#include <array>

#include "failure.h"

namespace ladder::cuda {
namespace {

std::string extents(const unsigned (&values)[3]) {
  return std::to_string(values[0]) + "x" + std::to_string(values[1]) + "x" + std::to_string(values[2]);
}

}  // namespace

std::pair<int, int> computeCapability(int ordinal) {
  Device device = 0;
  int major = 0;
  int minor = 0;
  check(driver().deviceGet(&device, ordinal), "opening the CUDA device");
  check(driver().deviceGetAttribute(&major, kAttributeComputeCapabilityMajor, device), "reading the compute capability");
  check(driver().deviceGetAttribute(&minor, kAttributeComputeCapabilityMinor, device), "reading the compute capability");
  return {major, minor};
}

Module::Module(const void* image, const std::string& format, int ordinal) {
  std::array<char, 8192> errorLog{};
  std::array<int, 2> options{kJitErrorLogBuffer, kJitErrorLogBufferSizeBytes};
  std::array<void*, 2> values{errorLog.data(), reinterpret_cast<void*>(errorLog.size())};
  const Result result = driver().moduleLoadDataEx(&handle_, image, options.size(), options.data(), values.data());
  if (result == kSuccess) return;
  errorLog.back() = '\0';
  const auto [major, minor] = computeCapability(ordinal);
  const std::string architecture = "sm_" + std::to_string(major) + std::to_string(minor);
  ErrorContext context{{"format", format}, {"architecture", architecture}};
  const std::string log(errorLog.data());
  if (!log.empty()) context.emplace("log", log);
  Error error = failure(result, "loading the checkpoint's device code (" + format + ") for " + architecture, std::move(context));
  if (!log.empty()) error = Error(error.code(), error.message() + "; the compiler said: " + log, error.context());
  throw error;
}

Module::~Module() {
  if (handle_) driver().moduleUnload(handle_);
}

Kernel Module::kernel(const std::string& name) const {
  FunctionHandle function = nullptr;
  const Result result = driver().moduleGetFunction(&function, handle_, name.c_str());
  if (result == kErrorNotFound) {
    throw Error("MISSING_SYMBOL", "the device code has no kernel `" + name + "`; model.so contradicts itself: rebuild it",
                {{"symbol", name}});
  }
  if (result != kSuccess) throw failure(result, "finding kernel `" + name + "`", {{"kernel", name}});
  return Kernel(function, name);
}

void Kernel::launch(const LaunchShape& shape, const Stream& stream, void** arguments, bool programmatic) {
  const Driver& cu = driver();
  Result result = kSuccess;
  if (shape.dynamicSharedBytes > allowedSharedBytes_) {
    result = cu.functionSetAttribute(function_, kFunctionAttributeMaxDynamicSharedSizeBytes, static_cast<int>(shape.dynamicSharedBytes));
    if (result == kSuccess) allowedSharedBytes_ = shape.dynamicSharedBytes;
  }
  if (result == kSuccess) {
    if (programmatic && cu.launchKernelEx) {
      LaunchAttribute attribute{};
      attribute.id = kLaunchAttributeProgrammaticStreamSerialization;
      attribute.value.programmaticStreamSerializationAllowed = 1;
      const LaunchConfig config{shape.grid[0],
                                shape.grid[1],
                                shape.grid[2],
                                shape.block[0],
                                shape.block[1],
                                shape.block[2],
                                shape.dynamicSharedBytes,
                                stream.get(),
                                &attribute,
                                1};
      result = cu.launchKernelEx(&config, function_, arguments, nullptr);
    } else {
      result = cu.launchKernel(function_, shape.grid[0], shape.grid[1], shape.grid[2], shape.block[0], shape.block[1], shape.block[2],
                               shape.dynamicSharedBytes, stream.get(), arguments, nullptr);
    }
  }
  if (result == kSuccess) return;
  throw failure(result,
                "launching kernel `" + name_ + "` (grid " + extents(shape.grid) + ", block " + extents(shape.block) + ", " +
                    std::to_string(shape.dynamicSharedBytes) + " bytes of dynamic shared memory)",
                {{"kernel", name_},
                 {"grid", extents(shape.grid)},
                 {"block", extents(shape.block)},
                 {"dynamicSharedBytes", double(shape.dynamicSharedBytes)}});
}

}  // namespace ladder::cuda
