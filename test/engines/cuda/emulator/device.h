// Runs CUDA kernels on the CPU: enough of the language, of warps and of the tensor cores to hold kernels to a reference where
// there is no GPU. Stands for ptx.cuh and mbarrier.cuh, for bfloat16; everything else is the kernels' own.
#pragma once
#include "fibers.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

using std::max;
using std::min;
#define DEVICE static inline
#define KERNEL static void
#include "types.cuh"
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ static

// --- warp exchange ------------------------------------------------------------------------------------------------
// Between two writes to the same one of two places all lanes have met after they read it.
static float exchanged[2][32][32];
static float from_lane(float x, int source) {
  float(&values)[32] = exchanged[warp_meetings() & 1][warp()];
  values[lane()] = x;
  warp_wait();
  return values[source];
}
static float __shfl_xor_sync(u32, float x, int mask) { return from_lane(x, lane() ^ mask); }
static float __shfl_up_sync(u32, float x, int delta) { return from_lane(x, lane() >= delta ? lane() - delta : lane()); }
static float __shfl_sync(u32, float x, int source) { return from_lane(x, source); }
static bool __any_sync(u32, bool x) {
  float most = x;
  for (int mask = 1; mask < 32; mask *= 2) most = std::max(most, from_lane(most, lane() ^ mask));
  return most > 0;
}
template <typename T>
static T atomicAdd(T* to, T x) {
  const T before = *to;
  *to += x;
  return before;
}

// --- bfloat16 -----------------------------------------------------------------------------------------------------
static float to_float(scalar x) {
  const u32 bits = (u32)x.bits << 16;
  float y;
  memcpy(&y, &bits, 4);
  return y;
}
static scalar from_float(float x) {
  u32 bits;
  memcpy(&bits, &x, 4);
  bits += 0x7fff + ((bits >> 16) & 1);
  return {(u16)(bits >> 16)};
}
static u32 pack2(float low, float high) { return from_float(low).bits | (u32)from_float(high).bits << 16; }
static float half_of(u32 pair, int which) { return to_float({(u16)(which ? pair >> 16 : pair & 0xffff)}); }
static float low_of(u32 pair) { return half_of(pair, 0); }
static float high_of(u32 pair) { return half_of(pair, 1); }
static u32 fma2(u32 a, u32 b, u32 c) {
  return pack2(low_of(a) * low_of(b) + low_of(c), high_of(a) * high_of(b) + high_of(c));
}
static float half_to_float(u16 half) {
  const int exponent = (half >> 10) & 31, mantissa = half & 1023;
  if (exponent == 31) abort();  // no scale of these tests is infinite
  const float size = exponent ? std::ldexp(1024.0f + mantissa, exponent - 25) : std::ldexp((float)mantissa, -24);
  return half & 0x8000 ? -size : size;
}
// e4m3: the nearest of all values, of two as near the one with the even mantissa.
static double float8_meaning(int code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const double size = exponent ? std::ldexp(8.0 + mantissa, exponent - 10) : std::ldexp((double)mantissa, -9);
  return (code & 0x7f) == 0x7f ? NAN : code & 0x80 ? -size : size;
}
static u32 float8_of(double x) {
  if (std::isnan(x)) return 0x7f;
  int best = 0;
  const double size = std::fabs(x);
  for (int code = 1; code < 0x7f; code++) {
    const double far = std::fabs(size - float8_meaning(best)), near = std::fabs(size - float8_meaning(code));
    if (near < far || (near == far && code % 2 == 0)) best = code;
  }
  return best | (std::signbit(x) ? 0x80 : 0);
}
static u32 float8_pair(float low, float high) { return float8_of(low) | float8_of(high) << 8; }
static u32 __float_as_uint(float x) {
  u32 bits;
  memcpy(&bits, &x, 4);
  return bits;
}
static float __uint_as_float(u32 bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
static Packed read_once(const Packed* p) { return *p; }
struct float2 {
  float x, y;
};
static float2 make_float2(float x, float y) { return {x, y}; }
#define __expf expf
static float exp2_fast(float x) { return exp2f(x); }
static float reciprocal(float x) { return 1 / x; }
static float rsqrtf(float x) { return 1 / std::sqrt(x); }
static void sincospif(float x, float* sine, float* cosine) {
  *sine = std::sin((float)M_PI * x);
  *cosine = std::cos((float)M_PI * x);
}
static float __int_as_float(int bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
static i64 __double2ll_rn(double x) { return llrint(x); }
// Copies arrive when a thread waits for them, and no earlier.
struct Copy {
  void* to;
  const void* from;
  bool valid;
  int bytes = 16;
};
static std::vector<std::vector<std::vector<Copy>>> copies;  // of each thread: groups, the last one open
static std::vector<std::vector<Copy>>& own_copies() {
  copies.resize(std::max<size_t>(copies.size(), blockDim.x));
  auto& groups = copies[threadIdx.x];
  if (groups.empty()) groups.emplace_back();
  return groups;
}
static void cp_async(void* to, const void* from, bool valid) { own_copies().back().push_back({to, from, valid}); }
static void cp_async_word(void* to, const void* from) { own_copies().back().push_back({to, from, true, 4}); }
static void prefetch_l2(const void*) {}
static void cp_async_commit() { own_copies().emplace_back(); }
template <int PENDING>
static void cp_async_wait() {
  auto& groups = own_copies();
  while ((int)groups.size() - 1 > PENDING) {
    for (const Copy& copy : groups[0]) {
      if (copy.valid) memcpy(copy.to, copy.from, copy.bytes);
      else memset(copy.to, 0, copy.bytes);
    }
    groups.erase(groups.begin());
  }
}

static void griddep_wait() {
  if (!previous) return;
  // What was begun may have read what is there now.
  for (auto& group : own_copies()) {
    for (const Copy& copy : group)
      if (copy.valid) memcpy(copy.to, copy.from, copy.bytes);
      else memset(copy.to, 0, copy.bytes);
    group.clear();
  }
  __syncthreads();
  if (threadIdx.x == 0) previous(true);
  __syncthreads();
}
static void griddep_sync() { griddep_wait(); }

// mbarrier.cuh: copies arrive when they are waited for, or, `eager`, at once: what is read too early is seen by the first, what is given
// back too early by the second. A wait for what nothing brings ends the program.
static bool eager = false;
static std::map<u32, const void*> shared_addresses;
static u32 shared_address(const void* p) {
  const u32 address = (u32)(size_t)p;
  shared_addresses[address] = p;
  // Also what lies behind it, as of barriers in a row.
  for (int i = 8; i < 128; i += 8) shared_addresses.emplace(address + i, (const char*)p + i);
  return address;
}
struct CopyBarrier {
  int count = 1, expected = 0, arrivals = 0, completed = 0, bytes = 0;
  std::vector<std::function<void()>> copies;
  bool complete() const { return arrivals == count && bytes == expected; }
  void settle() {
    for (const auto& copy : copies) copy();
    *this = {count, 0, 0, completed + 1, 0, {}};
  }
  void arrive() {
    if (complete()) settle();
    if (++arrivals > count) abort();
    if (complete() && copies.empty()) settle();
  }
};
static std::map<u32, CopyBarrier> copy_barriers;
static void mbarrier_init(u32 barrier, int count) {
  copy_barriers[barrier] = CopyBarrier();
  copy_barriers[barrier].count = count;
}
static void mbarrier_init_fence() {}
static void mbarrier_expect_tx(u32 barrier, int bytes) {
  CopyBarrier& at = copy_barriers.at(barrier);
  if (at.complete()) at.settle();
  at.expected += bytes;
  at.arrive();
}
static void mbarrier_arrive(u32 barrier) { copy_barriers.at(barrier).arrive(); }
static void copy_later(u32 barrier, int bytes, const std::function<void()>& copy) {
  CopyBarrier& at = copy_barriers.at(barrier);
  if (eager) copy();
  else at.copies.push_back(copy);
  at.bytes += bytes;
}
static void cp_async_bulk(u32 to, const void* from, u32 barrier, int bytes) {
  void* place = (void*)shared_addresses.at(to);
  copy_later(barrier, bytes, [=] { memcpy(place, from, bytes); });
}
static void mbarrier_wait(u32 barrier, int parity) {
  const int patience = 100000;
  for (int turns = 0; turns < patience; turns++) {
    CopyBarrier& at = copy_barriers.at(barrier);
    if ((at.completed & 1) != parity) return;
    if (at.complete()) at.settle();
    else yield();
  }
  abort();
}
static void __threadfence() {}
static u64 load_acquire(const u64* p) { return *(const volatile u64*)p; }

// --- tensor cores: ldmatrix and mma.m16n8k16 as the PTX ISA lays out their fragments -------------------------------------
static const scalar* addresses[32][32];
static void load_fragments(u32 (&r)[4], const scalar* p, bool turned) {
  addresses[warp()][lane()] = p;
  warp_wait();
  for (int i = 0; i < 4; i++) {
    const scalar* const* rows = &addresses[warp()][i * 8];
    const int row = lane() / 4, pair = lane() % 4 * 2;
    r[i] = turned ? rows[pair][row].bits | (u32)rows[pair + 1][row].bits << 16
                  : rows[row][pair].bits | (u32)rows[row][pair + 1].bits << 16;
  }
  warp_wait();
}
static void ldmatrix(u32 (&r)[4], const scalar* p) { load_fragments(r, p, false); }
static void ldmatrix_trans(u32 (&r)[4], const scalar* p) { load_fragments(r, p, true); }

static u32 rows_of_pairs[2][32][32];  // as `exchanged`
static u32 transpose8(u32 x) {
  u32(&rows)[32] = rows_of_pairs[warp_meetings() & 1][warp()];
  rows[lane()] = x;
  warp_wait();
  const int row = lane() / 4, pair = lane() % 4 * 2;
  const auto at = [&](int i, int j) { return rows[i * 4 + j / 2] >> (16 * (j & 1)) & 0xffff; };
  return at(pair, row) | at(pair + 1, row) << 16;
}

// Rows of a and columns of b, as `exchanged`.
static float rows_of_a[2][32][16][16], columns_of_b[2][32][8][16];
static void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  const int place = warp_meetings() & 1, own = lane() / 4, pair = lane() % 4 * 2;
  float(&rows)[16][16] = rows_of_a[place][warp()];
  float(&columns)[8][16] = columns_of_b[place][warp()];
  for (int half = 0; half < 2; half++)
    for (int k = 0; k < 16; k += 8) {
      rows[own + 8 * half][k + pair] = low_of(a[half + k / 4]);
      rows[own + 8 * half][k + pair + 1] = high_of(a[half + k / 4]);
    }
  columns[own][pair] = low_of(b0);
  columns[own][pair + 1] = high_of(b0);
  columns[own][8 + pair] = low_of(b1);
  columns[own][8 + pair + 1] = high_of(b1);
  warp_wait();
  for (int e = 0; e < 4; e++) {
    const float *row = rows[own + 8 * (e / 2)], *column = columns[pair + e % 2];
    for (int k = 0; k < 16; k++) d[e] += row[k] * column[k];
  }
}

static u32 codes_of_a[2][32][32][4], codes_of_b[2][32][32][2];  // as `exchanged`
// m16n8k32 of e4m3.
static void mma_float8(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  const int place = warp_meetings() & 1;
  u32(&as)[32][4] = codes_of_a[place][warp()];
  u32(&bs)[32][2] = codes_of_b[place][warp()];
  for (int i = 0; i < 4; i++) as[lane()][i] = a[i];
  bs[lane()][0] = b0;
  bs[lane()][1] = b1;
  warp_wait();
  for (int e = 0; e < 4; e++) {
    const int row = lane() / 4 + 8 * (e / 2), column = lane() % 4 * 2 + e % 2;
    for (int k = 0; k < 32; k++) {
      const u32 left = as[row % 8 * 4 + k % 16 / 4][(row >= 8) + 2 * (k >= 16)];
      const u32 right = bs[column * 4 + k % 16 / 4][k >= 16];
      const int shift = 8 * (k % 4);
      d[e] += float8_meaning(left >> shift & 0xff) * float8_meaning(right >> shift & 0xff);
    }
  }
}
