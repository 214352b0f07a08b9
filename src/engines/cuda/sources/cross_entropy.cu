// Cross-entropy of rows of logits, [rows, V], in one pass: loss = logSumExp − logit of the target, both float32. The
// logits are in storage or (raw) plain float32.
#include "common.cuh"

#define AT_ONCE 16
#define INFINITE __int_as_float(0x7f800000)

// Logits of one load: 16 bytes, or a single one where rows are not made of packs.
template <typename T>
struct Loaded {
  typedef Packed type;
};
typedef Pack<float, 4> Quad;
template <>
struct Loaded<float> {
  typedef Quad type;
};
#if STORAGE != 0
DEVICE float to_float(float x) { return x; }
#endif
DEVICE float value_of(const Quad& p, int i) { return p.v[i]; }
template <typename T>
DEVICE float value_of(const Pack<T, 1>& p, int) {
  return to_float(p.v[0]);
}
// As many that add nothing.
DEVICE void clear(Packed& p) {
  float x[WIDTH];
#pragma unroll
  for (int i = 0; i < WIDTH; i++) x[i] = -INFINITE;
  p = packed(x);
}
DEVICE void clear(Quad& p) { p.v[0] = p.v[1] = p.v[2] = p.v[3] = -INFINITE; }
DEVICE void clear(Pack<float, 1>& p) { p.v[0] = -INFINITE; }
#if STORAGE != 0
DEVICE void clear(Pack<scalar, 1>& p) { p.v[0] = from_float(-INFINITE); }
#endif

// Sum of 2^(x·log2 e − peak) over some x, and a peak that keeps it in range: about the largest x·log2 e.
struct Exponentials {
  float peak, sum;
};
DEVICE void join(Exponentials& to, float peak, float sum) {
  const float top = fmaxf(to.peak, peak), shift = top == -INFINITE ? 0.0f : top;  // so that a NaN alone is not lost
  to.sum = to.sum * exp2_fast(to.peak - shift) + sum * exp2_fast(peak - shift);
  to.peak = top;
}
template <int PER, typename P, int COUNT>
DEVICE void take(Exponentials& to, const P (&p)[COUNT]) {
  float top = -INFINITE, sum = 0.0f;
#pragma unroll
  for (int j = 0; j < COUNT; j++)
#pragma unroll
    for (int i = 0; i < PER; i++) top = fmaxf(top, value_of(p[j], i));
  top = fmaxf(to.peak, top * LOG2_E);
  const float shift = top == -INFINITE ? 0.0f : top;
#pragma unroll
  for (int j = 0; j < COUNT; j++)
#pragma unroll
    for (int i = 0; i < PER; i++) sum += exp2_fast(fmaf(value_of(p[j], i), LOG2_E, -shift));
  to.sum = to.sum * exp2_fast(to.peak - shift) + sum;
  to.peak = top;
}
// Those of every `threads`-th load of a row of `count` from `first` on; AT_ONCE values are in registers as such.
template <int PER, typename P>
DEVICE Exponentials exponentials_of(const P* loads, int first, int threads, int count) {
  constexpr int GROUP = AT_ONCE / PER, GROUPS = PER == 1 ? 1 : AHEAD / AT_ONCE;
  Exponentials all = {-INFINITE, 0.0f};
  for (int start = first; start < count; start += GROUPS * GROUP * threads) {
    P p[GROUPS][GROUP];
#pragma unroll
    for (int j = 0; j < GROUPS * GROUP; j++) {
      const int at = start + j * threads;
      if (at < count) p[j / GROUP][j % GROUP] = loads[at];
      else clear(p[j / GROUP][j % GROUP]);
    }
#pragma unroll
    for (int j = 0; j < GROUPS; j++)
      if (start + j * GROUP * threads < count) take<PER>(all, p[j]);
  }
  return all;
}
template <typename T>
DEVICE Exponentials exponentials_of_row(const T* row, int first, int threads, i64 extent) {
  constexpr int PER = 16 / sizeof(T);
  if (extent % PER == 0) return exponentials_of<PER>((const typename Loaded<T>::type*)row, first, threads, extent / PER);
  return exponentials_of<1>((const Pack<T, 1>*)row, first, threads, extent);
}
DEVICE void join_warp(Exponentials& all) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    const float peak = __shfl_xor_sync(0xffffffffu, all.peak, offset), sum = __shfl_xor_sync(0xffffffffu, all.sum, offset);
    join(all, peak, sum);
  }
}
template <typename T>
DEVICE float logit_of(const T* row, int target, i64 extent) {
  return target >= 0 && target < extent ? to_float(row[target]) : 0.0f;
}
DEVICE float log_sum(const Exponentials& all) { return fmaf(all.peak, 0.69314718f, logf(all.sum)); }

// A block a row.
template <typename T>
DEVICE void loss_of(const T* logits, const int* targets, float* loss, float* logSumExp, i64 extent) {
  __shared__ float peaks[32], sums[32];
  const T* row = logits + (i64)blockIdx.x * extent;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  Exponentials all = exponentials_of_row(row, threadIdx.x, blockDim.x, extent);
  join_warp(all);
  if (lane == 0) peaks[warp] = all.peak, sums[warp] = all.sum;
  __syncthreads();
  if (warp != 0) return;
  all.peak = lane < warps ? peaks[lane] : -INFINITE;
  all.sum = lane < warps ? sums[lane] : 0.0f;
  join_warp(all);
  if (lane != 0) return;
  logSumExp[blockIdx.x] = log_sum(all);
  loss[blockIdx.x] = log_sum(all) - logit_of(row, targets[blockIdx.x], extent);
}
KERNEL __launch_bounds__(512, 3) cross_entropy(const scalar* logits, const int* targets, float* loss, float* logSumExp, i64 rows, i64 extent) {
  loss_of(logits, targets, loss, logSumExp, extent);
}
KERNEL cross_entropy_raw(const float* logits, const int* targets, float* loss, float* logSumExp, i64 rows, i64 extent) {
  loss_of(logits, targets, loss, logSumExp, extent);
}
// A warp a row: for rows that a block would wait for longer than it would read them.
template <typename T>
DEVICE void narrow_loss_of(const T* logits, const int* targets, float* loss, float* logSumExp, i64 rows, i64 extent) {
  const i64 at = global_thread() >> 5;
  if (at >= rows) return;
  const T* row = logits + at * extent;
  const float wanted = logit_of(row, targets[at], extent);
  Exponentials all = exponentials_of_row(row, threadIdx.x & 31, 32, extent);
  join_warp(all);
  if ((threadIdx.x & 31) != 0) return;
  logSumExp[at] = log_sum(all);
  loss[at] = log_sum(all) - wanted;
}
KERNEL cross_entropy_narrow(const scalar* logits, const int* targets, float* loss, float* logSumExp, i64 rows,
                            i64 extent) {
  narrow_loss_of(logits, targets, loss, logSumExp, rows, extent);
}
KERNEL cross_entropy_raw_narrow(const float* logits, const int* targets, float* loss, float* logSumExp, i64 rows,
                                i64 extent) {
  narrow_loss_of(logits, targets, loss, logSumExp, rows, extent);
}

// dLogits = dy · (softmax − one-hot of the target), of float32 logits: PACKS packs of four a thread, or as many logits.
KERNEL cross_entropy_grad_raw(const float* logits, const int* targets, const float* logSumExp, const float* dy,
                              scalar* out, i64 rows, int extent) {
  const auto gradient = [&](float x, u32 row, int i) {
    return from_float(dy[row] * (__expf(x - logSumExp[row]) - (i == targets[row] ? 1.0f : 0.0f)));
  };
  const int per = extent % 4 == 0 ? 4 : 1;
  const u32 row_packs = extent / per, packs = rows * row_packs, first = blockIdx.x * PACKS * blockDim.x + threadIdx.x;
  if (per == 1) {
    for (int j = 0; j < PACKS; j++) {
      const u32 at = first + j * blockDim.x;
      if (at < packs) out[at] = gradient(logits[at], at / row_packs, at % row_packs);
    }
    return;
  }
  Quad x[PACKS];
#pragma unroll
  for (int j = 0; j < PACKS; j++) {
    const u32 at = first + j * blockDim.x;
    if (at < packs) x[j] = ((const Quad*)logits)[at];
  }
#pragma unroll
  for (int j = 0; j < PACKS; j++) {
    const u32 at = first + j * blockDim.x, row = at / row_packs;
    if (at >= packs) continue;
    Pack<scalar, 4> y;
#pragma unroll
    for (int i = 0; i < 4; i++) y.v[i] = gradient(x[j].v[i], row, at % row_packs * 4 + i);
    ((Pack<scalar, 4>*)out)[at] = y;
  }
}
// The same of logits in storage; `out` may be `logits`: a thread reads what it writes, before it does.
KERNEL cross_entropy_grad(const scalar* logits, const int* targets, const float* logSumExp, const float* dy,
                          scalar* out, i64 extent) {
  const i64 base = (i64)blockIdx.x * extent;
  const float shift = logSumExp[blockIdx.x], factor = dy[blockIdx.x];
  const int target = targets[blockIdx.x];
  auto gradient = [&](scalar x, i64 i) {
    return from_float(factor * (__expf(to_float(x) - shift) - (i == target ? 1.0f : 0.0f)));
  };
  if (extent % WIDTH != 0) {
    for (i64 i = threadIdx.x; i < extent; i += blockDim.x) out[base + i] = gradient(logits[base + i], i);
    return;
  }
  const Wide* from = (const Wide*)(logits + base);
  Wide* to = (Wide*)(out + base);
  const int packs = extent / WIDTH;
  for (int first = threadIdx.x; first < packs; first += PACKS * blockDim.x) {
    Wide x[PACKS];
#pragma unroll
    for (int j = 0; j < PACKS; j++) {
      const int at = first + j * blockDim.x;
      if (at < packs) x[j] = from[at];
    }
#pragma unroll
    for (int j = 0; j < PACKS; j++) {
      const int at = first + j * blockDim.x;
      if (at >= packs) continue;
#pragma unroll
      for (int i = 0; i < WIDTH; i++) x[j].v[i] = gradient(x[j].v[i], (i64)at * WIDTH + i);
      to[at] = x[j];
    }
  }
}
