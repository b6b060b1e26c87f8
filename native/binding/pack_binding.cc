// packRows(job): JavaScript values to a stretch of rows, and what could not be stored back. Every place is checked against the stored
// tensors here: pack/pack_rows.cc writes where it is told to.
#include "pack_binding.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "../pack/pack_rows.h"
#include "env_state.h"
#include "errors.h"
#include "plan_reader.h"

namespace ladder::binding {
namespace {

pack::Number numberOf(const std::string& text) {
  if (text == "F32") return pack::Number::kF32;
  if (text == "F16") return pack::Number::kF16;
  if (text == "BF16") return pack::Number::kBf16;
  throw Error("BAD_ARGUMENT", "expected 'F32', 'F16' or 'BF16' for `job.type` but received " + text);
}

/// What a job reads and writes, each kept alive until it is done.
class Job {
 public:
  Job(const Fields& fields, Task& task) : fields_(fields), task_(task) {
    readFormat();
    rows.type = numberOf(fields.text("type"));
    rows.rows = fields.integer("rows");
    rows.columns = fields.integer("columns");
    rows.group = fields.integer("group");
    if (rows.rows < 1 || rows.columns < 1 || rows.group < 1 || rows.columns % rows.group != 0)
      throw Error("BAD_ARGUMENT", "expected rows, columns, and a group that divides the columns, for `job`");
    const int64_t groups = rows.columns / rows.group;
    rows.numbers = bytes("numbers", rows.rows * rows.columns * (rows.type == pack::Number::kF32 ? 4 : 2));
    rows.rowPlaces = places("rowPlaces", rows.rows);
    rows.columnPlaces = places("columnPlaces", rows.columns);
    const ByteView weight = target("weight");
    requirePlaces("weight", rows.rowPlaces, rows.rows, rows.columnPlaces, rows.columns,
                  static_cast<int64_t>(weight.size) * 8 / format.element.bits);
    rows.weight = weight.data;
    if (format.scale) {
      rows.scaleRowPlaces = places("scaleRowPlaces", rows.rows);
      rows.scaleGroupPlaces = places("scaleGroupPlaces", groups);
      const ByteView scale = target("scale");
      const int64_t each = format.scale->type == reference::ScaleType::kE8m0 ? 1 : 2;
      requirePlaces("scale", rows.scaleRowPlaces, rows.rows, rows.scaleGroupPlaces, groups, static_cast<int64_t>(scale.size) / each);
      rows.scale = scale.data;
      if (!fields.isNull("scales")) rows.scales = as<const float>("scales", rows.rows * groups);
    }
    if (!fields.isNull("squares")) rows.squares = as<double>("squares", rows.rows * 2);
  }

  pack::Format format;
  pack::Rows rows{};

 private:
  void readFormat() {
    format.element = readElement(fields_.object("element"));
    reference::checkElement("job.element", format.element, format.element.bits);
    if (format.element.bits > 8 ? format.element.bits != 16 : 8 % format.element.bits != 0)
      throw Error("BAD_ARGUMENT", "expected 1, 2, 4, 8 or 16 bits for `job.element`");
    if (fields_.isNull("fit")) return;
    reference::Scale scale;
    scale.fit = readFit(fields_.object("fit"));
    scale.type = scale.fit.kind == reference::Fit::kMx ? reference::ScaleType::kE8m0 : reference::ScaleType::kF16;
    format.scale = scale;
    format.choice = fields_.boolean("leastSquares") ? pack::Choice::kLeastSquares : pack::Choice::kLargest;
  }

  ByteView target(const char* field) {
    const ByteView view = fields_.bytes(field);
    task_.keep(fields_.value(field).As<Napi::Object>());
    return view;
  }

  uint8_t* bytes(const char* field, int64_t size) {
    const ByteView view = target(field);
    if (static_cast<int64_t>(view.size) == size) return view.data;
    throw Error("WRONG_LENGTH", "expected " + std::to_string(size) + " bytes for `" + fields_.nameOf(field) + "` but received " +
                                    std::to_string(view.size));
  }

  template <typename T>
  T* as(const char* field, int64_t count) {
    uint8_t* const data = bytes(field, count * static_cast<int64_t>(sizeof(T)));
    if (reinterpret_cast<uintptr_t>(data) % alignof(T) != 0)
      throw Error("BAD_ARGUMENT", "expected aligned numbers for `" + fields_.nameOf(field) + "`");
    return reinterpret_cast<T*>(data);
  }

  const double* places(const char* field, int64_t count) {
    const double* const list = as<const double>(field, count);
    const auto odd = [](double place) { return !(place >= 0 && place < 0x1p52 && std::floor(place) == place); };
    if (std::any_of(list, list + count, odd)) throw Error("BAD_ARGUMENT", "expected places for `" + fields_.nameOf(field) + "`");
    return list;
  }

  void requirePlaces(const char* field, const double* first, int64_t firsts, const double* second, int64_t seconds, int64_t there) {
    if (*std::max_element(first, first + firsts) + *std::max_element(second, second + seconds) < static_cast<double>(there)) return;
    throw Error("WRONG_LENGTH", "expected all places within `" + fields_.nameOf(field) + "`");
  }

  const Fields& fields_;
  Task& task_;
};

Napi::Value toObject(Napi::Env env, const pack::Fault& fault) {
  const Napi::Object object = Napi::Object::New(env);
  using Kind = pack::Fault::Kind;
  object.Set("kind", fault.kind == Kind::kNumber ? "number" : fault.kind == Kind::kLarge ? "large" : "tiny");
  object.Set("row", static_cast<double>(fault.row));
  object.Set("column", static_cast<double>(fault.column));
  object.Set("value", static_cast<double>(fault.value));
  return object;
}

Napi::Value packRows(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guardedAsync(env, [&]() -> Napi::Value {
    auto task = std::make_shared<Task>(env);
    task->endsSession = true;
    const Fields fields(info[0], "job");
    const Job job(fields, *task);
    EnvState& state = EnvState::of(env);
    return state.submit(state.openSession(), task, [format = job.format, rows = job.rows](Task& running) -> Settle {
      const auto fault = pack::packRows(format, rows, &running.cancelled);
      return [fault](Napi::Env settleEnv) -> Napi::Value { return fault ? toObject(settleEnv, *fault) : settleEnv.Null(); };
    });
  });
}

}  // namespace

void registerPack(Napi::Env env, Napi::Object exports) { exports.Set("packRows", Napi::Function::New(env, packRows, "packRows")); }

}  // namespace ladder::binding
