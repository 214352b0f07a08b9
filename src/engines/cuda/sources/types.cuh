// Types of every kernel source. STORAGE says how logical float32 tensors are kept: 0 float32, 1 bfloat16, 2 float16.
#pragma once
#ifndef STORAGE
#define STORAGE 1
#endif
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
#ifndef DEVICE
#define DEVICE __device__ __forceinline__
#define KERNEL extern "C" __global__ void
#endif

#if STORAGE == 0
typedef float scalar;
#else
struct scalar {
  u16 bits;
};
#endif

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
// WIDTH values as they lie in memory. Taken apart only where they are used, they need half the registers of a `Wide`.
struct alignas(16) Packed {
  u32 words[4];
};
