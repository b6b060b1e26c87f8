// cuBLASLt by dlopen: the few functions, types and values that one product needs (cublasLt.h, the same in CUDA 12 and 13).
//
// The library is column-major. Row-major D = A·Bᵀ is column-major Dᵀ = B·Aᵀ with both inputs K-contiguous: operand "A" is
// our weights, transposed; operand "B" our activations, as they are. FP8 and INT8 tensor cores accept only this form.
#include "cublaslt.h"

#include <dlfcn.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#include "device.h"
#include "failure.h"
#include "handles.h"

namespace ladder::cuda {
namespace {

using Status = int;  // cublasStatus_t
using Handle = struct CublasLtOpaque*;
using MatmulDesc = struct MatmulDescOpaque*;
using MatrixLayout = struct MatrixLayoutOpaque*;
using Preference = struct PreferenceOpaque*;

constexpr Status kStatusSuccess = 0;
constexpr Status kStatusNotSupported = 15;

// cudaDataType_t
constexpr int kReal32F = 0;
constexpr int kReal16F = 2;
constexpr int kReal8I = 3;
constexpr int kReal32I = 10;
constexpr int kReal8FE4M3 = 28;
// cublasComputeType_t
constexpr int kCompute32F = 68;
constexpr int kCompute32I = 72;
// cublasLtMatmulDescAttributes_t, cublasOperation_t, cublasLtMatmulPreferenceAttributes_t
constexpr int kDescTransA = 3;
constexpr int kDescFastAccumulation = 25;
constexpr int32_t kOperationTranspose = 1;
constexpr int kPreferenceMaxWorkspaceBytes = 1;

/// cublasLtMatmulAlgo_t and cublasLtMatmulHeuristicResult_t
struct Algorithm { uint64_t data[8]; };
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspaceBytes;
  Status state;
  float wavesCount;
  int reserved[4];
};
static_assert(sizeof(HeuristicResult) == 96, "cublasLtMatmulHeuristicResult_t is 96 bytes");

#define LADDER_CUBLASLT_FUNCTIONS(X)                                                                                                      \
  X(create, "cublasLtCreate", Status, Handle*)                                                                                            \
  X(destroy, "cublasLtDestroy", Status, Handle)                                                                                           \
  X(getVersion, "cublasLtGetVersion", size_t, void)                                                                                       \
  X(getStatusName, "cublasLtGetStatusName", const char*, Status)                                                                          \
  X(matmulDescCreate, "cublasLtMatmulDescCreate", Status, MatmulDesc*, int, int)                                                          \
  X(matmulDescDestroy, "cublasLtMatmulDescDestroy", Status, MatmulDesc)                                                                   \
  X(matmulDescSet, "cublasLtMatmulDescSetAttribute", Status, MatmulDesc, int, const void*, size_t)                                        \
  X(layoutCreate, "cublasLtMatrixLayoutCreate", Status, MatrixLayout*, int, uint64_t, uint64_t, int64_t)                                  \
  X(layoutDestroy, "cublasLtMatrixLayoutDestroy", Status, MatrixLayout)                                                                   \
  X(preferenceCreate, "cublasLtMatmulPreferenceCreate", Status, Preference*)                                                              \
  X(preferenceDestroy, "cublasLtMatmulPreferenceDestroy", Status, Preference)                                                             \
  X(preferenceSet, "cublasLtMatmulPreferenceSetAttribute", Status, Preference, int, const void*, size_t)                                  \
  X(heuristic, "cublasLtMatmulAlgoGetHeuristic", Status, Handle, MatmulDesc, MatrixLayout, MatrixLayout, MatrixLayout, MatrixLayout,      \
    Preference, int, HeuristicResult*, int*)                                                                                              \
  X(matmul, "cublasLtMatmul", Status, Handle, MatmulDesc, const void*, const void*, MatrixLayout, const void*, MatrixLayout, const void*, \
    const void*, MatrixLayout, void*, MatrixLayout, const Algorithm*, void*, size_t, StreamHandle)

struct Library {
#define LADDER_DECLARE(member, symbol, result, ...) result (*member)(__VA_ARGS__) = nullptr;
  LADDER_CUBLASLT_FUNCTIONS(LADDER_DECLARE)
#undef LADDER_DECLARE
};

/// Opens the library once per process; a failure is not remembered, since another path may be given next time.
const Library& library(const std::string& path) {
  static std::mutex mutex;
  static const Library* loaded = nullptr;  // never closed: its kernels are loaded in the context
  const std::lock_guard<std::mutex> lock(mutex);
  if (loaded) return *loaded;
  std::vector<std::string> names;
  if (!path.empty()) names.push_back(path);
  for (const char* version : {"13", "12"}) {
    const std::string name = std::string("libcublasLt.so.") + version;
    names.push_back(name);
    names.push_back("/usr/local/cuda/lib64/" + name);
  }
  void* handle = nullptr;
  std::string tried;
  for (const std::string& name : names) {
    handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle) break;
    tried += (tried.empty() ? "" : ", ") + name;
  }
  if (!handle) {
    throw Error("UNSUPPORTED",
                "cuBLASLt could not be loaded (tried " + tried + "); install CUDA's cuBLAS, or name libcublasLt.so with LADDER_CUBLASLT");
  }
  auto found = std::make_unique<Library>();
#define LADDER_FIND(member, symbol, result, ...)                                                            \
  found->member = reinterpret_cast<result (*)(__VA_ARGS__)>(dlsym(handle, symbol));                         \
  if (!found->member) {                                                                                     \
    dlclose(handle);                                                                                        \
    throw Error("UNSUPPORTED", "the cuBLASLt that was found lacks " symbol "; version 12 or 13 is needed"); \
  }
  LADDER_CUBLASLT_FUNCTIONS(LADDER_FIND)
#undef LADDER_FIND
  loaded = found.release();
  return *loaded;
}

/// Owns one object of the library.
template <typename T>
class Owned {
 public:
  explicit Owned(Status (*destroy)(T)) : destroy_(destroy) {}
  ~Owned() {
    if (object_) destroy_(object_);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  T* address() { return &object_; }
  T get() const { return object_; }

 private:
  T object_ = nullptr;
  Status (*destroy_)(T);
};

struct TypeFacts {
  const char* name;
  int input, output;  // cudaDataType_t
  int64_t inputBytes, outputBytes;
  int compute, scale;
};

TypeFacts factsOf(MatmulType type) {
  switch (type) {
    case MatmulType::kFp16: return {"fp16", kReal16F, kReal16F, 2, 2, kCompute32F, kReal32F};
    case MatmulType::kFp8E4m3: return {"fp8_e4m3", kReal8FE4M3, kReal16F, 1, 2, kCompute32F, kReal32F};
    case MatmulType::kInt8: return {"int8", kReal8I, kReal32I, 1, 4, kCompute32I, kReal32I};
  }
  throw Error("INTERNAL", "a matrix product of a type that does not exist");
}

constexpr size_t kWorkspaceBytes = size_t{64} << 20;
constexpr int kProposals = 16;
constexpr double kCandidateMs = 10;  // of GPU time per proposal
constexpr double kFinalMs = 300;
constexpr size_t kPatternBytes = size_t{4} << 20;

/// One product, ready to be enqueued.
class Product {
 public:
  Product(int ordinal, const MatmulProblem& problem, const std::string& path)
      : facts_(factsOf(problem.type)), problem_(problem), library_(library(path)), handle_(library_.destroy),
        desc_(library_.matmulDescDestroy), weights_(library_.layoutDestroy), activations_(library_.layoutDestroy),
        result_(library_.layoutDestroy), stream_(Stream::create()) {
    call(library_.create(handle_.address()), "creating a handle");
    call(library_.matmulDescCreate(desc_.address(), facts_.compute, facts_.scale), "describing the product");
    set(kDescTransA, kOperationTranspose);
    // The tensor core's own accumulation, which the kernels that this is the ceiling of use, too.
    if (problem.type == MatmulType::kFp8E4m3) set(kDescFastAccumulation, int8_t{1});
    const auto [m, n, k] = std::tuple(uint64_t(problem.m), uint64_t(problem.n), uint64_t(problem.k));
    call(library_.layoutCreate(weights_.address(), facts_.input, k, n, problem.k), "describing the weights");
    call(library_.layoutCreate(activations_.address(), facts_.input, k, m, problem.k), "describing the activations");
    call(library_.layoutCreate(result_.address(), facts_.output, n, m, problem.n), "describing the result");
    allocate(ordinal);
  }

  int weightCopies() const { return static_cast<int>(weightBuffers_.size()); }
  int64_t libraryVersion() const { return static_cast<int64_t>(library_.getVersion()); }
  double bytes() const {
    const double in = double(problem_.n + problem_.m) * double(problem_.k) * double(facts_.inputBytes);
    return in + double(problem_.m) * double(problem_.n) * double(facts_.outputBytes);
  }

  std::vector<HeuristicResult> proposals() const {
    Owned<Preference> preference(library_.preferenceDestroy);
    call(library_.preferenceCreate(preference.address()), "stating a preference");
    call(library_.preferenceSet(preference.get(), kPreferenceMaxWorkspaceBytes, &kWorkspaceBytes, sizeof kWorkspaceBytes),
         "stating the workspace");
    std::vector<HeuristicResult> results(kProposals);
    int count = 0;
    const Status status = library_.heuristic(handle_.get(), desc_.get(), weights_.get(), activations_.get(), result_.get(), result_.get(),
                                             preference.get(), kProposals, results.data(), &count);
    if (status != kStatusNotSupported) call(status, "asking for algorithms");
    results.resize(status == kStatusSuccess ? static_cast<size_t>(count) : 0);
    results.erase(std::remove_if(results.begin(), results.end(), [](const HeuristicResult& r) { return r.state != kStatusSuccess; }),
                  results.end());
    return results;
  }

  /// Times of `count` single products, ms. Throws where the library refuses the algorithm.
  std::vector<double> time(const Algorithm& algorithm, int count) {
    while (events_.size() < 2 * static_cast<size_t>(count)) events_.emplace_back();
    for (int i = 0; i < count; ++i) {
      events_[2 * i].record(stream_);
      enqueue(algorithm);
      events_[2 * i + 1].record(stream_);
    }
    stream_.synchronize();
    std::vector<double> times;
    for (int i = 0; i < count; ++i) times.push_back(events_[2 * i + 1].elapsedMsSince(events_[2 * i]));
    return times;
  }

  /// Whether the library takes the algorithm; runs it once.
  bool accepts(const Algorithm& algorithm) {
    const Status status = tryEnqueue(algorithm);
    if (status == kStatusNotSupported) return false;
    call(status, "multiplying");
    stream_.synchronize();
    return true;
  }

 private:
  template <typename T>
  void set(int attribute, const T& value) {
    call(library_.matmulDescSet(desc_.get(), attribute, &value, sizeof value), "describing the product");
  }

  void call(Status status, const char* doing) const {
    if (status == kStatusSuccess) return;
    const char* name = library_.getStatusName(status);
    throw Error("CUDA", std::string("cuBLASLt failed ") + doing + ": " + (name ? name : std::to_string(status)),
                {{"m", double(problem_.m)}, {"n", double(problem_.n)}, {"k", double(problem_.k)}, {"type", std::string(facts_.name)}});
  }

  /// Weights are rotated over copies until they are four times the L2 cache: a layer reads each of its weights once.
  void allocate(int ordinal) {
    const size_t weightBytes = size_t(problem_.n) * size_t(problem_.k) * size_t(facts_.inputBytes);
    const size_t wanted = 4 * deviceFacts(ordinal).l2Bytes;
    const size_t copies = std::max<size_t>(1, (wanted + weightBytes - 1) / weightBytes);
    for (size_t i = 0; i < copies; ++i) weightBuffers_.emplace_back(weightBytes, "weights of a cuBLASLt product");
    activationBuffer_ =
        DeviceBuffer(size_t(problem_.m) * size_t(problem_.k) * size_t(facts_.inputBytes), "activations of a cuBLASLt product");
    resultBuffer_ = DeviceBuffer(size_t(problem_.m) * size_t(problem_.n) * size_t(facts_.outputBytes), "result of a cuBLASLt product");
    workspace_ = DeviceBuffer(kWorkspaceBytes, "workspace of cuBLASLt");
    const PinnedBuffer pattern(kPatternBytes);
    fillPattern(static_cast<uint8_t*>(pattern.data()));
    for (const DeviceBuffer& buffer : weightBuffers_) upload(buffer, pattern.data());
    upload(activationBuffer_, pattern.data());
    stream_.synchronize();
  }

  /// Random finite values of magnitude below 2 (INT8: of any): zeros would cost less power and run at higher clocks.
  void fillPattern(uint8_t* bytes) const {
    uint64_t state = 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < kPatternBytes; i += 2) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      uint16_t value = static_cast<uint16_t>(state >> 24);
      if (facts_.input == kReal16F) value = (value & 0x8FFF) | 0x2000;          // exponents 2⁻⁷…2⁻⁴
      if (facts_.input == kReal8FE4M3) value &= 0xBFBF;                         // exponents up to 2⁰, never the code of NaN
      bytes[i] = static_cast<uint8_t>(value);
      bytes[i + 1] = static_cast<uint8_t>(value >> 8);
    }
  }

  void upload(const DeviceBuffer& buffer, const void* pattern) const {
    for (size_t offset = 0; offset < buffer.bytes(); offset += kPatternBytes) {
      const size_t size = std::min(kPatternBytes, buffer.bytes() - offset);
      check(driver().memcpyHtoDAsync(buffer.get() + offset, pattern, size, stream_.get()), "uploading the operands of a cuBLASLt product");
    }
  }

  Status tryEnqueue(const Algorithm& algorithm) {
    const float one = 1.0f, zero = 0.0f;
    const int32_t integerOne = 1, integerZero = 0;
    const bool integer = facts_.scale == kReal32I;
    const void* alpha = integer ? static_cast<const void*>(&integerOne) : &one;
    const void* beta = integer ? static_cast<const void*>(&integerZero) : &zero;
    const DeviceBuffer& weights = weightBuffers_[next_++ % weightBuffers_.size()];
    return library_.matmul(handle_.get(), desc_.get(), alpha, weights.data(), weights_.get(), activationBuffer_.data(), activations_.get(),
                           beta, resultBuffer_.data(), result_.get(), resultBuffer_.data(), result_.get(), &algorithm, workspace_.data(),
                           kWorkspaceBytes, stream_.get());
  }
  void enqueue(const Algorithm& algorithm) { call(tryEnqueue(algorithm), "multiplying"); }

  TypeFacts facts_;
  MatmulProblem problem_;
  const Library& library_;
  Owned<Handle> handle_;
  Owned<MatmulDesc> desc_;
  Owned<MatrixLayout> weights_, activations_, result_;
  Stream stream_;
  std::vector<DeviceBuffer> weightBuffers_;
  DeviceBuffer activationBuffer_, resultBuffer_, workspace_;
  std::vector<Event> events_;
  size_t next_ = 0;
};

double medianOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

int repetitions(double budgetMs, double onceMs, int fewest, int most) {
  return std::clamp(static_cast<int>(budgetMs / std::max(onceMs, 1e-3)), fewest, most);
}

}  // namespace

MatmulMeasurement measureMatmul(int ordinal, const MatmulProblem& problem, const std::string& libraryPath) {
  constexpr int64_t kLargest = int64_t{1} << 24;
  for (const auto& [name, value] : {std::pair("m", problem.m), std::pair("n", problem.n), std::pair("k", problem.k)}) {
    if (value < 1 || value > kLargest) {
      throw Error("BAD_ARGUMENT", std::string("expected 1 to 16777216 for `") + name + "` but received " + std::to_string(value));
    }
  }
  makeCurrent(ordinal);
  Product product(ordinal, problem, libraryPath);
  const HeuristicResult* best = nullptr;
  double bestMs = 0;
  int timed = 0;
  const std::vector<HeuristicResult> proposals = product.proposals();
  for (const HeuristicResult& proposal : proposals) {
    if (!product.accepts(proposal.algorithm)) continue;
    const double once = medianOf(product.time(proposal.algorithm, 3));
    const double ms = medianOf(product.time(proposal.algorithm, repetitions(kCandidateMs, once, 3, 100)));
    ++timed;
    if (!best || ms < bestMs) {
      best = &proposal;
      bestMs = ms;
    }
  }
  if (!best) {
    throw Error("UNSUPPORTED", std::string("cuBLASLt has no ") + factsOf(problem.type).name + " algorithm for this product on this GPU",
                {{"m", double(problem.m)}, {"n", double(problem.n)}, {"k", double(problem.k)}});
  }
  const std::vector<double> samples = product.time(best->algorithm, repetitions(kFinalMs, bestMs, 20, 1000));
  const double ms = medianOf(samples);
  const double flops = 2.0 * double(problem.m) * double(problem.n) * double(problem.k);
  return {ms,
          flops / (ms * 1e-3),
          product.bytes() / (ms * 1e-3),
          timed,
          static_cast<int>(samples.size()),
          product.libraryVersion(),
          product.weightCopies()};
}

}  // namespace ladder::cuda
