// RMSNorm of one row, kept in registers: for kernels of norms and for products that norm what they read.
#pragma once
#include "common.cuh"

// `y` · silu(gate), where `y` is rounded first as it would be kept.
DEVICE float gated(float y, float gate) { return gate * sigmoid_fast(gate) * to_float(from_float(y)); }

// One row by the `threads` threads that have it, the `first` of which is this: lanes of a warp, or the whole block. HELD: the
// most that a thread has. Leaves in `kept` what this thread has written.
template <bool BLOCK, int HELD>
DEVICE void normalize(Packed (&kept)[HELD], const Packed* from, const Packed* weight, const Packed* gate, Packed* to,
                      int packs, int first, int threads, bool valid, float eps) {
  Packed scales[HELD], gates[HELD];
  float sum = 0.0f;
  griddep_launch_dependents();
#pragma unroll
  for (int j = 0; j < HELD; j++)
    if (weight && first + j * threads < packs) scales[j] = weight[first + j * threads];
  griddep_wait();
#pragma unroll
  for (int j = 0; j < HELD; j++) {
    const int at = first + j * threads;
    if (at < packs) kept[j] = from[at];
    if (gate && at < packs) gates[j] = gate[at];  // after the reduction it would be waited for once more
  }
#pragma unroll
  for (int j = 0; j < HELD; j++) {
    if (first + j * threads >= packs) continue;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) sum += value_of(kept[j], i) * value_of(kept[j], i);
  }
  if (BLOCK) sum = block_sum(sum);
  else
    for (int offset = threads >> 1; offset > 0; offset >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  const float factor = rsqrtf(sum / (packs * WIDTH) + eps);
  if (!valid) return;
#pragma unroll
  for (int j = 0; j < HELD; j++) {
    const int at = first + j * threads;
    if (at >= packs) continue;
    float y[WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
      y[i] = value_of(kept[j], i) * factor * (weight ? value_of(scales[j], i) : 1.0f);
      if (gate) y[i] = gated(y[i], value_of(gates[j], i));
    }
    to[at] = kept[j] = packed(y);
  }
}
