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

// For kernels that a recorded step launches early: the next kernel may bring its blocks onto the device, and this one goes on
// when the kernel before it has ended and its results can be seen. Both do nothing in ordinary launches.
DEVICE void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
DEVICE void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
DEVICE void follow() {
  let_next_start();
  wait_for_previous();
}

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

// What no kernel of the step writes and no block reads twice: it leaves the L1 cache to the rest.
DEVICE Wide read_once(const Wide* p) {
  u32 r[4];
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "l"(p));
  return *(const Wide*)r;
}

DEVICE i64 global_thread() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }
// A number that grows with the position of a recorded step is read from `origin` and added to; otherwise it is `offset`.
DEVICE int moving(const int* origin, int offset) { return origin ? *origin + offset : offset; }
DEVICE i64 global_threads() { return (i64)gridDim.x * blockDim.x; }

DEVICE float sigmoid_fast(float x) { return 1.0f / (1.0f + __expf(-x)); }
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

DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
DEVICE void copy_async(void* to, const void* from, bool valid) {
  const int bytes = valid ? 16 : 0;  // the rest of the 16 bytes becomes zeros
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes));
}
// Asks for 128 bytes that will be read soon.
DEVICE void prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;"); }
template <int PENDING>
DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING));
}

// What other multiprocessors wrote before they counted up to the value that is read is seen from here on.
DEVICE u64 load_acquire(const u64* p) {
  u64 x;
  asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(x) : "l"(p) : "memory");
  return x;
}

#if STORAGE != 0
// Tensor-core building blocks (PTX ISA, "Matrix multiply-accumulate": mma.m16n8k16 and ldmatrix fragments).
#if STORAGE == 1
#define PTX_TYPE "bf16"
#else
#define PTX_TYPE "f16"
#endif
#define LOG2_E 1.4426950408889634f

DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE void load_matrices(u32 (&r)[4], const scalar* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(p)));
}
DEVICE void load_matrices_turned(u32 (&r)[4], const scalar* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(p)));
}
// d[16,8] += a[16,16] · b[16,8]
DEVICE void multiply(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." PTX_TYPE "." PTX_TYPE
               ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// Fragments out of shared tiles with rows of `pitch` elements. `A`: 16×16 at (row, column). `B`: two 16×8 operands
// (b[0..1], b[2..3]) of which the tile holds rows n and columns k; `Turned`: the tile holds the transpose.
DEVICE void load_a(u32 (&a)[4], const scalar* tile, int pitch, int row, int column) {
  const int lane = threadIdx.x & 31;
  load_matrices(a, tile + (row + (lane & 15)) * pitch + column + (lane >> 4) * 8);
}
DEVICE void load_a_turned(u32 (&a)[4], const scalar* tile, int pitch, int row, int column) {
  const int lane = threadIdx.x & 31;
  load_matrices_turned(a, tile + (column + (lane & 7) + (lane >> 4) * 8) * pitch + row + ((lane >> 3) & 1) * 8);
}
DEVICE void load_b(u32 (&b)[4], const scalar* tile, int pitch, int n, int k) {
  const int lane = threadIdx.x & 31;
  load_matrices(b, tile + (n + (lane & 7) + (lane >> 4) * 8) * pitch + k + ((lane >> 3) & 1) * 8);
}
DEVICE void load_b_turned(u32 (&b)[4], const scalar* tile, int pitch, int n, int k) {
  const int lane = threadIdx.x & 31;
  load_matrices_turned(b, tile + (k + (lane & 15)) * pitch + n + (lane >> 4) * 8);
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
      multiply(s[j], left, right[0], right[1]);
      multiply(s[j + 1], left, right[2], right[3]);
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
      load_b_turned(right, b, TILES * 8 + 8, j * 8, k * 16);
      multiply(o[j], left, right[0], right[1]);
      multiply(o[j + 1], left, right[2], right[3]);
    }
  }
}
#endif
