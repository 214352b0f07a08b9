// Small fused operations bound by memory: SwiGLU, retention's decay, embedding, writing of K/V pages.
#include "common.cuh"

KERNEL swiglu(const scalar* a, const scalar* b, scalar* y, i64 size) {
  griddep_sync();
  const i64 wide = size / WIDTH;
  for (i64 i = global_thread(); i < wide; i += global_threads()) {
    Wide p = ((const Wide*)a)[i];
    const Wide q = ((const Wide*)b)[i];
#pragma unroll
    for (int j = 0; j < WIDTH; j++) {
      const float x = to_float(p.v[j]);
      p.v[j] = from_float(x * sigmoid_fast(x) * to_float(q.v[j]));
    }
    ((Wide*)y)[i] = p;
  }
  for (i64 i = wide * WIDTH + global_thread(); i < size; i += global_threads()) {
    const float x = to_float(a[i]);
    y[i] = from_float(x * sigmoid_fast(x) * to_float(b[i]));
  }
}

DEVICE void swiglu_grad_one(scalar& dy_da, scalar& a_db, scalar b) {
  const float d = to_float(dy_da), x = to_float(a_db), s = sigmoid_fast(x);
  dy_da = from_float(d * to_float(b) * s * (1.0f + x * (1.0f - s)));
  a_db = from_float(d * x * s);
}
KERNEL swiglu_grad(const scalar* dy, const scalar* a, const scalar* b, scalar* da, scalar* db, i64 size) {
  const i64 wide = size / WIDTH;
  for (i64 i = global_thread(); i < wide; i += global_threads()) {
    Wide d = ((const Wide*)dy)[i], x = ((const Wide*)a)[i];
    const Wide q = ((const Wide*)b)[i];
#pragma unroll
    for (int j = 0; j < WIDTH; j++) swiglu_grad_one(d.v[j], x.v[j], q.v[j]);
    ((Wide*)da)[i] = d;
    ((Wide*)db)[i] = x;
  }
  for (i64 i = wide * WIDTH + global_thread(); i < size; i += global_threads()) {
    scalar d = dy[i], x = a[i];
    swiglu_grad_one(d, x, b[i]);
    da[i] = d;
    db[i] = x;
  }
}

// log sigmoid(x) / normalizer in float32 whatever the storage: it is summed over hundreds of positions.
KERNEL log_decay(const scalar* x, float* y, i64 size, float inverse) {
  griddep_sync();
  for (i64 i = global_thread(); i < size; i += global_threads()) {
    y[i] = log_sigmoid(to_float(x[i])) * inverse;
  }
}
KERNEL log_decay_grad(const float* dy, const scalar* x, scalar* dx, i64 size, float inverse) {
  for (i64 i = global_thread(); i < size; i += global_threads())
    dx[i] = from_float(dy[i] * inverse / (1.0f + expf(to_float(x[i]))));
}

// Mamba-2's steps, factor · softplus(x + bias), and log decays, -e^aLog · softplus(x + bias), both in float32: see log_decay.
KERNEL time_step(const scalar* x, const float* bias, const float* aLog, float* step, float* decay, i64 size, int heads,
                 float factor) {
  griddep_sync();
  for (i64 i = global_thread(); i < size; i += global_threads()) {
    const int head = i % heads;
    const float plain = -log_sigmoid(-to_float(x[i]) - bias[head]);
    step[i] = factor * plain;
    decay[i] = -plain * expf(aLog[head]);
  }
}

// Rows of [vocabulary, width] by id, times scale; an id outside gives zeros. Rows are made of `packs` packs.
#define AHEAD 4  // packs in flight a thread
KERNEL embedding(const scalar* weight, const int* ids, scalar* out, i64 size, int vocabulary, int packs, float scale) {
  for (i64 first = global_thread(); first < size; first += AHEAD * global_threads()) {
    Packed p[AHEAD];
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
      const i64 i = first + j * global_threads();
      if (i >= size) break;
      const i64 row = quotient(i, packs);
      const int id = ids[row];
      p[j] = id >= 0 && id < vocabulary ? ((const Packed*)weight)[(i64)id * packs + i - row * packs] : Packed();
    }
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
      const i64 i = first + j * global_threads();
      if (i >= size) break;
      float y[WIDTH];
#pragma unroll
      for (int k = 0; k < WIDTH; k++) y[k] = scale * value_of(p[j], k);
      ((Packed*)out)[i] = packed(y);
    }
  }
}
// The same one by one.
KERNEL embedding_any(const scalar* weight, const int* ids, scalar* out, i64 size, int vocabulary, int width,
                     float scale) {
  for (i64 i = global_thread(); i < size; i += global_threads()) {
    const i64 row = quotient(i, width);
    const int id = ids[row];
    const i64 from = (i64)id * width + i - row * width;
    out[i] = from_float(id >= 0 && id < vocabulary ? scale * to_float(weight[from]) : 0.0f);
  }
}
