/*
 * Attention of a query in tasks, each to a part of the positions. The result of a task is the largest score, the sum of the exponentials of all
 * scores less that, and the sums of values by them, [2 + width].
 */
#ifndef YOCO_TASKS_H
#define YOCO_TASKS_H
#include <math.h>
#include "vector.h"

/* Scores [0, count) become exponentials, up to the next whole vector 0; result[0] and result[1] are set. */
INLINE void weigh_scores(float *scores, long count, float *result) {
  for (long i = count; i % WIDTH != 0; i++) scores[i] = -INFINITY;
  vec sums = {0}, peaks = load(scores);
  for (long i = WIDTH; i < count; i += WIDTH) peaks = larger(load(scores + i), peaks);
  const float peak = largest(peaks);
  for (long i = 0; i < count; i += WIDTH) {
    vec w = vexp(load(scores + i) - splat(peak));
    store(scores + i, w);
    sums += w;
  }
  result[0] = peak;
  result[1] = sum(sums);
}

/* y [width] from the results of all tasks, [tasks, 2 + width], in their order. */
INLINE void merge_tasks(const float *results, long tasks, long width, float *y) {
  float peak = -INFINITY;
  double total = 0;
  memset(y, 0, 4 * (size_t)width);
  for (long task = 0; task < tasks; task++) peak = fmaxf(peak, results[task * (width + 2)]);
  for (long task = 0; task < tasks; task++) {
    const float *result = results + task * (width + 2), keep = expf(result[0] - peak);
    total += (double)keep * (double)result[1];
    add_scaled(y, result + 2, keep, width);
  }
  for (long i = 0; i < width; i++) y[i] = (float)((double)y[i] / total);
}
#endif
