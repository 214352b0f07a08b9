// Rows in float8 (ops/linear/float8.ts): e4m3, and a factor for each row. Bound by memory: a row is read once and kept in
// registers; 16-byte reads. For Hopper, which converts by instructions.
#include "float8_rows.cuh"
#include "gemv.cuh"

// silu(a)·b, rounded as it would be kept.
DEVICE Packed gated_pack(const Packed& a, const Packed& b) {
  float y[WIDTH];
#pragma unroll
  for (int i = 0; i < WIDTH; i++) y[i] = value_of(a, i) * sigmoid_fast(value_of(a, i)) * value_of(b, i);
  return packed(y);
}

// One row of a, or of silu(a)·b where GATED, by the `threads` threads that have it, the `first` of which is this: lanes of a warp, or
// the whole block.
template <bool BLOCK, bool GATED>
DEVICE void round_row(const Packed* a, const Packed* b, Codes* codes, float* factor, int packs, int first, int threads,
                      bool valid) {
  Packed kept[KEPT], gates[KEPT];
#pragma unroll
  for (int j = 0; j < KEPT; j++) {
    const int at = first + j * threads;
    if (at < packs) kept[j] = a[at];
    if (GATED && at < packs) gates[j] = b[at];
  }
  if (GATED)
#pragma unroll
    for (int j = 0; j < KEPT; j++)
      if (first + j * threads < packs) kept[j] = gated_pack(kept[j], gates[j]);
  round_kept<BLOCK>(kept, codes, factor, packs, first, threads, valid);
}

// `lanes` threads (a power of two up to 32) share a row of at most KEPT·lanes packs.
template <bool GATED>
DEVICE void round_small(const scalar* a, const scalar* b, u8* codes, float* factors, i64 rows, int packs, int lanes) {
  const i64 row = global_thread() / lanes;
  const bool valid = row < rows;  // the others stay for the shuffles
  const i64 start = valid ? row * packs : 0;
  round_row<false, GATED>((const Packed*)a + start, (const Packed*)b + start, (Codes*)codes + start, factors + row, packs,
                          threadIdx.x & (lanes - 1), lanes, valid);
}
// One block a row of at most KEPT·blockDim packs.
template <bool GATED>
DEVICE void round_block(const scalar* a, const scalar* b, u8* codes, float* factors, int packs) {
  const i64 start = (i64)blockIdx.x * packs;
  round_row<true, GATED>((const Packed*)a + start, (const Packed*)b + start, (Codes*)codes + start,
                         factors + blockIdx.x, packs, threadIdx.x, blockDim.x, true);
}
// Any width, one block a row, which is read twice.
template <bool GATED>
DEVICE float element(const scalar* a, const scalar* b, i64 at) {
  return to_float(GATED ? gate_with(to_float(a[at]), to_float(b[at])) : a[at]);
}
template <bool GATED>
DEVICE void round_any(const scalar* a, const scalar* b, u8* codes, float* factors, int width) {
  const i64 start = (i64)blockIdx.x * width;
  float largest = 0.0f;
  for (int i = threadIdx.x; i < width; i += blockDim.x)
    largest = fmaxf(largest, magnitude_of(element<GATED>(a, b, start + i)));
  const float scale = float8_factor(block_max(largest)), inverse = 1.0f / scale;
  for (int i = threadIdx.x; i < width; i += blockDim.x)
    codes[start + i] = (u8)code_pair(element<GATED>(a, b, start + i), 0.0f, inverse);
  if (threadIdx.x == 0) factors[blockIdx.x] = scale;
}

KERNEL __launch_bounds__(256, 4) round_rows_small(const scalar* x, const scalar*, u8* codes, float* factors, i64 rows,
                                                  int packs, int lanes) {
  griddep_sync();
  round_small<false>(x, x, codes, factors, rows, packs, lanes);
}
KERNEL round_rows(const scalar* x, const scalar*, u8* codes, float* factors, i64 rows, int packs, int lanes) {
  griddep_sync();
  round_block<false>(x, x, codes, factors, packs);
}
KERNEL round_rows_any(const scalar* x, const scalar*, u8* codes, float* factors, i64 rows, int width, int lanes) {
  griddep_sync();
  round_any<false>(x, x, codes, factors, width);
}
// The rows of silu(a)·b.
KERNEL __launch_bounds__(256, 4) swiglu_rows_small(const scalar* a, const scalar* b, u8* codes, float* factors, i64 rows,
                                                   int packs, int lanes) {
  griddep_sync();
  round_small<true>(a, b, codes, factors, rows, packs, lanes);
}
KERNEL swiglu_rows(const scalar* a, const scalar* b, u8* codes, float* factors, i64 rows, int packs, int lanes) {
  griddep_sync();
  round_block<true>(a, b, codes, factors, packs);
}
KERNEL swiglu_rows_any(const scalar* a, const scalar* b, u8* codes, float* factors, i64 rows, int width, int lanes) {
  griddep_sync();
  round_any<true>(a, b, codes, factors, width);
}

// What rows in float8 mean, in storage.
KERNEL float8_values(const u8* codes, const float* factors, scalar* y, i64 size, int width) {
  griddep_sync();
  for (i64 i = global_thread(); i < size; i += global_threads())
    y[i] = from_float(float8_value(codes[i]) * factors[quotient(i, width)]);
}
