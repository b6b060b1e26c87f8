// The C ABI between TVM 0.12's compiled operators and their runtime: value and tensor layouts, type codes, function types.
// Layouts follow TVM's c_runtime_api.h and DLPack; who calls what is packed_function.h's part.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ladder::tvm_abi {

union Value {
  int64_t integer;
  double real;
  void* handle;
  const char* text;
};
static_assert(sizeof(Value) == 8, "TVMValue is 8 bytes");

// Argument type codes
constexpr int kCodeInt = 0;
constexpr int kCodeUint = 1;
constexpr int kCodeFloat = 2;
constexpr int kCodeHandle = 3;
constexpr int kCodeNull = 4;
constexpr int kCodeTensor = 7;
constexpr int kCodeText = 11;

constexpr int kDeviceCpu = 1;
constexpr int kDeviceCuda = 2;

/// DLTensor. A null `strides` means dense, row-major.
struct Tensor {
  void* data;
  int32_t deviceType;
  int32_t deviceId;
  int32_t dimensions;
  uint8_t typeCode;
  uint8_t bits;
  uint16_t lanes;
  int64_t* shape;
  int64_t* strides;
  uint64_t byteOffset;
};
static_assert(sizeof(Tensor) == 48, "DLTensor is 48 bytes");

/// DLDevice and DLDataType, which some functions take by value.
struct DeviceOf {
  int32_t type;
  int32_t id;
};
struct ElementType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

/// An operator of model.so (TVMBackendPackedCFunc).
using PackedCFunction = int (*)(Value* arguments, int* codes, int count, Value* result, int* resultCode, void* resource);

/// What a parallel region's tasks are given (TVMParallelGroupEnv).
struct ParallelGroup {
  void* barrier;
  int32_t taskCount;
};
using ParallelTask = int (*)(int task, ParallelGroup* group, void* data);

}  // namespace ladder::tvm_abi
