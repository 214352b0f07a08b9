// RMSNorm: y = x · rsqrt(mean(x²) + eps) · weight (· silu(gate)). Bound by memory: a row is read once and kept in registers; 16-byte
// accesses.
#include "norm.cuh"

// `lanes` threads (a power of two up to 32) share a row of at most KEPT·lanes packs.
KERNEL __launch_bounds__(256, 4) rms_norm_small(const scalar* x, const scalar* weight, const scalar* gate, scalar* y,
                                                i64 rows, int packs, int lanes, float eps) {
  const i64 row = global_thread() / lanes, start = row * packs;
  const bool valid = row < rows;  // the others stay for the shuffles
  const Packed* gates = gate && valid ? (const Packed*)gate + start : nullptr;
  Packed kept[KEPT];
  normalize<false>(kept, (const Packed*)x + (valid ? start : 0), (const Packed*)weight, gates, (Packed*)y + start, packs,
                   threadIdx.x & (lanes - 1), lanes, valid, eps);
}

// One block a row of at most KEPT·blockDim packs.
KERNEL __launch_bounds__(1024) rms_norm(const scalar* x, const scalar* weight, const scalar* gate, scalar* y, i64 rows, int packs, int lanes,
                float eps) {
  const i64 start = (i64)blockIdx.x * packs;
  Packed kept[KEPT];
  normalize<true>(kept, (const Packed*)x + start, (const Packed*)weight, gate ? (const Packed*)gate + start : nullptr,
                  (Packed*)y + start, packs, threadIdx.x, blockDim.x, true, eps);
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
    const float normed = to_float(x[start + i]) * factor * (weight ? to_float(weight[i]) : 1.0f);
    y[start + i] = from_float(gate ? gated(normed, to_float(gate[start + i])) : normed);
  }
}
