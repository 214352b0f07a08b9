// y = x·weightᵀ (+ residual) for at most FEW rows: bound by reading the weights once, 16 bytes a lane. One warp an output;
// several weights that share x are one launch.
#include "gemv.cuh"

#define AHEAD 4      // loads in flight a lane

struct Group {
  const scalar* weights[GEMV_WEIGHTS];
  scalar* outs[GEMV_WEIGHTS];
  i64 widths[GEMV_WEIGHTS];
};

DEVICE void load(Packed (&w)[AHEAD], const Packed* weight, int start, int packs) {
#pragma unroll
  for (int i = 0; i < AHEAD; i++)
    if (start + 32 * i < packs) w[i] = read_once(weight + start + 32 * i);
}

// sums[row] = x[row]·weight over `inner` elements, in every lane of the warp that calls.
DEVICE void gemv_rows(float (&sums)[GEMV_ROWS], const scalar* x, const scalar* weights, int rows, int inner) {
  const int lane = threadIdx.x & 31, packs = inner / WIDTH;
  const Packed* weight = (const Packed*)weights;
  Packed w[AHEAD] = {}, next[AHEAD] = {};
  griddep_launch_dependents();
  load(w, weight, lane, packs);
  griddep_wait();  // weights are nobody's result: only x and the residual are waited for
  for (int start = lane; start < packs; start += 32 * AHEAD) {
    load(next, weight, start + 32 * AHEAD, packs);
#pragma unroll
    for (int i = 0; i < AHEAD; i++)
      if (start + 32 * i < packs) gemv_accumulate(sums, w[i], (const Packed*)x + start + 32 * i, rows, packs);
#pragma unroll
    for (int i = 0; i < AHEAD; i++) w[i] = next[i];
  }
  warp_sum_rows(sums, rows);
}

// Six blocks a multiprocessor: 48 to 96 KiB of weights in flight.
KERNEL __launch_bounds__(THREADS, 6) gemv(const scalar* x, const Group group, const scalar* residual, int rows,
                                                int inner, int total) {
  int output = (int)(global_thread() >> 5), member = 0;
  if (output >= total) return;
#pragma unroll
  for (int i = 0; i < GEMV_WEIGHTS - 1; i++) {
    if (member == i && output >= (int)group.widths[i]) {
      output -= (int)group.widths[i];
      member++;
    }
  }
  float sums[GEMV_ROWS] = {};
  gemv_rows(sums, x, group.weights[member] + (i64)output * inner, rows, inner);
  const int width = (int)group.widths[member];
  if (threadIdx.x & 31) return;
#pragma unroll
  for (int row = 0; row < GEMV_ROWS; row++) {
    if (row >= rows) break;
    const i64 at = (i64)row * width + output;
    group.outs[member][at] = from_float(residual ? sums[row] + to_float(residual[at]) : sums[row]);
  }
}

// y = silu(x·activatedᵀ) · (x·gateᵀ): of two neighbouring warps one takes a row of `activated`, the other that of `gate`.
KERNEL __launch_bounds__(THREADS, 6) gemv_swiglu(const scalar* x, const scalar* activated, const scalar* gate,
                                                   scalar* y, int rows, int inner, int width) {
  __shared__ float gates[THREADS / 64][GEMV_ROWS];
  const int warp = threadIdx.x >> 5, pair = warp >> 1, output = blockIdx.x * (THREADS / 64) + pair;
  float sums[GEMV_ROWS] = {};
  gemv_rows(sums, x, (warp & 1 ? gate : activated) + (i64)min(output, width - 1) * inner, rows, inner);
  const bool first = (threadIdx.x & 31) == 0;
#pragma unroll
  for (int row = 0; row < GEMV_ROWS; row++)
    if (first && (warp & 1)) gates[pair][row] = sums[row];
  __syncthreads();
  if (!first || (warp & 1) || output >= width) return;
#pragma unroll
  for (int row = 0; row < GEMV_ROWS; row++) {
    if (row >= rows) break;
    y[(i64)row * width + output] = gate_with(sums[row], gates[pair][row]);
  }
}
