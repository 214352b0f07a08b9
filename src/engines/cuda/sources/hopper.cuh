// The tensor memory accelerator (TMA) and asynchronous warpgroup matmuls (wgmma) of Hopper, for 16-bit storage.
#pragma once
#include "common.cuh"
#include "mbarrier.cuh"

struct alignas(64) TensorMap {
  u64 words[16];
};

// One box of 64 columns × the positions of the map at (column, position, head, batch).
DEVICE void tma_load(u32 to, const TensorMap* map, u32 barrier, int column, int position, int head, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::
          "r"(to), "l"(map), "r"(barrier), "r"(column), "r"(position), "r"(head), "r"(batch)
      : "memory");
}
// The other way: a box from shared memory, but for what lies outside of the tensor.
DEVICE void tma_store(const TensorMap* map, u32 from, int column, int position, int head, int batch) {
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map), "r"(from),
               "r"(column), "r"(position), "r"(head), "r"(batch)
               : "memory");
}
DEVICE void tma_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until the groups of copies of this thread have read shared memory, but for the last PENDING.
template <int PENDING = 0>
DEVICE void tma_wait() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}
// What this thread wrote to shared memory is known to the copy engine.
DEVICE void async_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Four 8×8 matrices of which every lane has two neighbours of a row each, to rows of 16 bytes.
DEVICE void stmatrix(scalar* p, const u32 (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(p)), "r"(r[0]), "r"(r[1]),
               "r"(r[2]), "r"(r[3])
               : "memory");
}
DEVICE void tensormap_acquire(const TensorMap* map) {
  asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" ::"l"(map) : "memory");
}

// Shared-memory matrix descriptor with 128-byte swizzle (PTX ISA, "Matrix descriptor format").
DEVICE u64 matrix_descriptor(u32 address, int leadingBytes, int strideBytes) {
  return (u64)((address & 0x3ffff) >> 4) | (u64)(leadingBytes >> 4) << 16 | (u64)(strideBytes >> 4) << 32 | 1ull << 62;
}
// The same so many bytes further on: the address is the lowest bits and stays below their end.
DEVICE u64 descriptor_at(u64 descriptor, int bytes) {
  return (descriptor & 0xffffffff00000000ull) | ((u32)descriptor + (bytes >> 4));
}
// The value of the first lane, which the compiler then knows to be that of the whole warp.
DEVICE int uniform(int x) { return __shfl_sync(0xffffffffu, x, 0); }
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

#define D8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define D32(i) D8(i), D8(i + 8), D8(i + 16), D8(i + 24)
#define R32                                                                                                   \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, " \
  "%23, %24, %25, %26, %27, %28, %29, %30, %31"
#define R64                                                                                                       \
  R32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, "    \
      "%52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define R128                                                                                                      \
  R64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, " \
      "%86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, " \
      "%107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, " \
      "%126, %127"
#define TYPES ".f32." PTX_TYPE "." PTX_TYPE " "

// out[64,128 or 64] += P[64,16] (registers)·V[16,128 or 64]; V's rows are the inner dimension, hence the transposed B
DEVICE void wgmma_rs(float (&d)[64], const u32 (&a)[4], u64 b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16" TYPES "{" R64 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
               : D32(0), D32(32)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
DEVICE void wgmma_rs(float (&d)[32], const u32 (&a)[4], u64 b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16" TYPES "{" R32 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
               : D32(0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

// d[64,N] (+)= A[64,16]·B, both in shared memory, for N of 256, 128 or 64; B is [N,16], or, TURNED, [16,N] in rows of 64 columns at a time.
template <bool TURNED>
DEVICE void wgmma_shared(float (&d)[128], u64 a, u64 b, int accumulate) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\nwgmma.mma_async.sync.aligned.m64n256k16" TYPES "{" R128
               "}, %128, %129, p, 1, 1, 0, %131;\n}"
               : D32(0), D32(32), D32(64), D32(96)
               : "l"(a), "l"(b), "r"(accumulate), "n"((int)TURNED));
}
template <bool TURNED>
DEVICE void wgmma_shared(float (&d)[64], u64 a, u64 b, int accumulate) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\nwgmma.mma_async.sync.aligned.m64n128k16" TYPES "{" R64
               "}, %64, %65, p, 1, 1, 0, %67;\n}"
               : D32(0), D32(32)
               : "l"(a), "l"(b), "r"(accumulate), "n"((int)TURNED));
}
template <bool TURNED>
DEVICE void wgmma_shared(float (&d)[32], u64 a, u64 b, int accumulate) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\nwgmma.mma_async.sync.aligned.m64n64k16" TYPES "{" R32
               "}, %32, %33, p, 1, 1, 0, %35;\n}"
               : D32(0)
               : "l"(a), "l"(b), "r"(accumulate), "n"((int)TURNED));
}
// Products read an operand's registers until they have been waited for. After that wait this is a use of them that never happens: without
// one the compiler puts other values there in between. `never` is a condition that it cannot know.
template <int COUNT>
DEVICE void hold(const u32 (&a)[COUNT][4], bool never) {
#pragma unroll
  for (int k = 0; k < COUNT; k++)
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %5, 0;\n@p st.shared.v4.b32 [%4], {%0, %1, %2, %3};\n}" ::"r"(a[k][0]),
                 "r"(a[k][1]), "r"(a[k][2]), "r"(a[k][3]), "r"(0), "r"((int)never)
                 : "memory");
}
// Registers that the threads of a warpgroup have from here on.
template <int COUNT>
DEVICE void keep_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
DEVICE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}
// Named barriers, with ids from 1: the calling warps wait until so many threads have come, or come without waiting.
DEVICE void named_barrier_wait(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
DEVICE void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
