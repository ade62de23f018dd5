// The part of onnxruntime's C interface that the operators use, declared here so that the build needs no headers of it.
// Functions are called by their place in the table OrtApi, which onnxruntime extends at its end alone.
#pragma once
#include <cstddef>
#include <cstdint>

namespace ort {

struct Context;
struct Domain;
struct Info;
struct Options;
struct Status;
struct Value;

constexpr uint32_t kVersion = 24;  // the first one with kTypeAndShape

struct Api {
  void* functions[415];
};

struct ApiBase {
  const Api* (*get)(uint32_t version);
  const char* (*version)();
};

enum Place {
  kCreateStatus = 0,
  kCreateDomain = 26,
  kAddOperator = 27,
  kAddDomain = 28,
  kData = 51,
  kFloatAttribute = 85,
  kIntAttribute = 86,
  kInput = 90,
  kOutput = 91,
  kReleaseStatus = 93,
  kParallelFor = 274,
  kTypeAndShape = 414,
};

enum Type { kFloat = 1, kUint8 = 2, kInt64 = 7, kBool = 9 };

// OrtCustomOp. onnxruntime reads the fields that exist in `version` of the interface.
struct Operator {
  uint32_t version = kVersion;
  void* (*create)(const Operator*, const Api*, const Info*) = nullptr;
  const char* (*name)(const Operator*) = nullptr;
  const char* (*provider)(const Operator*) = nullptr;
  int (*input_type)(const Operator*, size_t) = nullptr;
  size_t (*input_count)(const Operator*) = nullptr;
  int (*output_type)(const Operator*, size_t) = nullptr;
  size_t (*output_count)(const Operator*) = nullptr;
  void (*compute)(void*, Context*) = nullptr;
  void (*destroy)(void*) = nullptr;
  int (*input_kind)(const Operator*, size_t) = nullptr;
  int (*output_kind)(const Operator*, size_t) = nullptr;
  int (*input_memory)(const Operator*, size_t) = nullptr;
  int (*variadic[4])(const Operator*) = {};
  Status* (*create_or_fail)(const Operator*, const Api*, const Info*, void**) = nullptr;
  Status* (*compute_or_fail)(void*, Context*) = nullptr;
  Status* (*infer_shape)(const Operator*, void*) = nullptr;
  int (*first_version)(const Operator*) = nullptr;
  int (*last_version)(const Operator*) = nullptr;
  size_t (*in_place)(int**, int**) = nullptr;
  void (*release_in_place)(int*, int*) = nullptr;
  size_t (*aliases)(int**, int**) = nullptr;
  void (*release_aliases)(int*, int*) = nullptr;
};

}  // namespace ort
