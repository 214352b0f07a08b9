// A warp attends to KEYS keys. A lane decodes a quarter of two keys, or an eighth of four values, in its registers, as operands of the
// tensor cores: keys times queries, then values times weights, both transposed, so that few queries make narrow operands. Channels
// go through a product in the order in which they come. Scales of keys are taken into the queries of each group, scales of values
// into the weights.
//
// A lane has `low` and `part`: lane = 4 low + part. As operands, queries are those of row `low` (and 8 more); results are those of
// rows 2 part and 2 part + 1 (and 8 more).
#pragma once
#include "coded.cuh"

// Weights may grow to 2^8 before their rows are scaled to a new peak.
#define HEADROOM 8.0f
#define ONES 0x3f803f80u  // two of bfloat16

// Of 8 N queries.
template <int N>
struct State {
  float o[N][HEAD / 16][4], ones[N][4];  // ones: what a channel of ones would get
  float peak[N][2], sum[N][2], extra[N][2];  // extra: what all channels of a row lack
};
// The queries of a group: operands, and what keys take them to: score = times · product + base.
template <int N>
struct Queries {
  u32 scaled[N][HEAD / 8];
  float base[N][2], times;
};

// `q`: a quarter of each query as it is.
template <int TYPE, int N>
DEVICE void scale_queries(Queries<N>& to, const u32 (&q)[N][HEAD / 8], const u32* scales, float factor) {
  const int part = threadIdx.x & 3;
  const auto at = [](const u32* words, int i) { return i & 1 ? high_of(words[i / 2]) : low_of(words[i / 2]); };
  const auto half_at = [](const u32* words, int i) { return half_to_float((u16)(i & 1 ? words[i / 2] >> 16 : words[i / 2])); };
  constexpr bool STEPS = TYPE == INT8 || TYPE == INT4;
  const u32 one[4] = {ONES, ONES, ONES, ONES};
  u32 steps[HEAD / 8], minima[HEAD / 8];
  if (STEPS) {
    load_words(steps, scales + part * (HEAD / 8));
    load_words(minima, scales + HEAD / 2 + part * (HEAD / 8));
  }
  float centre[N] = {};
#pragma unroll
  for (int r = 0; r < HEAD / 8; r++) {
    const int first = key_channel<TYPE>(0, r, 0), second = key_channel<TYPE>(0, r, 1);
    float step[2] = {1.0f, 1.0f}, middle[2];
    if (STEPS) {
      step[0] = half_at(steps, first), step[1] = half_at(steps, second);
      middle[0] = half_at(minima, first) + centre_of(TYPE) * step[0];
      middle[1] = half_at(minima, second) + centre_of(TYPE) * step[1];
    }
#pragma unroll
    for (int n = 0; n < N; n++) {
      const float x = at(q[n], first), y = at(q[n], second);
      to.scaled[n][r] = pack2(x * step[0], y * step[1]);
      if (STEPS) centre[n] += x * middle[0] + y * middle[1];
    }
  }
  to.times = TYPE == FLOAT8 ? factor * __uint_as_float(scales[0]) : factor;
#pragma unroll
  for (int n = 0; n < N; n++) {
    float surplus[4] = {};
    if (TYPE == INT4) {
#pragma unroll
      for (int k = 0; k < HEAD / 8; k += 2) mma(surplus, one, to.scaled[n][k], to.scaled[n][k + 1]);
    }
    centre[n] += __shfl_xor_sync(0xffffffffu, centre[n], 1);
    centre[n] += __shfl_xor_sync(0xffffffffu, centre[n], 2);
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const float sum = __shfl_sync(0xffffffffu, centre[n], part * 8 + i * 4);
      to.base[n][i] = STEPS ? (sum - surplus_of(TYPE) * surplus[i]) * factor : 0.0f;
    }
  }
}

// Scores of the keys of a stage; `seen(key, row)` says which count, if `MASKED`. Rows of keys and values from `rows` on repeat the
// last one.
template <int TYPE, int N, bool MASKED, typename Seen>
DEVICE void attend_keys(State<N>& st, const Queries<N>& queries, const u32* keys, int keyPitch, const u32* values, int valuePitch,
                        const u32* scales, float weight, int rows, const Seen& seen) {
  constexpr int WORDS = words_of(TYPE), REGISTERS = HEAD / 8, TILES = KEYS / 16;
  constexpr bool STEPS = TYPE == INT8 || TYPE == INT4;
  const u32 one[4] = {ONES, ONES, ONES, ONES};
  const int lane = threadIdx.x & 31, low = lane >> 2, part = lane & 3;
  const auto row_of = [&](int row) { return TYPE == RAW ? min(row, rows - 1) : row; };
  float s[TILES][N][4] = {};
#pragma unroll
  for (int j = 0; j < TILES; j++) {
    u32 words[2][WORDS / 4], a[REGISTERS], b[REGISTERS];
#pragma unroll
    for (int i = 0; i < 2; i++) load_words(words[i], keys + row_of(j * 16 + i * 8 + low) * keyPitch + part * (WORDS / 4));
    decode_key<TYPE>(a, words[0]);
    decode_key<TYPE>(b, words[1]);
#pragma unroll
    for (int k = 0; k < REGISTERS; k += 2) {
      const u32 left[4] = {a[k], b[k], a[k + 1], b[k + 1]};
#pragma unroll
      for (int n = 0; n < N; n++) mma(s[j][n], left, queries.scaled[n][k], queries.scaled[n][k + 1]);
    }
  }
  float most[N][2];
  bool grows = false;
#pragma unroll
  for (int n = 0; n < N; n++)
#pragma unroll
    for (int i = 0; i < 2; i++) {
      most[n][i] = -INFINITE;
#pragma unroll
      for (int j = 0; j < TILES; j++)
#pragma unroll
        for (int e = i; e < 4; e += 2) {
          if (MASKED && !seen(j * 16 + e / 2 * 8 + low, n * 8 + part * 2 + i)) s[j][n][e] = -INFINITE;
          most[n][i] = fmaxf(most[n][i], s[j][n][e]);
        }
      most[n][i] = most[n][i] * queries.times + queries.base[n][i];
      grows |= most[n][i] > st.peak[n][i] + HEADROOM;
    }
  if (__any_sync(0xffffffffu, grows)) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        float top = fmaxf(st.peak[n][i], most[n][i]);
#pragma unroll
        for (int mask = 4; mask < 32; mask *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, mask));
        const float shrink = exp2_fast(st.peak[n][i] - (top == -INFINITE ? 0.0f : top));
        st.peak[n][i] = top;
        st.sum[n][i] *= shrink;
        st.extra[n][i] *= shrink;
        st.ones[n][i] *= shrink;
#pragma unroll
        for (int t = 0; t < REGISTERS / 2; t++) {
          st.o[n][t][i] *= shrink;
          st.o[n][t][i + 2] *= shrink;
        }
      }
  }
#pragma unroll
  for (int j = 0; j < TILES; j++) {
    u32 right[N][2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float scale = weight, middle = 0.0f;
      if (STEPS) {
        const u32 both = scales[j * 16 + half * 8 + low];
        scale = half_to_float((u16)both);
        middle = half_to_float((u16)(both >> 16)) + centre_of(TYPE) * scale;
      }
#pragma unroll
      for (int n = 0; n < N; n++) {
        float p[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const float shift = st.peak[n][i] == -INFINITE ? 0.0f : st.peak[n][i];
          const float x = exp2_fast(s[j][n][2 * half + i] * queries.times + (queries.base[n][i] - shift));
          st.sum[n][i] += x;
          if (STEPS) st.extra[n][i] += x * middle;
          p[i] = TYPE == RAW ? x : x * scale;
        }
        right[n][half] = transpose8(pack2(p[0], p[1]));
      }
    }
    u32 valueWords[4][value_words(TYPE)], a[REGISTERS], b[REGISTERS];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const u32* row = values + row_of(j * 16 + (i >> 1) * 8 + part * 2 + (i & 1)) * valuePitch;
      if (WORDS < 8) valueWords[i][0] = ((const u16*)row)[low];
      else load_words(valueWords[i], row + low * (WORDS / 8));
    }
    decode_values<TYPE>(a, valueWords[0], valueWords[1]);
    decode_values<TYPE>(b, valueWords[2], valueWords[3]);
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
      for (int t = 0; t < REGISTERS / 2; t++) {
        const u32 left[4] = {a[2 * t], a[2 * t + 1], b[2 * t], b[2 * t + 1]};
        mma(st.o[n][t], left, right[n][0], right[n][1]);
      }
      if (TYPE == INT4) mma(st.ones[n], one, right[n][0], right[n][1]);
    }
  }
}
