/* Rows rounded to float8; src/ops/linear/float8.ts says how. */
#include "pool.h"
#include "vector.h"

typedef int32_t bits __attribute__((may_alias));

INLINE float float_of(int32_t word) {
  union {
    int32_t word;
    float value;
  } u = {word};
  return u.value;
}

static void round_row(const float *x, float *y, long width) {
  const bits *words = (const bits *)x;
  bits *out = (bits *)y;
  int32_t most = 0;
  for (long i = 0; i < width; i++) {
    int32_t magnitude = words[i] & 0x7fffffff;
    most = magnitude > most ? magnitude : most;
  }
  if (most >= 0x7f800000) {
    for (long i = 0; i < width; i++) out[i] = 0x7fc00000;
    return;
  }
  /* The largest is at most 1.75 2^8 2^exponent. */
  int32_t exponent = (most >> 23) - 127 - 8 + ((most & 0x7fffff) > 0x600000);
  if (exponent < -100) exponent = -100;
  const float factor = float_of((127 + exponent) << 23), inverse = float_of((127 - exponent) << 23);
  for (long i = 0; i < width; i++) {
    float scaled = x[i] * inverse;
    union {
      float value;
      int32_t word;
    } u = {scaled};
    int32_t binade = u.word & 0x7f800000;
    /* Below 2^-6 codes are as far apart as there. */
    binade = binade > 121 << 23 ? binade : 121 << 23;
    /* Adding 1.5 * 2^23 times the distance of codes, an eighth of the binade, rounds to a multiple of it. */
    const float magic = float_of((binade + (20 << 23)) | 0x400000);
    y[i] = ((scaled + magic) - magic) * factor;
  }
}

typedef struct {
  const float *x;
  float *y;
  long rows, width;
} Rows;

static void round_work(void *argument, int thread, int threads) {
  const Rows *r = argument;
  long row, to;
  part(r->rows, 1, thread, threads, &row, &to);
  for (; row < to; row++) round_row(r->x + row * r->width, r->y + row * r->width, r->width);
}

/* x, y [rows, width] */
EXPORT int yoco_round_float8(Pool *pool, const float *x, float *y, int rows, int width) {
  Rows r = {x, y, rows, width};
  divided(pool, round_work, &r, (long)rows * width);
  return 0;
}
