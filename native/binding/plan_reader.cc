// One function per interface of lib/native.ts, in its order.
#include "plan_reader.h"

#include <climits>

#include "../runtime/error.h"

namespace ladder::binding {
namespace {

int readInt(const Fields& fields, const char* field) {
  const int64_t value = fields.integer(field);
  if (value < INT_MIN || value > INT_MAX) throw Error("BAD_ARGUMENT", "expected a 32-bit integer for `" + fields.nameOf(field) + "`");
  return static_cast<int>(value);
}

uint8_t readByte(const Fields& fields, const char* field) {
  const uint64_t value = fields.count(field);
  if (value > 255)
    throw Error("BAD_ARGUMENT", "expected 0 to 255 for `" + fields.nameOf(field) + "` but received " + std::to_string(value));
  return static_cast<uint8_t>(value);
}

std::vector<int64_t> readShape(const Fields& fields) {
  std::vector<int64_t> shape;
  fields.each("shape", [&](Napi::Value item, const std::string& name) { shape.push_back(static_cast<int64_t>(readCount(item, name))); });
  return shape;
}

runtime::PlanOperator readPlanOperator(const Fields& fields) {
  runtime::PlanOperator op;
  op.node = fields.text("node");
  op.functionName = fields.text("functionName");
  op.inputs = fields.indices("inputs");
  op.outputs = fields.indices("outputs");
  op.flatten = fields.boolean("flatten");
  const std::string kind = fields.text("kind");
  if (kind == "packed") {
    op.kind = runtime::OperatorKind::kPacked;
  } else if (kind == "copy") {
    op.kind = runtime::OperatorKind::kCopy;
  } else if (kind == "reference") {
    op.kind = runtime::OperatorKind::kReference;
  } else {
    throw Error("BAD_ARGUMENT",
                "expected \"packed\", \"copy\" or \"reference\" for `" + fields.nameOf("kind") + "` but received \"" + kind + "\"");
  }
  if (!fields.isNull("program")) op.program = readProgram(fields.value("program"), fields.nameOf("program"));
  return op;
}

runtime::PlanKernel readKernel(const Fields& fields) {
  runtime::PlanKernel kernel;
  kernel.name = fields.text("name");
  fields.each("argumentTypes",
              [&](Napi::Value item, const std::string& name) { kernel.argumentTypes.push_back(readDataType(item, name)); });
  fields.each("launchTags", [&](Napi::Value item, const std::string& name) { kernel.launchTags.push_back(readText(item, name)); });
  kernel.programmaticStreamSerialization = fields.boolean("programmaticStreamSerialization");
  return kernel;
}

runtime::PlanModule readModule(const Fields& fields) {
  runtime::PlanModule module;
  module.path = fields.text("path");
  fields.each("images", [&](Napi::Value item, const std::string& name) {
    const Fields image(item, name);
    const ByteView bytes = image.bytes("bytes");
    runtime::PlanImage& target = module.images.emplace_back();
    target.format = image.text("format");
    target.onDemand = image.boolean("onDemand");
    target.bytes.assign(bytes.data, bytes.data + bytes.size);
    target.bytes.push_back(0);  // PTX is text
    image.each("kernels", [&](Napi::Value kernel, const std::string& kernelName) {
      target.kernels.push_back(readKernel(Fields(kernel, kernelName)));
    });
  });
  fields.each("constants", [&](Napi::Value item, const std::string& name) {
    const Fields constant(item, name);
    module.constants.push_back({constant.text("name"), readShape(constant), readDataType(constant.value("dtype"), constant.nameOf("dtype")),
                                constant.count("fileOffset"), constant.count("sizeBytes")});
  });
  fields.each("constantUsers", [&](Napi::Value item, const std::string& name) {
    const Fields user(item, name);
    runtime::PlanConstantUser& target = module.constantUsers.emplace_back();
    target.symbol = user.text("symbol");
    user.each("constants",
              [&](Napi::Value constant, const std::string& constantName) { target.constants.push_back(readText(constant, constantName)); });
  });
  module.launchesItself = fields.boolean("launchesItself");
  if (!fields.isNull("lastErrorAddress")) module.lastErrorAddress = fields.count("lastErrorAddress");
  return module;
}

timing::Launch readLaunch(const Fields& fields) {
  const std::string launch = fields.text("launch");
  if (launch == "stream") return timing::Launch::kStream;
  if (launch == "graph") return timing::Launch::kGraph;
  throw Error("BAD_ARGUMENT", "expected \"stream\" or \"graph\" for `" + fields.nameOf("launch") + "` but received \"" + launch + "\"");
}

}  // namespace

runtime::DataType readDataType(Napi::Value value, const std::string& name) {
  const Fields fields(value, name);
  runtime::DataType type;
  type.name = fields.text("name");
  type.code = readByte(fields, "code");
  type.bits = readByte(fields, "bits");
  const uint64_t lanes = fields.count("lanes");
  if (type.bits < 1 || type.bits > 64 || lanes < 1 || lanes > UINT16_MAX) {
    throw Error("BAD_ARGUMENT", "expected a type of 1 to 64 bits and 1 to 65535 lanes for `" + name + "`");
  }
  type.lanes = static_cast<uint16_t>(lanes);
  return type;
}

runtime::ExecutorPlan readPlan(Napi::Value value) {
  const Fields fields(value, "plan");
  runtime::ExecutorPlan plan;
  plan.deviceType = readInt(fields, "deviceType");
  plan.deviceOrdinal = readInt(fields, "deviceOrdinal");
  fields.each("entries", [&](Napi::Value item, const std::string& name) {
    const Fields entry(item, name);
    plan.entries.push_back(
        {readShape(entry), readDataType(entry.value("dtype"), entry.nameOf("dtype")), entry.index("storage"), entry.count("sizeBytes")});
  });
  fields.each("storages", [&](Napi::Value item, const std::string& name) {
    const Fields storage(item, name);
    plan.storages.push_back({storage.count("sizeBytes"), readInt(storage, "deviceType")});
  });
  fields.each("operators",
              [&](Napi::Value item, const std::string& name) { plan.operators.push_back(readPlanOperator(Fields(item, name))); });
  if (!fields.isNull("module")) plan.module = readModule(fields.object("module"));
  return plan;
}

reference::FillSpec readFill(Napi::Value value, const std::string& name) {
  const Fields fields(value, name);
  const std::string kind = fields.text("kind");
  if (kind == "bits") return {0, 0, 0, 0, 0, false};
  if (kind == "uniform") return {1, static_cast<float>(fields.number("low")), static_cast<float>(fields.number("high")), 0, 0, false};
  if (kind == "code") return {2, 0, 0, readByte(fields, "base"), readByte(fields, "mask"), fields.boolean("signed")};
  throw Error("BAD_ARGUMENT",
              "expected \"bits\", \"uniform\" or \"code\" for `" + fields.nameOf("kind") + "` but received \"" + kind + "\"");
}

std::vector<runtime::ParamCopy> readParamCopies(Napi::Value value) {
  if (!value.IsArray()) throw Error("BAD_ARGUMENT", "expected an array for `copies` but received " + describe(value));
  std::vector<runtime::ParamCopy> copies;
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Fields copy(array.Get(i), "copies[" + std::to_string(i) + "]");
    copies.push_back({copy.index("entry"), copy.count("fileOffset"), copy.count("sizeBytes")});
  }
  return copies;
}

timing::PaperOptions readPaperOptions(Napi::Value value) {
  const Fields fields(value, "options");
  return {readLaunch(fields), readInt(fields, "number"), readInt(fields, "repeat"), fields.number("minRepeatMs")};
}

timing::SamplesOptions readSamplesOptions(Napi::Value value) {
  const Fields fields(value, "options");
  const std::string l2 = fields.text("l2");
  if (l2 != "hot" && l2 != "cold") throw Error("BAD_ARGUMENT", "expected \"hot\" or \"cold\" for `options.l2` but received \"" + l2 + "\"");
  return {readLaunch(fields),           l2 == "cold",          fields.number("warmupMs"), fields.integer("minSamples"),
          fields.integer("maxSamples"), fields.number("maxMs")};
}

runtime::VerifyOptions readVerifyOptions(Napi::Value value) {
  const Fields fields(value, "options");
  runtime::VerifyOptions options;
  options.seed = readBigInt(fields.value("seed"), fields.nameOf("seed"));
  fields.each("inputs", [&](Napi::Value item, const std::string& name) {
    options.inputs.push_back(item.IsNull() ? std::nullopt : std::make_optional(readFill(item, name)));
  });
  options.maxColumns = fields.integer("maxColumns");
  options.maxRows = fields.integer("maxRows");
  return options;
}

}  // namespace ladder::binding
