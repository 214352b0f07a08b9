/*
 * Causal attention over keys of the same sequence, and its gradient; formulas in src/ops/attention. A task is a key/value head of a sequence.
 * Its keys and values are packed into panels once; blocks of queries then go through products that stay in the caches.
 */
#include <math.h>
#include <stdatomic.h>
#include "pool.h"
#include "product.h"

/* Queries of a head at a time. */
#define FORWARD_ROWS (4 * ROWS)
#define BACKWARD_ROWS 64

typedef struct {
  Pool *pool;
  const float *q, *k, *v, *out, *dy;
  float *y, *dq, *dk, *dv;
  long batch, time, length, heads, kvHeads, width, window;
  float scale;
  atomic_int next, failed;
} Attention;

/* The next task: which thread takes it changes no result. */
static long take(Attention *t) {
  long task = atomic_fetch_add(&t->next, 1);
  return task < t->batch * t->kvHeads && !t->failed ? task : -1;
}

/* A query's row of some tensor like q. */
INLINE long query_at(const Attention *t, long b, long row, long head) { return ((b * t->time + row) * t->heads + head) * t->width; }
INLINE long key_at(const Attention *t, long b, long row, long head) { return ((b * t->length + row) * t->kvHeads + head) * t->width; }

/* Keys that queries [start, start + count) of a block see: from a multiple of PANEL on. */
static void seen(const Attention *t, long start, long count, long *first, long *last) {
  long offset = t->length - t->time;
  long oldest = offset + start - t->window + 1;
  *first = oldest > 0 ? oldest / PANEL * PANEL : 0;
  *last = offset + start + count;
}

/* Scores of a row become weights, not yet divided by their sum, which is returned; columns it does not see 0. `peak` is their largest. */
static float weigh(float *row, long from, long to, long width, float scale) {
  vec peaks = splat(-INFINITY), sums = {0};
  long j;
  for (j = from; j + WIDTH <= to; j += WIDTH) peaks = larger(load(row + j), peaks);
  float peak = largest(peaks);
  for (; j < to; j++) peak = row[j] > peak ? row[j] : peak;
  memset(row, 0, 4 * (size_t)from);
  const vec most = splat(peak * scale), factor = splat(scale);
  for (j = from; j + WIDTH <= to; j += WIDTH) {
    vec w = vexp(load(row + j) * factor - most);
    store(row + j, w);
    sums += w;
  }
  float total = 0;
  if (j < to) {
    vec w = vexp(load_some(row + j, to - j) * factor - most);
    store_some(row + j, w, to - j);
    for (long i = 0; i < to - j; i++) total += w[i];
  }
  memset(row + to, 0, 4 * (size_t)(width - to));
  return total + sum(sums);
}

/* Columns [from, to) of a block's keys that its query `row` sees. */
INLINE void columns_of(const Attention *t, long row, long first, long *from, long *to) {
  long position = t->length - t->time + row;
  long oldest = position - t->window + 1;
  *from = (oldest > 0 ? oldest : 0) - first;
  *to = position + 1 - first;
}

static void attend_work(void *argument, int thread, int threads) {
  (void)threads;
  Attention *t = argument;
  long keys = panels(t->length), width = t->width, wide = panels(width), task = take(t);
  if (task < 0) return;
  float *packed = scratch(t->pool, thread, (size_t)(keys * width + t->length * wide + FORWARD_ROWS * keys));
  if (packed == NULL) {
    t->failed = 1;
    return;
  }
  float *values = packed + keys * width, *scores = values + t->length * wide;
  const long group = t->heads / t->kvHeads;
  for (; task >= 0; task = take(t)) {
    long b = task / t->kvHeads, head = task % t->kvHeads, stride = t->kvHeads * width;
    pack_columns(t->k + key_at(t, b, 0, head), stride, width, t->length, packed);
    /* Each panel of values is of all keys: a block of queries reads the rows of the keys it sees. */
    pack_rows(t->v + key_at(t, b, 0, head), stride, t->length, width, values);
    for (long g = 0; g < group; g++)
      for (long start = 0; start < t->time; start += FORWARD_ROWS) {
        long count = t->time - start < FORWARD_ROWS ? t->time - start : FORWARD_ROWS, first, last;
        seen(t, start, count, &first, &last);
        long seenKeys = last - first, row = panels(seenKeys), queryRow = t->heads * width;
        long at = query_at(t, b, start, head * group + g);
        multiply(count, row, width, (Left){t->q + at, queryRow, 1}, packed + first * width, (Target){NULL, 0}, (Target){scores, row});
        float sums[FORWARD_ROWS];
        for (long r = 0; r < count; r++) {
          long from, to;
          columns_of(t, start + r, first, &from, &to);
          sums[r] = weigh(scores + r * row, from, to, row, t->scale);
        }
        for (long j = 0; j < width; j += PANEL) {
          long columns = width - j < PANEL ? width - j : PANEL;
          multiply(count, columns, seenKeys, (Left){scores, row, 1}, values + j * t->length + first * PANEL, (Target){NULL, 0}, (Target){t->y + at + j, queryRow});
        }
        for (long r = 0; r < count; r++) {
          float *y = t->y + at + r * queryRow, inverse = 1 / sums[r];
          for (long i = 0; i < width; i++) y[i] *= inverse;
        }
      }
  }
}

/* q, y [batch, time, heads, width]; k, v [batch, length, kvHeads, width]; window: keys that a query sees at most. Not 0 where memory was missing. */
EXPORT int yoco_attention(Pool *pool, const float *q, const float *k, const float *v, float *y, int batch, int time, int length, int heads, int kvHeads, int width, int window, float scale) {
  Attention t = {.pool = pool, .q = q, .k = k, .v = v, .y = y, .batch = batch, .time = time, .length = length, .heads = heads, .kvHeads = kvHeads, .width = width, .window = window, .scale = scale};
  run(pool, attend_work, &t);
  return t.failed;
}

/* dS = weights * (dWeights - along) * scale, in place of dWeights; the weights of the row are divided by their sum. */
static void slope_row(float *weights, float *dWeights, long width, float inverse, float along, float scale) {
  for (long j = 0; j < width; j += WIDTH) {
    vec w = load(weights + j) * splat(inverse);
    store(weights + j, w);
    store(dWeights + j, w * (load(dWeights + j) - splat(along)) * splat(scale));
  }
}

static float along_row(const float *dy, const float *out, long width) {
  double total = 0;
  for (long i = 0; i < width; i++) total += (double)dy[i] * (double)out[i];
  return (float)total;
}

static void attend_grad_work(void *argument, int thread, int threads) {
  (void)threads;
  Attention *t = argument;
  long keys = panels(t->length), width = t->width, wide = panels(width), block = BACKWARD_ROWS * keys, task = take(t);
  if (task < 0) return;
  float *packed = scratch(t->pool, thread, (size_t)(2 * keys * width + t->length * wide + 2 * block + 2 * BACKWARD_ROWS * wide));
  if (packed == NULL) {
    t->failed = 1;
    return;
  }
  float *valueColumns = packed + keys * width, *keyRows = valueColumns + keys * width;
  float *weights = keyRows + t->length * wide, *dWeights = weights + block;
  float *queryRows = dWeights + block, *dyRows = queryRows + BACKWARD_ROWS * wide;
  const long group = t->heads / t->kvHeads, queryRow = t->heads * width, stride = t->kvHeads * width;
  for (; task >= 0; task = take(t)) {
    long b = task / t->kvHeads, head = task % t->kvHeads, keyAt = key_at(t, b, 0, head);
    pack_columns(t->k + keyAt, stride, width, t->length, packed);
    pack_columns(t->v + keyAt, stride, width, t->length, valueColumns);
    pack_rows(t->k + keyAt, stride, t->length, width, keyRows);
    for (long row = 0; row < t->length; row++) {
      memset(t->dk + keyAt + row * stride, 0, 4 * (size_t)width);
      memset(t->dv + keyAt + row * stride, 0, 4 * (size_t)width);
    }
    for (long g = 0; g < group; g++)
      for (long start = 0; start < t->time; start += BACKWARD_ROWS) {
        long count = t->time - start < BACKWARD_ROWS ? t->time - start : BACKWARD_ROWS, first, last;
        seen(t, start, count, &first, &last);
        long seenKeys = last - first, row = panels(seenKeys), at = query_at(t, b, start, head * group + g);
        const Target none = {NULL, 0};
        multiply(count, row, width, (Left){t->q + at, queryRow, 1}, packed + first * width, none, (Target){weights, row});
        multiply(count, row, width, (Left){t->dy + at, queryRow, 1}, valueColumns + first * width, none, (Target){dWeights, row});
        for (long r = 0; r < count; r++) {
          long from, to, own = at + r * queryRow;
          columns_of(t, start + r, first, &from, &to);
          float total = weigh(weights + r * row, from, to, row, t->scale);
          slope_row(weights + r * row, dWeights + r * row, row, 1 / total, along_row(t->dy + own, t->out + own, width), t->scale);
        }
        for (long j = 0; j < width; j += PANEL) {
          long columns = width - j < PANEL ? width - j : PANEL;
          multiply(count, columns, seenKeys, (Left){dWeights, row, 1}, keyRows + j * t->length + first * PANEL, none, (Target){t->dq + at + j, queryRow});
        }
        pack_rows(t->q + at, queryRow, count, width, queryRows);
        pack_rows(t->dy + at, queryRow, count, width, dyRows);
        Target dk = {t->dk + keyAt + first * stride, stride}, dv = {t->dv + keyAt + first * stride, stride};
        multiply(seenKeys, width, count, (Left){dWeights, 1, row}, queryRows, dk, dk);
        multiply(seenKeys, width, count, (Left){weights, 1, row}, dyRows, dv, dv);
      }
  }
}

/* Like yoco_attention; also out and dy like q, and the gradients dq, dk and dv. */
EXPORT int yoco_attention_grad(Pool *pool, const float *dy, const float *q, const float *k, const float *v, const float *out, float *dq, float *dk, float *dv, int batch, int time, int length, int heads, int kvHeads, int width, int window, float scale) {
  Attention t = {.pool = pool, .dy = dy, .q = q, .k = k, .v = v, .out = out, .dq = dq, .dk = dk, .dv = dv, .batch = batch, .time = time, .length = length, .heads = heads, .kvHeads = kvHeads, .width = width, .window = window, .scale = scale};
  run(pool, attend_grad_work, &t);
  return t.failed;
}
