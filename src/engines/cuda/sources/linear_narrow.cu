// Projections to fewer than COLUMNS columns, as of decays and time steps, and their gradients: bound by reading x, or by writing its
// gradient, once.
#include "common.cuh"

typedef Pack<u32, 4> Words;
typedef Pack<scalar, 2> Pair;

DEVICE Words words(const scalar* p, bool valid) { return valid ? *(const Words*)p : Words{}; }

// y = x weightᵀ. A block has 16 rows; its warps share the inner elements in slices of 64. Where in a fragment an inner element lies
// does not matter as long as both operands agree: a lane holds 8 neighbours of a row, from one load.
KERNEL __launch_bounds__(WARPS * 32) linear_narrow(const scalar* x, const scalar* weight, scalar* y, int rows, int inner,
                                                   int columns) {
  __shared__ float parts[WARPS][16][COLUMNS + 1];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = lane >> 2, row = blockIdx.x * 16;
  const scalar* upper = x + (i64)min(row + group, rows - 1) * inner;
  const scalar* lower = x + (i64)min(row + group + 8, rows - 1) * inner;
  float sums[4] = {};
  for (int start = warp * 64; start < inner; start += WARPS * 64) {
    Words a[2][2], b[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int at = start + half * 32 + (lane & 3) * 8;
      a[half][0] = words(upper + at, at < inner);
      a[half][1] = words(lower + at, at < inner);
      b[half] = words(weight + (i64)group * inner + at, at < inner && group < columns);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const u32(&high)[4] = a[half][0].v, (&low)[4] = a[half][1].v, (&right)[4] = b[half].v;
      const u32 first[4] = {high[0], low[0], high[1], low[1]}, second[4] = {high[2], low[2], high[3], low[3]};
      mma(sums, first, right[0], right[1]);
      mma(sums, second, right[2], right[3]);
    }
  }
#pragma unroll
  for (int i = 0; i < 4; i++) parts[warp][group + i / 2 * 8][(lane & 3) * 2 + i % 2] = sums[i];
  __syncthreads();
  const int count = min(16, rows - row) * columns;
  for (int i = threadIdx.x; i < count; i += WARPS * 32) {
    float sum = 0;
#pragma unroll
    for (int part = 0; part < WARPS; part++) sum += parts[part][i / columns][i % columns];
    y[(i64)row * columns + i] = from_float(sum);
  }
}

// `count` rows of dy from `first` on as float32, filled up with zeros to COUNT columns and to the rows there are.
template <int COUNT>
DEVICE void load_dy(float* to, const scalar* dy, int first, int count, int rows, int columns, int thread, int threads) {
  for (int i = thread; i < count * COUNT; i += threads) {
    const int row = first + i / COUNT, column = i % COUNT;
    to[i] = row < rows && column < columns ? to_float(dy[(i64)row * columns + column]) : 0.0f;
  }
}
DEVICE Pair pair_at(const scalar* p, bool valid) { return valid ? *(const Pair*)p : Pair{}; }

// dx = dy weight (+ add). A thread has two neighbouring elements of ROWS rows.
template <int COUNT>
DEVICE void input_grad(float* dys, const scalar* dy, const scalar* weight, const scalar* add, scalar* dx, int rows, int inner,
                       int columns) {
  const int first = blockIdx.y * ROWS, column = (blockIdx.x * THREADS + threadIdx.x) * 2;
  load_dy<COUNT>(dys, dy, first, ROWS, rows, columns, threadIdx.x, THREADS);
  float low[COUNT], high[COUNT];
#pragma unroll
  for (int i = 0; i < COUNT; i++) {
    const Pair pair = pair_at(weight + (i64)i * inner + column, i < columns && column < inner);
    low[i] = to_float(pair.v[0]);
    high[i] = to_float(pair.v[1]);
  }
  __syncthreads();
  if (column >= inner) return;
  const int count = min(ROWS, rows - first);
#pragma unroll 4
  for (int row = 0; row < count; row++) {
    const i64 at = (i64)(first + row) * inner + column;
    const Pair before = pair_at(add + at, add != nullptr);
    float left = 0, right = 0;
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
      left += dys[row * COUNT + i] * low[i];
      right += dys[row * COUNT + i] * high[i];
    }
    *(Pair*)(dx + at) = {from_float(left + to_float(before.v[0])), from_float(right + to_float(before.v[1]))};
  }
}

// dWeight = dyᵀ x of a slice of the rows, in float32. A block has 64 columns of x and as many warps as rows of the slice are dealt to,
// STEP at a time.
template <int COUNT>
DEVICE void weight_grad(float* shared, const scalar* dy, const scalar* x, float* partial, int rows, int inner, int columns) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, column = blockIdx.x * 64 + lane * 2;
  const i64 steps = (rows + STEP - 1) / STEP;
  const int end = (int)(steps * (blockIdx.y + 1) / gridDim.y);
  float* dys = shared + warp * STEP * COUNT;
  float sums[COUNT][2] = {};
  for (int step = (int)(steps * blockIdx.y / gridDim.y) + warp; step < end; step += GRAD_WARPS) {
    Pair pairs[STEP];
#pragma unroll
    for (int i = 0; i < STEP; i++) {
      const int row = step * STEP + i;
      pairs[i] = pair_at(x + (i64)row * inner + column, row < rows && column < inner);
    }
    __syncwarp();
    load_dy<COUNT>(dys, dy, step * STEP, STEP, rows, columns, lane, 32);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < STEP; i++) {
      const float left = to_float(pairs[i].v[0]), right = to_float(pairs[i].v[1]);
#pragma unroll
      for (int j = 0; j < COUNT; j++) {
        sums[j][0] += dys[i * COUNT + j] * left;
        sums[j][1] += dys[i * COUNT + j] * right;
      }
    }
  }
  // Four rows of the weight at a time, [warp][4][64].
#pragma unroll
  for (int from = 0; from < COUNT; from += 4) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 8; i++) shared[(warp * 4 + i / 2) * 64 + lane * 2 + i % 2] = sums[from + i / 2][i % 2];
    __syncthreads();
    const int row = from + threadIdx.x / 64, at = blockIdx.x * 64 + threadIdx.x % 64;
    if (threadIdx.x >= 256 || row >= columns || at >= inner) continue;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < GRAD_WARPS; i++) sum += shared[i * 256 + threadIdx.x];
    partial[((i64)blockIdx.y * columns + row) * inner + at] = sum;
  }
}

// Columns in fours.
KERNEL __launch_bounds__(THREADS) linear_narrow_input_grad(const scalar* dy, const scalar* weight, const scalar* add, scalar* dx,
                                                           int rows, int inner, int columns) {
  __shared__ __align__(16) float dys[ROWS * COLUMNS];
  if (columns <= 4) input_grad<4>(dys, dy, weight, add, dx, rows, inner, columns);
  else input_grad<COLUMNS>(dys, dy, weight, add, dx, rows, inner, columns);
}
KERNEL __launch_bounds__(GRAD_WARPS * 32) linear_narrow_weight_grad(const scalar* dy, const scalar* x, float* partial, int rows,
                                                                    int inner, int columns) {
  __shared__ __align__(16) float shared[GRAD_WARPS * 256];
  if (columns <= 4) weight_grad<4>(shared, dy, x, partial, rows, inner, columns);
  else weight_grad<COLUMNS>(shared, dy, x, partial, rows, inner, columns);
}

// The sum of the slices, in their order but for eight warps that share them.
KERNEL __launch_bounds__(256) linear_narrow_sum(const float* partial, scalar* sum, int size, int slices) {
  __shared__ float parts[8][32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, at = blockIdx.x * 32 + lane;
  float own = 0;
  if (at < size) {
#pragma unroll 4
    for (int slice = warp; slice < slices; slice += 8) own += partial[(i64)slice * size + at];
  }
  parts[warp][lane] = own;
  __syncthreads();
  if (warp > 0 || at >= size) return;
  own = 0;
#pragma unroll
  for (int i = 0; i < 8; i++) own += parts[i][lane];
  sum[at] = from_float(own);
}
