// Attention over a compressed cache. A query sees its own group of 64 positions as computed (`Raw`) and earlier groups as coded.
//
// A few queries are bound by reading codes: a lane reads a quarter of a key, or an eighth of a value, at once, decodes it in its
// registers and hands it to the tensor cores; channels go through a product in the order in which they come. Scales of keys are
// taken into the queries of each group, scales of values into the weights. Many queries decode tiles on their way into shared
// memory.
#include "codes.cuh"

#define INFINITE __int_as_float(0x7f800000)
#define THREADS (32 * WARPS)

struct Problem {
  int tq, heads, kvHeads, pageSize;
  float scale;
};
// Keys and values as computed, [B, Hkv, rows, HEAD]; row 0 holds position `start`, or (a negative start) row p mod 2 groups holds
// position p.
struct Raw {
  const scalar* keys;
  const scalar* values;
  int rows, start;
};
DEVICE int raw_row(const Raw& raw, int position) {
  return raw.start < 0 ? position % (2 * GROUP) : position - raw.start;
}

struct State {
  float o[HEAD / 8][4], peak[2], sum[2], extra[2];  // extra: what all channels of a row lack
};

// Takes a group into the state of a warp. This lane: rows low and low + 8 of 16, keys or positions by its place in a quad.
template <int TYPE>
DEVICE void attend_group(State& st, const float* queries, const u32* keys, const u32* values, const u32* keyScales,
                         const u32* valueScales, const int (&from)[2], const int (&to)[2], int first, int last,
                         float factor) {
  constexpr int WORDS = words_of(TYPE), REGISTERS = HEAD / 8;
  const int lane = threadIdx.x & 31, low = lane >> 2, part = lane & 3;
  const float* q[2] = {queries + low * (HEAD + 4), queries + (low + 8) * (HEAD + 4)};
  u32 query[2][REGISTERS];
  float base[2] = {0.0f, 0.0f};
  const u16* halves = (const u16*)keyScales;
#pragma unroll
  for (int r = 0; r < REGISTERS; r++) {
    float scale[2] = {1.0f, 1.0f}, minimum[2] = {0.0f, 0.0f};
    int channel[2];
#pragma unroll
    for (int e = 0; e < 2; e++) {
      channel[e] = key_channel<TYPE>(part, r, e);
      if (TYPE == INT8 || TYPE == INT4) {
        scale[e] = half_to_float(halves[channel[e]]);
        minimum[e] = half_to_float(halves[HEAD + channel[e]]);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const float x = q[i][channel[0]], y = q[i][channel[1]], u = x * scale[0], v = y * scale[1];
      query[i][r] = pack2(u, v);
      if (TYPE == INT8) base[i] += x * minimum[0] + y * minimum[1] + missing<TYPE>() * (u + v);
      // The product has 128 times the rounded numbers.
      if (TYPE == INT4)
        base[i] += x * minimum[0] + y * minimum[1] + missing<TYPE>() * (low_of(query[i][r]) + high_of(query[i][r]));
    }
  }
  if (TYPE == INT8 || TYPE == INT4) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      base[i] += __shfl_xor_sync(0xffffffffu, base[i], 1);
      base[i] += __shfl_xor_sync(0xffffffffu, base[i], 2);
    }
  }
  const float times = TYPE == FLOAT8 ? factor * __uint_as_float(keyScales[0]) : factor;
  const float weight = TYPE == FLOAT8 ? __uint_as_float(valueScales[0]) : 1.0f;

#pragma unroll 1
  for (int tile = 0; tile < GROUP && first + tile <= last; tile += 16) {
    u32 keyWords[2][WORDS / 4], valueWords[4][value_words(TYPE)], scales[4];
#pragma unroll
    for (int n = 0; n < 2; n++) {
      const int row = min(tile + n * 8 + low, last - first);
      load_words(keyWords[n], keys + row * WORDS + part * (WORDS / 4));
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int row = min(tile + (i >> 1) * 8 + part * 2 + (i & 1), last - first);
      if (WORDS < 8) valueWords[i][0] = ((const u16*)(values + row * WORDS))[low];
      else load_words(valueWords[i], values + row * WORDS + low * (WORDS / 8));
      scales[i] = TYPE == INT8 || TYPE == INT4 ? valueScales[row] : 0;
    }
    float s[2][4] = {};
#pragma unroll
    for (int n = 0; n < 2; n++) {
      u32 right[REGISTERS];
      decode_key<TYPE>(right, keyWords[n]);
#pragma unroll
      for (int k = 0; k < REGISTERS; k += 2) {
        const u32 left[4] = {query[0][k], query[1][k], query[0][k + 1], query[1][k + 1]};
        mma(s[n], left, right[k], right[k + 1]);
      }
    }
    float top[2] = {st.peak[0], st.peak[1]};
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int i = e >> 1, key = first + tile + n * 8 + part * 2 + (e & 1);
        s[n][e] = key >= from[i] && key < to[i] ? (s[n][e] + base[i]) * times : -INFINITE;
        top[i] = fmaxf(top[i], s[n][e]);
      }
    float p[2][4];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      top[i] = fmaxf(top[i], __shfl_xor_sync(0xffffffffu, top[i], 1));
      top[i] = fmaxf(top[i], __shfl_xor_sync(0xffffffffu, top[i], 2));
      const float shift = top[i] == -INFINITE ? 0.0f : top[i];
      const float shrink = exp2_fast(st.peak[i] - shift);
      st.peak[i] = top[i];
      st.sum[i] *= shrink;
      st.extra[i] *= shrink;
#pragma unroll
      for (int t = 0; t < REGISTERS; t++) {
        st.o[t][2 * i] *= shrink;
        st.o[t][2 * i + 1] *= shrink;
      }
#pragma unroll
      for (int n = 0; n < 2; n++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
          const float x = exp2_fast(s[n][2 * i + c] - shift);
          const u32 both = scales[2 * n + c];
          const float scaled = TYPE == INT8 || TYPE == INT4 ? x * half_to_float((u16)both) : x * weight;
          p[n][2 * i + c] = scaled;
          st.sum[i] += x;
          if (TYPE == INT8 || TYPE == INT4) st.extra[i] += x * half_to_float((u16)(both >> 16));
          if (TYPE == INT8) st.extra[i] += missing<TYPE>() * scaled;
        }
    }
    u32 left[4];
    pack_a(left, p[0], p[1]);
    if (TYPE == INT4) {
#pragma unroll
      for (int i = 0; i < 4; i++) st.extra[i & 1] += missing<TYPE>() * (low_of(left[i]) + high_of(left[i]));
    }
    u32 right[2][REGISTERS];
    decode_values<TYPE>(right[0], valueWords[0], valueWords[1]);
    decode_values<TYPE>(right[1], valueWords[2], valueWords[3]);
#pragma unroll
    for (int t = 0; t < REGISTERS; t++) mma(st.o[t], left, right[0][t], right[1][t]);
  }
}

// Grid (splits, kvHeads, batch), the first split for the keys as computed; partial as of attention_split. A recorded launch has
// splits that get none: behind all others, so that they do not change the order in which splits are joined.
template <int TYPE>
DEVICE void split_codes(const scalar* q, const CodePage* pages, const Raw& raw, float* partial, const Problem& problem,
                        int tk, int most) {
  extern __shared__ __align__(16) float shared[];
  __shared__ float peaks[WARPS][MOST], sums[WARPS][MOST], extras[WARPS][MOST];
  const int split = blockIdx.x, kvHead = blockIdx.y, batch = blockIdx.z, splits = gridDim.x;
  const int group = problem.heads / problem.kvHeads, rows = group * problem.tq;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, low = lane >> 2, part = lane & 3;
  const i64 head = (i64)batch * problem.kvHeads + kvHead;
  for (int i = threadIdx.x; i < MOST * HEAD; i += THREADS) {
    const int row = i / HEAD, query = row / group, from = kvHead * group + row % group;
    const i64 at = (((i64)batch * problem.tq + query) * problem.heads + from) * HEAD + i % HEAD;
    shared[row * (HEAD + 4) + i % HEAD] = row < rows ? to_float(q[at]) : 0.0f;
  }
  __syncthreads();
  const int newest = (tk - 1) / GROUP, pageGroups = problem.pageSize / GROUP;
  int position[2], own[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int row = low + 8 * i;
    position[i] = row < rows ? tk - problem.tq + row / group : -1;
    own[i] = row < rows ? position[i] / GROUP * GROUP : 0;
  }
  const float factor = problem.scale * LOG2_E;
  State st = {};
  st.peak[0] = st.peak[1] = -INFINITE;
  if (split > 0) {
    const int perSplit = max(LEAST / GROUP, (newest + most - 1) / most);
    const int end = min(newest, split * perSplit);
    const int none[2] = {0, 0};
    for (int g = (split - 1) * perSplit + warp; g < end; g += WARPS) {
      const CodePage page = pages[g / pageGroups];
      const i64 at = head * pageGroups + g % pageGroups;
      attend_group<TYPE>(st, shared, page.keyCodes + at * GROUP * words_of(TYPE),
                         page.valueCodes + at * GROUP * words_of(TYPE), page.keyScales + at * key_scales(TYPE),
                         page.valueScales + at * value_scales(TYPE), none, own, g * GROUP, g * GROUP + GROUP - 1, factor);
    }
  } else {
    const int end[2] = {position[0] + 1, position[1] + 1};
    for (int g = (tk - problem.tq) / GROUP + warp; g <= newest; g += WARPS) {
      const i64 at = (head * raw.rows + raw_row(raw, g * GROUP)) * words_of(RAW);
      attend_group<RAW>(st, shared, (const u32*)raw.keys + at, (const u32*)raw.values + at, nullptr, nullptr, own, end,
                        g * GROUP, min(tk - 1, g * GROUP + GROUP - 1), factor);
    }
  }
  __syncthreads();  // the queries make room
#pragma unroll
  for (int i = 0; i < 2; i++) {
#pragma unroll
    for (int mask = 1; mask < 4; mask *= 2) {
      st.sum[i] += __shfl_xor_sync(0xffffffffu, st.sum[i], mask);
      st.extra[i] += __shfl_xor_sync(0xffffffffu, st.extra[i], mask);
    }
    const int row = low + 8 * i;
    if (part == 0) peaks[warp][row] = st.peak[i], sums[warp][row] = st.sum[i], extras[warp][row] = st.extra[i];
#pragma unroll
    for (int t = 0; t < HEAD / 8; t++)
#pragma unroll
      for (int c = 0; c < 2; c++)
        shared[(warp * MOST + row) * HEAD + (part * 2 + c) * (HEAD / 8) + t] = st.o[t][2 * i + c];
  }
  __syncthreads();
  float* to = partial + (head * splits + split) * rows * (HEAD + 2);
  for (int i = threadIdx.x; i < rows * HEAD; i += THREADS) {
    const int row = i / HEAD, column = i % HEAD;
    float top = -INFINITE, total = 0.0f, value = 0.0f;
    for (int w = 0; w < WARPS; w++) top = fmaxf(top, peaks[w][row]);
    const float shift = top == -INFINITE ? 0.0f : top;
    for (int w = 0; w < WARPS; w++) {
      const float weight = exp2_fast(peaks[w][row] - shift);
      total += weight * sums[w][row];
      value += weight * (shared[(w * MOST + row) * HEAD + column] + extras[w][row]);
    }
    to[row * (HEAD + 2) + column] = value;
    if (column == 0) {
      to[row * (HEAD + 2) + HEAD] = top;
      to[row * (HEAD + 2) + HEAD + 1] = total;
    }
  }
}

// 64 rows as computed, or decoded, into a tile; those from `count` on are zeros.
template <int TYPE, bool VALUES>
DEVICE void load_codes(scalar* tile, const u32* codes, const u32* scales, int count) {
  constexpr int WORDS = words_of(TYPE), PER_WORD = 32 / bits_of(TYPE);
  const u16* halves = (const u16*)scales;
  for (int i = threadIdx.x; i < GROUP * WORDS; i += THREADS) {
    const int row = i / WORDS, first = i % WORDS * PER_WORD;
    const u32 word = row < count ? codes[i] : 0;
    scalar* to = tile + row * (HEAD + 8) + first;
#pragma unroll
    for (int k = 0; k < PER_WORD; k++) {
      const u32 code = (word >> (bits_of(TYPE) * k)) & ((1u << bits_of(TYPE)) - 1);
      if (TYPE == RAW) to[k].bits = (u16)code;
      else if (TYPE == FLOAT8) to[k] = from_float(float8_value(code) * __uint_as_float(scales[0]));
      else {
        const u32 scale = halves[VALUES ? 2 * row : first + k], minimum = halves[VALUES ? 2 * row + 1 : HEAD + first + k];
        const float steps = (float)(TYPE == INT8 ? code ^ 0x80 : code);
        to[k] = from_float(half_to_float((u16)minimum) + half_to_float((u16)scale) * steps);
      }
    }
  }
}

// Grid (groups of the queries, heads, batch): a block has the queries of one group.
template <int TYPE>
DEVICE void forward_codes(const scalar* q, const CodePage* pages, const Raw& raw, scalar* out, const Problem& problem,
                          int tk) {
  extern __shared__ __align__(16) float shared[];
  scalar *tileQ = (scalar*)shared, *tileK = tileQ + GROUP * (HEAD + 8), *tileV = tileK + GROUP * (HEAD + 8);
  const int batch = blockIdx.z, head = blockIdx.y, offset = tk - problem.tq;
  const int own = offset / GROUP + (gridDim.x - 1 - blockIdx.x), first = own * GROUP;
  const i64 kvHead = (i64)batch * problem.kvHeads + head / (problem.heads / problem.kvHeads);
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, pageGroups = problem.pageSize / GROUP;
  const int low = first + warp * 16 + (lane >> 2);  // positions of this thread's rows: low and low + 8
  for (int i = threadIdx.x; i < GROUP * HEAD; i += THREADS) {
    const int position = first + i / HEAD, query = position - offset;
    const i64 at = (((i64)batch * problem.tq + query) * problem.heads + head) * HEAD + i % HEAD;
    scalar zero = {};
    tileQ[i / HEAD * (HEAD + 8) + i % HEAD] = query >= 0 && position < tk ? q[at] : zero;
  }
  const float factor = problem.scale * LOG2_E;
  float o[HEAD / 8][4] = {}, peak[2] = {-INFINITE, -INFINITE}, sum[2] = {0.0f, 0.0f};
  for (int g = 0; g <= own; g++) {
    __syncthreads();
    if (g < own) {
      const CodePage page = pages[g / pageGroups];
      const i64 at = kvHead * pageGroups + g % pageGroups;
      load_codes<TYPE, false>(tileK, page.keyCodes + at * GROUP * words_of(TYPE), page.keyScales + at * key_scales(TYPE), GROUP);
      load_codes<TYPE, true>(tileV, page.valueCodes + at * GROUP * words_of(TYPE), page.valueScales + at * value_scales(TYPE), GROUP);
    } else {
      const i64 at = (kvHead * raw.rows + raw_row(raw, first)) * words_of(RAW);
      const int count = min(GROUP, tk - first);
      load_codes<RAW, false>(tileK, (const u32*)raw.keys + at, nullptr, count);
      load_codes<RAW, true>(tileV, (const u32*)raw.values + at, nullptr, count);
    }
    __syncthreads();
    float s[GROUP / 8][4];
    score<HEAD>(s, tileQ, warp * 16, tileK);
    float top[2] = {peak[0], peak[1]};
#pragma unroll
    for (int j = 0; j < GROUP / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int key = g * GROUP + j * 8 + (lane & 3) * 2 + (e & 1);
        s[j][e] = key <= low + 8 * (e >> 1) && key < tk ? s[j][e] * factor : -INFINITE;
        top[e >> 1] = fmaxf(top[e >> 1], s[j][e]);
      }
#pragma unroll
    for (int r = 0; r < 2; r++) {
      top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 1));
      top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 2));
      const float shrink = exp2_fast(peak[r] - top[r]);
      sum[r] *= shrink;
      peak[r] = top[r];
#pragma unroll
      for (int j = 0; j < HEAD / 8; j++) {
        o[j][2 * r] *= shrink;
        o[j][2 * r + 1] *= shrink;
      }
#pragma unroll
      for (int j = 0; j < GROUP / 8; j++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
          s[j][2 * r + c] = exp2_fast(s[j][2 * r + c] - top[r]);
          sum[r] += s[j][2 * r + c];
        }
    }
    accumulate(o, s, tileV);
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
    const int position = low + 8 * r, query = position - offset;
    if (query < 0 || position >= tk) continue;
    scalar* to = out + (((i64)batch * problem.tq + query) * problem.heads + head) * HEAD;
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
      for (int c = 0; c < 2; c++) to[j * 8 + (lane & 3) * 2 + c] = from_float(o[j][2 * r + c] / sum[r]);
  }
}

#define KERNELS(name, TYPE)                                                                                               \
  KERNEL __launch_bounds__(THREADS) split_##name(const scalar* q, const CodePage* pages, const Raw raw, float* partial,   \
                                                 const Problem problem, const int* origin, int length, int most) {        \
    griddep_sync();                                                                                                       \
    split_codes<TYPE>(q, pages, raw, partial, problem, moving(origin, length), most);                                     \
  }                                                                                                                       \
  KERNEL __launch_bounds__(THREADS) forward_##name(const scalar* q, const CodePage* pages, const Raw raw, scalar* out,    \
                                                   const Problem problem, int length) {                                   \
    griddep_sync();                                                                                                       \
    forward_codes<TYPE>(q, pages, raw, out, problem, length);                                                             \
  }
KERNELS(float8, FLOAT8)
KERNELS(int8, INT8)
KERNELS(int4, INT4)
