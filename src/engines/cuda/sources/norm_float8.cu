// RMSNorm, y = x · rsqrt(mean(x²) + eps) · weight, which also leaves the rows of y in float8: what `round_rows` of float8.cu makes of y as
// it is stored, in the same registers. As norm.cu otherwise; for Hopper.
#include "float8_rows.cuh"
#include "norm.cuh"

// `lanes` threads (a power of two up to 32) share a row of at most KEPT·lanes packs.
KERNEL __launch_bounds__(256, 4) rms_norm_float8_small(const scalar* x, const scalar* weight, scalar* y, u8* codes,
                                                       float* factors, i64 rows, int packs, int lanes, float eps) {
  const i64 row = global_thread() / lanes;
  const bool valid = row < rows;  // the others stay for the shuffles
  const i64 start = valid ? row * packs : 0;
  const int first = threadIdx.x & (lanes - 1);
  Packed kept[KEPT];
  normalize<false>(kept, (const Packed*)x + start, (const Packed*)weight, nullptr, (Packed*)y + start, packs, first,
                   lanes, valid, eps);
  round_kept<false>(kept, (Codes*)codes + start, factors + row, packs, first, lanes, valid);
}

// One block a row of at most KEPT·blockDim packs.
KERNEL __launch_bounds__(1024) rms_norm_float8(const scalar* x, const scalar* weight, scalar* y, u8* codes,
                                               float* factors, i64 rows, int packs, int lanes, float eps) {
  const i64 start = (i64)blockIdx.x * packs;
  Packed kept[KEPT];
  normalize<true>(kept, (const Packed*)x + start, (const Packed*)weight, nullptr, (Packed*)y + start, packs,
                  threadIdx.x, blockDim.x, true, eps);
  round_kept<true>(kept, (Codes*)codes + start, factors + blockIdx.x, packs, threadIdx.x, blockDim.x, true);
}
