// Checks and times the kernels of matmul/tile alone, without Node: reads cases.txt and the cubins that make-tile-cases.mjs and nvcc
// leave, runs each against a reference in double precision (all outputs of some rows) which reads plain weights that are packed here,
// and times chains of launches as a CUDA graph with programmatic dependent launch.
// Usage: tile_bench FOLDER OUT.json [check] [time] [only=SUBSTRING]
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

enum Format { kFp16, kE5m2, kE4m3, kMxE5m2, kMxE4m3, kInt4A8, kInt4A4, kInt1A4 };
enum XScale { kNone, kRow, kOne };
enum Post { kPlain, kRelu, kSilu, kGelu, kResidual, kResidualRelu, kGlu };

struct Case {
  std::string name;
  int file, blocks, threads, shared, planes, count;
  int images, height, width, channels, ky, kx, sy, sx, py, px, oh, ow, n, format, xScale, post;
  long m() const { return long(images) * oh * ow; }
  int k() const { return ky * kx * channels; }
  bool mx() const { return format == kMxE5m2 || format == kMxE4m3; }
  int xBytes() const { return format == kFp16 ? 2 : 1; }
  int bits() const { return format == kFp16 ? 16 : format <= kMxE4m3 ? 8 : format == kInt1A4 ? 1 : 4; }
  int panelK() const { return format == kFp16 ? 64 : 128; }
  int panels() const { return (k() + panelK() - 1) / panelK(); }
  int chunks() const { return (n + 7) / 8; }
  int outputs() const { return post == kGlu ? n / 2 : n; }
  long places() const { return long(images) * height * width; }
};

// ---- Device: random data and reference ------------------------------------------------------------------------------------

__host__ __device__ inline uint32_t hashOf(uint64_t i, uint32_t seed) {
  uint64_t z = (i + 1) * 0x9E3779B97F4A7C15ull + seed * 0xD1B54A32D192ED03ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull, z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return static_cast<uint32_t>((z ^ (z >> 31)) >> 16);
}
__device__ inline float uniformOf(uint64_t i, uint32_t seed) { return hashOf(i, seed) * (2.0f / 4294967296.0f) - 1.0f; }

__global__ void fillHalf(__half* out, size_t count, float center, float range, uint32_t seed) {
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < count; i += size_t(gridDim.x) * blockDim.x)
    out[i] = __float2half_rn(center + range * uniformOf(i, seed));
}
__global__ void fillFloat(float* out, size_t count, float center, float range, uint32_t seed) {
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < count; i += size_t(gridDim.x) * blockDim.x)
    out[i] = center + range * uniformOf(i, seed);
}
// kind 0: any byte; 1: E5M2 below 2; 2: E4M3 without NaN; 3: E8M0 near 127; 4: -7…7; 5: -8…7; 6: 0 or 1
__global__ void fillBytes(uint8_t* out, size_t count, int kind, uint32_t seed) {
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < count; i += size_t(gridDim.x) * blockDim.x) {
    uint32_t b = hashOf(i, seed) & 0xff;
    if (kind == 1) b &= 0xbf;
    if (kind == 2 && (b & 0x7f) == 0x7f) b ^= 1;
    if (kind == 3) b = 125 + (b & 3);
    if (kind == 4) b = static_cast<uint8_t>(static_cast<int>(b % 15) - 7);
    if (kind == 5) b = static_cast<uint8_t>(static_cast<int>(b % 16) - 8);
    if (kind == 6) b &= 1;
    out[i] = b;
  }
}

__device__ double fp8(uint8_t code, bool e4m3) { return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, e4m3 ? __NV_E4M3 : __NV_E5M2))); }

struct Device { int images, height, width, channels, ky, kx, sy, sx, py, px, oh, ow, n, format, xScale, post, planes; };

struct Buffers {
  const void *x, *xScale, *plain, *plainScale;
  const __half *scale, *bias, *residual, *y;
};

__global__ void pack(Device d, const void* plain, const uint8_t* plainScale, uint8_t* weight, uint8_t* scale) {
  const int k = d.ky * d.kx * d.channels, panelK = d.format == kFp16 ? 64 : 128, panels = (k + panelK - 1) / panelK, chunks = (d.n + 7) / 8;
  const size_t total = size_t(chunks) * 8 * panels * panelK;
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < total; i += size_t(gridDim.x) * blockDim.x) {
    const int kk = i % (size_t(panels) * panelK), stored = i / (size_t(panels) * panelK), r = stored % 8, panel = kk / panelK,
              in = kk % panelK;
    int chunk = stored / 8;
    const int n = d.post == kGlu ? chunk % 2 * (d.n / 2) + chunk / 2 * 8 + r : stored;
    const bool there = n < d.n && kk < k;
    const size_t from = size_t(n) * k + kk, at = size_t(chunk) * panels + panel;
    if (d.planes) {
      if (kk < k)
        reinterpret_cast<__half*>(weight)[size_t(kk) * chunks * 8 + stored] =
            there ? static_cast<const __half*>(plain)[from] : __half(1.0f);
      continue;
    }
    if (d.format == kFp16) {
      reinterpret_cast<__half*>(weight)[at * 512 + in / 8 * 64 + r * 8 + in % 8] =
          there ? static_cast<const __half*>(plain)[from] : __half(1.0f);
      continue;
    }
    const uint8_t code = there ? static_cast<const uint8_t*>(plain)[from] : d.format == kInt1A4 ? 1 : 3;
    if (d.format <= kMxE4m3) {
      weight[at * 1024 + in / 16 * 128 + r * 16 + in % 16] = code;
      if ((d.format == kMxE5m2 || d.format == kMxE4m3) && in % 32 == 0)
        scale[at * 32 + r * 4 + in / 32] = there ? plainScale[size_t(n) * (k / 32) + kk / 32] : 127;
    } else {
      const int step = in / 32, half = in / 16 % 2, t = in / 4 % 4, q = in % 4;
      if (d.format == kInt1A4) {
        const size_t bit = at * 1024 + r * 128 + t * 32 + q * 8 + step * 2 + half;
        if (code) atomicOr(reinterpret_cast<unsigned*>(weight) + bit / 32, 1u << bit % 32);
      } else {
        const size_t nibble = at * 1024 + step * 256 + r * 32 + t * 8 + q * 2 + half;
        atomicOr(reinterpret_cast<unsigned*>(weight) + nibble / 8, (code & 15u) << nibble % 8 * 4);
      }
    }
  }
}

__device__ double product(const Device& d, const Buffers& b, long row, int n) {
  const int image = row / (d.oh * d.ow), oy = row / d.ow % d.oh, ox = row % d.ow, k = d.ky * d.kx * d.channels;
  double sum = 0;
  for (int y = 0; y < d.ky; ++y) {
    for (int x = 0; x < d.kx; ++x) {
      const int iy = oy * d.sy - d.py + y, ix = ox * d.sx - d.px + x;
      if (iy < 0 || iy >= d.height || ix < 0 || ix >= d.width) continue;
      const size_t place = (size_t(image) * d.height + iy) * d.width + ix;
      for (int c = 0; c < d.channels; ++c) {
        const size_t inPlanes = ((size_t(image) * d.channels + c) * d.height + iy) * d.width + ix;
        const size_t at = d.planes ? inPlanes : place * d.channels + c, w = size_t(n) * k + (y * d.kx + x) * d.channels + c;
        double a, v;
        if (d.format == kFp16) {
          a = __half2float(static_cast<const __half*>(b.x)[at]), v = __half2float(static_cast<const __half*>(b.plain)[w]);
        } else {
          const uint8_t ac = static_cast<const uint8_t*>(b.x)[at], wc = static_cast<const uint8_t*>(b.plain)[w];
          if (d.format <= kMxE4m3) {
            const bool e4m3 = d.format == kE4m3 || d.format == kMxE4m3;
            a = fp8(ac, e4m3), v = fp8(wc, e4m3);
            if (d.format >= kMxE5m2)
              a *= exp2(static_cast<const uint8_t*>(b.xScale)[at / 32] - 127.0),
                  v *= exp2(static_cast<const uint8_t*>(b.plainScale)[w / 32] - 127.0);
          } else {
            a = static_cast<int8_t>(ac), v = d.format == kInt1A4 ? 2.0 * wc - 1 : static_cast<int8_t>(wc);
          }
        }
        sum += a * v;
      }
    }
  }
  if (d.xScale == kRow) sum *= static_cast<const float*>(b.xScale)[row];
  if (d.xScale == kOne) sum *= static_cast<const float*>(b.xScale)[0];
  if (d.xScale != kNone) sum *= __half2float(b.scale[n]);
  return sum + __half2float(b.bias[n]);
}

/// sums[0..3]: squared error, squared reference, largest error, how many are no numbers
__global__ void compare(Device d, Buffers b, const long* rows, int count, double* sums) {
  const int outputs = d.post == kGlu ? d.n / 2 : d.n;
  for (long i = blockIdx.x * long(blockDim.x) + threadIdx.x; i < long(count) * outputs; i += long(gridDim.x) * blockDim.x) {
    const long row = rows[i / outputs];
    const int n = i % outputs;
    double v = product(d, b, row, n);
    const double r = __half2float(b.residual[row * outputs + n]);
    if (d.post == kResidual || d.post == kResidualRelu) v += r;
    if (d.post == kRelu || d.post == kResidualRelu) v = fmax(v, 0.0);
    if (d.post == kSilu) v = v / (1 + exp(-v));
    if (d.post == kGelu) v = 0.5 * v * (1 + erf(v * 0.7071067811865476));
    if (d.post == kGlu) v = v / (1 + exp(-product(d, b, row, n + outputs)));
    const double y = __half2float(b.y[row * outputs + n]), e = y - v;
    if (!(fabs(e) < 1e30)) atomicAdd(sums + 3, 1.0);
    else {
      atomicAdd(sums, e * e), atomicAdd(sums + 1, v * v);
      atomicMax(reinterpret_cast<unsigned long long*>(sums + 2), static_cast<unsigned long long>(__double_as_longlong(fabs(e))));
    }
  }
}

// ---- Host -----------------------------------------------------------------------------------------------------------------

template <class T>
T* allocate(size_t count) {
  void* p = nullptr;
  CHECK(cudaMalloc(&p, count * sizeof(T) + 256));
  return static_cast<T*>(p);
}

int main(int argc, char** argv) {
  const std::string folder = argv[1];
  bool doCheck = false, doTime = false;
  std::string only;
  for (int i = 3; i < argc; ++i) {
    const std::string a = argv[i];
    if (a == "check") doCheck = true;
    if (a == "time") doTime = true;
    if (a.rfind("only=", 0) == 0) only = a.substr(5);
  }
  CHECK(cudaFree(nullptr));
  std::map<int, cudaLibrary_t> libraries;
  std::ifstream in(folder + "/cases.txt");
  std::string line;
  FILE* json = fopen(argv[2], "w");
  fprintf(json, "[");
  bool first = true;
  int bad = 0, done = 0;
  cudaStream_t stream;
  CHECK(cudaStreamCreate(&stream));
  cudaEvent_t begin, end;
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&end));
  while (std::getline(in, line)) {
    Case c;
    std::istringstream s(line);
    s >> c.name >> c.file >> c.blocks >> c.threads >> c.shared >> c.planes >> c.count >> c.images >> c.height >> c.width >> c.channels >>
        c.ky >> c.kx >> c.sy >> c.sx >> c.py >> c.px >> c.oh >> c.ow >> c.n >> c.format >> c.xScale >> c.post;
    if (!only.empty() && c.name.find(only) == std::string::npos) continue;
    if (!libraries.count(c.file)) {
      cudaLibrary_t library;
      const std::string path = folder + "/tiles" + std::to_string(c.file) + ".cubin";
      CHECK(cudaLibraryLoadFromFile(&library, path.c_str(), nullptr, nullptr, 0, nullptr, nullptr, 0));
      libraries[c.file] = library;
    }
    cudaKernel_t kernel;
    CHECK(cudaLibraryGetKernel(&kernel, libraries[c.file], c.name.c_str()));
    const void* const function = reinterpret_cast<const void*>(kernel);
    CHECK(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, c.shared));
    const Device d{c.images, c.height, c.width, c.channels, c.ky,     c.kx,     c.sy,   c.sx,    c.py,
                   c.px,     c.oh,     c.ow,    c.n,        c.format, c.xScale, c.post, c.planes};
    const size_t xCount = size_t(c.places()) * c.channels, wCount = size_t(c.n) * c.k(), yCount = size_t(c.m()) * c.outputs();
    const size_t stored = size_t(c.chunks()) * c.panels() * 8 * c.panelK() * c.bits() / 8;
    uint8_t *x = allocate<uint8_t>(xCount * c.xBytes()), *plain = allocate<uint8_t>(wCount * c.xBytes()),
            *weight = allocate<uint8_t>(stored);
    uint8_t* plainScale = allocate<uint8_t>(wCount / 32 + 1);
    uint8_t* mxScale = allocate<uint8_t>(size_t(c.chunks()) * c.panels() * 32);
    uint8_t* xScale = allocate<uint8_t>(std::max<size_t>(xCount / 32 + 1, c.m() * 4));
    __half *scale = allocate<__half>(c.n), *bias = allocate<__half>(c.n), *residual = allocate<__half>(yCount),
           *y = allocate<__half>(yCount);
    const int codes[] = {0, 1, 2, 1, 2, 0, 4, 4}, weights[] = {0, 1, 2, 1, 2, 5, 5, 6};
    if (c.format == kFp16) {
      fillHalf<<<1024, 256>>>(reinterpret_cast<__half*>(x), xCount, 0, 1, 1);
      fillHalf<<<1024, 256>>>(reinterpret_cast<__half*>(plain), wCount, 0, 0.1f, 2);
    } else {
      fillBytes<<<1024, 256>>>(x, xCount, codes[c.format], 1);
      fillBytes<<<1024, 256>>>(plain, wCount, weights[c.format], 2);
      fillBytes<<<1024, 256>>>(plainScale, wCount / 32 + 1, 3, 3);
      if (c.mx()) fillBytes<<<1024, 256>>>(xScale, xCount / 32 + 1, 3, 4);
      else fillFloat<<<1024, 256>>>(reinterpret_cast<float*>(xScale), c.m(), 0.5f, 0.3f, 4);
    }
    fillHalf<<<64, 256>>>(scale, c.n, 0.02f, 0.01f, 5);
    fillHalf<<<64, 256>>>(bias, c.n, 0, 0.5f, 6);
    fillHalf<<<1024, 256>>>(residual, yCount, 0, 1, 7);
    CHECK(cudaMemset(weight, 0, stored));
    pack<<<1024, 256>>>(d, plain, plainScale, weight, mxScale);
    CHECK(cudaMemset(y, 0xff, yCount * 2 + 256));
    CHECK(cudaDeviceSynchronize());

    const void* scaleUsed = c.mx() ? static_cast<const void*>(mxScale) : scale;
    std::vector<void*> arguments = {&x};
    if (c.xScale != kNone || c.mx()) arguments.push_back(&xScale);
    arguments.push_back(&weight);
    if (c.format != kFp16) arguments.push_back(&scaleUsed);
    arguments.push_back(&bias);
    if (c.post == kResidual || c.post == kResidualRelu) arguments.push_back(&residual);
    arguments.push_back(&y);
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = c.blocks, config.blockDim = c.threads, config.dynamicSmemBytes = c.shared, config.stream = stream;
    config.attrs = &attribute, config.numAttrs = 1;
    const auto launch = [&] { CHECK(cudaLaunchKernelExC(&config, function, arguments.data())); };

    double l2 = 0, largest = 0, noNumbers = 0;
    if (doCheck) {
      launch();
      CHECK(cudaStreamSynchronize(stream));
      std::vector<long> rows;
      const double cost = double(c.k()) * c.outputs();
      const long most = std::max<long>(64, std::min<long>(2048, long(1.5e9 / cost)));
      for (long i = 0; i < std::min(c.m(), most); ++i) {
        // The first, the last, and some between.
        const long each = most / 3;
        rows.push_back(c.m() <= most ? i : i < each ? i : i < 2 * each ? c.m() - 1 - (i - each) : long(hashOf(i, 9) % uint64_t(c.m())));
      }
      long* rowsThere = allocate<long>(rows.size());
      double* sums = allocate<double>(4);
      CHECK(cudaMemcpy(rowsThere, rows.data(), rows.size() * sizeof(long), cudaMemcpyHostToDevice));
      CHECK(cudaMemset(sums, 0, 32));
      compare<<<2048, 128>>>(d, Buffers{x, xScale, plain, plainScale, scale, bias, residual, y}, rowsThere, int(rows.size()), sums);
      double got[4];
      CHECK(cudaMemcpy(got, sums, 32, cudaMemcpyDeviceToHost));
      uint8_t after[256];
      CHECK(cudaMemcpy(after, reinterpret_cast<uint8_t*>(y) + yCount * 2, 256, cudaMemcpyDeviceToHost));
      for (const uint8_t b : after)
        if (b != 0xff) noNumbers += 1;
      l2 = std::sqrt(got[0] / got[1]), largest = got[2] / std::sqrt(got[1] / (double(rows.size()) * c.outputs())), noNumbers += got[3];
      CHECK(cudaFree(rowsThere));
      CHECK(cudaFree(sums));
      if (!(l2 < 1e-3) || noNumbers > 0 || !(largest < 2e-2)) {
        ++bad;
        printf("BAD %s: relative L2 %.3g, largest %.3g, no numbers %g\n", c.name.c_str(), l2, largest, noNumbers);
      }
    }
    double us = 0;
    if (doTime) {
      const double flops = 2.0 * c.m() * c.n * c.k();
      const int chain = std::max(4, std::min(40, int(2e-3 / (flops / 3e14 + 4e-6))));
      cudaGraph_t graph;
      cudaGraphExec_t executable;
      CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
      for (int i = 0; i < chain; ++i) launch();
      CHECK(cudaStreamEndCapture(stream, &graph));
      CHECK(cudaGraphInstantiate(&executable, graph, 0));
      std::vector<float> times;
      for (int i = 0; i < 9; ++i) {
        CHECK(cudaEventRecord(begin, stream));
        CHECK(cudaGraphLaunch(executable, stream));
        CHECK(cudaEventRecord(end, stream));
        CHECK(cudaEventSynchronize(end));
        float ms;
        CHECK(cudaEventElapsedTime(&ms, begin, end));
        if (i >= 2) times.push_back(ms);
      }
      std::sort(times.begin(), times.end());
      us = times[times.size() / 2] * 1e3 / chain;
      CHECK(cudaGraphExecDestroy(executable));
      CHECK(cudaGraphDestroy(graph));
    }
    CHECK(cudaDeviceSynchronize());
    const double flops = 2.0 * c.m() * c.n * c.k();
    const bool residualRead = c.post == kResidual || c.post == kResidualRelu;
    // Of a strided kernel of one tap only the places that are read count.
    const double xRead = std::min<double>(double(xCount), double(c.m()) * c.k()) * c.xBytes();
    const double bytes = xRead + wCount * c.bits() / 8.0 + yCount * 2.0 * (residualRead ? 2 : 1);
    const double floorUs = std::max(bytes / 3.10e6, flops / (c.format == kFp16 || c.mx() ? 650e6 : 1150e6));
    fprintf(
        json,
        "%s\n{\"name\":\"%s\",\"count\":%d,\"us\":%.3f,\"floorUs\":%.3f,\"gflop\":%.4f,\"mb\":%.4f,\"l2\":%.3g,\"largest\":%.3g,\"bad\":%g}",
        first ? "" : ",", c.name.c_str(), c.count, us, floorUs, flops / 1e9, bytes / 1e6, l2, largest, noNumbers);
    first = false;
    ++done;
    for (void* p : {(void*)x, (void*)plain, (void*)weight, (void*)plainScale, (void*)mxScale, (void*)xScale, (void*)scale, (void*)bias,
                    (void*)residual, (void*)y})
      CHECK(cudaFree(p));
  }
  fprintf(json, "\n]\n");
  fclose(json);
  printf("%d kernels, %d bad\n", done, bad);
  return bad ? 1 : 0;
}
