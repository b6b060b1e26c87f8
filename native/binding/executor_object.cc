// The methods of NativeExecutor, in the order of lib/native.ts.
#include "executor_object.h"

#include <cstring>
#include <future>

#include "../runtime/verify.h"
#include "../timing/measure.h"
#include "errors.h"
#include "plan_reader.h"

namespace ladder::binding {
namespace {

Napi::Value undefined(Napi::Env env) { return env.Undefined(); }

/// What a disposed or plain `new`ed object's constructor receives instead of arguments.
struct Birth {
  std::shared_ptr<Session> session;
  std::vector<uint64_t> entrySizes;
};

runtime::Executor& executorOf(Task& task) { return *task.session->executor; }

timing::Progress progressOf(Task& task) {
  return [&task](double fraction) { task.reportProgress(fraction); };
}

}  // namespace

Napi::Value toFloat64Array(Napi::Env env, const std::vector<double>& values) {
  auto array = Napi::Float64Array::New(env, values.size());
  if (!values.empty()) std::memcpy(array.Data(), values.data(), values.size() * sizeof(double));
  return array;
}

Napi::Function ExecutorObject::define(Napi::Env env) {
  return DefineClass(env, "NativeExecutor",
                     {InstanceMethod("write", &ExecutorObject::write), InstanceMethod("read", &ExecutorObject::read),
                      InstanceMethod("readInto", &ExecutorObject::readInto), InstanceMethod("copyFrom", &ExecutorObject::copyFrom),
                      InstanceMethod("fill", &ExecutorObject::fill), InstanceMethod("setBytes", &ExecutorObject::setBytes),
                      InstanceMethod("loadParams", &ExecutorObject::loadParams), InstanceMethod("run", &ExecutorObject::run),
                      InstanceMethod("runOperator", &ExecutorObject::runOperator), InstanceMethod("capture", &ExecutorObject::capture),
                      InstanceMethod("measurePaper", &ExecutorObject::measurePaper),
                      InstanceMethod("measureSamples", &ExecutorObject::measureSamples),
                      InstanceMethod("profile", &ExecutorObject::profile),
                      InstanceMethod("verifyOperator", &ExecutorObject::verifyOperator), InstanceMethod("cancel", &ExecutorObject::cancel),
                      InstanceMethod("dispose", &ExecutorObject::dispose)});
}

Napi::Object ExecutorObject::create(Napi::Env env, std::shared_ptr<Session> session, const runtime::LoadTimes& times,
                                    std::vector<uint64_t> entrySizes) {
  Birth birth{std::move(session), std::move(entrySizes)};
  const Napi::Object object = EnvState::of(env).executorClass.New({Napi::External<Birth>::New(env, &birth)});
  const Napi::Object loadTimes = Napi::Object::New(env);
  loadTimes.Set("dlopenMs", times.dlopenMs);
  loadTimes.Set("moduleMs", times.moduleMs);
  loadTimes.Set("allocateMs", times.allocateMs);
  object.DefineProperty(Napi::PropertyDescriptor::Value("loadTimes", loadTimes, napi_enumerable));
  return object;
}

ExecutorObject::ExecutorObject(const Info& info) : ObjectWrap(info) {
  if (info.Length() != 1 || !info[0].IsExternal())
    throw Napi::TypeError::New(info.Env(), "NativeExecutor objects are made by openExecutor()");
  Birth& birth = *info[0].As<Napi::External<Birth>>().Data();
  session_ = std::move(birth.session);
  entrySizes_ = std::move(birth.entrySizes);
}

std::shared_ptr<Task> ExecutorObject::task(Napi::Env env) {
  if (!disposal_.IsEmpty()) throw Error("DISPOSED", "the executor was disposed; open the checkpoint again");
  auto task = std::make_shared<Task>(env);
  task->keep(Value());
  return task;
}

std::shared_ptr<Task> ExecutorObject::taskWithProgress(const Info& info, size_t progressArgument) {
  auto result = task(info.Env());
  const Napi::Value progress = info[progressArgument];
  if (progress.IsFunction()) {
    result->progress = Napi::Persistent(progress.As<Napi::Function>());
  } else if (!progress.IsNull() && !progress.IsUndefined()) {
    throw Error("BAD_ARGUMENT", "expected a function or null for `progress` but received " + describe(progress));
  }
  return result;
}

Napi::Value ExecutorObject::submit(Napi::Env env, std::shared_ptr<Task> task, Work work) {
  return EnvState::of(env).submit(session_, std::move(task), std::move(work));
}

size_t ExecutorObject::readEntry(const Info& info) const {
  const uint64_t entry = readCount(info[0], "entry");
  if (entry >= entrySizes_.size())
    throw Error("BAD_ARGUMENT", "expected an entry below " + std::to_string(entrySizes_.size()) + " but received " + std::to_string(entry));
  return entry;
}

Napi::Value ExecutorObject::write(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    auto call = task(info.Env());
    const auto entry = static_cast<uint32_t>(readEntry(info));
    const ByteView bytes = readBytes(info[1], "bytes");
    call->keep(info[1].As<Napi::Object>());
    return submit(info.Env(), std::move(call), [entry, bytes](Task& task) {
      executorOf(task).write(entry, bytes.data, bytes.size);
      return undefined;
    });
  });
}

Napi::Value ExecutorObject::read(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    auto call = task(info.Env());
    const size_t entry = readEntry(info);
    const uint64_t offset = info[1].IsUndefined() ? 0 : readCount(info[1], "offset");
    const uint64_t rest = entrySizes_[entry] - std::min(offset, entrySizes_[entry]);
    const uint64_t length = info[2].IsUndefined() ? rest : readCount(info[2], "length");
    if (offset > entrySizes_[entry] || length > rest) {
      throw Error("WRONG_LENGTH", "expected a range within the " + std::to_string(entrySizes_[entry]) + " bytes of entry " +
                                      std::to_string(entry) + " but received offset " + std::to_string(offset) + ", length " +
                                      std::to_string(length));
    }
    auto buffer = Napi::ArrayBuffer::New(info.Env(), length);
    call->keep(buffer);
    void* data = buffer.Data();
    return submit(info.Env(), std::move(call), [=](Task& task) -> Settle {
      executorOf(task).read(static_cast<uint32_t>(entry), offset, length, data, task.cancelled);
      return [&task](Napi::Env) { return task.kept.back().Value(); };
    });
  });
}

Napi::Value ExecutorObject::readInto(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    auto call = task(info.Env());
    const size_t entry = readEntry(info);
    const ByteView bytes = readBytes(info[1], "bytes");
    if (bytes.size != entrySizes_[entry]) {
      throw Error("WRONG_LENGTH", "expected " + std::to_string(entrySizes_[entry]) + " bytes for entry " + std::to_string(entry) +
                                      " but received " + std::to_string(bytes.size));
    }
    call->keep(info[1].As<Napi::Object>());
    return submit(info.Env(), std::move(call), [entry, bytes](Task& task) {
      executorOf(task).read(static_cast<uint32_t>(entry), 0, bytes.size, bytes.data, task.cancelled);
      return undefined;
    });
  });
}

// Both threads meet: the source's waits in its queue until the copy is done, so that its next run does not write over what is copied.
// Both tasks are posted by one JavaScript thread at once, in every queue in the same order: no two pairs wait for each other. What is
// never run, as its executor was disposed, is destroyed on its thread, and breaks the promise that the other waits for.
Napi::Value ExecutorObject::copyFrom(const Info& info) {
  return guardedAsync(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    if (!info[1].IsObject() || !info[1].As<Napi::Object>().InstanceOf(EnvState::of(env).executorClass.Value()))
      throw Error("BAD_ARGUMENT", "expected a NativeExecutor for `source` but received " + describe(info[1]));
    ExecutorObject& source = *Unwrap(info[1].As<Napi::Object>());
    const auto entry = static_cast<uint32_t>(readEntry(info));
    const auto sourceEntry = static_cast<uint32_t>(readCount(info[2], "sourceEntry"));
    auto call = task(env);
    if (&source == this) {
      return submit(env, std::move(call), [=](Task& task) {
        executorOf(task).copyFrom(entry, executorOf(task), sourceEntry);
        return undefined;
      });
    }
    auto sourceCall = source.task(env);
    auto arrived = std::make_shared<std::promise<runtime::Executor*>>();
    auto copied = std::make_shared<std::promise<void>>();
    const std::shared_future<runtime::Executor*> arrival = arrived->get_future().share();
    const std::shared_future<void> end = copied->get_future().share();
    const Napi::Array both = Napi::Array::New(env, 2);
    both.Set(0u, source.submit(env, std::move(sourceCall), [arrived = std::move(arrived), end](Task& task) {
      arrived->set_value(&executorOf(task));
      end.wait();
      return undefined;
    }));
    both.Set(1u, submit(env, std::move(call), [arrival, copied = std::move(copied), entry, sourceEntry](Task& task) {
               runtime::Executor* from = nullptr;
               try {
                 from = arrival.get();
               } catch (const std::future_error&) {
                 throw Error("DISPOSED", "the tensor's checkpoint was disposed before it was copied");
               }
               executorOf(task).copyFrom(entry, *from, sourceEntry);
               return undefined;
             }));
    const Napi::Object promises = env.Global().Get("Promise").As<Napi::Object>();
    return promises.Get("all").As<Napi::Function>().Call(promises, {both});
  });
}

Napi::Value ExecutorObject::fill(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    auto call = task(info.Env());
    const auto entry = static_cast<uint32_t>(readEntry(info));
    const reference::FillSpec spec = readFill(info[1], "fill");
    const uint64_t key = readBigInt(info[2], "key");
    return submit(info.Env(), std::move(call), [=](Task& task) {
      executorOf(task).fill(entry, spec, key);
      return undefined;
    });
  });
}

Napi::Value ExecutorObject::setBytes(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    auto call = task(info.Env());
    const auto entry = static_cast<uint32_t>(readEntry(info));
    const uint64_t value = readCount(info[1], "value");
    if (value > 255) throw Error("BAD_ARGUMENT", "expected 0 to 255 for `value` but received " + std::to_string(value));
    return submit(info.Env(), std::move(call), [=](Task& task) {
      executorOf(task).setBytes(entry, static_cast<uint8_t>(value));
      return undefined;
    });
  });
}

Napi::Value ExecutorObject::loadParams(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    auto call = task(info.Env());
    return submit(info.Env(), std::move(call), [path = readText(info[0], "path"), copies = readParamCopies(info[1])](Task& task) {
      executorOf(task).loadParams(path, copies, task.cancelled);
      return undefined;
    });
  });
}

Napi::Value ExecutorObject::run(const Info& info) {
  return guardedAsync(info.Env(), [&]() -> Napi::Value {
    if (disposal_.IsEmpty() && session_->pending.empty() && session_->executor->isShort()) {
      session_->executor->replay();  // nothing is on its way to the executor's thread
      const auto deferred = Napi::Promise::Deferred::New(info.Env());
      deferred.Resolve(info.Env().Undefined());
      return deferred.Promise();
    }
    return submit(info.Env(), task(info.Env()), [](Task& task) {
      runtime::throwIfCancelled(task.cancelled);
      executorOf(task).run(task.cancelled);
      return undefined;
    });
  });
}

Napi::Value ExecutorObject::runOperator(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    return submit(info.Env(), task(info.Env()), [index = readCount(info[0], "operator")](Task& task) {
      executorOf(task).runOperator(index, task.cancelled);
      return undefined;
    });
  });
}

Napi::Value ExecutorObject::capture(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    return submit(info.Env(), task(info.Env()), [](Task& task) -> Settle {
      return [result = executorOf(task).capture(task.cancelled)](Napi::Env env) -> Napi::Value {
        const Napi::Object object = Napi::Object::New(env);
        object.Set("captured", result.captured);
        object.Set("reason", result.captured ? env.Null() : Napi::String::New(env, result.reason));
        object.Set("kernelNodes", double(result.kernelNodes));
        object.Set("programmaticEdges", double(result.programmaticEdges));
        return object;
      };
    });
  });
}

Napi::Value ExecutorObject::measurePaper(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    return submit(info.Env(), taskWithProgress(info, 1), [options = readPaperOptions(info[0])](Task& task) -> Settle {
      return [result = timing::measurePaper(executorOf(task), options, progressOf(task), task.cancelled)](Napi::Env env) -> Napi::Value {
        const Napi::Object object = Napi::Object::New(env);
        object.Set("valuesMs", toFloat64Array(env, result.valuesMs));
        object.Set("numbers", toFloat64Array(env, result.numbers));
        return object;
      };
    });
  });
}

Napi::Value ExecutorObject::measureSamples(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    return submit(info.Env(), taskWithProgress(info, 1), [options = readSamplesOptions(info[0])](Task& task) -> Settle {
      return [result = timing::measureSamples(executorOf(task), options, progressOf(task), task.cancelled)](Napi::Env env) -> Napi::Value {
        const Napi::Object object = Napi::Object::New(env);
        object.Set("gpuMs", toFloat64Array(env, result.gpuMs));
        object.Set("enqueueMs", toFloat64Array(env, result.enqueueMs));
        object.Set("hostMsPerInference", result.hostMsPerInference);
        return object;
      };
    });
  });
}

Napi::Value ExecutorObject::profile(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    return submit(info.Env(), taskWithProgress(info, 1), [samples = readInteger(info[0], "samples")](Task& task) -> Settle {
      return
          [samples, result = timing::profile(executorOf(task), samples, progressOf(task), task.cancelled)](Napi::Env env) -> Napi::Value {
            const Napi::Object object = Napi::Object::New(env);
            object.Set("operatorMs", toFloat64Array(env, result));
            object.Set("samples", double(samples));
            return object;
          };
    });
  });
}

Napi::Value ExecutorObject::verifyOperator(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    const auto work = [index = readCount(info[0], "operator"), options = readVerifyOptions(info[1])](Task& task) -> Settle {
      return [outputs = runtime::verifyOperator(executorOf(task), index, options, task.cancelled)](Napi::Env env) -> Napi::Value {
        const Napi::Array list = Napi::Array::New(env, outputs.size());
        for (uint32_t i = 0; i < outputs.size(); ++i) {
          const reference::Comparison& comparison = outputs[i].comparison;
          const Napi::Object object = Napi::Object::New(env);
          object.Set("compared", double(comparison.compared));
          object.Set("elements", double(comparison.elements));
          object.Set("unwritten", double(outputs[i].unwritten));
          object.Set("nonFinite", double(comparison.nonFinite));
          object.Set("maxAbsolute", comparison.maxAbsolute);
          object.Set("relativeL2", comparison.relativeL2);
          object.Set("maxOverRms", comparison.maxOverRms);
          object.Set("differing", comparison.differing);
          object.Set("differingByMore", comparison.differingByMore);
          object.Set("deterministic", outputs[i].deterministic ? Napi::Value::From(env, *outputs[i].deterministic) : env.Null());
          list.Set(i, object);
        }
        return list;
      };
    };
    return submit(info.Env(), task(info.Env()), work);
  });
}

void ExecutorObject::cancel(const Info&) { session_->cancel(); }

Napi::Value ExecutorObject::dispose(const Info& info) {
  return guardedAsync(info.Env(), [&]() -> Napi::Value {
    if (!disposal_.IsEmpty()) return disposal_.Value();
    auto call = task(info.Env());
    call->endsSession = true;
    session_->refuse();
    const Napi::Value promise = submit(info.Env(), std::move(call), [](Task& task) {
      task.session->executor.reset();
      return undefined;
    });
    disposal_ = Napi::Persistent(promise.As<Napi::Object>());
    return promise;
  });
}

}  // namespace ladder::binding
