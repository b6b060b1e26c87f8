// Checks and times the dense decoding kernels as the builder plans them, layer by layer, without Node: reads cases.txt and the
// cubins (or PTX) that make-cases.mjs and build.sh leave, runs each operator against a double-precision reference that reads
// the same packed weights through the layout's digits, then times the chain as a CUDA graph (with and without programmatic
// dependent launch) and each operator alone over rotating weights. Norm, quantisation and attention between the products are
// plain stand-ins here. Usage: layer_bench FOLDER SUFFIX(.cubin|.ptx) OUT.json [check] [only=SUBSTRING]
#include <cuda.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#define CHECK(call)                                                                      \
  do {                                                                                   \
    auto status_ = (call);                                                               \
    if (status_ != 0) {                                                                  \
      fprintf(stderr, "%s:%d: %s: error %d\n", __FILE__, __LINE__, #call, (int)status_); \
      exit(1);                                                                           \
    }                                                                                    \
  } while (0)

constexpr double kCeilingBytesPerS = 3.10e12;

// ---- Device: random data and reference ------------------------------------------------------------------------------------

__host__ __device__ inline uint32_t hash(uint64_t i, uint32_t seed) {
  uint64_t z = (i + 1) * 0x9E3779B97F4A7C15ull + seed * 0xD1B54A32D192ED03ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull, z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return static_cast<uint32_t>((z ^ (z >> 31)) >> 16);
}
__device__ inline float uniform(uint64_t i, uint32_t seed) { return hash(i, seed) * (2.0f / 4294967296.0f) - 1.0f; }

__global__ void fillHalf(__half* out, size_t count, float center, float range, uint32_t seed) {
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < count; i += size_t(gridDim.x) * blockDim.x)
    out[i] = __float2half_rn(center + range * uniform(i, seed));
}
// kind 0: any byte; 1: E5M2 below 2; 2: E4M3 without NaN; 3: E8M0 near `center`
__global__ void fillBytes(uint8_t* out, size_t count, int kind, int center, uint32_t seed) {
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < count; i += size_t(gridDim.x) * blockDim.x) {
    uint32_t b = hash(i, seed) & 0xff;
    if (kind == 1) b &= 0xbf;
    if (kind == 2 && (b & 0x7f) == 0x7f) b ^= 1;
    if (kind == 3) b = center + (b & 3);
    out[i] = b;
  }
}

enum Weight { kFp16, kInt4, kNf4, kE5m2, kE4m3, kMxE5m2, kMxE4m3, kInt1 };
enum Activation { kActFp16, kActE5m2, kActE4m3, kActMxE5m2, kActMxE4m3, kActInt8 };

__device__ inline float fp8ToFloat(uint8_t code, bool e4m3) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, e4m3 ? __NV_E4M3 : __NV_E5M2)));
}
// clang-format off
__constant__ float kNf4Values[16] = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022833f,
  -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f,
  0.5626170039176941f, 0.7229568362236023f, 1.0f};
// clang-format on

__device__ inline float decodeWeight(const uint8_t* w, size_t index, int format) {
  switch (format) {
    case kFp16: return __half2float(reinterpret_cast<const __half*>(w)[index]);
    case kInt4: {
      int v = w[index / 2] >> (index % 2 * 4) & 15;
      return v >= 8 ? v - 16 : v;
    }
    case kNf4: return kNf4Values[w[index / 2] >> (index % 2 * 4) & 15];
    case kE5m2:
    case kMxE5m2: return fp8ToFloat(w[index], false);
    case kE4m3:
    case kMxE4m3: return fp8ToFloat(w[index], true);
    default: return (w[index / 8] >> (index % 8) & 1) ? 1.0f : -1.0f;
  }
}

// One block per row: norm in FP32 from double sums, then quantisation; leaves dequantised values, and codes and scales.
__global__ void prepareActivations(const __half* x, const __half* gain, const __half* beta, int k, int norm, float eps, int activation,
                                   double* values, uint8_t* codes, float* scales, uint8_t* e8m0) {
  __shared__ double red[256];
  const int row = blockIdx.x, t = threadIdx.x;
  x += size_t(row) * k, values += size_t(row) * k;
  auto reduce = [&](double v, bool isMax) {
    __syncthreads();
    red[t] = v;
    __syncthreads();
    for (int s = 128; s > 0; s /= 2) {
      if (t < s) red[t] = isMax ? fmax(red[t], red[t + s]) : red[t] + red[t + s];
      __syncthreads();
    }
    return red[0];
  };
  double mean = 0, inverse = 1;
  if (norm == 2) {
    double s = 0;
    for (int i = t; i < k; i += 256) s += __half2float(x[i]);
    mean = reduce(s, false) / k;
  }
  if (norm) {
    double s = 0;
    for (int i = t; i < k; i += 256) {
      double d = __half2float(x[i]) - mean;
      s += d * d;
    }
    inverse = 1 / sqrt(reduce(s, false) / k + eps);
  }
  auto value = [&](int i) -> float {
    double h = __half2float(x[i]);
    if (norm) h = (h - mean) * inverse * __half2float(gain[i]) + (norm == 2 ? __half2float(beta[i]) : 0.0f);
    return static_cast<float>(h);
  };
  if (activation == kActFp16) {
    for (int i = t; i < k; i += 256) {
      const __half h = __float2half_rn(value(i));
      values[i] = __half2float(h);
      if (codes) reinterpret_cast<__half*>(codes)[size_t(row) * k + i] = h;
    }
    return;
  }
  const bool e4m3 = activation == kActE4m3 || activation == kActMxE4m3;
  const auto kind = e4m3 ? __NV_E4M3 : __NV_E5M2;
  if (activation == kActMxE5m2 || activation == kActMxE4m3) {
    for (int b = t; b < k / 32; b += 256) {
      float amax = 0;
      for (int i = 0; i < 32; ++i) amax = fmaxf(amax, fabsf(value(b * 32 + i)));
      int code = amax == 0 ? 127 : min(max(ilogbf(amax) - (e4m3 ? 8 : 15) + 127, 0), 254);
      if (e8m0) e8m0[size_t(row) * (k / 32) + b] = code;
      for (int i = 0; i < 32; ++i) {
        const uint8_t q = __nv_cvt_float_to_fp8(ldexpf(value(b * 32 + i), 127 - code), __NV_SATFINITE, kind);
        values[b * 32 + i] = ldexp(double(fp8ToFloat(q, e4m3)), code - 127);
        if (codes) codes[size_t(row) * k + b * 32 + i] = q;
      }
    }
    return;
  }
  double m = 0;
  for (int i = t; i < k; i += 256) m = fmax(m, fabs(double(value(i))));
  const float amax = reduce(m, true);
  const float s = amax == 0 ? 1.0f : amax / (activation == kActInt8 ? 127.0f : e4m3 ? 448.0f : 57344.0f);
  if (t == 0 && scales) scales[row] = s;
  for (int i = t; i < k; i += 256) {
    const float q = value(i) / s;
    if (activation == kActInt8) {
      int v = __float2int_rn(q);
      values[i] = double(v) * s;
      if (codes) codes[size_t(row) * k + i] = uint8_t(v);
    } else {
      uint8_t c = __nv_cvt_float_to_fp8(q, __NV_SATFINITE, kind);
      values[i] = double(fp8ToFloat(c, e4m3)) * s;
      if (codes) codes[size_t(row) * k + i] = c;
    }
  }
}

struct Reference {
  const uint8_t* weight;
  const void* scale;
  const __half* bias;
  const __half* residual;
  const double* values;
  double* out;
  const uint64_t *offsetN, *offsetK, *scaleN, *scaleK;
  int m, n, k, format, group, function;
};
__device__ double referenceRow(const Reference& r, int row, int n, double* red) {
  double s = 0;
  for (int i = threadIdx.x; i < r.k; i += 128) {
    double w = decodeWeight(r.weight, r.offsetN[n] + r.offsetK[i], r.format);
    if (r.group > 0) {
      const size_t at = r.scaleN[n] + r.scaleK[i / r.group];
      w *= r.group == 32 ? ldexp(1.0, int(static_cast<const uint8_t*>(r.scale)[at]) - 127)
                         : double(__half2float(static_cast<const __half*>(r.scale)[at]));
    }
    s += w * r.values[size_t(row) * r.k + i];
  }
  __syncthreads();
  red[threadIdx.x] = s;
  __syncthreads();
  for (int d = 64; d > 0; d /= 2) {
    if (threadIdx.x < d) red[threadIdx.x] += red[threadIdx.x + d];
    __syncthreads();
  }
  s = red[0];
  if (r.group < 0 && r.format != kFp16) s *= __half2float(static_cast<const __half*>(r.scale)[n]);
  if (r.bias) s += __half2float(r.bias[n]);
  return s;
}
__global__ void reference(Reference r) {
  __shared__ double red[128];
  const int outputs = r.function == 1 ? r.n / 2 : r.n;
  for (int row = 0; row < r.m; ++row) {
    double v = referenceRow(r, row, blockIdx.x, red);
    if (r.function == 1) v = v / (1 + exp(-v)) * referenceRow(r, row, blockIdx.x + outputs, red);
    if (r.function == 2) v = 0.5 * v * (1 + tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
    if (r.residual) v += __half2float(r.residual[size_t(row) * outputs + blockIdx.x]);
    if (threadIdx.x == 0) r.out[size_t(row) * outputs + blockIdx.x] = v;
  }
}

// Stand-ins between the products, launched like the real ones.
__global__ void attentionStandIn(const __half* qkv, __half* y, int width, int heads, int kvHeads, int interleaved) {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  const int o = blockIdx.x * blockDim.x + threadIdx.x, rowWidth = (heads + 2 * kvHeads) * 128;
  if (o >= heads * 128) return;
  const int head = o / 128, d = o % 128;
  const int at = interleaved ? head * 384 + 256 + d : (heads + kvHeads + head / (heads / kvHeads)) * 128 + d;
  for (int row = 0; row < width; ++row) y[size_t(row) * heads * 128 + o] = qkv[size_t(row) * rowWidth + at];
}

/// Writes what it reads: like the real one, leaves a product's activations in L2.
__global__ void prepareStandIn(uint4* y, size_t pieces, uint4* scales, size_t scalePieces) {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  const size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x;
  if (i < pieces) __stcg(y + i, __ldcg(y + i));
  else if (i < pieces + scalePieces) __stcg(scales + i - pieces, __ldcg(scales + i - pieces));
}

// ---- Host ---------------------------------------------------------------------------------------------------------------------

struct Digit {
  char axis;
  uint64_t stride, size;
};
struct Op {
  std::string kind, name;
  int m = 0, n = 0, k = 0, format = 0, group = -1, activation = 0, quantised = 0, norm = 0, bias = 0, function = 0, residual = 0;
  float eps = 0;
  int xFrom = -1, residualFrom = -1, heads = 0, kvHeads = 0, interleaved = 0;
  int grid[3] = {1, 1, 1}, block = 0, shared = 0;
  std::vector<std::string> members;
  std::vector<Digit> layout, scaleLayout;
  // buffers
  uint8_t *weight = nullptr, *scale = nullptr, *next = nullptr;
  __half *gain = nullptr, *beta = nullptr, *biasData = nullptr;
  void *y = nullptr, *yScale = nullptr;
  size_t weightBytes = 0, scaleBytes = 0;
  CUfunction function_ = nullptr;
  size_t outputs() const { return function == 1 ? n / 2 : n; }
};
struct Chain {
  std::string name;
  bool timed = true;
  int m = 1;
  std::vector<Op> ops;
};

template <class T> T* allocate(size_t count) {
  void* p;
  CHECK(cudaMalloc(&p, count * sizeof(T) + 64));
  return static_cast<T*>(p);
}

/// Of a layout, rows of padding included.
size_t elements(const std::vector<Digit>& digits) {
  size_t product = 1;
  for (const auto& digit : digits) product *= digit.size;
  return product;
}

std::vector<uint64_t> offsets(const std::vector<Digit>& digits, char axis, uint64_t extent) {
  std::vector<uint64_t> table(extent, 0);
  uint64_t radix = 1;
  std::vector<uint64_t> weight(digits.size());
  for (size_t d = digits.size(); d-- > 0;) weight[d] = radix, radix *= digits[d].size;
  for (uint64_t i = 0; i < extent; ++i) {
    // The digits of an axis have strides that nest: take each coordinate's digit by stride and size.
    uint64_t at = 0;
    for (size_t d = 0; d < digits.size(); ++d)
      if (digits[d].axis == axis) at += (i / digits[d].stride % digits[d].size) * weight[d];
    table[i] = at;
  }
  return table;
}

uint64_t* upload(const std::vector<uint64_t>& v) {
  uint64_t* p = allocate<uint64_t>(v.size());
  CHECK(cudaMemcpy(p, v.data(), v.size() * 8, cudaMemcpyHostToDevice));
  return p;
}

std::vector<Chain> readCases(const std::string& path) {
  std::ifstream file(path);
  std::vector<Chain> chains;
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream in(line);
    std::string word;
    if (!(in >> word)) continue;
    if (word == "chain") {
      Chain c;
      in >> c.name >> c.timed >> c.m;
      chains.push_back(c);
      continue;
    }
    Op op;
    op.kind = word;
    in >> op.name;
    if (word == "attention") {
      in >> op.m >> op.heads >> op.kvHeads >> op.interleaved >> op.xFrom;
      op.n = op.heads * 128;
    } else if (word == "prepare") in >> op.m >> op.k >> op.norm >> op.eps >> op.activation >> op.xFrom;
    else {
      in >> op.m >> op.n >> op.k >> op.format >> op.group >> op.activation >> op.quantised >> op.norm >> op.eps >> op.bias >> op.function >>
          op.residual >> op.xFrom >> op.residualFrom;
      in >> op.grid[0] >> op.grid[1] >> op.grid[2] >> op.block >> op.shared;
      size_t count;
      in >> count;
      op.members.resize(count);
      for (auto& m : op.members) in >> m;
      for (auto* layout : {&op.layout, &op.scaleLayout}) {
        in >> count;
        layout->resize(count);
        for (auto& d : *layout) in >> d.axis >> d.stride >> d.size;
      }
      if (!in) {
        fprintf(stderr, "bad case: %s\n", line.c_str());
        exit(1);
      }
    }
    chains.back().ops.push_back(op);
  }
  return chains;
}

const double kRms[] = {0.577, 4.6, 0.55, 0.45, 150, 0.45, 150, 1};
const int kBits[] = {16, 4, 4, 8, 8, 8, 8, 1};

struct Runner {
  Chain& chain;
  CUmodule module;
  __half* x;
  std::vector<std::vector<uint8_t*>> copies;  // of weights, per operator

  void prepare(const std::string& image) {
    CHECK(cuModuleLoad(&module, image.c_str()));
    x = allocate<__half>(size_t(chain.m) * 65536);
    fillHalf<<<1024, 256>>>(x, size_t(chain.m) * 65536, 0.0f, 1.0f, 7);
    uint32_t seed = 100;
    for (auto& op : chain.ops) {
      if (op.kind == "attention") {
        op.y = allocate<__half>(size_t(op.m) * op.n);
        continue;
      }
      if (op.kind == "prepare") {
        op.y = allocate<__half>(size_t(op.m) * op.k);
        op.yScale = allocate<float>(op.m * (op.k / 32));
        continue;
      }
      CHECK(cuModuleGetFunction(&op.function_, module, op.name.c_str()));
      CHECK(cuFuncSetAttribute(op.function_, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, op.shared));
      op.weightBytes = elements(op.layout) * kBits[op.format] / 8;
      op.weight = allocate<uint8_t>(op.weightBytes);
      const double wanted = 1 / (kRms[op.format] * std::sqrt(double(op.k)) * 0.6);
      fillWeight(op, op.weight, seed++);
      if (op.format != kFp16) {
        const size_t scales = op.group > 0 ? elements(op.scaleLayout) : op.n;
        op.scaleBytes = scales * (op.group == 32 ? 1 : 2);
        op.scale = allocate<uint8_t>(op.scaleBytes);
        if (op.group == 32) fillBytes<<<1024, 256>>>(op.scale, scales, 3, 127 + int(std::floor(std::log2(wanted))) - 1, seed++);
        else fillHalf<<<1024, 256>>>(reinterpret_cast<__half*>(op.scale), scales, wanted, wanted * 0.5, seed++);
      }
      op.gain = allocate<__half>(op.k), fillHalf<<<64, 256>>>(op.gain, op.k, 1.0f, 0.2f, seed++);
      op.beta = allocate<__half>(op.k), fillHalf<<<64, 256>>>(op.beta, op.k, 0.0f, 0.2f, seed++);
      op.biasData = allocate<__half>(op.n), fillHalf<<<64, 256>>>(op.biasData, op.n, 0.0f, 0.5f, seed++);
      op.y = allocate<__half>(size_t(op.m) * op.n);
      CHECK(cudaMemset(op.y, 0xff, size_t(op.m) * op.n * 2));
    }
    uint8_t* next = nullptr;
    for (size_t i = chain.ops.size(); i-- > 0;)
      if (chain.ops[i].kind == "dense") chain.ops[i].next = next, next = chain.ops[i].weight;
    CHECK(cudaDeviceSynchronize());
  }

  static void fillWeight(const Op& op, uint8_t* weight, uint32_t seed) {
    if (op.format == kFp16)
      fillHalf<<<4096, 256>>>(reinterpret_cast<__half*>(weight), op.weightBytes / 2, 0, 1 / (std::sqrt(double(op.k)) * 0.4), seed);
    else
      fillBytes<<<4096, 256>>>(weight, op.weightBytes,
                               op.format == kE5m2 || op.format == kMxE5m2   ? 1
                               : op.format == kE4m3 || op.format == kMxE4m3 ? 2
                                                                            : 0,
                               0, seed);
  }

  void* value(int from) const { return from < 0 ? x : chain.ops[from].y; }

  template <class... P, class... A>
  static void launchStandIn(void (*kernel)(P...), int blocks, int threads, cudaStream_t stream, bool programmatic, A... arguments) {
    cudaLaunchConfig_t config{};
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization, attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = blocks, config.blockDim = threads, config.stream = stream, config.attrs = &attribute,
    config.numAttrs = programmatic ? 1 : 0;
    CHECK(cudaLaunchKernelEx(&config, kernel, P(arguments)...));
  }

  /// What runs in a prepare operator's place where time counts.
  void launchPrepared(const Op& op, cudaStream_t stream, bool programmatic) const {
    const size_t pieces = size_t(op.m) * op.k * (op.activation == kActFp16 ? 2 : 1) / 16, scalePieces = size_t(op.m) * op.k / 512;
    launchStandIn(prepareStandIn, int((pieces + scalePieces + 255) / 256), 256, stream, programmatic, (uint4*)op.y, pieces,
                  (uint4*)op.yScale, scalePieces);
  }

  void launch(const Op& op, cudaStream_t stream, bool programmatic, uint8_t* weight = nullptr) const {
    CUlaunchConfig config{};
    CUlaunchAttribute attribute{};
    attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = 1;
    config.hStream = stream, config.attrs = &attribute, config.numAttrs = programmatic ? 1 : 0;
    config.blockDimY = config.blockDimZ = config.gridDimY = config.gridDimZ = 1;
    if (op.kind == "attention") {
      launchStandIn(attentionStandIn, (op.n + 127) / 128, 128, stream, programmatic, (const __half*)value(op.xFrom), (__half*)op.y, op.m,
                    op.heads, op.kvHeads, op.interleaved);
      return;
    }
    if (op.kind == "prepare") {
      // Without the attribute: a full dependency, as the stand-in does not wait by itself.
      static double* scratch = allocate<double>(64 * 65536);
      const bool mx = op.activation == kActMxE5m2 || op.activation == kActMxE4m3;
      prepareActivations<<<op.m, 256, 0, stream>>>((const __half*)value(op.xFrom), x, x + 65536 / 2, op.k, op.norm, op.eps, op.activation,
                                                   scratch, (uint8_t*)op.y, mx ? nullptr : (float*)op.yScale,
                                                   mx ? (uint8_t*)op.yScale : nullptr);
      return;
    }
    std::map<std::string, void*> pointers{{"x", value(op.xFrom)},
                                          {"xScale", op.xFrom >= 0 ? chain.ops[op.xFrom].yScale : nullptr},
                                          {"weight", weight ? weight : op.weight},
                                          {"scale", op.scale},
                                          {"gain", op.gain},
                                          {"beta", op.beta},
                                          {"bias", op.biasData},
                                          {"residual", value(op.residualFrom)},
                                          {"next", op.next},
                                          {"y", op.y}};
    std::vector<void*> values, arguments;
    values.reserve(op.members.size());
    for (auto& m : op.members) values.push_back(pointers.at(m)), arguments.push_back(&values.back());
    config.gridDimX = op.grid[0], config.gridDimY = op.grid[1], config.gridDimZ = op.grid[2];
    config.blockDimX = op.block, config.sharedMemBytes = op.shared;
    CHECK(cuLaunchKernelEx(&config, op.function_, arguments.data(), nullptr));
  }

  // Largest error over the RMS of the reference, and the relative RMS error; both runs must agree to the bit.
  bool check(FILE* json) {
    bool good = true;
    for (auto& op : chain.ops) launch(op, 0, false);
    CHECK(cudaDeviceSynchronize());
    for (auto& op : chain.ops) {
      if (op.kind != "dense") continue;
      const size_t count = op.m * op.outputs();
      std::vector<__half> first(count), second(count);
      double* values = allocate<double>(size_t(op.m) * op.k);
      double* out = allocate<double>(count);
      if (op.quantised) {
        // The operator's own input, dequantised again: prepare once more from the operator's source.
        const Op& source = chain.ops[op.xFrom];
        prepareActivations<<<op.m, 256>>>((const __half*)value(source.xFrom), x, x + 65536 / 2, op.k, source.norm, source.eps,
                                          source.activation, values, nullptr, nullptr, nullptr);
      } else {
        prepareActivations<<<op.m, 256>>>((const __half*)value(op.xFrom), op.gain, op.beta, op.k, op.norm, op.eps, op.activation, values,
                                          nullptr, nullptr, nullptr);
      }
      Reference r{op.weight,
                  op.scale,
                  op.bias ? op.biasData : nullptr,
                  op.residual ? (const __half*)value(op.residualFrom) : nullptr,
                  values,
                  out,
                  upload(offsets(op.layout, 'n', op.n)),
                  upload(offsets(op.layout, 'k', op.k)),
                  nullptr,
                  nullptr,
                  op.m,
                  op.n,
                  op.k,
                  op.format,
                  op.group,
                  op.function};
      if (op.group > 0)
        r.scaleN = upload(offsets(op.scaleLayout, 'n', op.n)), r.scaleK = upload(offsets(op.scaleLayout, 'k', op.k / op.group));
      reference<<<op.outputs(), 128>>>(r);
      std::vector<double> expected(count);
      CHECK(cudaMemcpy(expected.data(), out, count * 8, cudaMemcpyDeviceToHost));
      CHECK(cudaMemcpy(first.data(), op.y, count * 2, cudaMemcpyDeviceToHost));
      CHECK(cudaMemset(op.y, 0xff, count * 2));
      launch(op, 0, false);
      CHECK(cudaMemcpy(second.data(), op.y, count * 2, cudaMemcpyDeviceToHost));
      double squares = 0, errors = 0, largest = 0;
      for (size_t i = 0; i < count; ++i) {
        const double e = double(__half2float(first[i])) - expected[i];
        squares += expected[i] * expected[i], errors += e * e;
        if (!(std::fabs(e) <= largest)) largest = std::fabs(e);
      }
      const double rms = std::sqrt(squares / count), relative = std::sqrt(errors / squares);
      const bool same = memcmp(first.data(), second.data(), count * 2) == 0;
      const bool ok = relative <= 1e-3 && same && rms > 0.01 && rms < 1e4;
      good &= ok;
      if (!ok)
        printf("  WRONG %s %s m=%d n=%d k=%d: relative %.3g, max/rms %.3g, rms %.3g, repeatable %d\n", chain.name.c_str(), op.name.c_str(),
               op.m, op.n, op.k, relative, largest / rms, rms, same);
      fprintf(json, "  {\"chain\":\"%s\",\"op\":\"%s\",\"relativeError\":%.4g,\"maxOverRms\":%.4g,\"rms\":%.4g,\"repeatable\":%s},\n",
              chain.name.c_str(), op.name.c_str(), relative, largest / rms, rms, same ? "true" : "false");
      for (const void* p : {(const void*)values, (const void*)out, (const void*)r.offsetN, (const void*)r.offsetK, (const void*)r.scaleN,
                            (const void*)r.scaleK})
        cudaFree(const_cast<void*>(p));
    }
    return good;
  }

  template <class F>
  static double medianUs(cudaStream_t stream, int samples, F run) {
    cudaEvent_t a, b;
    CHECK(cudaEventCreate(&a));
    CHECK(cudaEventCreate(&b));
    std::vector<float> times;
    for (int i = 0; i < samples + 10; ++i) {
      CHECK(cudaEventRecord(a, stream));
      run();
      CHECK(cudaEventRecord(b, stream));
      CHECK(cudaEventSynchronize(b));
      float ms;
      CHECK(cudaEventElapsedTime(&ms, a, b));
      if (i >= 10) times.push_back(ms * 1000);
    }
    std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
    cudaEventDestroy(a), cudaEventDestroy(b);
    return times[times.size() / 2];
  }

  template <class F>
  cudaGraphExec_t capture(cudaStream_t stream, F body) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    body();
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    CHECK(cudaGraphDestroy(graph));
    return exec;
  }

  void time(FILE* json) {
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    double total = 0, layer[2];
    for (auto& op : chain.ops) total += op.weightBytes + op.scaleBytes;
    // Twice in turn, and what counts is the second time: the power limit may lower clocks only after a while.
    for (int round = 0; round < 4; ++round) {
      const int pdl = round % 2;
      cudaGraphExec_t exec = capture(stream, [&] {
        for (auto& op : chain.ops) op.kind == "prepare" ? launchPrepared(op, stream, pdl) : launch(op, stream, pdl);
      });
      layer[pdl] = medianUs(stream, 200, [&] { CHECK(cudaGraphLaunch(exec, stream)); });
      CHECK(cudaGraphExecDestroy(exec));
    }
    printf("%-24s layer %8.1f us (no PDL %8.1f) %6.1f%% of ceiling |", chain.name.c_str(), layer[1], layer[0],
           total / layer[1] * 1e6 / kCeilingBytesPerS * 100);
    fprintf(json, "  {\"chain\":\"%s\",\"layerUs\":%.2f,\"layerWithoutPdlUs\":%.2f,\"weightBytes\":%.0f", chain.name.c_str(), layer[1],
            layer[0], total);
    for (auto& op : chain.ops) {
      if (op.kind != "dense") continue;
      // Alone, over copies that together exceed L2 four times.
      const size_t bytes = op.weightBytes + op.scaleBytes;
      const int count = std::max<size_t>(2, std::min<size_t>(40, (200u << 20) / bytes + 1));
      std::vector<uint8_t*> copies{op.weight};
      while (int(copies.size()) < count)
        copies.push_back(allocate<uint8_t>(op.weightBytes)), fillWeight(op, copies.back(), 999 + copies.size());
      CHECK(cudaDeviceSynchronize());
      cudaGraphExec_t exec = capture(stream, [&] {
        for (auto* w : copies) launch(op, stream, true, w);
      });
      const double us = medianUs(stream, 50, [&] { CHECK(cudaGraphLaunch(exec, stream)); }) / count;
      CHECK(cudaGraphExecDestroy(exec));
      for (size_t i = 1; i < copies.size(); ++i) cudaFree(copies[i]);
      const char* shortName = strstr(op.name.c_str(), "__");
      printf(" %s %.1f us %.0f%%", shortName ? shortName + 2 : op.name.c_str(), us, bytes / us * 1e6 / kCeilingBytesPerS * 100);
      fprintf(json, ",\"%s\":{\"us\":%.2f,\"bytes\":%zu}", shortName ? shortName + 2 : op.name.c_str(), us, bytes);
    }
    printf("\n");
    fprintf(json, "},\n");
    fflush(stdout);
    CHECK(cudaStreamDestroy(stream));
  }

  void release() {
    for (auto& op : chain.ops)
      for (void* p : {(void*)op.weight, (void*)op.scale, (void*)op.gain, (void*)op.beta, (void*)op.biasData, op.y, op.yScale}) cudaFree(p);
    cudaFree(x);
    CHECK(cuModuleUnload(module));
  }
};

int main(int argc, char** argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: layer_bench FOLDER .cubin|.ptx OUT.json [check] [only=SUBSTRING]\n");
    return 2;
  }
  bool checkOnly = false, force = false;
  std::string only;
  for (int i = 4; i < argc; ++i) {
    if (!strcmp(argv[i], "check")) checkOnly = true;
    if (!strcmp(argv[i], "force")) force = true;
    if (!strncmp(argv[i], "only=", 5)) only = argv[i] + 5;
  }
  CHECK(cudaFree(nullptr));
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0));
  FILE* json = fopen(argv[3], "w");
  fprintf(json, "{\"gpu\":\"%s\",\"image\":\"%s\",\"results\":[\n", properties.name, argv[2]);
  bool good = true;
  for (auto& chain : readCases(std::string(argv[1]) + "/cases.txt")) {
    if (!only.empty() && chain.name.find(only) == std::string::npos) continue;
    Runner runner{chain};
    runner.prepare(std::string(argv[1]) + "/" + chain.name + argv[2]);
    const bool ok = runner.check(json);  // `force` times what is wrong, for experiments
    if (checkOnly || !chain.timed) printf("%-24s %s\n", chain.name.c_str(), ok ? "right" : "WRONG");
    good &= ok;
    if ((ok || force) && !checkOnly && chain.timed) runner.time(json);
    runner.release();
  }
  fprintf(json, "  {}]}\n");
  fclose(json);
  return good ? 0 : 3;
}
