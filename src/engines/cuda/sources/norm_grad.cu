// The gradient of RMSNorm: dx = r·dy·w − x·r³·mean(dy·w·x) (+ residual), and dWeight = Σ dy·x·r over the rows. Bound by memory: a
// row is read once and kept in registers, the next ones are on their way while it is worked on. Packs are fewer than 2³².
#include "common.cuh"

// `lanes` threads, a power of two, share a row: of a warp, or whole warps. A thread has HELD packs of each of ROWS rows at a time and
// the same columns of every row, so that it sums their share of dWeight; a block leaves its own in `partial` [blocks, width]. The
// order of every sum depends on the grid alone.
template <int HELD, int ROWS>
DEVICE void norm_grad(const Packed* dy, const Packed* x, const Packed* weight, const Packed* residual, Packed* dx,
                      float* partial, u32 rows, int packs, int lanes, float eps) {
  griddep_sync();
  extern __shared__ float gains[];  // of a row
  __shared__ float shares[2][ROWS][THREADS / 32][2];
  const int first = threadIdx.x % lanes, own = threadIdx.x / lanes, groups = THREADS / lanes, step = groups * ROWS;
  const float inverse = 1.0f / (packs * WIDTH);
  const auto has = [&](int j) { return first + j * lanes < packs; };
  Packed scales[HELD], nextX[ROWS][HELD], nextD[ROWS][HELD], added[ROWS][HELD];
  const auto load = [&](u32 row) {
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
      for (int j = 0; j < HELD; j++) {
        const u32 at = (row + r * groups) * packs + first + j * lanes;
        const bool valid = row + r * groups < rows && has(j);
        nextX[r][j] = valid ? x[at] : Packed();
        nextD[r][j] = valid ? dy[at] : Packed();
      }
  };
#pragma unroll
  for (int j = 0; j < HELD; j++) {
    float ones[WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; i++) ones[i] = 1.0f;
    scales[j] = weight && has(j) ? weight[first + j * lanes] : packed(ones);
  }
  // Needed last, so that no other registers are filled meanwhile.
  const auto load_added = [&](u32 row) {
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
      for (int j = 0; j < HELD; j++) {
        const bool valid = residual && row + r * groups < rows && has(j);
        added[r][j] = valid ? residual[(row + r * groups) * packs + first + j * lanes] : Packed();
      }
  };
  float gain[HELD][WIDTH] = {};
  int parity = 0;
  load(blockIdx.x * step + own);
  load_added(blockIdx.x * step + own);
  for (u32 strip = blockIdx.x * step; strip < rows; strip += gridDim.x * step, parity ^= 1) {
    Packed xs[ROWS][HELD], ds[ROWS][HELD];
    float square[ROWS], product[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
      for (int j = 0; j < HELD; j++) xs[r][j] = nextX[r][j], ds[r][j] = nextD[r][j];
    load(strip + gridDim.x * step + own);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      square[r] = product[r] = 0.0f;
#pragma unroll
      for (int j = 0; j < HELD; j++)
#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
          const float v = value_of(xs[r][j], i);
          square[r] += v * v;
          product[r] += v * value_of(ds[r][j], i) * value_of(scales[j], i);
        }
    }
    for (int offset = min(lanes, 32) >> 1; offset > 0; offset >>= 1)
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        square[r] += __shfl_xor_sync(0xffffffffu, square[r], offset);
        product[r] += __shfl_xor_sync(0xffffffffu, product[r], offset);
      }
    if (lanes > 32) {  // by turns in two places, so that one barrier is enough
      const int warps = lanes / 32;
      if ((threadIdx.x & 31) == 0)
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
          shares[parity][r][threadIdx.x >> 5][0] = square[r];
          shares[parity][r][threadIdx.x >> 5][1] = product[r];
        }
      __syncthreads();
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        square[r] = product[r] = 0.0f;
        for (int warp = own * warps; warp < (own + 1) * warps; warp++) {
          square[r] += shares[parity][r][warp][0];
          product[r] += shares[parity][r][warp][1];
        }
      }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const u32 row = strip + own + r * groups;
      const float factor = rsqrtf(square[r] * inverse + eps);
      const float shift = product[r] * inverse * factor * factor * factor;
#pragma unroll
      for (int j = 0; j < HELD; j++) {
        float out[WIDTH];
#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
          const float v = value_of(xs[r][j], i), d = value_of(ds[r][j], i) * factor;
          out[i] = d * value_of(scales[j], i) - v * shift + value_of(added[r][j], i);
          gain[j][i] += d * v;
        }
        if (row < rows && has(j)) dx[row * packs + first + j * lanes] = packed(out);
      }
    }
    load_added(strip + gridDim.x * step + own);
  }
  if (!partial) return;
  // Over the rows of a warp, then over warps one after the other.
  for (int offset = lanes; offset < 32; offset <<= 1)
#pragma unroll
    for (int j = 0; j < HELD; j++)
#pragma unroll
      for (int i = 0; i < WIDTH; i++) gain[j][i] += __shfl_xor_sync(0xffffffffu, gain[j][i], offset);
  const int turns = THREADS / max(lanes, 32), turn = threadIdx.x / max(lanes, 32);
  for (int now = 0; now < turns; now++) {
    if (turn == now && (threadIdx.x & 31) < lanes)
#pragma unroll
      for (int j = 0; j < HELD; j++)
#pragma unroll
        for (int i = 0; i < WIDTH; i++)
          if (has(j)) {
            float& sum = gains[(first + j * lanes) * WIDTH + i];
            sum = now == 0 ? gain[j][i] : sum + gain[j][i];
          }
    __syncthreads();
  }
  const int width = packs * WIDTH;
  for (int i = threadIdx.x; i < width; i += THREADS) partial[(i64)blockIdx.x * width + i] = gains[i];
}

KERNEL __launch_bounds__(THREADS, 2) rms_norm_grad_1(const scalar* dy, const scalar* x, const scalar* weight,
                                                     const scalar* residual, scalar* dx, float* partial, i64 rows,
                                                     int packs, int lanes, float eps) {
  norm_grad<1, 4>((const Packed*)dy, (const Packed*)x, (const Packed*)weight, (const Packed*)residual, (Packed*)dx,
                  partial, rows, packs, lanes, eps);
}
KERNEL __launch_bounds__(THREADS, 2) rms_norm_grad_2(const scalar* dy, const scalar* x, const scalar* weight,
                                                     const scalar* residual, scalar* dx, float* partial, i64 rows,
                                                     int packs, int lanes, float eps) {
  norm_grad<2, 2>((const Packed*)dy, (const Packed*)x, (const Packed*)weight, (const Packed*)residual, (Packed*)dx,
                  partial, rows, packs, lanes, eps);
}
KERNEL __launch_bounds__(THREADS, 2) rms_norm_grad_3(const scalar* dy, const scalar* x, const scalar* weight,
                                                     const scalar* residual, scalar* dx, float* partial, i64 rows,
                                                     int packs, int lanes, float eps) {
  norm_grad<3, 1>((const Packed*)dy, (const Packed*)x, (const Packed*)weight, (const Packed*)residual, (Packed*)dx,
                  partial, rows, packs, lanes, eps);
}

// Any width: each block walks rows and keeps its share of dWeight, one column a thread at a time.
KERNEL rms_norm_grad_any(const scalar* dy, const scalar* x, const scalar* weight, const scalar* residual, scalar* dx,
                         float* partial, i64 rows, int width, int lanes, float eps) {
  griddep_sync();
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
      const float other = residual ? to_float(residual[row * width + i]) : 0.0f;
      dx[row * width + i] = from_float(d * (weight ? to_float(weight[i]) : 1.0f) * factor - v * shift + other);
      sums[i] += d * v * factor;
    }
  }
  if (partial)
    for (int i = threadIdx.x; i < width; i += blockDim.x) partial[(i64)blockIdx.x * width + i] = sums[i];
}

// dWeight out of the shares of the blocks: 32 columns a block of as many warps.
KERNEL rms_norm_gain(const float* partial, scalar* gain, int count, int width) {
  griddep_sync();
  __shared__ float sums[32][33];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, column = blockIdx.x * 32 + lane;
  float sum = 0.0f;
#pragma unroll 8
  for (int i = warp; i < count; i += 32) sum += column < width ? partial[(i64)i * width + column] : 0.0f;
  sums[warp][lane] = sum;
  __syncthreads();
  sum = warp_sum(sums[lane][warp]);
  const int to = blockIdx.x * 32 + warp;
  if (lane == 0 && to < width) gain[to] = from_float(sum);
}
