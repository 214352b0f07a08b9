// What the chunkwise gated delta rule and its gradient share (formulas: delta_chunk.cu, delta_grad.cu): the triangular system of a
// chunk, and the pass over the chunks of a head.
#pragma once
#include "retention.cuh"

#define SYSTEM_PITCH (CHUNK + 1)
// Value columns of a block that goes from chunk to chunk.
#define VALUES (HEAD < 64 ? HEAD : 64)
#define VALUE_PITCH (VALUES + 8)

// Place of a thread's element e in the tile j of 8 columns, in products of 64 rows.
DEVICE int row_of(int e) { return (threadIdx.x >> 5) * 16 + ((threadIdx.x & 31) >> 2) + 8 * (e >> 1); }
DEVICE int column_of(int j, int e) { return j * 8 + (threadIdx.x & 3) * 2 + (e & 1); }

// Strengths of a chunk, 0 beyond the sequence; seen by others after a barrier.
DEVICE void load_betas(float* betas, const float* beta, const Shape& s, int batch, int head, int first) {
  for (int i = threadIdx.x; i < CHUNK; i += THREADS)
    betas[i] = first + i < s.time ? beta[((i64)batch * s.time + first + i) * s.heads + head] : 0.0f;
}
// T = (I + A)⁻¹ of a chunk, in float32; followed by a barrier.
DEVICE void solve_chunk(float* inverse, const scalar* tileK, const float* sums, const float* betas, float keyScale) {
  __shared__ float system[CHUNK][SYSTEM_PITCH];
  float p[ROWS / 8][4];
  score<HEAD>(p, tileK, (threadIdx.x >> 5) * 16, tileK);
  apply_decay(p, sums, 0, 0, false, keyScale * keyScale);
#pragma unroll
  for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) system[row_of(e)][column_of(j, e)] = betas[row_of(e)] * p[j][e];
  __syncthreads();
  // Column by column, a thread each.
  if (threadIdx.x < CHUNK) {
    const int column = threadIdx.x;
    for (int i = 0; i < CHUNK; i++) {
      float x = i == column ? 1.0f : 0.0f;
      for (int j = column; j < i; j++) x -= system[i][j] * inverse[j * SYSTEM_PITCH + column];
      inverse[i * SYSTEM_PITCH + column] = x;
    }
  }
  __syncthreads();
}
// T, or Tᵀ, times the tile whose rows are weighted; to rows of `width` elements.
template <bool TURNED, typename Weight>
DEVICE void through_inverse(const float* inverse, const scalar* tile, scalar* to, int width, const Weight& weight_of) {
  float o[HEAD / 8][4] = {}, p[ROWS / 8][4];
#pragma unroll
  for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int row = row_of(e), column = column_of(j, e);
      p[j][e] = inverse[TURNED ? column * SYSTEM_PITCH + row : row * SYSTEM_PITCH + column] * weight_of(column);
    }
  accumulate(o, p, tile);
#pragma unroll
  for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e += 2) *(u32*)(to + (i64)row_of(e) * width + column_of(j, e)) = pack2(o[j][e], o[j][e + 1]);
}

// What a pass over the chunks of a head is for: outputs; or what the gradient needs, the states before the chunks and N; or, from the
// last chunk to the first, the gradients of both.
enum Pass { OUTPUTS, STATES, GRADIENTS };

// Operands of a pass. `first` may be null (zeros), `last` may be null. Where not OUTPUTS, the states after 0 to `chunks` chunks, or
// their gradients, go to `states`, [HEAD, HEAD] in storage, and N or dR takes the place of `targets`.
struct Passed {
  const scalar *q, *k, *dOut;
  const float *logDecay, *beta;
  const scalar* readers;
  scalar* targets;
  const float* first;
  scalar *out, *states;
  float* last;
  float queryScale, keyScale;
};

// Calls visit(element, place) for every element of a state that this thread holds: a warp has every fourth tile of 16 rows, and
// VALUES columns from `offset`. The place is -1 in the padding.
template <int MINE, int COUNT, typename Visit>
DEVICE void visit_state(float (&held)[MINE][COUNT][4], const Shape& s, i64 unit, int offset, const Visit& visit) {
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
#pragma unroll
  for (int m = 0; m < MINE; m++)
#pragma unroll
    for (int j = 0; j < COUNT; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int r = (warp + 4 * m) * 16 + (lane >> 2) + 8 * (e >> 1), column = offset + j * 8 + (lane & 3) * 2 + (e & 1);
        visit(held[m][j][e], r < s.keyWidth && column < s.valueWidth ? (unit * s.keyWidth + r) * s.valuePitch + column : -1);
      }
}

// X = targets - readers S, S' = e^{G_C} S + (e^{G_C−G} K)ᵀ X and, for OUTPUTS, O = e^G Q S + ((Q Kᵀ) ∘ D) X. For GRADIENTS, with
// dS' for S: X = targets + readers dS', dS = e^{G_C} dS' + (e^G Q)ᵀ dO - (e^G K)ᵀ β X. Grid (blocks of VALUES columns, heads, batch).
template <Pass PASS>
DEVICE void pass_over_chunks(const Passed& x, const Shape& s) {
  scalar *tileK = tiles, *tileW = tileK + ROWS * PITCH, *tileS = tileW + ROWS * PITCH;
  // What is written to keys, X as it is (or dO), and queries.
  scalar *tileE = tileS + HEAD * VALUE_PITCH, *tileX = tileE + ROWS * VALUE_PITCH, *tileQ = tileX + ROWS * VALUE_PITCH;
  __shared__ float sums[CHUNK], betas[CHUNK], weights[CHUNK];
  constexpr int MINE = (STEPS + 3) / 4, COUNT = VALUES / 8;  // 16-row tiles of the state that a warp holds
  const int head = blockIdx.y, batch = blockIdx.z, offset = blockIdx.x * VALUES;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int width = (s.valueWidth + HEAD - 1) / HEAD * HEAD;
  const i64 unit = (i64)batch * s.heads + head;
  // Rows of this thread in a 16-row tile, and its columns.
  const int low = lane >> 2, pair = (lane & 3) * 2, row = warp * 16 + low;
  float held[MINE][COUNT][4];
  const auto store_state = [&](int index) {
#pragma unroll
    for (int m = 0; m < MINE; m++)
#pragma unroll
      for (int j = 0; j < COUNT; j++)
#pragma unroll
        for (int e = 0; e < 4; e += 2) {
          if (warp + 4 * m >= STEPS) continue;
          const int r = (warp + 4 * m) * 16 + low + 4 * e, column = j * 8 + pair;
          const u32 both = pack2(held[m][j][e], held[m][j][e + 1]);
          *(u32*)(tileS + r * VALUE_PITCH + column) = both;
          if (PASS != OUTPUTS)
            *(u32*)(x.states + ((unit * (s.chunks + 1) + index) * HEAD + r) * HEAD + offset + column) = both;
        }
  };
  // Adds, to the 16-row tile m of the state, keysᵀ times values over 16 positions.
  const auto add_product = [&](int m, int i, const scalar* keys, const scalar* values) {
    u32 left[4], right[4];
    load_a_trans(left, keys, PITCH, (warp + 4 * m) * 16, i * 16);
#pragma unroll
    for (int j = 0; j < COUNT; j += 2) {
      load_b_trans(right, values, VALUE_PITCH, j * 8, i * 16);
      mma(held[m][j], left, right[0], right[1]);
      mma(held[m][j + 1], left, right[2], right[3]);
    }
  };
  visit_state(held, s, unit, offset, [&](float& element, i64 place) {
    element = x.first && place >= 0 ? x.first[place] : 0.0f;
  });
  store_state(PASS == GRADIENTS ? s.chunks : 0);
  for (int turn = 0; turn < s.chunks; turn++) {
    const int chunk = PASS == GRADIENTS ? s.chunks - 1 - turn : turn, first = chunk * CHUNK;
    const i64 at = (unit * s.chunks + chunk) * CHUNK;
    load_tile(tileK, x.k, s, batch, head, 1, first, s.keyWidth, s.keyPitch);
    if (PASS != STATES) load_tile(tileQ, x.q, s, batch, head, 1, first, s.keyWidth, s.keyPitch);
    for (int i = threadIdx.x; i < ROWS * HEAD / 8; i += THREADS)
      *(Wide*)(tileW + i / (HEAD / 8) * PITCH + i % (HEAD / 8) * 8) = ((const Wide*)(x.readers + at * HEAD))[i];
    if (PASS == GRADIENTS) load_betas(betas, x.beta, s, batch, head, first);
    sum_decays(sums, x.logDecay, s, batch, head, first);
    if (PASS == GRADIENTS) {
      for (int i = threadIdx.x; i < CHUNK; i += THREADS) weights[i] = x.queryScale * __expf(sums[i]);
      __syncthreads();
      load_tile<VALUES>(tileX, x.dOut + offset, s, batch, head, 1, first, s.valueWidth - offset, s.valuePitch, weights);
    }
    float n[COUNT][4] = {}, o[COUNT][4] = {};
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
      u32 reader[4], query[4], right[4];
      load_a(reader, tileW, PITCH, warp * 16, i * 16);
      if (PASS == OUTPUTS) load_a(query, tileQ, PITCH, warp * 16, i * 16);
#pragma unroll
      for (int j = 0; j < COUNT; j += 2) {
        load_b_trans(right, tileS, VALUE_PITCH, j * 8, i * 16);
        mma(n[j], reader, right[0], right[1]);
        mma(n[j + 1], reader, right[2], right[3]);
        if (PASS != OUTPUTS) continue;
        mma(o[j], query, right[0], right[1]);
        mma(o[j + 1], query, right[2], right[3]);
      }
    }
    const float end = sums[CHUNK - 1], sign = PASS == GRADIENTS ? 1.0f : -1.0f;
#pragma unroll
    for (int e = 0; e < 4; e += 2) {
      const int r = row + 4 * e;
      const float decay = __expf(sums[r]);
      const float rest = x.keyScale * (PASS == GRADIENTS ? -decay * betas[r] : __expf(end - sums[r]));
#pragma unroll
      for (int j = 0; j < COUNT; j++) {
        scalar* target = x.targets + (at + r) * width + offset + j * 8 + pair;
        const Pack<scalar, 2> given = *(const Pack<scalar, 2>*)target;
        const float a = to_float(given.v[0]) + sign * n[j][e], b = to_float(given.v[1]) + sign * n[j][e + 1];
        if (PASS == OUTPUTS) *(u32*)(tileX + r * VALUE_PITCH + j * 8 + pair) = pack2(a, b);
        else *(u32*)target = pack2(a, b);
        *(u32*)(tileE + r * VALUE_PITCH + j * 8 + pair) = pack2(a * rest, b * rest);
        o[j][e] *= decay * x.queryScale;
        o[j][e + 1] *= decay * x.queryScale;
      }
    }
    __syncthreads();
    if (PASS == OUTPUTS) {
      float p[ROWS / 8][4];
      score<HEAD>(p, tileQ, warp * 16, tileK);
      apply_decay(p, sums, 0, 0, false, x.queryScale * x.keyScale);
      accumulate(o, p, tileX);
#pragma unroll
      for (int j = 0; j < COUNT; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int t = first + row + 8 * (e >> 1), column = offset + j * 8 + pair + (e & 1);
          if (t < s.time && column < s.valueWidth)
            x.out[(((i64)batch * s.time + t) * s.heads + head) * s.valuePitch + column] = from_float(o[j][e]);
        }
    }
    const float across = __expf(end);
#pragma unroll
    for (int m = 0; m < MINE; m++) {
      if (warp + 4 * m >= STEPS) continue;
#pragma unroll
      for (int j = 0; j < COUNT; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) held[m][j][e] *= across;
#pragma unroll
      for (int i = 0; i < ROWS / 16; i++) {
        add_product(m, i, tileK, tileE);
        if (PASS == GRADIENTS) add_product(m, i, tileQ, tileX);
      }
    }
    store_state(PASS == GRADIENTS ? chunk : chunk + 1);
    __syncthreads();
  }
  if (x.last == nullptr) return;
  visit_state(held, s, unit, offset, [&](float& element, i64 place) {
    if (place >= 0) x.last[place] = element;
  });
}
