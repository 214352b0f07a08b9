/* What gated retention and its gradient share; formulas in src/ops/gated-retention. */
#ifndef YOCO_RETENTION_H
#define YOCO_RETENTION_H
#include "vector.h"

/* Positions of a chunk. */
#define CHUNK 64
/* Below it a decay is 0 in float32. */
#define LEAST_LOG_DECAY -104.0f

/* `rows` rows of x, `stride` apart, with a factor each; out [rows][width]. */
INLINE void fade(const float *x, long stride, long rows, long width, const float *factors, float *out) {
  for (long i = 0; i < rows; i++)
    for (long j = 0; j < width; j++) out[i * width + j] = x[i * stride + j] * factors[i];
}

/* fromStart[t], toEnd[t]: the decay from the start of the chunk to each position, and from each to its end; sums[t]: the logarithm of the first. Sums are float64. */
INLINE void decays_of(const float *gates, long stride, long count, double *sums, float *fromStart, float *toEnd) {
  double sum = 0;
  for (long t = 0; t < CHUNK; t++) {
    if (t < count) {
      float gate = gates[t * stride];
      sum += (double)(gate < LEAST_LOG_DECAY ? LEAST_LOG_DECAY : gate);
    }
    sums[t] = sum;
  }
  for (long t = 0; t < CHUNK; t++) {
    fromStart[t] = (float)sums[t];
    toEnd[t] = (float)(sum - sums[t]);
  }
  for (long t = 0; t < CHUNK; t += WIDTH) {
    store(fromStart + t, vexp(load(fromStart + t)));
    store(toEnd + t, vexp(load(toEnd + t)));
  }
}

/* pairs[t][i]: the decay between two positions, 0 for later ones. */
INLINE void pairs_of(const double *sums, long count, float *pairs) {
  for (long t = 0; t < count; t++) {
    float *row = pairs + t * CHUNK;
    for (long i = 0; i < CHUNK; i++) row[i] = (float)(sums[t] - sums[i]);
    for (long i = 0; i <= t; i += WIDTH) store(row + i, vexp(load(row + i)));
    for (long i = t + 1; i < CHUNK; i++) row[i] = 0;
  }
}
#endif
