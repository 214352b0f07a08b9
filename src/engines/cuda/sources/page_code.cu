// Coding of keys and values: groups of 64 positions from rows as computed into a page; and a decoding step, which codes the group
// before it where it begins a new one.
#include "codes.cuh"

#define INFINITE __int_as_float(0x7f800000)

// The word of codes number `w` of a row.
template <int TYPE>
DEVICE u32 word_of(const scalar* row, int w, const float* scales, const float* minima, int each) {
  constexpr int PER_WORD = 32 / bits_of(TYPE);
  u32 word = 0;
  for (int i = 0; i < PER_WORD; i++) {
    const int channel = w * PER_WORD + i, at = each * channel;
    const float x = to_float(row[channel]);
    u32 code;
    if (TYPE == FLOAT8) code = float8_bits(x / scales[0]);
    else {
      const float levels = TYPE == INT8 ? 255.0f : 15.0f;
      const float steps = scales[at] > 0.0f ? (x - minima[at]) / scales[at] : 0.0f;
      code = (u32)fminf(levels, fmaxf(0.0f, floorf(steps + 0.5f)));
      if (TYPE == INT8) code ^= 0x80;
    }
    word |= code << (bits_of(TYPE) * i);
  }
  return word;
}

// A group of one head, by a block: rows [GROUP, HEAD] of keys and of values.
template <int TYPE>
DEVICE void encode(const scalar* keys, const scalar* values, const CodePage& page, i64 row, i64 group) {
  __shared__ float scales[HEAD > GROUP ? HEAD : GROUP], minima[HEAD > GROUP ? HEAD : GROUP];
  for (int kind = 0; kind < 2; kind++) {
    const scalar* rows = kind ? values : keys;
    u32* codes = (kind ? page.valueCodes : page.keyCodes) + row * words_of(TYPE);
    u32* to = kind ? page.valueScales + group * value_scales(TYPE) : page.keyScales + group * key_scales(TYPE);
    if (TYPE == FLOAT8) {
      float largest = 0.0f;
      for (int i = threadIdx.x; i < GROUP * HEAD; i += blockDim.x) {
        const float x = fabsf(to_float(rows[i]));
        largest = x <= largest ? largest : x;  // a NaN stays
      }
      // A NaN among the maxima would be lost.
      const bool bad = block_max(largest < INFINITE ? 0.0f : 1.0f) > 0.0f;
      const float factor = float8_factor(bad ? INFINITE : block_max(largest));
      if (threadIdx.x == 0) scales[0] = factor, to[0] = __float_as_uint(factor);
    } else {
      const int sets = kind ? GROUP : HEAD, size = kind ? HEAD : GROUP, step = kind ? 1 : HEAD, stride = kind ? HEAD : 1;
      for (int set = threadIdx.x; set < sets; set += blockDim.x) {
        float low = INFINITE, high = -INFINITE;
        bool bad = false;
        for (int i = 0; i < size; i++) {
          const float x = to_float(rows[set * stride + i * step]);
          bad |= !(x == x);
          low = fminf(low, x);
          high = fmaxf(high, x);
        }
        const u32 minimum = bad ? 0x7e00 : half_down(low);
        const u32 scale = bad ? 0x7e00 : half_step(high, half_value(minimum), TYPE == INT8 ? 255.0f : 15.0f);
        u16* halves = (u16*)to;
        halves[kind ? 2 * set : set] = (u16)scale;
        halves[kind ? 2 * set + 1 : HEAD + set] = (u16)minimum;
        scales[set] = half_value(scale);
        minima[set] = half_value(minimum);
      }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < GROUP * words_of(TYPE); i += blockDim.x) {
      const int at = i / words_of(TYPE), shared = kind && TYPE != FLOAT8 ? at : 0;
      codes[i] = word_of<TYPE>(rows + at * HEAD, i % words_of(TYPE), scales + shared, minima + shared, kind ? 0 : 1);
    }
    __syncthreads();
  }
}

// Grid (groups, heads of all sequences); rows [heads, time, HEAD].
template <int TYPE>
DEVICE void code_rows(const CodePage& page, const scalar* keys, const scalar* values, int time, int first, int group,
                      int pageGroups) {
  griddep_sync();
  const i64 at = ((i64)blockIdx.y * time + first + blockIdx.x * GROUP) * HEAD;
  const i64 to = (i64)blockIdx.y * pageGroups + group + blockIdx.x;
  encode<TYPE>(keys + at, values + at, page, to * GROUP, to);
}

// Grid (heads of all sequences). `recent` is a ring of two groups: what is coded is not where the row goes, so that a step may be
// run again.
template <int TYPE>
DEVICE void code_step(const CodePage& page, scalar* recentKeys, scalar* recentValues, const scalar* keys,
                      const scalar* values, const int* origin, int offset, int pageGroups) {
  griddep_sync();
  const int position = moving(origin, offset), row = position % (2 * GROUP);
  const i64 ring = (i64)blockIdx.x * 2 * GROUP * HEAD;
  if (position > 0 && position % GROUP == 0) {
    const int before = position - GROUP;
    const i64 from = ring + (i64)(before % (2 * GROUP)) * HEAD;
    const i64 to = (i64)blockIdx.x * pageGroups + before / GROUP % pageGroups;
    encode<TYPE>(recentKeys + from, recentValues + from, page, to * GROUP, to);
  }
  for (int i = threadIdx.x; i < HEAD; i += blockDim.x) {
    recentKeys[ring + (i64)row * HEAD + i] = keys[(i64)blockIdx.x * HEAD + i];
    recentValues[ring + (i64)row * HEAD + i] = values[(i64)blockIdx.x * HEAD + i];
  }
}

#define KERNELS(name, TYPE)                                                                                              \
  KERNEL code_rows_##name(const CodePage page, const scalar* keys, const scalar* values, int time, int first, int group, \
                          int pageGroups) {                                                                              \
    code_rows<TYPE>(page, keys, values, time, first, group, pageGroups);                                                 \
  }                                                                                                                      \
  KERNEL code_step_##name(const CodePage page, scalar* recentKeys, scalar* recentValues, const scalar* keys,             \
                          const scalar* values, const int* origin, int offset, int pageGroups) {                         \
    code_step<TYPE>(page, recentKeys, recentValues, keys, values, origin, offset, pageGroups);                           \
  }
KERNELS(float8, FLOAT8)
KERNELS(int8, INT8)
KERNELS(int4, INT4)
