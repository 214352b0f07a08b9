// Results of warpgroup products in shared memory, as the copy engine swizzles them.
#pragma once
#include "hopper.cuh"

// A warp's 16 rows of 64 columns: the lane's 16 bytes among the j-th 16 columns, for ldmatrix and stmatrix of what pack_rows takes.
DEVICE scalar* pack_of(u8* rows, int j) {
  const int lane = threadIdx.x & 31;
  return (scalar*)(rows + (lane & 15) * 128 + ((2 * j + (lane >> 4)) ^ (lane & 7)) * 16);
}
// Of the accumulators of a product, the j-th 16 columns in storage.
template <int COUNT>
DEVICE void pack_rows(u32 (&to)[4], const float (&d)[COUNT], int j) {
#pragma unroll
  for (int i = 0; i < 4; i++) to[i] = pack2(d[8 * j + 2 * i], d[8 * j + 2 * i + 1]);
}
