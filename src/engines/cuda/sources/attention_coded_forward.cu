// Attention of many queries over a compressed cache: tiles are decoded on their way into shared memory.
#include "coded.cuh"

#define THREADS (32 * WARPS)

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

#define KERNELS(name, TYPE)                                                                                             \
  KERNEL __launch_bounds__(THREADS) forward_##name(const scalar* q, const CodePage* pages, const Raw raw, scalar* out,  \
                                                   const Problem problem, int length) {                                 \
    forward_codes<TYPE>(q, pages, raw, out, problem, length);                                                           \
  }
KERNELS(float8, FLOAT8)
KERNELS(int8, INT8)
KERNELS(int4, INT4)
