// The part of the CUDA driver API's binary interface that this project uses, in declarations of its own, so that the addon
// builds without a toolkit. Names, values and layouts follow the CUDA driver API reference (checked against CUDA 13.0);
// all of it has been stable since CUDA 11.8. Functions are found by driver.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ladder::cuda {

using Result = int;
using Device = int;
using DevicePointer = uint64_t;
using ContextHandle = struct ContextOpaque*;
using StreamHandle = struct StreamOpaque*;
using EventHandle = struct EventOpaque*;
using ModuleHandle = struct ModuleOpaque*;
using FunctionHandle = struct FunctionOpaque*;
using GraphHandle = struct GraphOpaque*;
using GraphNodeHandle = struct GraphNodeOpaque*;
using GraphExecHandle = struct GraphExecOpaque*;

// CUresult
constexpr Result kSuccess = 0;
constexpr Result kErrorInvalidValue = 1;
constexpr Result kErrorOutOfMemory = 2;
constexpr Result kErrorInvalidConfiguration = 9;     // this and the next two: the CUDA runtime's only
constexpr Result kErrorInsufficientDriver = 35;
constexpr Result kErrorInvalidDeviceFunction = 98;
constexpr Result kErrorStubLibrary = 34;
constexpr Result kErrorNoDevice = 100;
constexpr Result kErrorInvalidDevice = 101;
constexpr Result kErrorInvalidImage = 200;
constexpr Result kErrorNoBinaryForGpu = 209;
constexpr Result kErrorEccUncorrectable = 214;
constexpr Result kErrorInvalidPtx = 218;
constexpr Result kErrorNvlinkUncorrectable = 220;
constexpr Result kErrorJitCompilerNotFound = 221;
constexpr Result kErrorUnsupportedPtxVersion = 222;
constexpr Result kErrorJitCompilationDisabled = 223;
constexpr Result kErrorContained = 226;
constexpr Result kErrorNotFound = 500;
constexpr Result kErrorIllegalAddress = 700;
constexpr Result kErrorLaunchOutOfResources = 701;
constexpr Result kErrorLaunchTimeout = 702;
constexpr Result kErrorContextIsDestroyed = 709;
constexpr Result kErrorAssert = 710;
constexpr Result kErrorHardwareStackError = 714;
constexpr Result kErrorLaunchFailed = 719;
constexpr Result kErrorSystemNotReady = 802;
constexpr Result kErrorSystemDriverMismatch = 803;
constexpr Result kErrorCompatNotSupported = 804;
constexpr Result kErrorUnknown = 999;

// CUdevice_attribute
constexpr int kAttributeMaxSharedMemoryPerBlock = 8;
constexpr int kAttributeMultiprocessorCount = 16;
constexpr int kAttributeL2CacheSize = 38;
constexpr int kAttributeComputeCapabilityMajor = 75;
constexpr int kAttributeComputeCapabilityMinor = 76;
constexpr int kAttributeMaxSharedMemoryPerBlockOptin = 97;

// CUjit_option
constexpr int kJitInfoLogBuffer = 3;
constexpr int kJitInfoLogBufferSizeBytes = 4;
constexpr int kJitErrorLogBuffer = 5;
constexpr int kJitErrorLogBufferSizeBytes = 6;

constexpr unsigned kStreamNonBlocking = 1;
constexpr unsigned kEventDefault = 0;
constexpr int kCaptureModeThreadLocal = 1;
constexpr int kGraphNodeTypeKernel = 0;
constexpr int kFunctionAttributeMaxDynamicSharedSizeBytes = 8;
constexpr uint8_t kGraphDependencyProgrammatic = 1;
constexpr uint32_t kLaunchAttributeProgrammaticStreamSerialization = 6;

struct Uuid { unsigned char bytes[16]; };

/// CUlaunchAttribute: an id, padding to 8 bytes, and a union that is padded to 64.
struct LaunchAttribute {
  uint32_t id;
  uint32_t padding;
  union {
    char bytes[64];
    int programmaticStreamSerializationAllowed;
    uint64_t alignment;
  } value;
};
static_assert(sizeof(LaunchAttribute) == 72, "CUlaunchAttribute is 72 bytes");

/// CUlaunchConfig
struct LaunchConfig {
  unsigned gridX, gridY, gridZ;
  unsigned blockX, blockY, blockZ;
  unsigned sharedBytes;
  StreamHandle stream;
  LaunchAttribute* attributes;
  unsigned attributeCount;
};
static_assert(sizeof(LaunchConfig) == 56, "CUlaunchConfig is 56 bytes");

/// CUgraphEdgeData
struct GraphEdgeData {
  uint8_t fromPort, toPort, type;
  uint8_t reserved[5];
};
static_assert(sizeof(GraphEdgeData) == 8, "CUgraphEdgeData is 8 bytes");

}  // namespace ladder::cuda
