// AdamW, and the norm of all gradients, over any number of tensors in one launch. A table in device memory says where the
// tensors lie; each is cut into pieces, a block each, so that neither many small tensors nor one large one idle the device.
#include "common.cuh"

#define INFINITE __int_as_float(0x7f800000)

struct Tensor {
  float* parameter;
  scalar* stored;  // the parameter in storage, rounded from the float32 master
  const void* gradient;
  float* first;
  float* second;
  i64 size;
  int piece;   // number of its first piece
  int isWide;  // whether the gradient is float32 and not in storage
  float decay;
  int unused;
};
typedef Pack<float, 4> Four;
#if STORAGE != 0
DEVICE float to_float(float x) { return x; }
#endif

// The tensor that the block's piece belongs to.
DEVICE int own_tensor(const Tensor* table, int count) {
  __shared__ int found;
  const int piece = blockIdx.x;
  for (int i = threadIdx.x; i < count; i += THREADS) {
    const int next = i + 1 < count ? table[i + 1].piece : gridDim.x;
    if (table[i].piece <= piece && piece < next) found = i;
  }
  __syncthreads();
  return found;
}
DEVICE int length_of(const Tensor& t, i64 start) { return t.size - start < PIECE ? (int)(t.size - start) : PIECE; }

struct Rule {
  float beta1, beta2, epsilon;
  float rate;         // over 1 − β₁ᵗ
  float correction;   // 1 / (1 − β₂ᵗ)
  float decayedRate;  // of the decay: the learning rate itself
};
// Decoupled weight decay (Loshchilov and Hutter 2019): θ ← (1 − ηλ) θ − η m̂ / (√v̂ + ε).
DEVICE void update(float& p, float g, float& m, float& v, float kept, const Rule& rule) {
  m = rule.beta1 * m + (1.0f - rule.beta1) * g;
  v = rule.beta2 * v + (1.0f - rule.beta2) * g * g;
  p = p * kept - rule.rate * m / (sqrtf(v * rule.correction) + rule.epsilon);
}
// Two packs of four a thread and turn: 56 bytes each are on their way, every access of a warp whole sectors.
template <typename T>
DEVICE void update_piece(const Tensor& t, i64 start, float factor, const Rule& rule) {
  const int size = length_of(t, start), packs = size / 4;
  const float kept = 1.0f - rule.decayedRate * t.decay;
  float *parameter = t.parameter + start, *first = t.first + start, *second = t.second + start;
  scalar* stored = t.stored + start;
  const T* gradient = (const T*)t.gradient + start;
  for (int i = threadIdx.x; i < packs; i += 2 * THREADS) {
    Four p[2], m[2], v[2];
    Pack<T, 4> g[2];
#pragma unroll
    for (int u = 0; u < 2; u++) {
      const int at = i + u * THREADS;
      if (at >= packs) continue;
      g[u] = ((const Pack<T, 4>*)gradient)[at];
      m[u] = ((const Four*)first)[at];
      v[u] = ((const Four*)second)[at];
      p[u] = ((const Four*)parameter)[at];
    }
#pragma unroll
    for (int u = 0; u < 2; u++) {
      const int at = i + u * THREADS;
      if (at >= packs) continue;
      Pack<scalar, 4> rounded;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        update(p[u].v[j], to_float(g[u].v[j]) * factor, m[u].v[j], v[u].v[j], kept, rule);
        rounded.v[j] = from_float(p[u].v[j]);
      }
      ((Four*)first)[at] = m[u];
      ((Four*)second)[at] = v[u];
      ((Four*)parameter)[at] = p[u];
      if (STORAGE != 0) ((Pack<scalar, 4>*)stored)[at] = rounded;
    }
  }
  const int rest = packs * 4 + threadIdx.x;
  if (rest >= size) return;
  update(parameter[rest], to_float(gradient[rest]) * factor, first[rest], second[rest], kept, rule);
  if (STORAGE != 0) stored[rest] = from_float(parameter[rest]);
}
// A scale that is not finite changes nothing: there was no gradient to follow; nor does such a rate. The rule is read from
// `moving` where it changes between runs of a recording. Grid (pieces), THREADS threads.
KERNEL adamw(const Tensor* table, int count, const float* scale, float constant, const Rule* moving, const Rule given) {
  const float factor = scale ? *scale : constant;
  const Rule rule = moving ? *moving : given;
  if (!(fabsf(factor) < INFINITE && fabsf(rule.rate) < INFINITE)) return;
  const Tensor t = table[own_tensor(table, count)];
  const i64 start = (i64)(blockIdx.x - t.piece) * PIECE;
#if STORAGE != 0
  if (!t.isWide) update_piece<scalar>(t, start, factor, rule);
  else
#endif
    update_piece<float>(t, start, factor, rule);
}

template <typename T>
DEVICE float squares_of(const Tensor& t, i64 start) {
  constexpr int N = 16 / sizeof(T);
  const int size = length_of(t, start), packs = size / N;
  const T* x = (const T*)t.gradient + start;
  float sum = 0.0f;
#pragma unroll 4
  for (int i = threadIdx.x; i < packs; i += THREADS) {
    const Pack<T, N> p = ((const Pack<T, N>*)x)[i];
#pragma unroll
    for (int j = 0; j < N; j++) sum += to_float(p.v[j]) * to_float(p.v[j]);
  }
  const int rest = packs * N + threadIdx.x;
  if (rest < size) sum += to_float(x[rest]) * to_float(x[rest]);
  return sum;
}
// sums[piece] = Σ gradient² of the piece. Grid (pieces), THREADS threads.
KERNEL square_sums(const Tensor* table, int count, float* sums) {
  const Tensor t = table[own_tensor(table, count)];
  const i64 start = (i64)(blockIdx.x - t.piece) * PIECE;
  float sum;
#if STORAGE != 0
  if (!t.isWide) sum = squares_of<scalar>(t, start);
  else
#endif
    sum = squares_of<float>(t, start);
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
// norm = √Σ sums, added up in float64; scale = min(1, clip / norm), 1 if clip is 0, NaN where the norm is not finite. One
// block of 1024 threads.
KERNEL clip_scale(const float* sums, int pieces, float clip, float* norm, float* scale) {
  __shared__ double totals[1024];
  double sum = 0.0;
#pragma unroll 8
  for (int i = threadIdx.x; i < pieces; i += 1024) sum += sums[i];
  totals[threadIdx.x] = sum;
  __syncthreads();
  for (int half = 512; half > 0; half >>= 1) {
    if (threadIdx.x < half) totals[threadIdx.x] += totals[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  const float length = (float)sqrt(totals[0]);
  *norm = length;
  *scale = length < INFINITE ? (clip > 0.0f && length > clip ? clip / length : 1.0f) : __int_as_float(0x7fc00000);
}
