// Norm and per-token quantisation (lib/artifact/operators.ts, denseSchema; MX: OCP Microscaling v1.0, section 6.3).
#include "activation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "formats.h"
#include "parallel.h"

namespace ladder::reference {
namespace {

bool isE4m3(ActivationFormat format) { return format == ActivationFormat::kFp8E4m3 || format == ActivationFormat::kMxfp8E4m3; }

float amax(const float* values, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(values[i]));
  return largest;
}

uint8_t encodeFp8(ActivationFormat format, float value) { return isE4m3(format) ? floatToE4m3(value) : floatToE5m2(value); }

uint8_t encodeInteger(float value, float largest) {
  return static_cast<uint8_t>(static_cast<int8_t>(std::max(-largest, std::min(largest, roundHalfEven(value)))));
}

void quantiseMx(const ActivationSpec& spec, const float* h, uint8_t* codes, uint8_t* scales) {
  const int emax = isE4m3(spec.format) ? 8 : 15;
  for (int64_t block = 0; block < spec.k / kMxBlock; ++block) {
    const float* values = h + block * kMxBlock;
    const float largest = amax(values, kMxBlock);
    const int code = largest == 0 ? 127 : std::isfinite(largest) ? std::clamp(floorLog2(largest) - emax + 127, 0, 254) : 254;
    scales[block] = static_cast<uint8_t>(code);
    for (int64_t i = 0; i < kMxBlock; ++i) {
      codes[block * kMxBlock + i] = encodeFp8(spec.format, static_cast<float>(std::ldexp(static_cast<double>(values[i]), 127 - code)));
    }
  }
}

float largestCode(ActivationFormat format) {
  switch (format) {
    case ActivationFormat::kInt8: return 127;
    case ActivationFormat::kInt4: return 7;
    case ActivationFormat::kFp8E4m3: return 448;
    default: return 57344;
  }
}

const std::array<float, 256>& codeTable(ActivationFormat format) {
  const auto make = [](ActivationFormat of) {
    std::array<float, 256> table;
    for (int code = 0; code < 256; ++code) table[static_cast<size_t>(code)] = activationCodeToFloat(of, static_cast<uint8_t>(code));
    return table;
  };
  static const std::array<float, 256> integers = make(ActivationFormat::kInt8);
  static const std::array<float, 256> e4m3 = make(ActivationFormat::kFp8E4m3);
  static const std::array<float, 256> e5m2 = make(ActivationFormat::kFp8E5m2);
  return isInteger(format) ? integers : isE4m3(format) ? e4m3 : e5m2;
}

}  // namespace

float activationCodeToFloat(ActivationFormat format, uint8_t code) {
  if (isInteger(format)) return static_cast<int8_t>(code);
  return isE4m3(format) ? e4m3ToFloat(code) : e5m2ToFloat(code);
}

void normRow(const ActivationSpec& spec, const ActivationInputs& inputs, int64_t row, float* h) {
  const int64_t k = spec.k;
  const uint16_t* x = inputs.x + row * k;
  double sum = 0;
  double squares = 0;
  for (int64_t i = 0; i < k; ++i) {
    h[i] = halfToFloat(x[i]);
    sum += h[i];
    squares += static_cast<double>(h[i]) * h[i];
  }
  if (spec.norm == NormKind::kNone) return;
  const double mean = spec.norm == NormKind::kLayer ? sum / static_cast<double>(k) : 0;
  if (spec.norm == NormKind::kLayer) {
    squares = 0;
    for (int64_t i = 0; i < k; ++i) squares += (h[i] - mean) * (h[i] - mean);
  }
  const double factor = 1 / std::sqrt(squares / static_cast<double>(k) + spec.eps);
  for (int64_t i = 0; i < k; ++i) {
    const double beta = inputs.beta ? halfToFloat(inputs.beta[i]) : 0;
    h[i] = static_cast<float>((h[i] - mean) * factor * halfToFloat(inputs.gain[i]) + beta);
  }
}

void quantiseRow(const ActivationSpec& spec, const float* h, uint8_t* codes, uint8_t* scales) {
  if (isMx(spec.format)) return quantiseMx(spec, h, codes, scales);
  const float largest = largestCode(spec.format);
  float scale = amax(h, spec.k) / largest;
  if (scale == 0) {  // A row of zeros, or of values so small that none can be told from zero.
    scale = 1;
    std::memset(codes, 0, static_cast<size_t>(spec.k));
  } else if (isInteger(spec.format)) {
    for (int64_t i = 0; i < spec.k; ++i) codes[i] = encodeInteger(h[i] / scale, largest);
  } else {
    for (int64_t i = 0; i < spec.k; ++i) codes[i] = encodeFp8(spec.format, h[i] / scale);
  }
  std::memcpy(scales, &scale, sizeof scale);
}

float activationRow(const DenseSpec& spec, const DenseInputs& inputs, int64_t row, float* values) {
  const ActivationSpec& activation = spec.activation;
  const int64_t k = activation.k;
  const size_t scaleBytes = isMx(activation.format) ? static_cast<size_t>(k / kMxBlock) : 4;
  std::vector<uint8_t> quantised;
  const uint8_t* codes;
  const uint8_t* scales;
  if (spec.quantisedInput) {
    codes = static_cast<const uint8_t*>(inputs.x) + row * k;
    scales = static_cast<const uint8_t*>(inputs.xScale) + static_cast<size_t>(row) * scaleBytes;
  } else {
    normRow(activation, {static_cast<const uint16_t*>(inputs.x), inputs.gain, inputs.beta}, row, values);
    if (activation.format == ActivationFormat::kFp16) {
      if (activation.norm != NormKind::kNone) {
        for (int64_t i = 0; i < k; ++i) values[i] = halfToFloat(floatToHalf(values[i]));
      }
      return 1;
    }
    quantised.resize(static_cast<size_t>(k) + scaleBytes);
    quantiseRow(activation, values, quantised.data(), quantised.data() + k);
    codes = quantised.data();
    scales = codes + k;
  }
  const std::array<float, 256>& table = codeTable(activation.format);
  for (int64_t i = 0; i < k; ++i) values[i] = table[codes[i]];
  if (isMx(activation.format)) {
    for (int64_t i = 0; i < k; ++i) values[i] *= e8m0ToFloat(scales[i / kMxBlock]);
    return 1;
  }
  float scale;
  std::memcpy(&scale, scales, sizeof scale);
  return scale;
}

void runActivation(const ActivationSpec& spec, const ActivationInputs& inputs, const std::vector<MutableBuffer>& outputs,
                   const std::atomic<bool>* cancelled) {
  const int64_t k = spec.k;
  parallelFor(spec.m, 1, cancelled, [&](int64_t begin, int64_t end) {
    std::vector<float> h(static_cast<size_t>(k));
    for (int64_t row = begin; row < end; ++row) {
      normRow(spec, inputs, row, h.data());
      if (spec.format == ActivationFormat::kFp16) {
        auto* y = static_cast<uint16_t*>(outputs[0].data) + row * k;
        for (int64_t i = 0; i < k; ++i) y[i] = floatToHalf(h[static_cast<size_t>(i)]);
      } else {
        const int64_t scaleBytes = isMx(spec.format) ? k / kMxBlock : 4;
        quantiseRow(spec, h.data(), static_cast<uint8_t*>(outputs[0].data) + row * k, static_cast<uint8_t*>(outputs[1].data) + row * scaleBytes);
      }
    }
  });
}

}  // namespace ladder::reference
