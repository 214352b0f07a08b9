// What every kernel source shares and any machine could compute; what only a GPU can is in ptx.cuh. All arithmetic is float32.
#pragma once
#include "ptx.cuh"

// A grid with more blocks in y or z than the hardware takes is launched in x alone, and the source is compiled for its width
// FOLD_X and, where it has a z, its height FOLD_Y (device.ts). Kernels see the grid as it was meant.
#ifdef FOLD_X
struct Folded {
  unsigned x, y, z;
};
DEVICE Folded folded_block() {
  const unsigned at = blockIdx.x, row = at / FOLD_X;
#ifdef FOLD_Y
  return {at % FOLD_X, row % FOLD_Y, row / FOLD_Y};
#else
  return {at % FOLD_X, row, 0};
#endif
}
DEVICE Folded folded_grid() {
  const unsigned rows = gridDim.x / FOLD_X;
#ifdef FOLD_Y
  return {FOLD_X, FOLD_Y, rows / FOLD_Y};
#else
  return {FOLD_X, rows, 1};
#endif
}
#define blockIdx folded_block()
#define gridDim folded_grid()
#endif

DEVICE float to_float(int x) { return (float)x; }
DEVICE float to_float(u8 x) { return (float)x; }

// Value i of a pack.
DEVICE float value_of(const Packed& p, int i) {
#if STORAGE == 0
  return __uint_as_float(p.words[i]);
#else
  return to_float(scalar{(u16)(p.words[i / 2] >> (16 * (i & 1)))});
#endif
}
DEVICE Packed packed(const float (&x)[WIDTH]) {
  Packed p;
#pragma unroll
  for (int i = 0; i < 4; i++) {
#if STORAGE == 0
    p.words[i] = __float_as_uint(x[i]);
#else
    p.words[i] = pack2(x[2 * i], x[2 * i + 1]);
#endif
  }
  return p;
}

// A division of 64 bits takes a hundred instructions.
DEVICE i64 quotient(i64 x, int divisor) { return x >> 32 == 0 ? (i64)((u32)x / (u32)divisor) : x / divisor; }

DEVICE i64 global_thread() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }
// A number that grows with the position of a recorded step is read from `origin` and added to; otherwise it is `offset`.
DEVICE int moving(const int* origin, int offset) { return origin ? *origin + offset : offset; }
DEVICE i64 global_threads() { return (i64)gridDim.x * blockDim.x; }

#define LOG2_E 1.4426950408889634f
// Without branches; an exponential that is no normal number makes no difference to 1.
DEVICE float sigmoid_fast(float x) { return reciprocal(1.0f + exp2_fast(-LOG2_E * x)); }
DEVICE float log_sigmoid(float x) { return fminf(x, 0.0f) - log1pf(expf(-fabsf(x))); }

// A rotary phase, formed in float64 (at a million positions float32 phases are off by 0.1 rad) and reduced to one turn.
struct Phase {
  float cosine, sine;
};
DEVICE Phase phase_of(int position, double frequency) {
  const double turns = (double)position * frequency * 0.15915494309189533576888;
  Phase phase;
  sincospif(2.0f * (float)(turns - rint(turns)), &phase.sine, &phase.cosine);
  return phase;
}

DEVICE float warp_sum(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}
DEVICE float warp_max(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}
// Sum over the block, known to every thread; at most 1024 threads, a multiple of 32.
DEVICE float block_sum(float x) {
  __shared__ float partial[32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  x = warp_sum(x);
  __syncthreads();
  if (lane == 0) partial[warp] = x;
  __syncthreads();
  return warp_sum(lane < warps ? partial[lane] : 0.0f);
}
DEVICE float block_max(float x) {
  __shared__ float partial[32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  x = warp_max(x);
  __syncthreads();
  if (lane == 0) partial[warp] = x;
  __syncthreads();
  return warp_max(lane < warps ? partial[lane] : -__int_as_float(0x7f800000));
}

#if STORAGE != 0
// Fragments out of shared tiles with rows of `pitch` elements. `A`: 16×16 at (row, column). `B`: two 16×8 operands
// (b[0..1], b[2..3]) of which the tile holds rows n and columns k; `Turned`: the tile holds the transpose.
DEVICE void load_a(u32 (&a)[4], const scalar* tile, int pitch, int row, int column) {
  const int lane = threadIdx.x & 31;
  ldmatrix(a, tile + (row + (lane & 15)) * pitch + column + (lane >> 4) * 8);
}
DEVICE void load_a_trans(u32 (&a)[4], const scalar* tile, int pitch, int row, int column) {
  const int lane = threadIdx.x & 31;
  ldmatrix_trans(a, tile + (column + (lane & 7) + (lane >> 4) * 8) * pitch + row + ((lane >> 3) & 1) * 8);
}
DEVICE void load_b(u32 (&b)[4], const scalar* tile, int pitch, int n, int k) {
  const int lane = threadIdx.x & 31;
  ldmatrix(b, tile + (n + (lane & 7) + (lane >> 4) * 8) * pitch + k + ((lane >> 3) & 1) * 8);
}
DEVICE void load_b_trans(u32 (&b)[4], const scalar* tile, int pitch, int n, int k) {
  const int lane = threadIdx.x & 31;
  ldmatrix_trans(b, tile + (k + (lane & 15)) * pitch + n + (lane >> 4) * 8);
}
// The accumulators of two neighbouring 16×8 tiles as one 16×16 operand A.
DEVICE void pack_a(u32 (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = pack2(left[0], left[1]);
  a[1] = pack2(left[2], left[3]);
  a[2] = pack2(right[0], right[1]);
  a[3] = pack2(right[2], right[3]);
}
// Products of 16 rows with a tile, both of rows `DEPTH` wide at a pitch of DEPTH + 8.
// s[16, COUNT·8] = a rows · (b rows)ᵀ
template <int DEPTH, int COUNT>
DEVICE void score(float (&s)[COUNT][4], const scalar* a, int row, const scalar* b) {
#pragma unroll
  for (int j = 0; j < COUNT; j++) s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0.0f;
#pragma unroll
  for (int k = 0; k < DEPTH / 16; k++) {
    u32 left[4], right[4];
    load_a(left, a, DEPTH + 8, row, k * 16);
#pragma unroll
    for (int j = 0; j < COUNT; j += 2) {
      load_b(right, b, DEPTH + 8, j * 8, k * 16);
      mma(s[j], left, right[0], right[1]);
      mma(s[j + 1], left, right[2], right[3]);
    }
  }
}
// o[16, TILES·8] += p[16, COUNT·8] · (rows of b, TILES·8 wide)
template <int TILES, int COUNT>
DEVICE void accumulate(float (&o)[TILES][4], float (&p)[COUNT][4], const scalar* b) {
#pragma unroll
  for (int k = 0; k < COUNT / 2; k++) {
    u32 left[4], right[4];
    pack_a(left, p[2 * k], p[2 * k + 1]);
#pragma unroll
    for (int j = 0; j < TILES; j += 2) {
      load_b_trans(right, b, TILES * 8 + 8, j * 8, k * 16);
      mma(o[j], left, right[0], right[1]);
      mma(o[j + 1], left, right[2], right[3]);
    }
  }
}
#endif
