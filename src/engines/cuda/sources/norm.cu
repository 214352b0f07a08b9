// RMSNorm: y = x · rsqrt(mean(x²) + eps) · weight (· silu(gate)), and its gradient. Bound by memory: a row is read once and kept in
// registers; 16-byte accesses.
#include "norm.cuh"

// `lanes` threads (a power of two up to 32) share a row of at most KEPT·lanes packs.
KERNEL rms_norm_small(const scalar* x, const scalar* weight, const scalar* gate, scalar* y, i64 rows, int packs,
                      int lanes, float eps) {
  const i64 row = global_thread() / lanes, start = row * packs;
  const bool valid = row < rows;  // the others stay for the shuffles
  const Wide* gates = gate && valid ? (const Wide*)gate + start : nullptr;
  normalize<false>((const Wide*)x + (valid ? start : 0), (const Wide*)weight, gates, (Wide*)y + start, packs,
                   threadIdx.x & (lanes - 1), lanes, valid, eps);
}

// One block a row of at most KEPT·blockDim packs.
KERNEL rms_norm(const scalar* x, const scalar* weight, const scalar* gate, scalar* y, i64 rows, int packs, int lanes,
                float eps) {
  const i64 start = (i64)blockIdx.x * packs;
  normalize<true>((const Wide*)x + start, (const Wide*)weight, gate ? (const Wide*)gate + start : nullptr,
                  (Wide*)y + start, packs, threadIdx.x, blockDim.x, true, eps);
}

// Any width, one block a row.
KERNEL rms_norm_any(const scalar* x, const scalar* weight, const scalar* gate, scalar* y, i64 rows, int width,
                    int lanes, float eps) {
  griddep_sync();
  const i64 start = (i64)blockIdx.x * width;
  float sum = 0.0f;
  for (int i = threadIdx.x; i < width; i += blockDim.x) sum += to_float(x[start + i]) * to_float(x[start + i]);
  const float factor = rsqrtf(block_sum(sum) / width + eps);
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    const scalar normed = from_float(to_float(x[start + i]) * factor * (weight ? to_float(weight[i]) : 1.0f));
    y[start + i] = gate ? gated(normed, gate[start + i]) : normed;
  }
}

// dx = r·dy·w − x·r³·mean(dy·w·x); each block walks rows and keeps its share of dWeight = Σ dy·x·r for its columns,
// one column a thread at a time, in `partial` [blocks, width].
KERNEL rms_norm_grad(const scalar* dy, const scalar* x, const scalar* weight, scalar* dx, float* partial, i64 rows,
                     int width, float eps) {
  extern __shared__ float sums[];
  for (int i = threadIdx.x; i < width; i += blockDim.x) sums[i] = 0.0f;
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const scalar* xs = x + row * width;
    const scalar* dys = dy + row * width;
    float square = 0.0f, product = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
      const float v = to_float(xs[i]);
      square += v * v;
      product += v * to_float(dys[i]) * (weight ? to_float(weight[i]) : 1.0f);
    }
    const float factor = rsqrtf(block_sum(square) / width + eps);
    const float shift = block_sum(product) / width * factor * factor * factor;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
      const float v = to_float(xs[i]), d = to_float(dys[i]);
      dx[row * width + i] = from_float(d * (weight ? to_float(weight[i]) : 1.0f) * factor - v * shift);
      sums[i] += d * v * factor;
    }
  }
  if (partial)
    for (int i = threadIdx.x; i < width; i += blockDim.x) partial[(i64)blockIdx.x * width + i] = sums[i];
}
// The same for narrow rows (width ≤ 256): one warp a row, no weight gradient wanted.
KERNEL rms_norm_grad_narrow(const scalar* dy, const scalar* x, const scalar* weight, scalar* dx, i64 rows, int width,
                            float eps) {
  const int lane = threadIdx.x & 31;
  const i64 row = global_thread() >> 5;
  if (row >= rows) return;
  float v[8], d[8], square = 0.0f, product = 0.0f;
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const int i = lane + 32 * j;
    v[j] = i < width ? to_float(x[row * width + i]) : 0.0f;
    d[j] = i < width ? to_float(dy[row * width + i]) * (weight ? to_float(weight[i]) : 1.0f) : 0.0f;
    square += v[j] * v[j];
    product += v[j] * d[j];
  }
  const float factor = rsqrtf(warp_sum(square) / width + eps);
  const float shift = warp_sum(product) / width * factor * factor * factor;
#pragma unroll
  for (int j = 0; j < 8; j++)
    if (lane + 32 * j < width) dx[row * width + lane + 32 * j] = from_float(d[j] * factor - v[j] * shift);
}
