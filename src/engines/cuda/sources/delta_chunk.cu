// The gated delta rule, chunkwise on tensor cores (Yang et al., arXiv 2412.06464, section 3.3), with a float32 state. With G the sum
// of log decays since the chunk's start, inclusive, and S the state before it, position i writes n_i to its key, where
//   N = T β (V - e^G K S),   T = (I + A)⁻¹,   A_ij = β_i (k_i · k_j) e^{G_i−G_j} below the diagonal;
// then O = e^G Q S + ((Q Kᵀ) ∘ D) N and S' = e^{G_C} S + (e^{G_C−G} K)ᵀ N. Two passes: what does not depend on the state, T β V
// and T β e^G K (chunks in parallel, T in float32), and the chunks of a head one after the other.
#include "retention.cuh"

// Value columns of a block of the second pass.
#define VALUES (HEAD < 64 ? HEAD : 64)
#define VALUE_PITCH (VALUES + 8)

// targets = T β V and readers = T β e^G K of a chunk, [rows, width] in storage, widths of HEAD and of whole blocks of HEAD. Grid
// (chunks, heads, batch).
KERNEL __launch_bounds__(THREADS) delta_solve(const scalar* k, const scalar* v, const float* logDecay, const float* beta,
                                              scalar* readers, scalar* targets, const Shape s, float keyScale) {
  scalar *tileK = tiles, *tileV = tileK + ROWS * PITCH;
  float* inverse = (float*)(tileV + ROWS * PITCH);  // rows of CHUNK + 1
  __shared__ float sums[CHUNK], betas[CHUNK], system[CHUNK][CHUNK + 1];
  const int chunk = blockIdx.x, head = blockIdx.y, batch = blockIdx.z, first = chunk * CHUNK;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const i64 at = (((i64)batch * s.heads + head) * s.chunks + chunk) * CHUNK;
  load_tile(tileK, k, s, batch, head, 1, first, s.keyWidth, s.keyPitch);
  for (int i = threadIdx.x; i < CHUNK; i += THREADS)
    betas[i] = first + i < s.time ? beta[((i64)batch * s.time + first + i) * s.heads + head] : 0.0f;
  sum_decays(sums, logDecay, s, batch, head, first);
  float p[ROWS / 8][4];
  score<HEAD>(p, tileK, warp * 16, tileK);
  apply_decay(p, sums, 0, 0, false, keyScale * keyScale);
  const auto row_of = [&](int e) { return warp * 16 + (lane >> 2) + 8 * (e >> 1); };
  const auto column_of = [&](int j, int e) { return j * 8 + (lane & 3) * 2 + (e & 1); };
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
      for (int j = column; j < i; j++) x -= system[i][j] * inverse[j * (CHUNK + 1) + column];
      inverse[i * (CHUNK + 1) + column] = x;
    }
  }
  __syncthreads();
  // T times `weights` of columns, times a tile.
  const auto product = [&](const scalar* tile, bool decays, scalar* to, int width) {
    float o[HEAD / 8][4] = {};
#pragma unroll
    for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int column = column_of(j, e);
        const float weight = decays ? betas[column] * keyScale * __expf(sums[column]) : betas[column];
        p[j][e] = inverse[row_of(e) * (CHUNK + 1) + column] * weight;
      }
    accumulate(o, p, tile);
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e += 2) *(u32*)(to + (i64)row_of(e) * width + column_of(j, e)) = pack2(o[j][e], o[j][e + 1]);
  };
  product(tileK, true, readers + at * HEAD, HEAD);
  const int width = (s.valueWidth + HEAD - 1) / HEAD * HEAD;
  for (int offset = 0; offset < width; offset += HEAD) {
    __syncthreads();
    load_tile(tileV, v + offset, s, batch, head, 1, first, min(HEAD, s.valueWidth - offset), s.valuePitch);
    __syncthreads();
    product(tileV, false, targets + at * width + offset, width);
  }
}

// Grid (blocks of VALUES columns, heads, batch). `state` may be null (zeros).
KERNEL __launch_bounds__(THREADS) delta_chunks(const scalar* q, const scalar* k, const float* logDecay, const scalar* readers,
                                               const scalar* targets, const float* state, scalar* out, float* last,
                                               const Shape s, float queryScale, float keyScale) {
  scalar *tileQ = tiles, *tileK = tileQ + ROWS * PITCH, *tileW = tileK + ROWS * PITCH, *tileS = tileW + ROWS * PITCH;
  scalar *tileN = tileS + HEAD * VALUE_PITCH, *tileE = tileN + ROWS * VALUE_PITCH;  // what is written, and as much as reaches the end
  __shared__ float sums[CHUNK];
  constexpr int MINE = (STEPS + 3) / 4, COUNT = VALUES / 8;  // 16-row tiles of the state that a warp holds
  const int head = blockIdx.y, batch = blockIdx.z, offset = blockIdx.x * VALUES;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int width = (s.valueWidth + HEAD - 1) / HEAD * HEAD;
  const i64 unit = (i64)batch * s.heads + head;
  // Rows of this thread in a 16-row tile, and its columns.
  const int low = lane >> 2, pair = (lane & 3) * 2;
  float held[MINE][COUNT][4];
  const auto store_state = [&] {
#pragma unroll
    for (int m = 0; m < MINE; m++)
#pragma unroll
      for (int j = 0; j < COUNT; j++)
#pragma unroll
        for (int e = 0; e < 4; e += 2)
          if (warp + 4 * m < STEPS)
            *(u32*)(tileS + ((warp + 4 * m) * 16 + low + 4 * e) * VALUE_PITCH + j * 8 + pair) = pack2(held[m][j][e], held[m][j][e + 1]);
  };
  const auto place_of = [&](int m, int j, int e) {
    const int row = (warp + 4 * m) * 16 + low + 8 * (e >> 1), column = offset + j * 8 + pair + (e & 1);
    return row < s.keyWidth && column < s.valueWidth ? (unit * s.keyWidth + row) * s.valueWidth + column : -1;
  };
#pragma unroll
  for (int m = 0; m < MINE; m++)
#pragma unroll
    for (int j = 0; j < COUNT; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const i64 place = place_of(m, j, e);
        held[m][j][e] = state && place >= 0 ? state[place] : 0.0f;
      }
  store_state();
  for (int chunk = 0; chunk < s.chunks; chunk++) {
    const int first = chunk * CHUNK, row = warp * 16 + low;
    const i64 at = (unit * s.chunks + chunk) * CHUNK;
    load_tile(tileQ, q, s, batch, head, 1, first, s.keyWidth, s.keyPitch);
    load_tile(tileK, k, s, batch, head, 1, first, s.keyWidth, s.keyPitch);
    for (int i = threadIdx.x; i < ROWS * HEAD / 8; i += THREADS)
      *(Wide*)(tileW + i / (HEAD / 8) * PITCH + i % (HEAD / 8) * 8) = ((const Wide*)(readers + at * HEAD))[i];
    sum_decays(sums, logDecay, s, batch, head, first);
    float n[COUNT][4] = {}, o[COUNT][4] = {};
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
      u32 reader[4], query[4], right[4];
      load_a(reader, tileW, PITCH, warp * 16, i * 16);
      load_a(query, tileQ, PITCH, warp * 16, i * 16);
#pragma unroll
      for (int j = 0; j < COUNT; j += 2) {
        load_b_trans(right, tileS, VALUE_PITCH, j * 8, i * 16);
        mma(n[j], reader, right[0], right[1]);
        mma(n[j + 1], reader, right[2], right[3]);
        mma(o[j], query, right[0], right[1]);
        mma(o[j + 1], query, right[2], right[3]);
      }
    }
    const float end = sums[CHUNK - 1];
#pragma unroll
    for (int e = 0; e < 4; e += 2) {
      const int r = row + 4 * e;
      const float decay = __expf(sums[r]) * queryScale, rest = __expf(end - sums[r]) * keyScale;
#pragma unroll
      for (int j = 0; j < COUNT; j++) {
        const Pack<scalar, 2> target = *(const Pack<scalar, 2>*)(targets + (at + r) * width + offset + j * 8 + pair);
        const float x = to_float(target.v[0]) - n[j][e], y = to_float(target.v[1]) - n[j][e + 1];
        *(u32*)(tileN + r * VALUE_PITCH + j * 8 + pair) = pack2(x, y);
        *(u32*)(tileE + r * VALUE_PITCH + j * 8 + pair) = pack2(x * rest, y * rest);
        o[j][e] *= decay;
        o[j][e + 1] *= decay;
      }
    }
    __syncthreads();
    float p[ROWS / 8][4];
    score<HEAD>(p, tileQ, warp * 16, tileK);
    apply_decay(p, sums, 0, 0, false, queryScale * keyScale);
    accumulate(o, p, tileN);
#pragma unroll
    for (int j = 0; j < COUNT; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int t = first + row + 8 * (e >> 1), column = offset + j * 8 + pair + (e & 1);
        if (t < s.time && column < s.valueWidth)
          out[(((i64)batch * s.time + t) * s.heads + head) * s.valuePitch + column] = from_float(o[j][e]);
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
        u32 left[4], right[4];
        load_a_trans(left, tileK, PITCH, (warp + 4 * m) * 16, i * 16);
#pragma unroll
        for (int j = 0; j < COUNT; j += 2) {
          load_b_trans(right, tileE, VALUE_PITCH, j * 8, i * 16);
          mma(held[m][j], left, right[0], right[1]);
          mma(held[m][j + 1], left, right[2], right[3]);
        }
      }
    }
    store_state();
    __syncthreads();
  }
#pragma unroll
  for (int m = 0; m < MINE; m++)
#pragma unroll
    for (int j = 0; j < COUNT; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const i64 place = place_of(m, j, e);
        if (place >= 0) last[place] = held[m][j][e];
      }
}
