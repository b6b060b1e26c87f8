// Convolution and softmax as PTX text for sm_80 that the driver compiles for its GPU. Launching it is contrib_kernels.h's part.
#pragma once

#include <string>

namespace ladder::cuda {

/// One PTX module (version 7.0, target sm_80) with the kernels, for {f16,f32}:
///   ladder_convolution_…(x u64, w u64, y u64, shape: a Convolution)
///   ladder_softmax_…(x u64, y u64, rows u64, extent u64, inner u64)      blocks of whole warps
std::string contribPtx();

}  // namespace ladder::cuda
