// Declarations of the exported C functions: the loader stores their addresses in model.so's `__TVM…` variables.
#pragma once

#include "abi.h"

#define LADDER_EXPORT __attribute__((visibility("default")))

extern "C" {
LADDER_EXPORT void TVMAPISetLastError(const char* message);
LADDER_EXPORT const char* TVMGetLastError();
LADDER_EXPORT int TVMFuncCall(void* function, ladder::tvm_abi::Value* arguments, int* codes, int count, ladder::tvm_abi::Value* result,
                              int* resultCode);
LADDER_EXPORT int TVMBackendGetFuncFromEnv(void* context, const char* name, void** function);
LADDER_EXPORT void* TVMBackendAllocWorkspace(int deviceType, int deviceId, uint64_t bytes, int typeCodeHint, int bitsHint);
LADDER_EXPORT int TVMBackendFreeWorkspace(int deviceType, int deviceId, void* memory);
LADDER_EXPORT int TVMBackendParallelLaunch(ladder::tvm_abi::ParallelTask task, void* data, int taskCount);
LADDER_EXPORT int TVMBackendParallelBarrier(int task, ladder::tvm_abi::ParallelGroup* group);
LADDER_EXPORT int TVMBackendRunOnce(void** once, int (*body)(void*), void* data, int bytes);
LADDER_EXPORT int TVMBackendRegisterSystemLibSymbol(const char* name, void* pointer);
LADDER_EXPORT int TVMFuncGetGlobal(const char* name, void** function);
LADDER_EXPORT int TVMFuncFree(void* function);
LADDER_EXPORT int TVMDeviceAllocDataSpace(ladder::tvm_abi::DeviceOf device, size_t bytes, size_t alignment,
                                          ladder::tvm_abi::ElementType hint, void** memory);
LADDER_EXPORT int TVMDeviceFreeDataSpace(ladder::tvm_abi::DeviceOf device, void* memory);
LADDER_EXPORT int TVMArrayAlloc(const int64_t* shape, int dimensions, int code, int bits, int lanes, int deviceType, int deviceId,
                                ladder::tvm_abi::Tensor** tensor);
LADDER_EXPORT int TVMArrayFree(ladder::tvm_abi::Tensor* tensor);
// Conversions of binary16 that compilers call where the processor has none.
LADDER_EXPORT uint16_t __gnu_f2h_ieee(float value);
LADDER_EXPORT float __gnu_h2f_ieee(uint16_t code);
}
