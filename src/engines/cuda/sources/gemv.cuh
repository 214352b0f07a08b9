// Products with at most FEW rows of x, up to GROUP weights at once. ROWS: of the rows that a function is compiled for.
#pragma once
#include "common.cuh"

// sums[row] += x[row]·w over one pack; rows of x are `packs` apart. Every kernel of these products adds in this order: a
// lane every 32nd pack, then the lanes of the warp.
template <int ROWS>
DEVICE void gemv_accumulate(float (&sums)[ROWS], const Packed& w, const Packed* x, int rows, int packs) {
#pragma unroll
  for (int row = 0; row < ROWS; row++) {
    if (row >= rows) break;
    const Packed p = x[(i64)row * packs];
#pragma unroll
    for (int j = 0; j < WIDTH; j++) sums[row] += value_of(w, j) * value_of(p, j);
  }
}
template <int ROWS>
DEVICE void warp_sum_rows(float (&sums)[ROWS], int rows) {
#pragma unroll
  for (int row = 0; row < ROWS; row++) {
    if (row >= rows) break;
    sums[row] = warp_sum(sums[row]);
  }
}
// silu(a)·b, both rounded as the projections are where they are kept.
DEVICE scalar gate_with(float a, float b) {
  a = to_float(from_float(a));
  return from_float(a * sigmoid_fast(a) * to_float(from_float(b)));
}
