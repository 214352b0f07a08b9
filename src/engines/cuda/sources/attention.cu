// Causal softmax attention on tensor cores (mma.sync), any shape: grouped heads, window, query positions, K/V in pages;
// forward, and backward in two passes without atomics (dQ per query block, dK and dV per key block), so that results
// do not depend on timing. HEAD is the head width rounded up to 32, 64, 128 or 256. The online softmax is that of
// Milakov and Gimelshein 2018 as blocked by Dao et al. 2022 (FlashAttention).
#include "common.cuh"

#ifndef HEAD
#define HEAD 128
#endif
#define PITCH (HEAD + 8)
#define INFINITE __int_as_float(0x7f800000)

// Where [batch, position, head] rows are: one array, or pages of `pageSize` positions.
struct Source {
  const scalar* base;
  const scalar* const* pages;
  i64 batch, position, head;  // strides
  i64 pageSize;
};
DEVICE const scalar* row_of(const Source& s, int batch, int head, int position) {
  const scalar* base = s.base;
  int at = position;
  if (s.pages) {
    const int size = (int)s.pageSize;
    base = s.pages[position / size];
    at = position % size;
  }
  return base + batch * s.batch + head * s.head + at * s.position;
}

struct Shape {
  int tq, tk, heads, kvHeads, width;
  int window;  // 0: none
  float scale;
  int offset;            // position of the first query; no query comes after the last key
  const int* positions;  // [B, Tq] or null: they follow each other from `offset` on
};
DEVICE int position_of(const Shape& s, int batch, int query) {
  return s.positions ? s.positions[(i64)batch * s.tq + query] : min(s.offset + query, s.tk - 1);
}
DEVICE bool visible(const Shape& s, int position, int key) {
  return key <= position && (s.window == 0 || key > position - s.window);
}

// `count` rows from `first` on into a tile; rows from `end` on, and columns beyond the width, are zeros.
DEVICE void load_tile(scalar* tile, const Source& s, int batch, int head, int first, int count, int end, int width) {
  const int packs = HEAD / 8;
  for (int i = threadIdx.x; i < count * packs; i += THREADS) {
    const int row = i / packs, column = i % packs * 8, position = first + row;
    Wide p = {};
    if (position < end && column < width) {
      const scalar* from = row_of(s, batch, head, position) + column;
      if ((width & 7) == 0) {
        p = *(const Wide*)from;
      } else {
        for (int j = 0; j < 8 && column + j < width; j++) p.v[j] = from[j];
      }
    }
    *(Wide*)(tile + row * PITCH + column) = p;
  }
}
// 16 rows of accumulators to `out` rows; columns beyond the width are left out.
DEVICE void store_rows(float (&o)[HEAD / 8][4], scalar* low, scalar* high, int width) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int column = j * 8 + (lane & 3) * 2 + (e & 1);
      scalar* to = e < 2 ? low : high;
      if (to && column < width) to[column] = from_float(o[j][e]);
    }
}

struct KeyRange {
  int first, last;
};
// Keys that any query of [from, to) sees. Positions need not be ordered.
DEVICE KeyRange keys_of(const Shape& s, int batch, int from, int to) {
  KeyRange range = {s.tk, 0};
  if (s.positions == nullptr) {
    range.last = min(s.tk, s.offset + to);
    range.first = s.window ? max(0, s.offset + from - s.window + 1) : 0;
    return range;
  }
  for (int query = from; query < to; query++) {
    const int p = position_of(s, batch, query);
    range.last = max(range.last, p + 1);
    range.first = min(range.first, s.window ? max(0, p - s.window + 1) : 0);
  }
  return range;
}

// out[16 rows a warp] and logSumExp; grid (query blocks, heads, batch).
KERNEL __launch_bounds__(THREADS) attention_forward(const Source q, const Source k, const Source v, scalar* out,
                                                    float* logSumExp, const Shape shape) {
  extern __shared__ __align__(16) scalar tiles[];
  scalar *tileQ = tiles, *tileK = tiles + ROWS * PITCH, *tileV = tileK + KEYS * PITCH;
  const int batch = blockIdx.z, head = blockIdx.y, first = (gridDim.x - 1 - blockIdx.x) * ROWS;
  const int kvHead = head / (shape.heads / shape.kvHeads);
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int low = first + warp * 16 + (lane >> 2);  // this thread's rows: low and low + 8
  load_tile(tileQ, q, batch, head, first, ROWS, shape.tq, shape.width);

  int position[2];
#pragma unroll
  for (int r = 0; r < 2; r++) position[r] = low + 8 * r < shape.tq ? position_of(shape, batch, low + 8 * r) : -1;
  const KeyRange range = keys_of(shape, batch, first, min(first + ROWS, shape.tq));
  const float factor = shape.scale * LOG2_E;
  float o[HEAD / 8][4] = {}, peak[2] = {-INFINITE, -INFINITE}, sum[2] = {0.0f, 0.0f};

  for (int start = range.first / KEYS * KEYS; start < range.last; start += KEYS) {
    __syncthreads();
    load_tile(tileK, k, batch, kvHead, start, KEYS, shape.tk, shape.width);
    load_tile(tileV, v, batch, kvHead, start, KEYS, shape.tk, shape.width);
    __syncthreads();
    float s[KEYS / 8][4];
    score<HEAD>(s, tileQ, warp * 16, tileK);
    float top[2] = {peak[0], peak[1]};
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int key = start + j * 8 + (lane & 3) * 2 + (e & 1);
        s[j][e] = visible(shape, position[e >> 1], key) ? s[j][e] * factor : -INFINITE;
        top[e >> 1] = fmaxf(top[e >> 1], s[j][e]);
      }
    float shift[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 1));
      top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 2));
      shift[r] = top[r] == -INFINITE ? 0.0f : top[r];
      const float shrink = exp2_fast(peak[r] - shift[r]);
      sum[r] *= shrink;
      peak[r] = top[r];
#pragma unroll
      for (int j = 0; j < HEAD / 8; j++) {
        o[j][2 * r] *= shrink;
        o[j][2 * r + 1] *= shrink;
      }
    }
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        s[j][e] = exp2_fast(s[j][e] - shift[e >> 1]);
        sum[e >> 1] += s[j][e];
      }
    accumulate(o, s, tileV);
  }

  scalar* to[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
    const float inverse = sum[r] > 0.0f ? 1.0f / sum[r] : 0.0f;
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++) {
      o[j][2 * r] *= inverse;
      o[j][2 * r + 1] *= inverse;
    }
    const int query = low + 8 * r;
    const bool valid = query < shape.tq;
    to[r] = valid ? out + (((i64)batch * shape.tq + query) * shape.heads + head) * shape.width : nullptr;
    if (valid && logSumExp && (lane & 3) == 0)
      logSumExp[((i64)batch * shape.heads + head) * shape.tq + query] = (peak[r] + log2f(sum[r])) / LOG2_E;
  }
  store_rows(o, to[0], to[1], shape.width);
}

// dS of one element from score (times scale·log2 e), dP and the row's logSumExp (log2) and delta
DEVICE float probability(float score, float factor, float shift) { return exp2_fast(score * factor - shift); }

KERNEL __launch_bounds__(THREADS) attention_grad_query(const Source q, const Source k, const Source v, const Source dy,
                                                       const float* logSumExp, const float* delta, scalar* dq,
                                                       const Shape shape) {
  extern __shared__ __align__(16) scalar tiles[];
  scalar *tileQ = tiles, *tileDy = tiles + ROWS * PITCH, *tileK = tileDy + ROWS * PITCH, *tileV = tileK + SHORT * PITCH;
  const int batch = blockIdx.z, head = blockIdx.y, first = (gridDim.x - 1 - blockIdx.x) * ROWS;
  const int kvHead = head / (shape.heads / shape.kvHeads);
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int low = first + warp * 16 + (lane >> 2);
  load_tile(tileQ, q, batch, head, first, ROWS, shape.tq, shape.width);
  load_tile(tileDy, dy, batch, head, first, ROWS, shape.tq, shape.width);
  int position[2];
  float shift[2], shared[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int query = low + 8 * r;
    const i64 at = ((i64)batch * shape.heads + head) * shape.tq + query;
    position[r] = query < shape.tq ? position_of(shape, batch, query) : -1;
    shift[r] = query < shape.tq ? logSumExp[at] * LOG2_E : 0.0f;
    shared[r] = query < shape.tq ? delta[at] : 0.0f;
  }
  const KeyRange range = keys_of(shape, batch, first, min(first + ROWS, shape.tq));
  const float factor = shape.scale * LOG2_E;
  float o[HEAD / 8][4] = {};
  for (int start = range.first / SHORT * SHORT; start < range.last; start += SHORT) {
    __syncthreads();
    load_tile(tileK, k, batch, kvHead, start, SHORT, shape.tk, shape.width);
    load_tile(tileV, v, batch, kvHead, start, SHORT, shape.tk, shape.width);
    __syncthreads();
    float s[SHORT / 8][4], dp[SHORT / 8][4];
    score<HEAD>(s, tileQ, warp * 16, tileK);
    score<HEAD>(dp, tileDy, warp * 16, tileV);
#pragma unroll
    for (int j = 0; j < SHORT / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int r = e >> 1, key = start + j * 8 + (lane & 3) * 2 + (e & 1);
        const float p = visible(shape, position[r], key) ? probability(s[j][e], factor, shift[r]) : 0.0f;
        s[j][e] = p * (dp[j][e] - shared[r]) * shape.scale;
      }
    accumulate(o, s, tileK);
  }
  scalar* to[2];
#pragma unroll
  for (int r = 0; r < 2; r++)
    to[r] = low + 8 * r < shape.tq
                ? dq + (((i64)batch * shape.tq + low + 8 * r) * shape.heads + head) * shape.width
                : nullptr;
  store_rows(o, to[0], to[1], shape.width);
}

// Works on transposed scores, so that Pᵀ and dSᵀ are operands as they are; sums over the query heads of the group.
KERNEL __launch_bounds__(THREADS) attention_grad_key(const Source q, const Source k, const Source v, const Source dy,
                                                     const float* logSumExp, const float* delta, scalar* dk, scalar* dv,
                                                     const Shape shape) {
  extern __shared__ __align__(16) scalar tiles[];
  scalar *tileK = tiles, *tileV = tiles + ROWS * PITCH, *tileQ = tileV + ROWS * PITCH, *tileDy = tileQ + SHORT * PITCH;
  __shared__ float shifts[SHORT], deltas[SHORT];
  __shared__ int positions[SHORT];
  const int batch = blockIdx.z, kvHead = blockIdx.y, first = blockIdx.x * ROWS;
  const int group = shape.heads / shape.kvHeads;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int low = first + warp * 16 + (lane >> 2);
  load_tile(tileK, k, batch, kvHead, first, ROWS, shape.tk, shape.width);
  load_tile(tileV, v, batch, kvHead, first, ROWS, shape.tk, shape.width);
  const float factor = shape.scale * LOG2_E;
  // Without given positions the queries that see this block are one range.
  const int offset = shape.offset;
  const int begin = shape.positions ? 0 : max(0, first - offset) / SHORT * SHORT;
  const int end = shape.positions || shape.window == 0 ? shape.tq
                                                       : min(shape.tq, first + ROWS + shape.window - 1 - offset);
  float gradK[HEAD / 8][4] = {}, gradV[HEAD / 8][4] = {};
  for (int g = 0; g < group; g++) {
    const int head = kvHead * group + g;
    for (int start = begin; start < end; start += SHORT) {
      __syncthreads();
      load_tile(tileQ, q, batch, head, start, SHORT, shape.tq, shape.width);
      load_tile(tileDy, dy, batch, head, start, SHORT, shape.tq, shape.width);
      if (threadIdx.x < SHORT) {
        const int query = start + threadIdx.x;
        const i64 at = ((i64)batch * shape.heads + head) * shape.tq + query;
        const bool valid = query < shape.tq;
        positions[threadIdx.x] = valid ? position_of(shape, batch, query) : -1;
        shifts[threadIdx.x] = valid ? logSumExp[at] * LOG2_E : 0.0f;
        deltas[threadIdx.x] = valid ? delta[at] : 0.0f;
      }
      __syncthreads();
      float s[SHORT / 8][4], dp[SHORT / 8][4];
      score<HEAD>(s, tileK, warp * 16, tileQ);
      score<HEAD>(dp, tileV, warp * 16, tileDy);
#pragma unroll
      for (int j = 0; j < SHORT / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int key = low + 8 * (e >> 1), column = j * 8 + (lane & 3) * 2 + (e & 1);
          const float p =
              visible(shape, positions[column], key) ? probability(s[j][e], factor, shifts[column]) : 0.0f;
          s[j][e] = p;
          dp[j][e] = p * (dp[j][e] - deltas[column]) * shape.scale;
        }
      accumulate(gradV, s, tileDy);
      accumulate(gradK, dp, tileQ);
    }
  }
  scalar *toK[2], *toV[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const i64 at = (((i64)batch * shape.tk + low + 8 * r) * shape.kvHeads + kvHead) * shape.width;
    toK[r] = low + 8 * r < shape.tk ? dk + at : nullptr;
    toV[r] = low + 8 * r < shape.tk ? dv + at : nullptr;
  }
  store_rows(gradK, toK[0], toK[1], shape.width);
  store_rows(gradV, toV[0], toV[1], shape.width);
}
