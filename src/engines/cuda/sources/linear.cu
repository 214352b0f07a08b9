// y = x·weightᵀ (+ residual) for at most FEW rows: bound by reading the weights once, 16 bytes a lane. One warp an output;
// several weights that share x are one launch.
#define FEW 4
#define GROUP 8
#define AHEAD 4  // loads in flight a lane

struct Group {
  const scalar* weights[GROUP];
  scalar* outs[GROUP];
  i64 widths[GROUP];
};

DEVICE void load(Wide (&w)[AHEAD], const Wide* weight, int start, int packs) {
#pragma unroll
  for (int i = 0; i < AHEAD; i++)
    if (start + 32 * i < packs) w[i] = weight[start + 32 * i];
}

// Three blocks a multiprocessor: 48 to 96 KiB of weights in flight.
KERNEL __launch_bounds__(256, 3) linear_few(const scalar* x, const Group group, const scalar* residual, int rows,
                                            int inner, int total) {
  const int lane = threadIdx.x & 31, packs = inner / WIDTH;
  int output = (int)(global_thread() >> 5), member = 0;
  if (output >= total) return;
#pragma unroll
  for (int i = 0; i < GROUP - 1; i++) {
    if (member == i && output >= (int)group.widths[i]) {
      output -= (int)group.widths[i];
      member++;
    }
  }
  const Wide* weight = (const Wide*)group.weights[member] + (i64)output * packs;
  float sums[FEW] = {};
  Wide w[AHEAD] = {}, next[AHEAD] = {};
  let_next_start();
  load(w, weight, lane, packs);
  wait_for_previous();  // weights are nobody's result: only x and the residual are waited for
  for (int start = lane; start < packs; start += 32 * AHEAD) {
    load(next, weight, start + 32 * AHEAD, packs);
#pragma unroll
    for (int row = 0; row < FEW; row++) {
      if (row >= rows) break;
#pragma unroll
      for (int i = 0; i < AHEAD; i++) {
        if (start + 32 * i >= packs) continue;
        const Wide p = ((const Wide*)x)[(i64)row * packs + start + 32 * i];
#pragma unroll
        for (int j = 0; j < WIDTH; j++) sums[row] += to_float(w[i].v[j]) * to_float(p.v[j]);
      }
    }
#pragma unroll
    for (int i = 0; i < AHEAD; i++) w[i] = next[i];
  }
  const int width = (int)group.widths[member];
#pragma unroll
  for (int row = 0; row < FEW; row++) {
    if (row >= rows) break;
    float sum = warp_sum(sums[row]);
    const i64 at = (i64)row * width + output;
    if (lane == 0) group.outs[member][at] = from_float(residual ? sum + to_float(residual[at]) : sum);
  }
}
