// Codes of a compressed cache (ops/attention/cache-type.ts), for bfloat16 storage: what a page holds, and how pairs of codes become
// operands of the tensor cores in registers. A code in a half of a register becomes the bfloat16
//   int4: 128 + code, int8: code - 128, float8: its value,
// and the difference is made up for where scales and minima are known.
#pragma once
#include "float8.cuh"

#ifndef HEAD
#define HEAD 128
#endif
#define RAW 0
#define FLOAT8 1
#define INT8 2
#define INT4 3
#define GROUP 64

DEVICE constexpr int bits_of(int type) { return type == RAW ? 16 : type == INT4 ? 4 : 8; }
DEVICE constexpr int words_of(int type) { return HEAD * bits_of(type) / 32; }  // of a position
DEVICE constexpr int key_scales(int type) { return type == FLOAT8 ? 1 : type == RAW ? 0 : HEAD; }  // words of a group
DEVICE constexpr int value_scales(int type) { return type == FLOAT8 ? 1 : type == RAW ? 0 : GROUP; }

// Tensors of a page, as its row of the table has them.
struct CodePage {
  u32* keyCodes;
  u32* valueCodes;
  u32* keyScales;
  u32* valueScales;
};

// binary16 without its hardware: scales are few.
DEVICE float half_value(u32 half) {
  const int exponent = (half >> 10) & 31, mantissa = half & 1023;
  const float sign = half & 0x8000 ? -1.0f : 1.0f;
  if (exponent == 31) return mantissa ? __int_as_float(0x7fc00000) : sign * __int_as_float(0x7f800000);
  return exponent == 0 ? sign * mantissa * power_of_two(-24)
                       : sign * (1024 + mantissa) * power_of_two(exponent - 25);
}
DEVICE u32 half_bits(float magnitude) {
  if (magnitude >= 65520.0f) return 0x7c00;
  if (magnitude < power_of_two(-14)) return (u32)rintf(magnitude * power_of_two(24));
  const int exponent = exponent_of(magnitude);
  return ((exponent + 15) << 10) + (u32)rintf((magnitude * power_of_two(-exponent) - 1.0f) * 1024.0f);
}
// The largest binary16 that is not above x.
DEVICE u32 half_down(float x) {
  if (!(x == x)) return 0x7e00;
  const float magnitude = fabsf(x);
  const u32 half = half_bits(magnitude);
  if (half == 0x7c00 && magnitude == __int_as_float(0x7f800000)) return x < 0.0f ? 0xfc00 : half;
  const float rounded = half_value(half);
  if (x >= 0.0f) return rounded > magnitude ? half - 1 : half;
  return 0x8000 | (rounded < magnitude ? half + 1 : half);
}
// The smallest binary16 step with which `levels` of them reach from low to high.
DEVICE u32 half_step(float high, float low, float levels) {
  const float step = (high - low) / levels;
  if (!(step == step)) return 0x7e00;
  const u32 half = half_bits(step);
  return half_value(half) < step ? half + 1 : half;
}

// Two codes, in the low bits of the halves of x, as two bfloat16 (see above).
template <int TYPE>
DEVICE u32 pair_of(u32 x) {
  if (TYPE == INT4) return (x & 0x000f000fu) | 0x43004300u;
  // The lower seven bits as 128 + …, less 128 or 256 by the sign.
  if (TYPE == INT8) return fma2((x & 0x00800080u) | 0x43004300u, 0xbf80bf80u, (x & 0x007f007fu) | 0x43004300u);
  // Exponent and mantissa where bfloat16 has them, times 2^120.
  if (TYPE == FLOAT8) return fma2(((x & 0x007f007fu) << 4) | ((x << 8) & 0x80008000u), 0x7b807b80u, 0x80008000u);
  return x;
}

// What codes count from, in steps, and what a decoded one has too much: x = minimum + scale (centre + decoded - surplus).
DEVICE constexpr float centre_of(int type) { return type == INT8 ? 128.0f : type == INT4 ? 8.0f : 0.0f; }
DEVICE constexpr float surplus_of(int type) { return type == INT4 ? 136.0f : 0.0f; }

// The channel of element `e` of register r of a key, of which lane `part` of four holds a quarter.
template <int TYPE>
DEVICE int key_channel(int part, int r, int e) {
  const int first = part * (HEAD / 4);
  if (TYPE == INT4) return first + r / 4 * 8 + r % 4 + 4 * e;
  return TYPE == RAW ? first + 2 * r + e : first + r / 2 * 4 + r % 2 + 2 * e;
}
// Registers of a quarter of a key.
template <int TYPE>
DEVICE void decode_key(u32 (&to)[HEAD / 8], const u32 (&words)[words_of(TYPE) / 4]) {
#pragma unroll
  for (int r = 0; r < HEAD / 8; r++) {
    if (TYPE == INT4) to[r] = pair_of<TYPE>(words[r / 4] >> (4 * (r % 4)));
    else if (TYPE == RAW) to[r] = words[r];
    else to[r] = pair_of<TYPE>(words[r / 2] >> (8 * (r % 2)));
  }
}
// Of an eighth of two values (at neighbouring positions) registers with the same channel of both.
DEVICE constexpr int value_words(int type) { return words_of(type) < 8 ? 1 : words_of(type) / 8; }
template <int TYPE>
DEVICE void decode_values(u32 (&to)[HEAD / 8], const u32 (&a)[value_words(TYPE)], const u32 (&b)[value_words(TYPE)]) {
  constexpr int PER_HALF = 16 / bits_of(TYPE);  // codes in half a word
#pragma unroll
  for (int t = 0; t < HEAD / 8; t++) {
    const int word = t / (2 * PER_HALF), within = t % (2 * PER_HALF);
    const u32 both = within < PER_HALF ? (a[word] & 0xffffu) | (b[word] << 16) : (a[word] >> 16) | (b[word] & 0xffff0000u);
    to[t] = pair_of<TYPE>(both >> (bits_of(TYPE) * (within % PER_HALF)));
  }
}

template <int N>
DEVICE void load_words(u32 (&to)[N], const u32* from) {
  constexpr int STEP = N % 4 == 0 ? 4 : N;
#pragma unroll
  for (int i = 0; i < N; i += STEP) {
    const Pack<u32, STEP> pack = *(const Pack<u32, STEP>*)(from + i);
#pragma unroll
    for (int k = 0; k < STEP; k++) to[i + k] = pack.v[k];
  }
}
