// Shared by every kernel source. STORAGE says how logical float32 tensors are kept: 0 float32, 1 bfloat16,
// 2 float16. All arithmetic is float32. Nothing is included, so that NVRTC needs no headers.
#ifndef STORAGE
#define STORAGE 1
#endif
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
#define DEVICE __device__ __forceinline__
#define KERNEL extern "C" __global__ void

#if STORAGE == 0
typedef float scalar;
DEVICE float to_float(scalar x) { return x; }
DEVICE scalar from_float(float x) { return x; }
#else
struct scalar {
  u16 bits;
};
DEVICE float to_float(scalar x) {
#if STORAGE == 1
  return __uint_as_float((u32)x.bits << 16);
#else
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
#endif
}
DEVICE scalar from_float(float x) {
  scalar y;
#if STORAGE == 1
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#endif
  return y;
}
// Two values in one register, `low` in the low half: the form tensor-core fragments take.
DEVICE u32 pack2(float low, float high) {
  u32 y;
#if STORAGE == 1
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
#else
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
#endif
  return y;
}
DEVICE float unpack_low(u32 x) {
  scalar y = {(u16)(x & 0xffff)};
  return to_float(y);
}
DEVICE float unpack_high(u32 x) {
  scalar y = {(u16)(x >> 16)};
  return to_float(y);
}
#endif

DEVICE float to_float(int x) { return (float)x; }
DEVICE float to_float(u8 x) { return (float)x; }

// N values moved by one access of up to 16 bytes.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};
#if STORAGE == 0
#define WIDTH 4
#else
#define WIDTH 8
#endif
typedef Pack<scalar, WIDTH> Wide;

DEVICE i64 global_thread() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }
DEVICE i64 global_threads() { return (i64)gridDim.x * blockDim.x; }

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
