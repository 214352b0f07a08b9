/*
 * The gradient of causal attention over keys of the same sequence; formulas in src/ops/attention. A task is a key/value head of a sequence.
 * Its keys and values are packed into panels once; blocks of queries then go through products that stay in the caches.
 */
#include <stdatomic.h>
#include "pool.h"
#include "product.h"
#include "softmax.h"

/* Queries of a head at a time. */
#define BACKWARD_ROWS 64

typedef struct {
  Pool *pool;
  const float *q, *k, *v, *out, *dy;
  float *dq, *dk, *dv;
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

/* Columns [from, to) of a block's keys that its query `row` sees. */
INLINE void columns_of(const Attention *t, long row, long first, long *from, long *to) {
  long position = t->length - t->time + row;
  long oldest = position - t->window + 1;
  *from = (oldest > 0 ? oldest : 0) - first;
  *to = position + 1 - first;
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
          float peak = -INFINITY, total = weigh(weights + r * row, from, to, row, to_powers(t->scale), &peak);
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

/*
 * q, dy, out, dq [batch, time, heads, width]; k, v, dk, dv [batch, length, kvHeads, width]; window: keys that a query sees at most. Not 0
 * where memory was missing.
 */
EXPORT int yoco_attention_grad(Pool *pool, const float *dy, const float *q, const float *k, const float *v, const float *out, float *dq, float *dk, float *dv, int batch, int time, int length, int heads, int kvHeads, int width, int window, float scale) {
  Attention t = {.pool = pool, .dy = dy, .q = q, .k = k, .v = v, .out = out, .dq = dq, .dk = dk, .dv = dv, .batch = batch, .time = time, .length = length, .heads = heads, .kvHeads = kvHeads, .width = width, .window = window, .scale = scale};
  run(pool, attend_grad_work, &t);
  return t.failed;
}
