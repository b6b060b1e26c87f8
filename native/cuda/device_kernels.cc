// Launch shapes and argument packing of the embedded kernels.
#include "device_kernels.h"

#include "embedded_ptx.h"
#include "failure.h"

namespace ladder::cuda {
namespace {

const char* uniformName(uint8_t typeCode, uint8_t bits) {
  if (typeCode == 2 && bits == 16) return "f16";
  if (typeCode == 2 && bits == 32) return "f32";
  if (typeCode == 4 && bits == 16) return "bf16";
  if (typeCode > 1) return nullptr;
  switch (bits) {
    case 8: return "i8";
    case 16: return "i16";
    case 32: return "i32";
    case 64: return "i64";
    default: return nullptr;
  }
}

uint32_t replicate(uint8_t byte) { return byte * 0x01010101u; }

PerDevice<DeviceKernels>& compiled() {
  static auto* const kernels = new PerDevice<DeviceKernels>();
  return *kernels;
}

}  // namespace

DeviceKernels::DeviceKernels(int ordinal) : module_(embeddedPtx(), ordinal) {}

DeviceKernels& DeviceKernels::of(int ordinal) { return compiled().of(ordinal); }

bool DeviceKernels::ready(int ordinal) { return compiled().has(ordinal); }

void DeviceKernels::fillWords(const Stream& stream, DevicePointer target, uint64_t bytes, uint64_t key, uint8_t mask, uint8_t base,
                              bool isSigned) {
  uint32_t maskWord = replicate(mask);
  uint32_t baseWord = replicate(base);
  uint32_t signWord = isSigned ? 0x80808080u : 0u;
  void* arguments[] = {&target, &bytes, &key, &maskWord, &baseWord, &signWord};
  module_.kernel("ladder_fill_words").launch(module_.shapeFor(bytes / 4 + 1), stream, arguments);
}

void DeviceKernels::fillUniform(const Stream& stream, DevicePointer target, uint64_t elements, uint64_t key, uint8_t typeCode, uint8_t bits,
                                float low, float high) {
  const char* name = uniformName(typeCode, bits);
  if (!name) {
    throw Error("UNSUPPORTED", "a uniform fill is defined for integers of 8 to 64 bits, float16, bfloat16 and float32, not for type code " +
                                   std::to_string(typeCode) + " with " + std::to_string(bits) + " bits");
  }
  float span = high - low;
  void* arguments[] = {&target, &elements, &key, &low, &span};
  module_.kernel(std::string("ladder_fill_") + name).launch(module_.shapeFor(elements), stream, arguments);
}

void DeviceKernels::read(const Stream& stream, DevicePointer source, uint64_t bytes, DevicePointer sink) {
  uint64_t vectors = bytes / 16;
  void* arguments[] = {&source, &vectors, &sink};
  module_.kernel("ladder_read").launch(module_.shapeFor(vectors), stream, arguments);
}

void DeviceKernels::delay(const Stream& stream, uint64_t nanoseconds) {
  void* arguments[] = {&nanoseconds};
  module_.kernel("ladder_delay").launch(LaunchShape{}, stream, arguments);
}

double measureReadBandwidth(int ordinal, uint64_t sizeBytes, int repeats) {
  makeCurrent(ordinal);
  DeviceKernels& kernels = DeviceKernels::of(ordinal);
  const Stream stream = Stream::create();
  const DeviceBuffer source(sizeBytes, "the bandwidth measurement");
  const DeviceBuffer sink(4, "the bandwidth measurement");
  kernels.fillWords(stream, source.get(), sizeBytes, 1, 0xff, 0, false);
  kernels.read(stream, source.get(), sizeBytes, sink.get());
  stream.synchronize();
  const Event start;
  const Event stop;
  float bestMs = 0;
  for (int i = 0; i < repeats; ++i) {
    start.record(stream);
    kernels.read(stream, source.get(), sizeBytes, sink.get());
    stop.record(stream);
    stop.synchronize();
    const float elapsedMs = stop.elapsedMsSince(start);
    if (i == 0 || elapsedMs < bestMs) bestMs = elapsedMs;
  }
  return static_cast<double>(sizeBytes / 16 * 16) / (bestMs * 1e-3);
}

}  // namespace ladder::cuda
