// Pieces of hand-written PTX that several modules have.
#pragma once

namespace ladder::cuda {

inline constexpr const char* kPtxHeader = R"(.version 7.0
.target sm_80
.address_size 64
)";

/// %rd0 = blockIdx.x·blockDim.x + threadIdx.x, %rd1 = gridDim.x·blockDim.x; %r0 to %r2 are used.
inline constexpr const char* kThreadIndex = R"(
  mov.u32 %r0, %ctaid.x;
  mov.u32 %r1, %ntid.x;
  mov.u32 %r2, %tid.x;
  mul.wide.u32 %rd0, %r0, %r1;
  cvt.u64.u32 %rd1, %r2;
  add.u64 %rd0, %rd0, %rd1;
  mov.u32 %r0, %nctaid.x;
  mul.wide.u32 %rd1, %r0, %r1;
)";

}  // namespace ladder::cuda
