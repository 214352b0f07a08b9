// Reductions of [outer, extent, inner] over `extent`, softmax, cumulative sums.
#include "common.cuh"

#define INFINITE __int_as_float(0x7f800000)

struct SumOf {
  DEVICE float start() { return 0.0f; }
  DEVICE float operator()(float a, float b) { return a + b; }
};
// A NaN is neither hidden by the largest nor by the smallest.
struct MaxOf {
  DEVICE float start() { return -INFINITE; }
  DEVICE float operator()(float a, float b) { return a > b || a != a ? a : b; }
};
struct MinOf {
  DEVICE float start() { return INFINITE; }
  DEVICE float operator()(float a, float b) { return a < b || a != a ? a : b; }
};
struct ProductOf {
  DEVICE float start() { return 1.0f; }
  DEVICE float operator()(float a, float b) { return a * b; }
};

template <typename Operation>
DEVICE float block_reduce(float x, Operation operation) {
  __shared__ float partial[32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x = operation(x, __shfl_xor_sync(0xffffffffu, x, offset));
  __syncthreads();
  if (lane == 0) partial[warp] = x;
  __syncthreads();
  x = lane < warps ? partial[lane] : operation.start();
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x = operation(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

DEVICE void put(scalar* out, i64 i, float x) { out[i] = from_float(x); }
DEVICE void put(int* out, i64 i, float x) { out[i] = (int)x; }
DEVICE void put(u8* out, i64 i, float x) { out[i] = x != 0.0f; }

// inner == 1: one block a row.
template <typename T, typename Operation>
DEVICE void reduce_rows(const T* in, T* out, i64 extent, float scale, Operation operation) {
  const T* row = in + (i64)blockIdx.x * extent;
  float x = operation.start();
  for (i64 i = threadIdx.x; i < extent; i += blockDim.x) x = operation(x, to_float(row[i]));
  x = block_reduce(x, operation);
  if (threadIdx.x == 0) put(out, blockIdx.x, x * scale);
}
// Few long rows: block (x, y) reduces slice x of row y, eight elements a load, to float32; a second pass joins slices.
template <typename T, typename Operation>
DEVICE void reduce_slices(const T* in, float* out, i64 extent, i64 slice, Operation operation) {
  const i64 first = blockIdx.x * slice, last = first + slice < extent ? first + slice : extent;
  const T* row = in + (i64)blockIdx.y * extent;
  float x = operation.start();
  i64 done = first;
  if (extent % 8 == 0 && slice % 8 == 0) {  // every slice starts at a multiple of eight elements
    done = last;
    for (i64 i = first / 8 + threadIdx.x; i < last / 8; i += blockDim.x) {
      const Pack<T, 8> p = ((const Pack<T, 8>*)row)[i];
#pragma unroll
      for (int j = 0; j < 8; j++) x = operation(x, to_float(p.v[j]));
    }
  }
  for (i64 i = done + threadIdx.x; i < last; i += blockDim.x) x = operation(x, to_float(row[i]));
  x = block_reduce(x, operation);
  if (threadIdx.x == 0) out[(i64)blockIdx.y * gridDim.x + blockIdx.x] = x;
}
// inner > 1: 32 columns a block (x), its warps (y) share the extent.
template <typename T, typename Operation>
DEVICE void reduce_columns(const T* in, T* out, i64 extent, i64 inner, float scale, Operation operation) {
  __shared__ float partial[32][33];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const i64 column = (i64)blockIdx.x * 32 + lane;
  const T* base = in + (i64)blockIdx.y * extent * inner + column;
  float x = operation.start();
  if (column < inner)
    for (i64 i = warp; i < extent; i += warps) x = operation(x, to_float(base[i * inner]));
  partial[warp][lane] = x;
  __syncthreads();
  if (warp != 0 || column >= inner) return;
  for (int other = 1; other < warps; other++) x = operation(x, partial[other][lane]);
  put(out, (i64)blockIdx.y * inner + column, x * scale);
}

#define REDUCTION(name, suffix, T, Operation)                                                           \
  KERNEL rows_##name##suffix(const T* in, T* out, i64 extent, i64 inner, float scale) {                 \
    reduce_rows(in, out, extent, scale, Operation());                                                   \
  }                                                                                                     \
  KERNEL columns_##name##suffix(const T* in, T* out, i64 extent, i64 inner, float scale) {              \
    reduce_columns(in, out, extent, inner, scale, Operation());                                         \
  }
#define SLICES(name, Operation)                                                              \
  KERNEL slices_##name(const scalar* in, float* out, i64 extent, i64 slice) {                \
    reduce_slices(in, out, extent, slice, Operation());                                      \
  }
SLICES(Sum, SumOf)
SLICES(Max, MaxOf)
SLICES(Min, MinOf)
SLICES(Prod, ProductOf)
REDUCTION(Sum, _float32, scalar, SumOf)
REDUCTION(Max, _float32, scalar, MaxOf)
REDUCTION(Min, _float32, scalar, MinOf)
REDUCTION(Prod, _float32, scalar, ProductOf)
REDUCTION(Max, _int32, int, MaxOf)
REDUCTION(Min, _int32, int, MinOf)
REDUCTION(All, _bool, u8, MinOf)
REDUCTION(Any, _bool, u8, MaxOf)

// Integers add exactly.
KERNEL sum_int32(const int* in, int* out, i64 size, i64 extent, i64 inner) {
  for (i64 i = global_thread(); i < size; i += global_threads()) {
    const int* base = in + i / inner * extent * inner + i % inner;
    int x = 0;
    for (i64 j = 0; j < extent; j++) x += base[j * inner];
    out[i] = x;
  }
}

// Index of the largest (sign 1) or smallest (sign -1) value of each row; the first one among equals. Eight elements a load
// where rows are made of them.
KERNEL arg_extreme(const scalar* in, int* out, i64 extent, float sign) {
  __shared__ float values[32];
  __shared__ int places[32];
  const scalar* row = in + (i64)blockIdx.x * extent;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  float best = -INFINITE;
  int place = 0x7fffffff;
  auto take = [&](scalar value, i64 i) {
    const float x = sign * to_float(value);
    if (x > best || place == 0x7fffffff) best = x, place = (int)i;
  };
  i64 done = 0;
  if (extent % 8 == 0) {
    done = extent;
#pragma unroll 4
    for (i64 i = threadIdx.x; i < extent / 8; i += blockDim.x) {
      const Pack<scalar, 8> p = ((const Pack<scalar, 8>*)row)[i];
#pragma unroll
      for (int j = 0; j < 8; j++) take(p.v[j], 8 * i + j);
    }
  }
  for (i64 i = done + threadIdx.x; i < extent; i += blockDim.x) take(row[i], i);
  auto better = [](float x, int i, float y, int j) { return x > y || (x == y && i < j); };
  for (int offset = 16; offset > 0; offset >>= 1) {
    const float x = __shfl_xor_sync(0xffffffffu, best, offset);
    const int i = __shfl_xor_sync(0xffffffffu, place, offset);
    if (better(x, i, best, place)) best = x, place = i;
  }
  if (lane == 0) values[warp] = best, places[warp] = place;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int other = 1; other < (int)(blockDim.x >> 5); other++)
    if (better(values[other], places[other], best, place)) best = values[other], place = places[other];
  out[blockIdx.x] = place;
}

// Softmax over rows, or its logarithm.
template <bool LOGARITHM>
DEVICE void softmax(const scalar* in, scalar* out, i64 extent) {
  const scalar* row = in + (i64)blockIdx.x * extent;
  scalar* to = out + (i64)blockIdx.x * extent;
  float largest = -INFINITE;
  for (i64 i = threadIdx.x; i < extent; i += blockDim.x) largest = fmaxf(largest, to_float(row[i]));
  largest = block_max(largest);
  float sum = 0.0f;
  for (i64 i = threadIdx.x; i < extent; i += blockDim.x) sum += expf(to_float(row[i]) - largest);
  sum = block_sum(sum);
  const float shift = largest + logf(sum), inverse = 1.0f / sum;
  for (i64 i = threadIdx.x; i < extent; i += blockDim.x) {
    const float x = to_float(row[i]);
    to[i] = from_float(LOGARITHM ? x - shift : expf(x - largest) * inverse);
  }
}
KERNEL softmax_rows(const scalar* in, scalar* out, i64 extent) { softmax<false>(in, out, extent); }
KERNEL log_softmax_rows(const scalar* in, scalar* out, i64 extent) { softmax<true>(in, out, extent); }

// Running sum along each row, from the front or the back, with or without the element itself. One warp a row.
KERNEL cumulative_sum(const scalar* in, scalar* out, i64 rows, i64 extent, int exclusive, int reverse) {
  const int lane = threadIdx.x & 31;
  const i64 row = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (row >= rows) return;
  const scalar* from = in + row * extent;
  scalar* to = out + row * extent;
  float carried = 0.0f;
  for (i64 start = 0; start < extent; start += 32) {
    const i64 i = start + lane, at = reverse ? extent - 1 - i : i;
    const float x = i < extent ? to_float(from[at]) : 0.0f;
    float sum = x;
    for (int offset = 1; offset < 32; offset <<= 1) {
      const float before = __shfl_up_sync(0xffffffffu, sum, offset);
      if (lane >= offset) sum += before;
    }
    if (i < extent) to[at] = from_float(carried + sum - (exclusive ? x : 0.0f));
    carried += __shfl_sync(0xffffffffu, sum, 31);
  }
}
