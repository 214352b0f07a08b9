/* SwiGLU, RMSNorm and their gradients, AdamW, sums of squares, and rotation; formulas in src/ops. */
#include <math.h>
#include "pool.h"
#include "vector.h"

/* Functions that need no memory return 0 as those do that got theirs. */

INLINE vec sigmoid(vec x) { return splat(1.0f) / (splat(1.0f) + vexp(-x)); }

typedef struct {
  const float *dy, *a, *b;
  float *da, *db;
  long count;
} SwiGlu;

static void swiglu_work(void *argument, int thread, int threads) {
  const SwiGlu *s = argument;
  long i, to;
  part(s->count, WIDTH, thread, threads, &i, &to);
  for (; i + WIDTH <= to; i += WIDTH) {
    vec a = load(s->a + i);
    store(s->da + i, a * sigmoid(a) * load(s->b + i));
  }
  if (i < to) {
    vec a = load_some(s->a + i, to - i);
    store_some(s->da + i, a * sigmoid(a) * load_some(s->b + i, to - i), to - i);
  }
}

/* y = silu(a) b */
EXPORT int yoco_swiglu(Pool *pool, const float *a, const float *b, float *y, long count) {
  SwiGlu s = {0, a, b, y, 0, count};
  divided(pool, swiglu_work, &s, count);
  return 0;
}

INLINE void swiglu_slopes(vec dy, vec a, vec b, vec *da, vec *db) {
  vec s = sigmoid(a), silu = a * s;
  *db = dy * silu;
  *da = dy * b * (s * (splat(1.0f) + (a - silu)));
}

static void swiglu_grad_work(void *argument, int thread, int threads) {
  const SwiGlu *s = argument;
  long i, to;
  vec da, db;
  part(s->count, WIDTH, thread, threads, &i, &to);
  for (; i + WIDTH <= to; i += WIDTH) {
    swiglu_slopes(load(s->dy + i), load(s->a + i), load(s->b + i), &da, &db);
    store(s->da + i, da);
    store(s->db + i, db);
  }
  if (i < to) {
    long rest = to - i;
    swiglu_slopes(load_some(s->dy + i, rest), load_some(s->a + i, rest), load_some(s->b + i, rest), &da, &db);
    store_some(s->da + i, da, rest);
    store_some(s->db + i, db, rest);
  }
}

EXPORT int yoco_swiglu_grad(Pool *pool, const float *dy, const float *a, const float *b, float *da, float *db, long count) {
  SwiGlu s = {dy, a, b, da, db, count};
  divided(pool, swiglu_grad_work, &s, count);
  return 0;
}

typedef struct {
  Pool *pool;
  const float *dy, *x, *weight;
  float *out, *sums;
  long rows, width;
  float eps;
} Norm;

/* The sum of x * y, in pieces that are added up in float64. */
INLINE double dot(const float *x, const float *y, long width) {
  double total = 0;
  long i = 0;
  while (i + WIDTH <= width) {
    vec sums = {0};
    for (long end = i + 16 * WIDTH; i + WIDTH <= width && i < end; i += WIDTH) sums += load(x + i) * load(y + i);
    total += (double)sum(sums);
  }
  if (i < width) total += (double)sum(load_some(x + i, width - i) * load_some(y + i, width - i));
  return total;
}

static void norm_work(void *argument, int thread, int threads) {
  const Norm *n = argument;
  long row, to, width = n->width;
  part(n->rows, 1, thread, threads, &row, &to);
  for (; row < to; row++) {
    const float *x = n->x + row * width;
    float *y = n->out + row * width;
    vec factor = splat((float)(1 / sqrt(dot(x, x, width) / (double)width + (double)n->eps)));
    long i = 0;
    if (n->weight == NULL) for (; i + WIDTH <= width; i += WIDTH) store(y + i, load(x + i) * factor);
    else for (; i + WIDTH <= width; i += WIDTH) store(y + i, load(x + i) * factor * load(n->weight + i));
    for (; i < width; i++) y[i] = x[i] * factor[0] * (n->weight ? n->weight[i] : 1);
  }
}

/* weight: NULL for ones */
EXPORT int yoco_rms_norm(Pool *pool, const float *x, const float *weight, float *y, int rows, int width, float eps) {
  Norm n = {pool, 0, x, weight, y, 0, rows, width, eps};
  divided(pool, norm_work, &n, (long)rows * width);
  return 0;
}

/* Rows whose part of dWeight is summed in float32. */
#define NORM_ROWS 64

static void norm_grad_work(void *argument, int thread, int threads) {
  const Norm *n = argument;
  long from, to, width = n->width;
  part(n->rows, NORM_ROWS, thread, threads, &from, &to);
  for (long row = from; row < to; row++) {
    const float *x = n->x + row * width, *dy = n->dy + row * width;
    float *dx = n->out + row * width, *sums = n->weight ? n->sums + row / NORM_ROWS * width : NULL;
    double inverse = 1 / sqrt(dot(x, x, width) / (double)width + (double)n->eps), along = 0;
    long i = 0;
    vec products = {0};
    for (; i + WIDTH <= width; i += WIDTH) {
      vec d = load(dy + i) * load(x + i);
      if (n->weight) d *= load(n->weight + i);
      products += d;
    }
    along = (double)sum(products);
    for (; i < width; i++) along += (double)(dy[i] * x[i] * (n->weight ? n->weight[i] : 1));
    float r = (float)inverse, scale = (float)(along / (double)width * inverse * inverse);
    for (i = 0; i + WIDTH <= width; i += WIDTH) {
      vec d = load(dy + i), own = load(x + i);
      if (sums) {
        store(sums + i, load(sums + i) + d * own * splat(r));
        d *= load(n->weight + i);
      }
      store(dx + i, (d - own * splat(scale)) * splat(r));
    }
    for (; i < width; i++) {
      float d = dy[i];
      if (sums) {
        sums[i] += d * x[i] * r;
        d *= n->weight[i];
      }
      dx[i] = (d - x[i] * scale) * r;
    }
  }
}

/* weight and dWeight: both or neither NULL. Not 0 where memory was missing. */
EXPORT int yoco_rms_norm_grad(Pool *pool, const float *dy, const float *x, const float *weight, float *dx, float *dWeight, int rows, int width, float eps) {
  long blocks = (rows + NORM_ROWS - 1) / NORM_ROWS;
  Norm n = {pool, dy, x, weight, dx, 0, rows, width, eps};
  if (weight) {
    n.sums = scratch(pool, 0, (size_t)(blocks * width));
    if (n.sums == NULL) return 1;
    memset(n.sums, 0, 4 * (size_t)(blocks * width));
  }
  divided(pool, norm_grad_work, &n, (long)rows * width);
  if (weight)
    for (long i = 0; i < width; i++) {
      double total = 0;
      for (long block = 0; block < blocks; block++) total += (double)n.sums[block * width + i];
      dWeight[i] = (float)total;
    }
  return 0;
}

typedef struct {
  float *parameter, *first, *second;
  const float *gradient;
  long count;
  double scale, beta1, beta2, keep, rate, correction, epsilon;
} AdamW;

/* In float64, as the loop in JavaScript that it replaces: no product is fused into a sum. */
#if defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("fp-contract=off")))
#endif
static void adamw_work(void *argument, int thread, int threads) {
#if defined(__clang__)
#pragma clang fp contract(off)
#endif
  const AdamW *s = argument;
  long i, to;
  part(s->count, 16, thread, threads, &i, &to);
  for (; i < to; i++) {
    double g = (double)s->gradient[i] * s->scale;
    double m = s->beta1 * (double)s->first[i] + (1 - s->beta1) * g;
    double v = s->beta2 * (double)s->second[i] + (1 - s->beta2) * g * g;
    s->first[i] = (float)m;
    s->second[i] = (float)v;
    s->parameter[i] = (float)(s->keep * (double)s->parameter[i] - (s->rate * m) / (sqrt(v * s->correction) + s->epsilon));
  }
}

EXPORT int yoco_adamw(Pool *pool, float *parameter, float *first, float *second, const float *gradient, long count, double scale, double beta1, double beta2, double keep, double rate, double correction, double epsilon) {
  AdamW s = {parameter, first, second, gradient, count, scale, beta1, beta2, keep, rate, correction, epsilon};
  divided(pool, adamw_work, &s, count);
  return 0;
}

/* Elements whose squares a thread sums at a time. */
#define SQUARES 65536

typedef struct {
  const float *x;
  double *sums;
  long count;
} Squares;

static void squares_work(void *argument, int thread, int threads) {
  const Squares *s = argument;
  long i, to;
  part(s->count, SQUARES, thread, threads, &i, &to);
  for (; i < to; i += SQUARES) s->sums[i / SQUARES] = dot(s->x + i, s->x + i, to - i < SQUARES ? to - i : SQUARES);
}

/* The sum of the squares of x, in *y. Not 0 where memory was missing. */
EXPORT int yoco_sum_of_squares(Pool *pool, const float *x, float *y, long count) {
  const long blocks = (count + SQUARES - 1) / SQUARES;
  Squares s = {x, (double *)scratch(pool, 0, (size_t)(2 * blocks)), count};
  if (s.sums == NULL && blocks > 0) return 1;
  divided(pool, squares_work, &s, count);
  double total = 0;
  for (long i = 0; i < blocks; i++) total += s.sums[i];
  *y = (float)total;
  return 0;
}

typedef struct {
  const float *x, *cos, *sin;
  float *y;
  long rows, time, heads, width;
  int interleaved, inverse;
} Rotation;

static void rotary_work(void *argument, int thread, int threads) {
  const Rotation *r = argument;
  long row, to, half = r->width / 2;
  const float sign = r->inverse ? -1.0f : 1.0f;
  part(r->rows, 1, thread, threads, &row, &to);
  for (; row < to; row++) {
    const float *cos = r->cos + row % r->time * half, *sin = r->sin + row % r->time * half;
    for (long head = row * r->heads; head < (row + 1) * r->heads; head++) {
      const float *x = r->x + head * r->width;
      float *y = r->y + head * r->width;
      if (r->interleaved)
        for (long i = 0; i < half; i++) {
          float a = x[2 * i], b = x[2 * i + 1], s = sin[i] * sign;
          y[2 * i] = a * cos[i] - b * s;
          y[2 * i + 1] = b * cos[i] + a * s;
        }
      else
        for (long i = 0; i < half; i++) {
          float a = x[i], b = x[i + half], s = sin[i] * sign;
          y[i] = a * cos[i] - b * s;
          y[i + half] = b * cos[i] + a * s;
        }
    }
  }
}

/* x, y [rows, heads, width]; cos, sin [time, width / 2], of which row r takes r modulo time. */
EXPORT int yoco_rotary(Pool *pool, const float *x, const float *cos, const float *sin, float *y, int rows, int time, int heads, int width, int interleaved, int inverse) {
  Rotation r = {x, cos, sin, y, rows, time, heads, width, interleaved, inverse};
  divided(pool, rotary_work, &r, (long)rows * heads * width);
  return 0;
}
