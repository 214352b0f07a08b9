// Cross-entropy of rows of logits, [rows, V], in one pass: loss = logSumExp − logit of the target, both float32. The
// logits are in storage or (raw) plain float32.
#include "common.cuh"

#define AHEAD 32  // values in flight a thread
#define PACKS 4   // the same for the gradient, in packs
#define INFINITE __int_as_float(0x7f800000)

#if STORAGE != 0
DEVICE float to_float(float x) { return x; }
#endif

template <typename T>
DEVICE void loss_of(const T* logits, const int* targets, float* loss, float* logSumExp, i64 extent) {
  __shared__ float peaks[32], sums[32];
  const T* row = logits + (i64)blockIdx.x * extent;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  float peak = -INFINITE, sum = 0.0f;
  auto join = [](float& peak, float& sum, float otherPeak, float otherSum) {
    const float top = fmaxf(peak, otherPeak);
    if (top == -INFINITE) return;
    sum = sum * __expf(peak - top) + otherSum * __expf(otherPeak - top);
    peak = top;
  };
  auto take = [&](const float (&x)[AHEAD]) {
    float top = peak;
#pragma unroll
    for (int j = 0; j < AHEAD; j++) top = fmaxf(top, x[j]);
    const float shift = top == -INFINITE ? 0.0f : top;  // so that a NaN alone is not lost
    sum *= __expf(peak - shift);
    peak = top;
#pragma unroll
    for (int j = 0; j < AHEAD; j++) sum += __expf(x[j] - shift);
  };
  float x[AHEAD];
  constexpr int PER = 16 / sizeof(T);  // values of a load
  if (extent % PER == 0) {
    const Pack<T, PER>* packs = (const Pack<T, PER>*)row;
    const i64 count = extent / PER;
    for (i64 i = threadIdx.x; i < count; i += AHEAD / PER * blockDim.x) {
      Pack<T, PER> p[AHEAD / PER];
#pragma unroll
      for (int j = 0; j < AHEAD / PER; j++)
        if (i + j * blockDim.x < count) p[j] = packs[i + j * blockDim.x];
#pragma unroll
      for (int j = 0; j < AHEAD; j++)
        x[j] = i + j / PER * blockDim.x < count ? to_float(p[j / PER].v[j % PER]) : -INFINITE;
      take(x);
    }
  } else {
    for (i64 i = threadIdx.x; i < extent; i += AHEAD * blockDim.x) {
#pragma unroll
      for (int j = 0; j < AHEAD; j++) {
        const i64 at = i + j * blockDim.x;
        x[j] = at < extent ? to_float(row[at]) : -INFINITE;
      }
      take(x);
    }
  }
  for (int offset = 16; offset > 0; offset >>= 1) {
    const float otherPeak = __shfl_xor_sync(0xffffffffu, peak, offset);
    const float otherSum = __shfl_xor_sync(0xffffffffu, sum, offset);
    join(peak, sum, otherPeak, otherSum);
  }
  if (lane == 0) peaks[warp] = peak, sums[warp] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int other = 1; other < warps; other++) join(peak, sum, peaks[other], sums[other]);
  const float total = peak + logf(sum);
  const int target = targets[blockIdx.x];
  logSumExp[blockIdx.x] = total;
  loss[blockIdx.x] = total - (target >= 0 && target < extent ? to_float(row[target]) : 0.0f);
}
KERNEL cross_entropy(const scalar* logits, const int* targets, float* loss, float* logSumExp, i64 extent) {
  loss_of(logits, targets, loss, logSumExp, extent);
}
KERNEL cross_entropy_raw(const float* logits, const int* targets, float* loss, float* logSumExp, i64 extent) {
  loss_of(logits, targets, loss, logSumExp, extent);
}
// dLogits = dy · (softmax − one-hot of the target), of float32 logits.
KERNEL cross_entropy_grad_raw(const float* logits, const int* targets, const float* logSumExp, const float* dy,
                              scalar* out, i64 extent) {
  const i64 base = (i64)blockIdx.x * extent;
  const float shift = logSumExp[blockIdx.x], factor = dy[blockIdx.x];
  for (i64 i = threadIdx.x; i < extent; i += blockDim.x)
    out[base + i] = from_float(factor * (__expf(logits[base + i] - shift) - (i == targets[blockIdx.x] ? 1.0f : 0.0f)));
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
