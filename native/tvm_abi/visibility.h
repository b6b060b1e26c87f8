// Makes the addon's exported symbols visible to the objects that it loads.
#pragma once

namespace ladder::tvm_abi {

/// Node.js opens addons with RTLD_LOCAL, where a model.so does not look. Opens the addon once more, as global. Once per process.
/// @throws Error LOAD_FAILED
void exportSymbols();

}  // namespace ladder::tvm_abi
