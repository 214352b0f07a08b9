// The gates of the gated delta rule, their gradients, and the rule itself by its recurrence: S' = e^g S + kᵀ β (v − e^g k S) and
// o = q S', for all key columns, in one launch. HEAD: key width rounded up to 32, 64, 128, 256.
#include "common.cuh"

#ifndef HEAD
#define HEAD 128
#endif
#define THREADS (COLUMNS * PARTS)

DEVICE float softplus(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }
DEVICE float sigmoid_exact(float x) { return 1.0f / (1.0f + expf(-x)); }

// logDecay = −exp(aLog) softplus(a + dtBias), beta = sigmoid(b), in float32 whatever the storage.
KERNEL delta_gates(const scalar* a, const scalar* b, const float* aLog, const float* dtBias, float* logDecay, float* beta,
                   i64 size, int heads) {
  griddep_sync();
  for (i64 i = global_thread(); i < size; i += global_threads()) {
    const int head = (int)(i % heads);
    logDecay[i] = -expf(aLog[head]) * softplus(to_float(a[i]) + dtBias[head]);
    beta[i] = sigmoid_exact(to_float(b[i]));
  }
}
// The gradients of a head, which one block sums over all rows: grid (heads).
KERNEL delta_gates_grad(const scalar* a, const scalar* b, const float* aLog, const float* dtBias, const float* dLogDecay,
                        const float* dBeta, scalar* da, scalar* db, scalar* dALog, scalar* dDtBias, i64 rows, int heads) {
  const int head = blockIdx.x;
  const float rate = expf(aLog[head]), shift = dtBias[head];
  float sumA = 0.0f, sumDt = 0.0f;
  for (i64 row = threadIdx.x; row < rows; row += blockDim.x) {
    const i64 i = row * heads + head;
    const float logit = to_float(a[i]) + shift, strength = to_float(b[i]), scaled = -dLogDecay[i] * rate;
    const float slope = scaled * sigmoid_exact(logit);
    da[i] = from_float(slope);
    db[i] = from_float(dBeta[i] * sigmoid_exact(strength) * sigmoid_exact(-strength));
    sumA += scaled * softplus(logit);
    sumDt += slope;
  }
  sumA = block_sum(sumA);
  sumDt = block_sum(sumDt);
  if (threadIdx.x == 0) {
    dALog[head] = from_float(sumA);
    dDtBias[head] = from_float(sumDt);
  }
}

struct Shape {
  int time, heads, keyWidth, valueWidth;
  float queryScale, keyScale;
};

// A thread has one value column and a share of the state's rows. `first` may be null (zeros), and `last` may be `first`: every
// element is read and written by one thread. `settled`: as in retention_step.cu. With p = k S, r = q S and c = q·k before the
// position, o = e^g r + c n and S' = e^g S + kᵀ n where n = β (v − e^g p): one exchange a position. Grid (columns / 32, heads,
// batch).
KERNEL __launch_bounds__(THREADS) delta_step(const scalar* q, const scalar* k, const scalar* v, const float* logDecay,
                                             const float* beta, const float* first, scalar* out, float* last,
                                             const Shape s, int settled) {
  // Of two positions in turn, so that a position is loaded while that before it is still in use.
  __shared__ float queries[2][HEAD], keys[2][HEAD], partial[2][3][PARTS][COLUMNS];
  constexpr int MINE = HEAD / PARTS, LOADS = (2 * HEAD + THREADS - 1) / THREADS;
  const int lane = threadIdx.x & 31, part = threadIdx.x >> 5;
  const int head = blockIdx.y, batch = blockIdx.z, column = blockIdx.x * COLUMNS + lane;
  const bool inside = column < s.valueWidth;
  const i64 corner = ((i64)batch * s.heads + head) * s.keyWidth * s.valueWidth + column;
  float state[MINE], ahead[LOADS], value = 0.0f, fade = 0.0f, strength = 0.0f;
  const auto load_state = [&] {
#pragma unroll
    for (int i = 0; i < MINE; i++) {
      const int row = part * MINE + i;
      state[i] = first && inside && row < s.keyWidth ? first[corner + (i64)row * s.valueWidth] : 0.0f;
    }
  };
  const auto load_position = [&](int t) {
    const i64 at = ((i64)batch * s.time + t) * s.heads + head;
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
      const int element = i * THREADS + threadIdx.x, row = element % HEAD;
      const bool isKey = element >= HEAD;
      ahead[i] = 0.0f;
      if (element < 2 * HEAD && row < s.keyWidth)
        ahead[i] = to_float((isKey ? k : q)[at * s.keyWidth + row]) * (isKey ? s.keyScale : s.queryScale);
    }
    value = inside ? to_float(v[at * s.valueWidth + column]) : 0.0f;
    fade = logDecay[at];
    strength = beta[at];
  };
  griddep_launch_dependents();
  if (settled) load_state();
  griddep_wait();
  if (!settled) load_state();
  load_position(0);
  for (int t = 0; t < s.time; t++) {
    const int turn = t & 1;
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
      const int element = i * THREADS + threadIdx.x;
      if (element < HEAD) queries[turn][element] = ahead[i];
      else if (element < 2 * HEAD) keys[turn][element - HEAD] = ahead[i];
    }
    const float decay = __expf(fade), wanted = value, rate = strength;
    if (t + 1 < s.time) load_position(t + 1);
    __syncthreads();
    float known = 0.0f, read = 0.0f, overlap = 0.0f;
#pragma unroll
    for (int i = 0; i < MINE; i++) {
      const float key = keys[turn][part * MINE + i], query = queries[turn][part * MINE + i];
      state[i] *= decay;
      known += key * state[i];
      read += query * state[i];
      overlap += query * key;
    }
    partial[turn][0][part][lane] = known;
    partial[turn][1][part][lane] = read;
    partial[turn][2][part][lane] = overlap;
    __syncthreads();
    known = read = overlap = 0.0f;
#pragma unroll
    for (int other = 0; other < PARTS; other++) {
      known += partial[turn][0][other][lane];
      read += partial[turn][1][other][lane];
      overlap += partial[turn][2][other][lane];
    }
    const float change = rate * (wanted - known);
#pragma unroll
    for (int i = 0; i < MINE; i++) state[i] += keys[turn][part * MINE + i] * change;
    if (part == 0 && inside)
      out[(((i64)batch * s.time + t) * s.heads + head) * s.valueWidth + column] = from_float(read + overlap * change);
  }
#pragma unroll
  for (int i = 0; i < MINE; i++) {
    const int row = part * MINE + i;
    if (inside && row < s.keyWidth) last[corner + (i64)row * s.valueWidth] = state[i];
  }
}
