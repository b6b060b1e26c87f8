// From the objects of lib/native.ts to the runtime's plain structs.
#pragma once

#include "../runtime/plan.h"
#include "../timing/measure.h"
#include "reader.h"

namespace ladder::binding {

runtime::ExecutorPlan readPlan(Napi::Value value);
runtime::DataType readDataType(Napi::Value value, const std::string& name);
reference::Program readProgram(Napi::Value value, const std::string& name);
reference::Element readElement(const Fields& fields);
reference::ScaleFit readFit(const Fields& fields);
reference::FillSpec readFill(Napi::Value value, const std::string& name);
std::vector<runtime::ParamCopy> readParamCopies(Napi::Value value);
timing::PaperOptions readPaperOptions(Napi::Value value);
timing::SamplesOptions readSamplesOptions(Napi::Value value);
runtime::VerifyOptions readVerifyOptions(Napi::Value value);

}  // namespace ladder::binding
