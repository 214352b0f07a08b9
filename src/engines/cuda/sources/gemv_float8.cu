// y = x·weightᵀ (+ residual) of rows in float8, for at most MOST_ROWS rows of x: bound by reading the weights once, 16 bytes a lane. A block
// has OUTPUTS columns of y, whose inner elements its warps share; tensor cores multiply the codes as they are.
#include "gemv.cuh"

#define OUTPUTS 8           // columns that the tensor cores take at once
#define WARPS (THREADS / 32)
#define STEP (4 * WARPS)    // packs of a row that the warps of a block take at once
#define PRODUCTS (MOST_ROWS * OUTPUTS)

struct Group {
  const u8* codes[GEMV_WEIGHTS];
  const float* factors[GEMV_WEIGHTS];
  scalar* outs[GEMV_WEIGHTS];
  int widths[GEMV_WEIGHTS];
};

DEVICE Packed read_once_if(bool is, const Packed* p) {
  Packed x{};
  if (is) x = read_once(p);
  return x;
}

// Adds up, over the block, the products of x with OUTPUTS rows of each of MEMBERS weights; `packs` of 16 codes are a row. A lane has a
// pack of a row of x and of each weight at the same place, whose codes meet in pairs, in whatever order.
template <int MEMBERS, int AHEAD>
DEVICE void gemv_float8_rows(float (&partial)[MEMBERS][WARPS][PRODUCTS], const Packed* x,
                             const Packed* const (&weights)[MEMBERS], int rows, int packs) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row = lane >> 2, part = lane & 3;
  const i64 start = (i64)row * packs + 4 * warp + part;
  const Packed* from[MEMBERS];
  Packed w[MEMBERS][AHEAD];
  float sums[MEMBERS][4] = {};
  int left = packs - 4 * warp - part;  // packs from the present place of this lane to the end of the row
  griddep_launch_dependents();
#pragma unroll
  for (int m = 0; m < MEMBERS; m++) {
    from[m] = weights[m] + start;
#pragma unroll
    for (int i = 0; i < AHEAD; i++) w[m][i] = read_once_if(i * STEP < left, from[m] + i * STEP);
  }
  griddep_wait();  // weights are nobody's result: only x and the residual are waited for
  x += start;
#pragma unroll 1
  for (int first = 4 * warp; first < packs; first += AHEAD * STEP) {
#pragma unroll
    for (int i = 0; i < AHEAD; i++) {
      const Packed p = row < rows && i * STEP < left ? x[i * STEP] : Packed{};
      const u32 low[4] = {p.words[0], 0, p.words[1], 0}, high[4] = {p.words[2], 0, p.words[3], 0};
#pragma unroll
      for (int m = 0; m < MEMBERS; m++) {
        mma_float8(sums[m], low, w[m][i].words[0], w[m][i].words[1]);
        mma_float8(sums[m], high, w[m][i].words[2], w[m][i].words[3]);
        w[m][i] = read_once_if((i + AHEAD) * STEP < left, from[m] + (i + AHEAD) * STEP);
      }
    }
    x += AHEAD * STEP;
#pragma unroll
    for (int m = 0; m < MEMBERS; m++) from[m] += AHEAD * STEP;
    left -= AHEAD * STEP;
  }
#pragma unroll
  for (int m = 0; m < MEMBERS; m++) {
    partial[m][warp][row * OUTPUTS + 2 * part] = sums[m][0];
    partial[m][warp][row * OUTPUTS + 2 * part + 1] = sums[m][1];
  }
  __syncthreads();
}
// One product of a block.
DEVICE float total(const float (&partial)[WARPS][PRODUCTS], int product) {
  float sum = 0.0f;
#pragma unroll
  for (int warp = 0; warp < WARPS; warp++) sum += partial[warp][product];
  return sum;
}

KERNEL __launch_bounds__(THREADS, 3) gemv_float8(const u8* x, const float* factors, const Group group,
                                                 const scalar* residual, int rows, int inner) {
  __shared__ float partial[1][WARPS][PRODUCTS];
  int first = blockIdx.x * OUTPUTS, member = 0;
#pragma unroll
  for (int i = 0; i < GEMV_WEIGHTS - 1; i++) {
    if (member == i && first >= group.widths[i]) {
      first -= group.widths[i];
      member++;
    }
  }
  const Packed* const weights[1] = {(const Packed*)(group.codes[member] + (i64)first * inner)};
  gemv_float8_rows<1, 4>(partial, (const Packed*)x, weights, rows, inner / 16);
  const int row = threadIdx.x / OUTPUTS, output = first + threadIdx.x % OUTPUTS;
  if (row >= rows) return;
  const float y = total(partial[0], threadIdx.x) * factors[row] * group.factors[member][output];
  const i64 at = (i64)row * group.widths[member] + output;
  group.outs[member][at] = from_float(residual ? y + to_float(residual[at]) : y);
}

// y = silu(x·activatedᵀ) · (x·gateᵀ)
KERNEL __launch_bounds__(THREADS, 2) gemv_float8_swiglu(const u8* x, const float* factors, const u8* activated,
                                                        const float* activatedFactors, const u8* gate,
                                                        const float* gateFactors, scalar* y, int rows, int inner,
                                                        int width) {
  __shared__ float partial[2][WARPS][PRODUCTS];
  const int first = blockIdx.x * OUTPUTS;
  const i64 start = (i64)first * inner;
  const Packed* const weights[2] = {(const Packed*)(activated + start), (const Packed*)(gate + start)};
  gemv_float8_rows<2, 3>(partial, (const Packed*)x, weights, rows, inner / 16);
  const int row = threadIdx.x / OUTPUTS, output = first + threadIdx.x % OUTPUTS;
  if (row >= rows) return;
  const float a = total(partial[0], threadIdx.x) * factors[row] * activatedFactors[output];
  const float b = total(partial[1], threadIdx.x) * factors[row] * gateFactors[output];
  y[(i64)row * width + output] = gate_with(a, b);
}
