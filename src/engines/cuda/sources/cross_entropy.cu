// Cross-entropy of rows of logits, [rows, V], in one pass: loss = logSumExp − logit of the target, both float32. The
// logits are in storage or (for LinearCrossEntropy's blocks) plain float32.

#define AHEAD 8  // loads in flight a thread
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
  for (i64 i = threadIdx.x; i < extent; i += AHEAD * blockDim.x) {
    float x[AHEAD], top = peak;
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
      const i64 at = i + j * blockDim.x;
      x[j] = at < extent ? to_float(row[at]) : -INFINITE;
    }
#pragma unroll
    for (int j = 0; j < AHEAD; j++) top = fmaxf(top, x[j]);
    const float shift = top == -INFINITE ? 0.0f : top;  // so that a NaN alone is not lost
    sum *= __expf(peak - shift);
    peak = top;
#pragma unroll
    for (int j = 0; j < AHEAD; j++) sum += __expf(x[j] - shift);
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
// dLogits = dy · (softmax − one-hot of the target)
template <typename T>
DEVICE void grad_of(const T* logits, const int* targets, const float* logSumExp, const float* dy, scalar* out,
                    i64 extent) {
  const i64 base = (i64)blockIdx.x * extent;
  const float shift = logSumExp[blockIdx.x], factor = dy[blockIdx.x];
  const int target = targets[blockIdx.x];
  for (i64 i = threadIdx.x; i < extent; i += blockDim.x)
    out[base + i] = from_float(factor * (__expf(to_float(logits[base + i]) - shift) - (i == target ? 1.0f : 0.0f)));
}
KERNEL cross_entropy(const scalar* logits, const int* targets, float* loss, float* logSumExp, i64 extent) {
  loss_of(logits, targets, loss, logSumExp, extent);
}
KERNEL cross_entropy_raw(const float* logits, const int* targets, float* loss, float* logSumExp, i64 extent) {
  loss_of(logits, targets, loss, logSumExp, extent);
}
KERNEL cross_entropy_grad(const scalar* logits, const int* targets, const float* logSumExp, const float* dy,
                          scalar* out, i64 extent) {
  grad_of(logits, targets, logSumExp, dy, out, extent);
}
KERNEL cross_entropy_grad_raw(const float* logits, const int* targets, const float* logSumExp, const float* dy,
                              scalar* out, i64 extent) {
  grad_of(logits, targets, logSumExp, dy, out, extent);
}
