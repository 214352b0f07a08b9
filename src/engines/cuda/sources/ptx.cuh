// Instructions of the GPU (PTX ISA) that C++ has no words for: conversion to storage, asynchronous copies, dependent launches,
// tensor cores.
#pragma once
#include "types.cuh"

#if STORAGE == 0
DEVICE float to_float(scalar x) { return x; }
DEVICE scalar from_float(float x) { return x; }
#else
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
#endif

DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// 1 / x to one unit in the last place, without the branches of a division.
DEVICE float reciprocal(float x) {
  float y;
  asm("rcp.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// For kernels that a recorded step launches early: the next kernel may bring its blocks onto the device, and this one
// waits until the kernel before it has ended and its results can be seen. Both do nothing in ordinary launches.
DEVICE void griddep_launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
DEVICE void griddep_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
DEVICE void griddep_sync() {
  griddep_launch_dependents();
  griddep_wait();
}

// What no kernel of the step writes and no block reads twice: it leaves the L1 cache to the rest.
DEVICE Packed read_once(const Packed* p) {
  Packed x;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(x.words[0]), "=r"(x.words[1]), "=r"(x.words[2]), "=r"(x.words[3])
               : "l"(p));
  return x;
}

DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
DEVICE void cp_async(void* to, const void* from, bool valid) {
  const int bytes = valid ? 16 : 0;  // the rest of the 16 bytes becomes zeros
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes));
}
// Asks for 128 bytes that will be read soon.
DEVICE void prefetch_l2(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }
DEVICE void cp_async_word(void* to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(to)), "l"(from));
}
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;"); }
template <int PENDING>
DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING));
}

// What other multiprocessors wrote before they counted up to the value that is read is seen from here on.
DEVICE u64 load_acquire(const u64* p) {
  u64 x;
  asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(x) : "l"(p) : "memory");
  return x;
}

DEVICE float half_to_float(u16 half) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(half));
  return y;
}
// Two values as e4m3, rounded to the nearest and at most 448 in magnitude, `low` in the low byte; from compute capability 8.9 on.
DEVICE u32 float8_pair(float low, float high) {
  u16 y;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(y) : "f"(high), "f"(low));
  return y;
}
// d[16,8] += a[16,32] · b[32,8] of e4m3, four neighbours of the inner dimension in a register; likewise.
DEVICE void mma_float8(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#if STORAGE != 0
// Of two values in a register.
DEVICE float low_of(u32 pair) { return to_float(scalar{(u16)pair}); }
DEVICE float high_of(u32 pair) { return to_float(scalar{(u16)(pair >> 16)}); }
#endif
#if STORAGE == 1
// a * b + c of two pairs, rounded once each.
DEVICE u32 fma2(u32 a, u32 b, u32 c) {
  u32 y;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(y) : "r"(a), "r"(b), "r"(c));
  return y;
}
#endif

#if STORAGE != 0
// Tensor-core building blocks (PTX ISA, "Matrix multiply-accumulate": mma.m16n8k16 and ldmatrix fragments).
#if STORAGE == 1
#define PTX_TYPE "bf16"
#else
#define PTX_TYPE "f16"
#endif
DEVICE void ldmatrix(u32 (&r)[4], const scalar* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(p)));
}
DEVICE void ldmatrix_trans(u32 (&r)[4], const scalar* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(p)));
}
// Of an 8×8 matrix of pairs, two neighbours of a row a lane, the transpose.
DEVICE u32 transpose8(u32 x) {
  u32 y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}
// d[16,8] += a[16,16] · b[16,8]
DEVICE void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." PTX_TYPE "." PTX_TYPE
               ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif
