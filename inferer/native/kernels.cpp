// The arithmetic, on vectors of as many floats as the level's registers hold. LEVEL names the compiled table.
#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif
#define INLINE static inline __attribute__((always_inline))
#define INLINED __attribute__((always_inline))

namespace {

typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));
typedef uint8_t B __attribute__((vector_size(LANES)));

INLINE V all(float x) { return x - V{}; }
INLINE I bits_of(V v) {
  I bits;
  memcpy(&bits, &v, sizeof v);
  return bits;
}
INLINE V from_bits(I bits) {
  V v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

// The first n elements from p on, all of them for n >= LANES; the others are 0.
INLINE V load(const float* p, int n = LANES) {
  V v = {};
  if (n >= LANES)
    memcpy(&v, p, sizeof v);
  else
    memcpy(&v, p, n * sizeof(float));
  return v;
}
INLINE void store(float* p, V v, int n = LANES) {
  if (n >= LANES)
    memcpy(p, &v, sizeof v);
  else
    memcpy(p, &v, n * sizeof(float));
}

INLINE V max(V a, V b) { return a > b ? a : b; }
INLINE V min(V a, V b) { return a < b ? a : b; }
INLINE V abs(V v) { return from_bits(bits_of(v) & 0x7fffffff); }

// The vector with lane i at i ^ N.
template <int N>
INLINE V swapped(V v) {
#if LANES == 16
  return __builtin_shuffle(v, I{0 ^ N, 1 ^ N, 2 ^ N, 3 ^ N, 4 ^ N, 5 ^ N, 6 ^ N, 7 ^ N, 8 ^ N, 9 ^ N, 10 ^ N, 11 ^ N,
                                12 ^ N, 13 ^ N, 14 ^ N, 15 ^ N});
#elif LANES == 8
  return __builtin_shuffle(v, I{0 ^ N, 1 ^ N, 2 ^ N, 3 ^ N, 4 ^ N, 5 ^ N, 6 ^ N, 7 ^ N});
#else
  return __builtin_shuffle(v, I{0 ^ N, 1 ^ N, 2 ^ N, 3 ^ N});
#endif
}
template <int N = LANES / 2>
INLINE float max_of(V v) {
  v = max(v, swapped<N>(v));
  if constexpr (N > 1) return max_of<N / 2>(v);
  return v[0];
}
template <int N = LANES / 2>
INLINE float sum_of(V v) {
  v += swapped<N>(v);
  if constexpr (N > 1) return sum_of<N / 2>(v);
  return v[0];
}

// Four vectors of partial results, so that one addition need not wait for the last.
struct Partial {
  V of[4] = {};
  INLINED float max() const { return max_of(::max(::max(of[0], of[1]), ::max(of[2], of[3]))); }
  INLINED float sum() const { return sum_of((of[0] + of[1]) + (of[2] + of[3])); }
};

// Calls f(place, elements, partial result) for each vector of a row.
template <typename F>
INLINE void along(int width, F f) {
  int i = 0;
  for (; i + 4 * LANES <= width; i += 4 * LANES)
    for (int k = 0; k < 4; k++) f(i + k * LANES, LANES, k);
  for (; i + LANES <= width; i += LANES) f(i, LANES, 0);
  if (i < width) f(i, width - i, 1);
}

constexpr float kRound = 12582912;  // 1.5 * 2^23: a small number added to it is rounded, half to even
constexpr float kLeastScale = 1e-30f;
constexpr int kMiddle = 128, kLargest = 127;

// No value is rounded to over 255 - point steps or below -point, as the scale comes from the row's largest one.
INLINE void quantize(const float* x, int width, float scale, int point, uint8_t* q) {
  float inverse = scale > kLeastScale ? 1 / scale : 0;
  along(width, [&](int i, int n, int) INLINED {
    B steps = __builtin_convertvector(bits_of(load(x + i, n) * inverse + kRound) + point, B);
    if (n >= LANES)
      memcpy(q + i, &steps, LANES);
    else
      memcpy(q + i, &steps, n);
  });
}

void quantize_rows(const float* x, long rows, int width, Quantized out) {
  for (long r = 0; r < rows; r++, x += width) {
    Partial largest;
    along(width, [&](int i, int n, int k) INLINED { largest.of[k] = max(largest.of[k], abs(load(x + i, n))); });
    out.scales[r] = largest.max() * (1.0f / kLargest);
    quantize(x, width, out.scales[r], kMiddle, out.values + r * width);
  }
}

// x / 2 (1 + erf(x / sqrt(2))). The error function of x / sqrt(2) is a quotient of polynomials, fitted over the numbers
// up to 5.6, where it is 1, with an error of 2e-8; in fp32 5e-7.
INLINE V gelu(V x) {
  V y = max(min(x, all(5.6f)), all(-5.6f)), t = y * y;
  V p = t * 4.42903761e-08f + 1.27130268e-05f;
  p = p * t + 0.000347701605f;
  p = p * t + 0.00941452f;
  p = p * t + 0.0687522714f;
  p = p * t + 0.797884443f;
  V q = t * 1.18020687e-06f + 7.51018386e-05f;
  q = q * t + 0.00191297888f;
  q = q * t + 0.028940101f;
  q = q * t + 0.252833907f;
  q = q * t + 1;
  V half = 0.5f * x;
  return half + half * (y * p / q);
}

// Memory for a call. A thread keeps a little; more is given back, or each of a server's many threads would in time hold
// what the longest text needs.
class Scratch {
 public:
  explicit Scratch(size_t floats) : large_(floats > kKept ? new float[floats] : nullptr) {}
  float* data() const { return large_ ? large_.get() : kept(); }

 private:
  static constexpr size_t kKept = 16384;
  static float* kept() {
    thread_local std::unique_ptr<float[]> memory(new float[kKept]);
    return memory.get();
  }
  std::unique_ptr<float[]> large_;
};

void gelu_quantize(Product product, long rows, int width, float least, int point, Quantized out) {
  Scratch row(width);
  float* y = row.data();
  for (long r = 0; r < rows; r++) {
    const float* p = product.values + r * width;
    float scale = product.scales[r];
    Partial largest;
    along(width, [&](int i, int n, int k) INLINED {
      V v = gelu(load(p + i, n) * scale + load(product.bias + i, n));
      store(y + i, v, n);
      largest.of[k] = max(largest.of[k], v);
    });
    float most = largest.max();
    out.scales[r] = (most > least ? most : least) * (1.0f / (255 - point));
    quantize(y, width, out.scales[r], point, out.values + r * width);
  }
}

void geglu_quantize(Product product, long rows, int width, Quantized out) {
  Scratch row(width);
  float* y = row.data();
  for (long r = 0; r < rows; r++) {
    const float *neurons = product.values + 2 * r * width, *gates = neurons + width;
    float scale = product.scales[r];
    Partial largest;
    along(width, [&](int i, int n, int k) INLINED {
      V v = gelu(load(neurons + i, n) * scale) * (load(gates + i, n) * scale);
      store(y + i, v, n);
      largest.of[k] = max(largest.of[k], abs(v));
    });
    out.scales[r] = largest.max() * (1.0f / kLargest);
    quantize(y, width, out.scales[r], kMiddle, out.values + r * width);
  }
}

void norm_quantize(Product product, const float* residual, Norm norm, long rows, int width, float* total, float* y,
                   Quantized out) {
  Scratch row(width);
  for (long r = 0; r < rows; r++, residual += width) {
    const float* p = product.values + r * width;
    float scale = product.scales[r];
    float* normalized = y ? y + r * width : row.data();
    float* sums = total ? total + r * width : normalized;
    Partial sum, squares, largest;
    along(width, [&](int i, int n, int k) INLINED {
      V v = load(residual + i, n);
      if (norm.factor) v *= load(norm.factor + i, n);
      if (product.bias) v += load(product.bias + i, n);
      v = load(p + i, n) * scale + v;
      store(sums + i, v, n);
      sum.of[k] += v;
    });
    float mean = sum.sum() / width;
    along(width, [&](int i, int n, int k) INLINED {
      V v = load(sums + i, n) - mean;
      for (int j = n; j < LANES; j++) v[j] = 0;
      squares.of[k] += v * v;
    });
    float inverse = 1 / std::sqrt(squares.sum() / width + norm.epsilon);
    along(width, [&](int i, int n, int k) INLINED {
      V v = (load(sums + i, n) - mean) * inverse * load(norm.gamma + i, n);
      if (norm.beta) v += load(norm.beta + i, n);
      store(normalized + i, v, n);
      for (int j = n; j < LANES; j++) v[j] = 0;
      largest.of[k] = max(largest.of[k], abs(v));
    });
    out.scales[r] = largest.max() * (1.0f / kLargest);
    quantize(normalized, width, out.scales[r], kMiddle, out.values + r * width);
  }
}

// e^x for x <= 0, by the Cephes library's polynomial.
INLINE V exponential(V x) {
  x = max(x, all(-87));
  V shifted = x * 1.44269504f + kRound, n = shifted - kRound;
  V r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1;
  return from_bits(bits_of(p) + (bits_of(shifted) << 23));
}

// One head's keys and values of one text, [count, pitch], those of padding left out. Copies, because rows that lie a
// multiple of 512 bytes apart share a few places of the cache. A query has a lane, so a softmax needs no sum over lanes.
struct Keys {
  float* key;
  float* value;
  float* scales;
  int count, depth, pitch;  // pitch: depth in whole vectors
};

constexpr int kVectors = 2;                // of queries at a time
constexpr int kRow = kVectors * LANES;     // queries in a row of `queries` [depth, kRow] and `shares` [keys, kRow]
constexpr int kKeys = LANES == 16 ? 8 : 4;  // keys, and queries of `mix`, at a time: as many as the registers hold

template <int K, int N>
INLINE void scores(const float* queries, const Keys& keys, int first, float* shares, V* top) {
  V sums[K][N] = {};
  for (int d = 0; d < keys.depth; d++) {
    V q[N];
    for (int i = 0; i < N; i++) q[i] = load(queries + d * kRow + i * LANES);
    for (int k = 0; k < K; k++)
      for (int i = 0; i < N; i++) sums[k][i] += q[i] * keys.key[(long)(first + k) * keys.pitch + d];
  }
  for (int k = 0; k < K; k++)
    for (int i = 0; i < N; i++) {
      V v = sums[k][i] * keys.scales[first + k];
      store(shares + (long)(first + k) * kRow + i * LANES, v);
      top[i] = max(top[i], v);
    }
}

// D vectors of the values, from column `at` on, for Q queries from `query` on; the first `some` of all have a row.
template <int Q, int D>
INLINE void mix(const float* shares, const Keys& keys, int at, int query, int some, const float* inverse, float* out,
                long stride) {
  V sums[Q][D] = {};
  for (int k = 0; k < keys.count; k++) {
    V value[D];
    for (int j = 0; j < D; j++) value[j] = load(keys.value + (long)k * keys.pitch + at + j * LANES);
    const float* share = shares + (long)k * kRow + query;
    for (int i = 0; i < Q; i++)
      for (int j = 0; j < D; j++) sums[i][j] += value[j] * share[i];
  }
  for (int i = 0; i < Q && query + i < some; i++)
    for (int j = 0; j < D; j++)
      store(out + (query + i) * stride + at + j * LANES, sums[i][j] * inverse[query + i],
            keys.depth - at - j * LANES);
}

template <int D>
INLINE void mix_all(const float* shares, const Keys& keys, int at, int some, const float* inverse, float* out,
                    long stride) {
  int query = 0;
  for (; query + kKeys <= some; query += kKeys) mix<kKeys, D>(shares, keys, at, query, some, inverse, out, stride);
  for (; query < some; query += 2) mix<2, D>(shares, keys, at, query, some, inverse, out, stride);
}

// N vectors of queries, of which the first `some` have a row.
template <int N>
INLINE void attend_some(const float* queries, const Keys& keys, int some, float* shares, float* out, long stride) {
  V top[N], sum[N] = {};
  for (int i = 0; i < N; i++) top[i] = all(-INFINITY);
  int k = 0;
  for (; k + kKeys <= keys.count; k += kKeys) scores<kKeys, N>(queries, keys, k, shares, top);
  for (; k < keys.count; k++) scores<1, N>(queries, keys, k, shares, top);
  for (k = 0; k < keys.count; k++)
    for (int i = 0; i < N; i++) {
      float* p = shares + (long)k * kRow + i * LANES;
      V v = exponential(load(p) - top[i]);
      sum[i] += v;
      store(p, v * keys.scales[k]);
    }
  float inverse[N * LANES];
  for (int i = 0; i < N; i++) store(inverse + i * LANES, 1 / sum[i]);
  int at = 0;
  for (; at + 2 * LANES <= keys.depth; at += 2 * LANES) mix_all<2>(shares, keys, at, some, inverse, out, stride);
  for (; at < keys.depth; at += LANES) mix_all<1>(shares, keys, at, some, inverse, out, stride);
}

void attend(const Heads& heads, int text, int head, float* out) {
  const int depth = heads.depth;
  const long width = (long)heads.heads * depth, stride = heads.texts * width, start = text * width + head * depth;
  const int pitch = (depth + LANES - 1) / LANES * LANES;
  const size_t all_keys = (size_t)heads.tokens * pitch;
  Scratch memory(heads.tokens + 2 * all_keys + (size_t)(depth + heads.tokens) * kRow);
  float* scales = memory.data();
  Keys keys = {scales + heads.tokens, scales + heads.tokens + all_keys, scales, 0, depth, pitch};
  float* queries = keys.value + all_keys;
  float* shares = queries + depth * kRow;
  for (int j = 0; j < heads.tokens; j++)
    if (heads.keep[(long)text * heads.tokens + j]) {
      float *key = keys.key + (long)keys.count * pitch, *value = keys.value + (long)keys.count * pitch;
      for (int d = 0; d < pitch; d += LANES) {
        store(key + d, load(heads.key + start + j * stride + d, depth - d));
        store(value + d, load(heads.value + start + j * stride + d, depth - d));
      }
      scales[keys.count++] = heads.scales[(long)j * heads.texts + text];
    }
  if (!keys.count) return;
  for (int first = 0; first < heads.queries; first += kRow) {
    int some = heads.queries - first < kRow ? heads.queries - first : kRow;
    const int lanes = some <= LANES ? LANES : kRow;
    for (int i = 0; i < lanes; i++) {
      const float* row = heads.query.values + start + (first + std::min(i, some - 1)) * stride;
      const float scale = heads.query.scales[(long)(first + std::min(i, some - 1)) * heads.texts + text];
      for (int d = 0; d < depth; d++) queries[d * kRow + i] = row[d] * scale + heads.query.bias[head * depth + d];
    }
    if (some <= LANES)
      attend_some<1>(queries, keys, some, shares, out + start + first * stride, stride);
    else
      attend_some<kVectors>(queries, keys, some, shares, out + start + first * stride, stride);
  }
}

}  // namespace

extern const Kernels LEVEL = {quantize_rows, gelu_quantize, geglu_quantize, norm_quantize, attend};
