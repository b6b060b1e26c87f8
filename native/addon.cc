// Registration, nothing else.
#include "binding/module_functions.h"

static Napi::Object initialise(Napi::Env env, Napi::Object exports) { return ladder::binding::registerAddon(env, exports); }

NODE_API_MODULE(ladder, initialise)
