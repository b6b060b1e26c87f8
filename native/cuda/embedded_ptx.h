// The addon's own device code, as PTX text for sm_80 that the driver compiles for its GPU: fills, a read sweep, a delay.
// Launching it is device_kernels.h's part.
#pragma once

#include <string>

namespace ladder::cuda {

/// One PTX module (version 7.0, target sm_80) with the kernels
///   ladder_fill_words(target u64, bytes u64, key u64, mask u32, base u32, sign u32)
///   ladder_fill_{f16,bf16,f32,i8,i16,i32,i64}(target u64, elements u64, key u64, low f32, span f32)
///   ladder_read(source u64, vectors u64, sink u64)       vectors: 16 bytes each
///   ladder_delay(nanoseconds u64)
std::string embeddedPtx();

}  // namespace ladder::cuda
