// The arithmetic of the operators on arrays of rows. Each row's is its own: nothing depends on the number of rows, on
// other rows, or on padding. Compiled once per level of instructions (kernels.cpp).
#pragma once
#include <cstdint>

// What an operator does with a product: times its rows' scales, plus a bias per column where there is one.
struct Product {
  const float* values;
  const float* scales;
  const float* bias;
};

// Rows in steps of their scales, around a zero point.
struct Quantized {
  uint8_t* values;
  float* scales;
};

struct Norm {
  const float* gamma;
  const float* beta;    // null for none
  const float* factor;  // of the residual, per column; null for none
  float epsilon;
};

// Tokens of several texts: row token * texts + text. Keys and values have a row per token; queries have those of the
// first tokens.
struct Heads {
  Product query;
  const float* key;
  const float* value;
  const float* scales;  // of keys and values
  const int64_t* keep;  // [texts, tokens]; 0: padding
  int texts, tokens, queries, heads, depth;
};

struct Kernels {
  void (*quantize_rows)(const float* x, long rows, int width, Quantized out);
  void (*gelu_quantize)(Product product, long rows, int width, float least, int point, Quantized out);
  // product: of 2 * width columns, neurons and gates.
  void (*geglu_quantize)(Product product, long rows, int width, Quantized out);
  // total: the sum; y: it normalized. Null for one that nobody reads.
  void (*norm_quantize)(Product product, const float* residual, Norm norm, long rows, int width, float* total, float* y,
                        Quantized out);
  // One head of one text, to rows of heads * depth.
  void (*attend)(const Heads& heads, int text, int head, float* out);
};

extern const Kernels kernels_base;
#if defined(__x86_64__)
extern const Kernels kernels_v3;  // AVX2 and FMA
extern const Kernels kernels_v4;  // AVX-512
#endif
