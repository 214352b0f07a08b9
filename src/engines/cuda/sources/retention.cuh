// What gated retention and its gradient share: tiles of positions and states, decays within a chunk, and the rows that queries
// make of both. HEAD: larger width rounded up to 32, 64, 128.
#pragma once
#include "common.cuh"

#ifndef HEAD
#define HEAD 128
#endif
#define PITCH (HEAD + 8)
#define STEPS (HEAD / 16)

extern __shared__ __align__(16) scalar tiles[];

// Widths are at most HEAD. Wider heads are cut: the operation is linear in blocks of key columns (outputs add up) and
// independent in blocks of value columns, so a launch takes one block of each. A pitch is the whole head's width. `group` heads
// of values share a query and a key; gradients of both are of every head.
struct Shape {
  int time, heads, keyWidth, valueWidth, chunks, keyPitch, valuePitch, group;
  float scale;  // (whole key width)^-½
};

// Rows `first`, … of [B,T,H/group,width] into a tile, times `weights` (one a row) if given; zeros beyond time and width.
template <int TILE_COLUMNS = HEAD>
DEVICE void load_tile(scalar* tile, const scalar* x, const Shape& s, int batch, int head, int group, int first, int width,
                      int pitch, const float* weights = nullptr) {
  const int heads = s.heads / group;
  head /= group;
  constexpr int packs = TILE_COLUMNS / 8;
  for (int i = threadIdx.x; i < ROWS * packs; i += THREADS) {
    const int row = i / packs, column = i % packs * 8, t = first + row;
    Wide p = {};
    if (t < s.time && column < width) {
      const scalar* from = x + (((i64)batch * s.time + t) * heads + head) * pitch + column;
      if ((width & 7) == 0 && (pitch & 7) == 0) {
        p = *(const Wide*)from;
      } else {
        for (int j = 0; j < 8 && column + j < width; j++) p.v[j] = from[j];
      }
      if (weights) {
        const float weight = weights[row];
#pragma unroll
        for (int j = 0; j < 8; j++) p.v[j] = from_float(to_float(p.v[j]) * weight);
      }
    }
    *(Wide*)(tile + row * (TILE_COLUMNS + 8) + column) = p;
  }
}
// A chunk's state, [HEAD, HEAD] in storage, into a tile of HEAD rows.
DEVICE void load_state(scalar* tile, const scalar* state) {
  for (int i = threadIdx.x; i < HEAD * HEAD / 8; i += THREADS) {
    const int row = i / (HEAD / 8), column = i % (HEAD / 8) * 8;
    *(Wide*)(tile + row * PITCH + column) = ((const Wide*)state)[i];
  }
}
// sums[t] = Σ_{u ≤ t} logDecay of the chunk from `first` on; by the first warp, followed by a barrier. -Infinity, which
// forgets everything, counts as LEAST_LOG_DECAY, so that differences of sums are no NaN; a NaN stays one.
DEVICE void sum_decays(float* sums, const float* logDecay, const Shape& s, int batch, int head, int first) {
  if (threadIdx.x < 32) {
    float carried = 0.0f;
    for (int start = 0; start < CHUNK; start += 32) {
      const int t = first + start + threadIdx.x;
      float x = t < s.time ? logDecay[((i64)batch * s.time + t) * s.heads + head] : 0.0f;
      x = x < LEAST_LOG_DECAY ? LEAST_LOG_DECAY : x;
      for (int offset = 1; offset < 32; offset <<= 1) {
        const float before = __shfl_up_sync(0xffffffffu, x, offset);
        if (threadIdx.x >= offset) x += before;
      }
      sums[start + threadIdx.x] = carried + x;
      carried += __shfl_sync(0xffffffffu, x, 31);
    }
  }
  __syncthreads();
}

// o[16, HEAD] += rows of a · m, or · mᵀ; m is a state tile
template <bool TURNED>
DEVICE void through_state(float (&o)[HEAD / 8][4], const scalar* a, int row, const scalar* m) {
#pragma unroll
  for (int k = 0; k < STEPS; k++) {
    u32 left[4], right[4];
    load_a(left, a, PITCH, row, k * 16);
#pragma unroll
    for (int j = 0; j < HEAD / 8; j += 2) {
      if (TURNED) load_b(right, m, PITCH, j * 8, k * 16);
      else load_b_trans(right, m, PITCH, j * 8, k * 16);
      mma(o[j], left, right[0], right[1]);
      mma(o[j + 1], left, right[2], right[3]);
    }
  }
}
DEVICE void scale_rows(float (&o)[HEAD / 8][4], float low, float high) {
#pragma unroll
  for (int j = 0; j < HEAD / 8; j++) {
    o[j][0] *= low;
    o[j][1] *= low;
    o[j][2] *= high;
    o[j][3] *= high;
  }
}
DEVICE void store_rows(float (&o)[HEAD / 8][4], scalar* out, const Shape& s, int batch, int head, int first, int width,
                       int pitch) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int t = first + warp * 16 + (lane >> 2) + 8 * r;
    if (t >= s.time) continue;
    scalar* to = out + (((i64)batch * s.time + t) * s.heads + head) * pitch;
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++) {
      const int column = j * 8 + (lane & 3) * 2;
      if (((width | pitch) & 1) == 0) {
        if (column < width) *(u32*)(to + column) = pack2(o[j][2 * r], o[j][2 * r + 1]);
      } else {
        if (column < width) to[column] = from_float(o[j][2 * r]);
        if (column + 1 < width) to[column + 1] = from_float(o[j][2 * r + 1]);
      }
    }
  }
}
// dots[b,t,h] = Σ over the width of accumulators · the tile's row: before rounding, for the gradient of the decay.
DEVICE void store_dots(float (&o)[HEAD / 8][4], const scalar* tile, float* dots, const Shape& s, int batch, int head,
                       int first) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int row = warp * 16 + (lane >> 2) + 8 * r;
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
      for (int c = 0; c < 2; c++) sum += o[j][2 * r + c] * to_float(tile[row * PITCH + j * 8 + (lane & 3) * 2 + c]);
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if ((lane & 3) == 0 && first + row < s.time) dots[((i64)batch * s.time + first + row) * s.heads + head] = sum;
  }
}
// Decay between positions of a chunk, 0 where the key is later: row i, column j of tiles at `rowStart`, `columnStart`.
template <int COUNT>
DEVICE void apply_decay(float (&p)[COUNT][4], const float* sums, int rowStart, int columnStart, bool turned, float scale) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (int j = 0; j < COUNT; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int row = rowStart + warp * 16 + (lane >> 2) + 8 * (e >> 1);
      const int column = columnStart + j * 8 + (lane & 3) * 2 + (e & 1);
      const int i = turned ? column : row, k = turned ? row : column;
      p[j][e] = k <= i ? p[j][e] * scale * __expf(sums[i] - sums[k]) : 0.0f;
    }
}

// Grid (tiles of 64 positions, heads, batch). Forward: a = q, b = k, c = v, states = S, factor Dk^-½ and the result is
// the output. Backward: a = dOutput, b = v, c = k gives dq; `dots` receives q·dq.
template <bool BACKWARD>
DEVICE void rows_of(const scalar* a, const scalar* b, const scalar* c, const scalar* q, const float* logDecay,
                    const scalar* states, scalar* out, float* dots, const Shape& s) {
  scalar *tileA = tiles, *tileB = tileA + ROWS * PITCH, *tileC = tileB + ROWS * PITCH, *tileS = tileC + ROWS * PITCH;
  __shared__ float sums[CHUNK];
  const int head = blockIdx.y, batch = blockIdx.z, first = blockIdx.x * ROWS;
  const int chunk = first / CHUNK, inside = first % CHUNK;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int widthA = BACKWARD ? s.valueWidth : s.keyWidth, widthC = BACKWARD ? s.keyWidth : s.valueWidth;
  const int pitchA = BACKWARD ? s.valuePitch : s.keyPitch, pitchC = BACKWARD ? s.keyPitch : s.valuePitch;
  const int groupA = BACKWARD ? 1 : s.group, groupC = BACKWARD ? s.group : 1;
  load_tile(tileA, a, s, batch, head, groupA, first, widthA, pitchA);
  load_state(tileS, states + (((i64)batch * s.heads + head) * s.chunks + chunk) * HEAD * HEAD);
  sum_decays(sums, logDecay, s, batch, head, chunk * CHUNK);
  const float scale = s.scale;
  float o[HEAD / 8][4] = {};
  through_state<BACKWARD>(o, tileA, warp * 16, tileS);
  const int row = inside + warp * 16 + (lane >> 2);
  scale_rows(o, __expf(sums[row]), __expf(sums[row + 8]));
  for (int start = 0; start <= inside; start += ROWS) {
    __syncthreads();
    load_tile(tileB, b, s, batch, head, groupA, chunk * CHUNK + start, widthA, pitchA);
    load_tile(tileC, c, s, batch, head, groupC, chunk * CHUNK + start, widthC, pitchC);
    __syncthreads();
    float p[ROWS / 8][4];
    score<HEAD>(p, tileA, warp * 16, tileB);
    apply_decay(p, sums, inside, start, false, scale);
    accumulate(o, p, tileC);
  }
  if (BACKWARD) {
    __syncthreads();
    load_tile(tileB, q, s, batch, head, groupC, first, widthC, pitchC);
    __syncthreads();
    store_dots(o, tileB, dots, s, batch, head, first);
  }
  store_rows(o, out, s, batch, head, first, widthC, pitchC);
}
