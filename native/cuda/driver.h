// The CUDA driver: libcuda.so.1, opened at first use, its functions as a table of pointers.
// What they mean is left to the CUDA driver API reference; failures become Errors in failure.h.
#pragma once

#include <string>

#include "driver_types.h"

namespace ladder::cuda {

// X(member, symbol, parameters…): every function returns CUresult. Symbols carry the version suffix that cuda.h maps them to.
#define LADDER_CUDA_FUNCTIONS(X)                                                                                                        \
  X(init, "cuInit", unsigned)                                                                                                           \
  X(driverGetVersion, "cuDriverGetVersion", int*)                                                                                       \
  X(getErrorName, "cuGetErrorName", Result, const char**)                                                                               \
  X(getErrorString, "cuGetErrorString", Result, const char**)                                                                           \
  X(deviceGetCount, "cuDeviceGetCount", int*)                                                                                           \
  X(deviceGet, "cuDeviceGet", Device*, int)                                                                                             \
  X(deviceGetName, "cuDeviceGetName", char*, int, Device)                                                                               \
  X(deviceGetUuid, "cuDeviceGetUuid_v2", Uuid*, Device)                                                                                 \
  X(deviceGetAttribute, "cuDeviceGetAttribute", int*, int, Device)                                                                      \
  X(deviceTotalMem, "cuDeviceTotalMem_v2", size_t*, Device)                                                                             \
  X(primaryContextRetain, "cuDevicePrimaryCtxRetain", ContextHandle*, Device)                                                           \
  X(contextSetCurrent, "cuCtxSetCurrent", ContextHandle)                                                                                \
  X(contextPush, "cuCtxPushCurrent_v2", ContextHandle)                                                                                  \
  X(contextPop, "cuCtxPopCurrent_v2", ContextHandle*)                                                                                   \
  X(contextSynchronize, "cuCtxSynchronize", void)                                                                                       \
  X(memGetInfo, "cuMemGetInfo_v2", size_t*, size_t*)                                                                                    \
  X(memAlloc, "cuMemAlloc_v2", DevicePointer*, size_t)                                                                                  \
  X(memFree, "cuMemFree_v2", DevicePointer)                                                                                             \
  X(memHostAlloc, "cuMemHostAlloc", void**, size_t, unsigned)                                                                           \
  X(memFreeHost, "cuMemFreeHost", void*)                                                                                                \
  X(memcpyHtoDAsync, "cuMemcpyHtoDAsync_v2", DevicePointer, const void*, size_t, StreamHandle)                                          \
  X(memcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", void*, DevicePointer, size_t, StreamHandle)                                                \
  X(memcpyDtoDAsync, "cuMemcpyDtoDAsync_v2", DevicePointer, DevicePointer, size_t, StreamHandle)                                        \
  X(memsetD8Async, "cuMemsetD8Async", DevicePointer, unsigned char, size_t, StreamHandle)                                               \
  X(streamCreate, "cuStreamCreate", StreamHandle*, unsigned)                                                                            \
  X(streamDestroy, "cuStreamDestroy_v2", StreamHandle)                                                                                  \
  X(streamSynchronize, "cuStreamSynchronize", StreamHandle)                                                                             \
  X(streamBeginCapture, "cuStreamBeginCapture_v2", StreamHandle, int)                                                                   \
  X(streamEndCapture, "cuStreamEndCapture", StreamHandle, GraphHandle*)                                                                 \
  X(eventCreate, "cuEventCreate", EventHandle*, unsigned)                                                                               \
  X(eventDestroy, "cuEventDestroy_v2", EventHandle)                                                                                     \
  X(eventRecord, "cuEventRecord", EventHandle, StreamHandle)                                                                            \
  X(eventSynchronize, "cuEventSynchronize", EventHandle)                                                                                \
  X(eventElapsedTime, "cuEventElapsedTime", float*, EventHandle, EventHandle)                                                           \
  X(moduleLoadDataEx, "cuModuleLoadDataEx", ModuleHandle*, const void*, unsigned, int*, void**)                                         \
  X(moduleUnload, "cuModuleUnload", ModuleHandle)                                                                                       \
  X(moduleGetFunction, "cuModuleGetFunction", FunctionHandle*, ModuleHandle, const char*)                                               \
  X(functionSetAttribute, "cuFuncSetAttribute", FunctionHandle, int, int)                                                               \
  X(launchKernel, "cuLaunchKernel", FunctionHandle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, StreamHandle, \
    void**, void**)                                                                                                                     \
  X(graphGetNodes, "cuGraphGetNodes", GraphHandle, GraphNodeHandle*, size_t*)                                                           \
  X(graphNodeGetType, "cuGraphNodeGetType", GraphNodeHandle, int*)                                                                      \
  X(graphInstantiate, "cuGraphInstantiateWithFlags", GraphExecHandle*, GraphHandle, unsigned long long)                                 \
  X(graphLaunch, "cuGraphLaunch", GraphExecHandle, StreamHandle)                                                                        \
  X(graphDestroy, "cuGraphDestroy", GraphHandle)                                                                                        \
  X(graphExecDestroy, "cuGraphExecDestroy", GraphExecHandle)

// Absent from older drivers: null there, and their users have another way.
#define LADDER_CUDA_OPTIONAL_FUNCTIONS(X)                                                    \
  X(launchKernelEx, "cuLaunchKernelEx", const LaunchConfig*, FunctionHandle, void**, void**) \
  X(graphGetEdges, "cuGraphGetEdges_v2", GraphHandle, GraphNodeHandle*, GraphNodeHandle*, GraphEdgeData*, size_t*)

struct Driver {
#define LADDER_DECLARE(member, symbol, ...) Result (*member)(__VA_ARGS__) = nullptr;
  LADDER_CUDA_FUNCTIONS(LADDER_DECLARE)
  LADDER_CUDA_OPTIONAL_FUNCTIONS(LADDER_DECLARE)
#undef LADDER_DECLARE
};

struct DriverAbsence {
  std::string reason;  // empty: the driver is there
  std::string remedy;
};

/// Why there is no usable driver, and what to do. Opens and initialises the driver at the first call; never throws.
const DriverAbsence& driverAbsence();

/// What to do where the driver is there and shows no device.
std::string noDeviceRemedy();

/// The driver, initialised.
/// @throws Error NO_DRIVER with the reason and the remedy
const Driver& driver();

}  // namespace ladder::cuda
