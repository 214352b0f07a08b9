/* Vectors of floats by the compiler's extension, as wide as what this file is compiled for. */
#ifndef YOCO_VECTOR_H
#define YOCO_VECTOR_H
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define WIDTH 16
#elif defined(__AVX__)
#define WIDTH 8
#else
#define WIDTH 4
#endif

/* Any address will do: the arrays are JavaScript's. */
typedef float vec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *x) { return *(const vec *)x; }
INLINE void store(float *x, vec v) { *(vec *)x = v; }
INLINE vec splat(float x) { return x - (vec){0}; }

/* The first `count` elements, the others 0. */
INLINE vec load_some(const float *x, long count) {
  float all[WIDTH] = {0};
  memcpy(all, x, 4 * (size_t)count);
  return load(all);
}
INLINE void store_some(float *x, vec v, long count) {
  float all[WIDTH];
  store(all, v);
  memcpy(x, all, 4 * (size_t)count);
}

typedef float quarter __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t iquarter __attribute__((vector_size(16)));
#if defined(__clang__)
#define PICK(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define PICK(a, b, i, j, k, l) __builtin_shuffle(a, b, (iquarter){i, j, k, l})
#endif

/* Four sums of which the sum is that of v. */
INLINE quarter four_sums(vec v) {
  union {
    vec all;
    quarter parts[WIDTH / 4];
  } u = {v};
  quarter s = u.parts[0];
#pragma GCC unroll 4
  for (int i = 1; i < WIDTH / 4; i++) s += u.parts[i];
  return s;
}
INLINE float sum(vec v) {
  quarter s = four_sums(v);
  return (s[0] + s[1]) + (s[2] + s[3]);
}
/* The sums of four vectors, each as by `sum`. */
INLINE quarter sums_of(const vec *v) {
  quarter a = four_sums(v[0]), b = four_sums(v[1]), c = four_sums(v[2]), d = four_sums(v[3]);
  quarter ab = PICK(a, b, 0, 4, 2, 6) + PICK(a, b, 1, 5, 3, 7), cd = PICK(c, d, 0, 4, 2, 6) + PICK(c, d, 1, 5, 3, 7);
  return PICK(ab, cd, 0, 1, 4, 5) + PICK(ab, cd, 2, 3, 6, 7);
}
INLINE vec select(ivec where, vec a, vec b) { return (vec)((where & (ivec)a) | (~where & (ivec)b)); }
INLINE vec larger(vec a, vec b) { return select(a > b, a, b); }
INLINE float largest(vec v) {
  union {
    vec all;
    quarter parts[WIDTH / 4];
  } u = {v};
  quarter m = u.parts[0];
#pragma GCC unroll 4
  for (int i = 1; i < WIDTH / 4; i++) {
    iquarter where = u.parts[i] > m;
    m = (quarter)((where & (iquarter)u.parts[i]) | (~where & (iquarter)m));
  }
  float a = m[0] > m[1] ? m[0] : m[1], b = m[2] > m[3] ? m[2] : m[3];
  return a > b ? a : b;
}

/* 2^x for x of at most 1, to about one unit in the last place; 2^-126 for smaller ones. Not a number stays so. */
INLINE vec vexp2(vec x) {
  x = select(x < splat(-126.0f), splat(-126.0f), x);
  /* Adding 1.5 * 2^23 rounds to a whole number, which the last bits of the sum hold. */
  const vec magic = splat(12582912.0f);
  vec sum = x + magic, r = x - (sum - magic);
  vec p = splat(1.5353362e-4f);
  p = p * r + splat(1.3398874e-3f);
  p = p * r + splat(9.6184373e-3f);
  p = p * r + splat(5.5503324e-2f);
  p = p * r + splat(2.4022648e-1f);
  p = p * r + splat(6.9314720e-1f);
  p = p * r + splat(1.0f);
  return (vec)((ivec)p + ((ivec)sum << 23));
}

/* e^x to about one unit in the last place, subnormal results included; not a number stays so. */
INLINE vec vexp(vec x) {
  x = select(x < splat(-104.0f), splat(-104.0f), x);
  x = select(x > splat(89.0f), splat(89.0f), x);
  /* Adding 1.5 * 2^23 rounds to a whole number. */
  const vec magic = splat(12582912.0f);
  vec n = (x * splat(1.44269504f) + magic) - magic;
  vec r = x - n * splat(0.693359375f);
  r = r - n * splat(-2.12194440e-4f);
  vec p = splat(1.9875691500e-4f);
  p = p * r + splat(1.3981999507e-3f);
  p = p * r + splat(8.3334519073e-3f);
  p = p * r + splat(4.1665795894e-2f);
  p = p * r + splat(1.6666665459e-1f);
  p = p * r + splat(5.0000001201e-1f);
  p = p * (r * r) + r + splat(1.0f);
  /* In two factors: one alone does not reach the smallest numbers. */
  ivec whole = __builtin_convertvector(n, ivec), half = whole >> 1;
  return p * (vec)((half + 127) << 23) * (vec)((whole - half + 127) << 23);
}

INLINE long smaller(long a, long b) { return a < b ? a : b; }

/* x . y */
INLINE float product_of(const float *x, const float *y, long width) {
  vec sums = {0};
  long i = 0;
  for (; i + WIDTH <= width; i += WIDTH) sums += load(x + i) * load(y + i);
  if (i < width) sums += load_some(x + i, width - i) * load_some(y + i, width - i);
  return sum(sums);
}

/* y += w x */
INLINE void add_scaled(float *y, const float *x, float w, long width) {
  long i = 0;
  for (; i + WIDTH <= width; i += WIDTH) store(y + i, load(y + i) + load(x + i) * splat(w));
  for (; i < width; i++) y[i] += x[i] * w;
}

/* Bytes ahead of those in use that are fetched: the processor itself stops at the end of its pages of 4 KiB. */
#define AHEAD 2048
#endif
