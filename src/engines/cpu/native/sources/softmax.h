/* Weights of attention from scores, a row at a time. */
#ifndef YOCO_SOFTMAX_H
#define YOCO_SOFTMAX_H
#include <math.h>
#include "vector.h"

/* Scores times this are powers of 2. */
INLINE float to_powers(float scale) { return scale * 1.44269504f; }

/*
 * Scores [from, to) of a row become weights 2^(factor * score - *peak), the others 0; returns the sum of the weights. *peak becomes the largest
 * power unless it was larger. factor > 0.
 */
INLINE float weigh(float *row, long from, long to, long width, float factor, float *peak) {
  /* Several at a time, which need not wait for each other. */
  vec peaks[4], sums = {0};
  for (int i = 0; i < 4; i++) peaks[i] = splat(-INFINITY);
  long j = from;
  for (; j + 4 * WIDTH <= to; j += 4 * WIDTH)
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) peaks[i] = larger(load(row + j + i * WIDTH), peaks[i]);
  for (; j + WIDTH <= to; j += WIDTH) peaks[0] = larger(load(row + j), peaks[0]);
  float most = largest(larger(larger(peaks[0], peaks[1]), larger(peaks[2], peaks[3])));
  for (; j < to; j++) most = row[j] > most ? row[j] : most;
  most *= factor;
  *peak = most > *peak ? most : *peak;
  memset(row, 0, 4 * (size_t)from);
  const vec top = splat(*peak), factors = splat(factor);
  for (j = from; j + WIDTH <= to; j += WIDTH) {
    vec w = vexp2(load(row + j) * factors - top);
    store(row + j, w);
    sums += w;
  }
  float total = 0;
  if (j < to) {
    vec w = vexp2(load_some(row + j, to - j) * factors - top);
    store_some(row + j, w, to - j);
    for (long i = 0; i < to - j; i++) total += w[i];
  }
  memset(row + to, 0, 4 * (size_t)(width - to));
  return total + sum(sums);
}
#endif
