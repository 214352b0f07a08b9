// RMSNorm of one row, kept in registers: for kernels of norms and for products that norm what they read.
#pragma once
#include "common.cuh"


// What `y` is multiplied by where there is a gate, after it was rounded as it would be kept.
DEVICE scalar gated(scalar y, scalar gate) {
  const float g = to_float(gate);
  return from_float(g * sigmoid_fast(g) * to_float(y));
}

// One row by the `threads` threads that have it, the `first` of which is this: lanes of a warp, or the whole block. HELD: the
// most that a thread has.
template <bool BLOCK, int HELD = KEPT>
DEVICE void normalize(const Wide* from, const Wide* weight, const Wide* gate, Wide* to, int packs, int first,
                      int threads, bool valid, float eps) {
  Wide kept[HELD], scales[HELD];
  float sum = 0.0f;
  griddep_launch_dependents();
#pragma unroll
  for (int j = 0; j < HELD; j++)
    if (weight && first + j * threads < packs) scales[j] = weight[first + j * threads];
  griddep_wait();
#pragma unroll
  for (int j = 0; j < HELD; j++) {
    const int at = first + j * threads;
    if (at >= packs) continue;
    kept[j] = from[at];
#pragma unroll
    for (int i = 0; i < WIDTH; i++) sum += to_float(kept[j].v[i]) * to_float(kept[j].v[i]);
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
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
      kept[j].v[i] = from_float(to_float(kept[j].v[i]) * factor * (weight ? to_float(scales[j].v[i]) : 1.0f));
    if (gate) {
      const Wide g = gate[at];
#pragma unroll
      for (int i = 0; i < WIDTH; i++) kept[j].v[i] = gated(kept[j].v[i], g.v[i]);
    }
    to[at] = kept[j];
  }
}
