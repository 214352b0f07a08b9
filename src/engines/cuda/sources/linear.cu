// y = x·weightᵀ (+ residual) for at most FEW rows: bound by reading the weights once, 16 bytes a lane. One warp an output;
// several weights that share x are one launch.
#define AHEAD 4      // loads in flight a lane
#define THREADS 128

struct Group {
  const scalar* weights[GROUP];
  scalar* outs[GROUP];
  i64 widths[GROUP];
};

DEVICE void load(Wide (&w)[AHEAD], const Wide* weight, int start, int packs) {
#pragma unroll
  for (int i = 0; i < AHEAD; i++)
    if (start + 32 * i < packs) w[i] = read_once(weight + start + 32 * i);
}

// sums[row] = x[row]·weight over `inner` elements, in every lane of the warp that calls.
DEVICE void products(float (&sums)[FEW], const scalar* x, const scalar* weights, int rows, int inner) {
  const int lane = threadIdx.x & 31, packs = inner / WIDTH;
  const Wide* weight = (const Wide*)weights;
  Wide w[AHEAD] = {}, next[AHEAD] = {};
  let_next_start();
  load(w, weight, lane, packs);
  wait_for_previous();  // weights are nobody's result: only x and the residual are waited for
  for (int start = lane; start < packs; start += 32 * AHEAD) {
    load(next, weight, start + 32 * AHEAD, packs);
#pragma unroll
    for (int i = 0; i < AHEAD; i++)
      if (start + 32 * i < packs) add_products(sums, w[i], (const Wide*)x + start + 32 * i, rows, packs);
#pragma unroll
    for (int i = 0; i < AHEAD; i++) w[i] = next[i];
  }
  sum_lanes(sums, rows);
}

// Six blocks a multiprocessor: 48 to 96 KiB of weights in flight.
KERNEL __launch_bounds__(THREADS, 6) linear_few(const scalar* x, const Group group, const scalar* residual, int rows,
                                                int inner, int total) {
  int output = (int)(global_thread() >> 5), member = 0;
  if (output >= total) return;
#pragma unroll
  for (int i = 0; i < GROUP - 1; i++) {
    if (member == i && output >= (int)group.widths[i]) {
      output -= (int)group.widths[i];
      member++;
    }
  }
  float sums[FEW] = {};
  products(sums, x, group.weights[member] + (i64)output * inner, rows, inner);
  const int width = (int)group.widths[member];
  if (threadIdx.x & 31) return;
#pragma unroll
  for (int row = 0; row < FEW; row++) {
    if (row >= rows) break;
    const i64 at = (i64)row * width + output;
    group.outs[member][at] = from_float(residual ? sums[row] + to_float(residual[at]) : sums[row]);
  }
}

// y = silu(x·activatedᵀ) · (x·gateᵀ): of two neighbouring warps one takes a row of `activated`, the other that of `gate`.
KERNEL __launch_bounds__(THREADS, 6) linear_swiglu(const scalar* x, const scalar* activated, const scalar* gate,
                                                   scalar* y, int rows, int inner, int width) {
  __shared__ float gates[THREADS / 64][FEW];
  const int warp = threadIdx.x >> 5, pair = warp >> 1, output = blockIdx.x * (THREADS / 64) + pair;
  float sums[FEW] = {};
  products(sums, x, (warp & 1 ? gate : activated) + (i64)min(output, width - 1) * inner, rows, inner);
  const bool first = (threadIdx.x & 31) == 0;
#pragma unroll
  for (int row = 0; row < FEW; row++)
    if (first && (warp & 1)) gates[pair][row] = sums[row];
  __syncthreads();
  if (!first || (warp & 1) || output >= width) return;
#pragma unroll
  for (int row = 0; row < FEW; row++) {
    if (row >= rows) break;
    y[(i64)row * width + output] = gate_with(sums[row], gates[pair][row]);
  }
}
