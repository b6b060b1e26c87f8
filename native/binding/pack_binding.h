// Registers packRows (lib/native.ts).
#pragma once

#include <napi.h>

namespace ladder::binding {

/// Adds `packRows` to the addon's exports. The environment's state must exist before it is called from JavaScript.
void registerPack(Napi::Env env, Napi::Object exports);

}  // namespace ladder::binding
