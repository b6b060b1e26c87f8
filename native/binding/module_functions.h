// What the addon exports.
#pragma once

#include <napi.h>

namespace ladder::binding {

/// Fills `exports` with NativeAddon's functions, for one environment.
Napi::Object registerAddon(Napi::Env env, Napi::Object exports);

}  // namespace ladder::binding
