// Gated retention and its gradient on Hopper, for keys and values of multiples of 64: see retention.cu for the mathematics. Two
// kinds of passes, by asynchronous warpgroup products (wgmma) fed by the tensor copy engine, one in retention_hopper_states.cu and
// one in retention_hopper.cu.
#pragma once
#include "hopper.cuh"
#include "swizzled.cuh"

#define SLICE_BYTES (CHUNK * 128)  // 64 columns of a chunk, the width of the swizzle

extern __shared__ __align__(1024) u8 memory[];

// As of retention.cuh, of whole heads.
struct Shape {
  int time, heads, keyWidth, valueWidth, chunks, keyPitch, valuePitch, group;
  float scale;
};

// A warp's sums of the logarithms of a chunk's decays, inclusive: four positions a lane. See sum_decays of retention.cuh.
DEVICE void sum_decays(float (&sums)[4], const float* logDecay, const Shape& s, int batch, int head, int first) {
  const int lane = threadIdx.x & 31;
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < 4; j++) {
    const int t = first + lane * 4 + j;
    const float x = t < s.time ? logDecay[((i64)batch * s.time + t) * s.heads + head] : 0.0f;
    sum += x < LEAST_LOG_DECAY ? LEAST_LOG_DECAY : x;
    sums[j] = sum;
  }
  for (int offset = 1; offset < 32; offset <<= 1) {
    const float before = __shfl_up_sync(0xffffffffu, sum, offset);
    if (lane >= offset) sum += before;
  }
  const float before = __shfl_up_sync(0xffffffffu, sum, 1);
  if (lane > 0)
#pragma unroll
    for (int j = 0; j < 4; j++) sums[j] += before;
}
DEVICE u32 aligned_memory() { return (shared_address(memory) + 1023) & ~1023u; }
