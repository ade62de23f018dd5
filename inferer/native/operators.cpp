// The operators of the domain "inferer" as kernels of onnxruntime. export/engine/fused.py describes them, and each has
// inputs that only its body of plain nodes reads.
#include <algorithm>
#include <exception>
#include <memory>
#include <stdexcept>
#include <vector>

#include "abi.h"
#include "kernels.h"

using namespace ort;

namespace {

const Api* api;

template <typename... Arguments>
Status* call(Place place, Arguments... arguments) {
  return reinterpret_cast<Status* (*)(Arguments...)>(api->functions[place])(arguments...);
}

void drop(Status* status) {
  if (status) reinterpret_cast<void (*)(Status*)>(api->functions[kReleaseStatus])(status);
}

void demand(bool met) {
  if (!met) throw std::invalid_argument("shapes of inputs that do not match");
}

const Kernels& kernels() {
#if defined(__x86_64__)
  static const Kernels& best = [&]() -> const Kernels& {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
      return kernels_v4;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
      return kernels_v3;
    return kernels_base;
  }();
  return best;
#else
  return kernels_base;
#endif
}

struct Tensor {
  const void* data = nullptr;
  const int64_t* shape = nullptr;
  size_t rank = 0;

  int64_t size() const {
    int64_t product = 1;
    for (size_t i = 0; i < rank; i++) product *= shape[i];
    return product;
  }
  int64_t width() const { return shape[rank - 1]; }
  const float* floats() const { return static_cast<const float*>(data); }
  // The floats of a tensor of `count`.
  const float* floats(int64_t count) const {
    demand(size() == count);
    return floats();
  }
};

class Run {
 public:
  explicit Run(Context* context) : context_(context) {}

  Tensor input(size_t i) const {
    Value* value = nullptr;
    drop(call(kInput, static_cast<const Context*>(context_), i, &value));
    if (!value) throw std::invalid_argument("an input is missing");
    Tensor tensor;
    void* data = nullptr;
    int type;
    drop(call(kData, value, &data));
    drop(call(kTypeAndShape, static_cast<const Value*>(value), &type, &tensor.shape, &tensor.rank));
    tensor.data = data;
    return tensor;
  }

  // An input with rows along its last axis.
  Tensor rows(size_t i) const {
    Tensor tensor = input(i);
    demand(tensor.rank > 0 && tensor.width() > 0);
    return tensor;
  }

  // Output i, of the shape of `like`, or with one column.
  template <typename T>
  T* output(size_t i, const Tensor& like, bool column = false) const {
    std::vector<int64_t> shape(like.shape, like.shape + like.rank);
    if (column) shape.back() = 1;
    Value* value = nullptr;
    void* data = nullptr;
    drop(call(kOutput, context_, i, static_cast<const int64_t*>(shape.data()), shape.size(), &value));
    if (value) drop(call(kData, value, &data));
    if (!data && like.size()) throw std::runtime_error("an output is missing");
    return static_cast<T*>(data);
  }

  Quantized quantized(size_t first, const Tensor& like) const {
    return {output<uint8_t>(first, like), output<float>(first + 1, like, true)};
  }

  template <typename F>
  void parallel(size_t count, F each) const {
    if (count == 1) return each(0);
    void (*one)(void*, size_t) = [](void* function, size_t i) { (*static_cast<F*>(function))(i); };
    drop(call(kParallelFor, static_cast<const Context*>(context_), one, count, size_t{0}, static_cast<void*>(&each)));
  }

  // Calls f(first row, rows) for blocks of rows that are worth a thread.
  template <typename F>
  void by_rows(int64_t rows, int64_t width, F f) const {
    if (!rows) return;
    int64_t block = std::max<int64_t>(1, kBlock / width);
    parallel((rows + block - 1) / block, [&](size_t i) { f(i * block, std::min<int64_t>(block, rows - i * block)); });
  }

  static constexpr int64_t kBlock = 32768;  // elements

 private:
  Context* context_;
};

struct Attributes {
  float least = 0, epsilon = 0;
  int64_t point = 0, heads = 0;

  explicit Attributes(const Info* info) {
    drop(call(kFloatAttribute, info, "least", &least));
    drop(call(kFloatAttribute, info, "epsilon", &epsilon));
    drop(call(kIntAttribute, info, "point", &point));
    drop(call(kIntAttribute, info, "heads", &heads));
  }
};

void quantize_rows(const Attributes&, const Run& run) {
  Tensor x = run.rows(0);
  int64_t width = x.width(), rows = x.size() / width;
  Quantized out = run.quantized(0, x);
  run.by_rows(rows, width, [&](int64_t first, int64_t some) {
    kernels().quantize_rows(x.floats() + first * width, some, width, {out.values + first * width, out.scales + first});
  });
}

void gelu_quantize(const Attributes& attributes, const Run& run) {
  Tensor product = run.rows(0);
  int64_t width = product.width(), rows = product.size() / width;
  const float* scales = run.input(1).floats(rows);
  const float* bias = run.input(2).floats(width);
  demand(attributes.point >= 0 && attributes.point < 255);
  Quantized out = run.quantized(0, product);
  run.by_rows(rows, width, [&](int64_t first, int64_t some) {
    kernels().gelu_quantize({product.floats() + first * width, scales + first, bias}, some, width, attributes.least,
                            attributes.point, {out.values + first * width, out.scales + first});
  });
}

void geglu_quantize(const Attributes&, const Run& run) {
  Tensor product = run.rows(0);
  demand(product.width() % 2 == 0);
  std::vector<int64_t> shape(product.shape, product.shape + product.rank);
  int64_t width = shape.back() /= 2, rows = product.size() / 2 / width;
  const float* scales = run.input(1).floats(rows);
  Quantized out = run.quantized(0, {nullptr, shape.data(), shape.size()});
  run.by_rows(rows, width, [&](int64_t first, int64_t some) {
    kernels().geglu_quantize({product.floats() + 2 * first * width, scales + first, nullptr}, some, width,
                             {out.values + first * width, out.scales + first});
  });
}

template <bool Bias, bool Factor>
void norm_quantize(const Attributes& attributes, const Run& run) {
  Tensor product = run.rows(0);
  int64_t width = product.width(), rows = product.size() / width;
  const float* scales = run.input(1).floats(rows);
  const float* residual = run.input(2).floats(rows * width);
  const float* bias = Bias ? run.input(6).floats(width) : nullptr;
  Norm norm = {run.input(3).floats(width), run.input(4).floats(width), Factor ? run.input(7).floats(width) : nullptr,
               attributes.epsilon};
  float* y = run.output<float>(0, product);
  Quantized out = run.quantized(1, product);
  run.by_rows(rows, width, [&](int64_t first, int64_t some) {
    kernels().norm_quantize({product.floats() + first * width, scales + first, bias}, residual + first * width, norm,
                            some, width, nullptr, y + first * width,
                            {out.values + first * width, out.scales + first});
  });
}

void add_norm_quantize(const Attributes& attributes, const Run& run) {
  Tensor product = run.rows(0);
  int64_t width = product.width(), rows = product.size() / width;
  const float* scales = run.input(1).floats(rows);
  const float* residual = run.input(2).floats(rows * width);
  Norm norm = {run.input(3).floats(width), nullptr, nullptr, attributes.epsilon};
  float* total = run.output<float>(0, product);
  Quantized out = run.quantized(1, product);
  run.by_rows(rows, width, [&](int64_t first, int64_t some) {
    kernels().norm_quantize({product.floats() + first * width, scales + first, nullptr}, residual + first * width, norm,
                            some, width, total + first * width, nullptr,
                            {out.values + first * width, out.scales + first});
  });
}

void attention_quantize(const Attributes& attributes, const Run& run) {
  Tensor query = run.rows(0), keep = run.rows(6);
  demand(query.rank == 2 && keep.rank == 2);
  int64_t rows = query.shape[0], width = query.shape[1], texts = keep.shape[0], tokens = keep.shape[1];
  demand(attributes.heads > 0 && width % attributes.heads == 0 && texts > 0 && rows % texts == 0 &&
         rows <= texts * tokens);
  int64_t count = texts * tokens;
  Heads heads = {{query.floats(), run.input(1).floats(rows), run.input(5).floats(width)},
                 run.input(2).floats(count * width),
                 run.input(3).floats(count * width),
                 run.input(4).floats(count),
                 static_cast<const int64_t*>(keep.data),
                 static_cast<int>(texts),
                 static_cast<int>(tokens),
                 static_cast<int>(rows / texts),
                 static_cast<int>(attributes.heads),
                 static_cast<int>(width / attributes.heads)};
  Quantized out = run.quantized(0, query);
  std::unique_ptr<float[]> memory(new float[rows * width]());  // stays 0 where a mask hides every key
  float* context = memory.get();
  auto one = [&](size_t i) { kernels().attend(heads, i / heads.heads, i % heads.heads, context); };
  if (rows * width < Run::kBlock / 2) {
    for (int64_t i = 0; i < texts * heads.heads; i++) one(i);
  } else {
    run.parallel(texts * heads.heads, one);
  }
  run.by_rows(rows, width, [&](int64_t first, int64_t some) {
    kernels().quantize_rows(context + first * width, some, width, {out.values + first * width, out.scales + first});
  });
}

// Calls f and returns what it throws as a status.
template <typename F>
Status* guarded(F f) {
  try {
    f();
    return nullptr;
  } catch (const std::exception& error) {
    return call(kCreateStatus, 1, error.what());
  }
}

struct Definition : Operator {
  const char* label;
  std::vector<int> inputs, outputs;
  void (*run)(const Attributes&, const Run&);

  Definition(const char* label, std::vector<int> inputs, std::vector<int> outputs,
             void (*run)(const Attributes&, const Run&));
};

struct Kernel {
  Attributes attributes;
  void (*run)(const Attributes&, const Run&);
};

const Definition& of(const Operator* op) { return *static_cast<const Definition*>(op); }

Definition::Definition(const char* label, std::vector<int> inputs, std::vector<int> outputs,
                       void (*run)(const Attributes&, const Run&))
    : label(label), inputs(inputs), outputs(outputs), run(run) {
  name = [](const Operator* op) { return of(op).label; };
  provider = [](const Operator*) -> const char* { return nullptr; };
  input_type = [](const Operator* op, size_t i) { return of(op).inputs[i]; };
  input_count = [](const Operator* op) { return of(op).inputs.size(); };
  output_type = [](const Operator* op, size_t i) { return of(op).outputs[i]; };
  output_count = [](const Operator* op) { return of(op).outputs.size(); };
  input_kind = output_kind = input_memory = [](const Operator*, size_t) { return 0; };
  first_version = [](const Operator*) { return 1; };
  last_version = [](const Operator*) { return 1; };
  create_or_fail = [](const Operator* op, const Api*, const Info* info, void** kernel) {
    return guarded([&] { *kernel = new Kernel{Attributes(info), of(op).run}; });
  };
  compute_or_fail = [](void* kernel, Context* context) {
    auto made = static_cast<Kernel*>(kernel);
    return guarded([&] { made->run(made->attributes, Run(context)); });
  };
  destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
}

Status* add_all(Domain* domain) {
  const int f = kFloat, u = kUint8;
  static const Definition definitions[] = {
      {"QuantizeRows", {f, u}, {u, f}, quantize_rows},
      {"GeluQuantize", {f, f, f, u}, {u, f}, gelu_quantize},
      {"GegluQuantize", {f, f, u}, {u, f}, geglu_quantize},
      {"AddNormQuantize", {f, f, f, f, u}, {f, u, f}, add_norm_quantize},
      {"NormQuantize", {f, f, f, f, f, u}, {f, u, f}, norm_quantize<false, false>},
      {"NormQuantizeBias", {f, f, f, f, f, u, f}, {f, u, f}, norm_quantize<true, false>},
      {"NormQuantizeScaled", {f, f, f, f, f, u, f, f}, {f, u, f}, norm_quantize<true, true>},
      {"AttentionQuantize", {f, f, f, f, f, f, kInt64, u, f, kBool, kInt64}, {u, f}, attention_quantize},
  };
  for (const Definition& definition : definitions)
    if (Status* status = call(kAddOperator, domain, static_cast<const Operator*>(&definition))) return status;
  return nullptr;
}

}  // namespace

// onnxruntime's entry point of a library of operators. An older onnxruntime gets none of them.
extern "C" __attribute__((visibility("default"))) Status* RegisterCustomOps(Options* options, const ApiBase* base) {
  api = base->get(kVersion);
  if (!api) return nullptr;
  static Domain* domain = nullptr;
  static Status* status = nullptr;
  static const bool once = [] {
    status = call(kCreateDomain, "inferer", &domain);
    if (!status) status = add_all(domain);
    return true;
  }();
  (void)once;
  return status ? status : call(kAddDomain, options, domain);
}
