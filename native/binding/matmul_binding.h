// Registers measureMatmul (lib/native.ts).
#pragma once

#include <napi.h>

namespace ladder::binding {

/// Adds `measureMatmul` to the addon's exports. The environment's state must exist before it is called from JavaScript.
void registerMatmul(Napi::Env env, Napi::Object exports);

}  // namespace ladder::binding
