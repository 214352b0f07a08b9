/* A step of decoding: products of few rows, attention of one query of a sequence to pages, a step of gated retention. */
#include <math.h>
#include <stdatomic.h>
#include "pool.h"
#include "tasks.h"
#include "vector.h"

/* Products of so many rows with a matrix read every weight once. */
#define MOST_ROWS 4
/* Bytes of weights worth a second thread. */
#define WORTH_A_THREAD 65536
/* Outputs at a time. */
#define OUTPUTS 4

typedef struct {
  const float *x, *weight, *before;
  float *y;
  long rows, n, inner;
} FewRows;

/* `count` outputs from `j` on of all rows. */
INLINE void outputs_at(const FewRows *p, long j, const int count) {
  for (long r = 0; r < p->rows; r++) {
    const float *x = p->x + r * p->inner, *w = p->weight + j * p->inner;
    vec sums[OUTPUTS] = {{0}};
    long k = 0;
    for (; k + WIDTH <= p->inner; k += WIDTH) {
      vec own = load(x + k);
#pragma GCC unroll 4
      for (int i = 0; i < count; i++) sums[i] += own * load(w + i * p->inner + k);
    }
    if (k < p->inner) {
      vec own = load_some(x + k, p->inner - k);
      for (int i = 0; i < count; i++) sums[i] += own * load_some(w + i * p->inner + k, p->inner - k);
    }
    quarter totals = sums_of(sums);
    for (int i = 0; i < count; i++) {
      long at = r * p->n + j + i;
      p->y[at] = totals[i] + (p->before ? p->before[at] : 0);
    }
  }
}

static void few_rows_work(void *argument, int thread, int threads) {
  const FewRows *p = argument;
  long j, to;
  part(p->n, OUTPUTS, thread, threads, &j, &to);
  for (; j + OUTPUTS <= to; j += OUTPUTS) outputs_at(p, j, OUTPUTS);
  for (; j < to; j++) outputs_at(p, j, 1);
}

/* y[rows][n] = x weight^T (+ before); weight [n][inner]; any number of rows, of which few make it fast. */
EXPORT int yoco_few_rows(Pool *pool, const float *x, const float *weight, const float *before, float *y, int rows, int n, int inner) {
  FewRows p = {x, weight, before, y, rows, n, inner};
  if (4l * n * inner < WORTH_A_THREAD) few_rows_work(&p, 0, 1);
  else run(pool, few_rows_work, &p);
  return 0;
}

/* Positions of a task: its results do not depend on how many threads there are. */
#define POSITIONS 1024

typedef struct {
  Pool *pool;
  const float *q;
  const float *const *keys, *const *values;
  float *y, *results;
  long batch, heads, kvHeads, width, pageSize, from, to, tasks;
  float scale;
  atomic_long next;
  atomic_int failed;
} Pages;

/* The largest score of a query head over the positions of a task, the sum of exponentials, and the weighted values. */
INLINE float *result_of(const Pages *p, long head, long task) { return p->results + (head * p->tasks + task) * (p->width + 2); }

/* Rows at a time. */
#define KEYS 4

/* scores[g][r] = q[g] . keys[r] * scale, where queries of a group fit the registers. */
INLINE void score_rows(const float *q, const float *keys, float *scores, long rows, float scale, const int group, const int vectors) {
  const long width = (long)vectors * WIDTH;
  long r = 0;
  for (; r + KEYS <= rows; r += KEYS) {
    const float *k = keys + r * width;
    for (long i = 0; i < KEYS * width; i += 16) __builtin_prefetch((const char *)(k + i) + AHEAD);
#pragma GCC unroll 4
    for (int g = 0; g < group; g++) {
      vec products[KEYS];
#pragma GCC unroll 4
      for (int row = 0; row < KEYS; row++) {
        products[row] = load(q + g * width) * load(k + row * width);
#pragma GCC unroll 8
        for (int i = 1; i < vectors; i++) products[row] += load(q + g * width + i * WIDTH) * load(k + row * width + i * WIDTH);
      }
      *(quarter *)(scores + g * POSITIONS + r) = sums_of(products) * scale;
    }
  }
  for (; r < rows; r++)
    for (int g = 0; g < group; g++) scores[g * POSITIONS + r] = product_of(q + g * width, keys + r * width, width) * scale;
}

/* y[g] += the sum of weights[g][r] values[r]; y[g] lie `apart` apart. */
INLINE void add_rows(float *y, long apart, const float *values, const float *weights, long rows, const int group, const int vectors) {
  vec sums[16];
  const long width = (long)vectors * WIDTH;
#pragma GCC unroll 16
  for (int i = 0; i < group * vectors; i++) sums[i] = (vec){0};
  for (long r = 0; r < rows; r++) {
    const float *v = values + r * width;
    for (long i = 0; i < width; i += 16) __builtin_prefetch((const char *)(v + i) + AHEAD);
#pragma GCC unroll 4
    for (int g = 0; g < group; g++) {
      vec w = splat(weights[g * POSITIONS + r]);
#pragma GCC unroll 8
      for (int i = 0; i < vectors; i++) sums[g * vectors + i] += w * load(v + i * WIDTH);
    }
  }
#pragma GCC unroll 4
  for (int g = 0; g < group; g++)
#pragma GCC unroll 8
    for (int i = 0; i < vectors; i++) store(y + g * apart + i * WIDTH, load(y + g * apart + i * WIDTH) + sums[g * vectors + i]);
}

/* The usual groups and widths of heads have code of their own. */
#define USUAL(DO) DO(1, 4) DO(2, 4) DO(4, 4) DO(1, 8) DO(2, 8) DO(1, 2) DO(2, 2) DO(4, 2)

static void score(const float *q, const float *keys, float *scores, long rows, float scale, long group, long width) {
#define SCORE(G, V) if (group == G && width == V * WIDTH) { score_rows(q, keys, scores, rows, scale, G, V); return; }
  USUAL(SCORE)
  for (long r = 0; r < rows; r++)
    for (long g = 0; g < group; g++) scores[g * POSITIONS + r] = product_of(q + g * width, keys + r * width, width) * scale;
}

static void weigh_values(float *y, long apart, const float *values, const float *weights, long rows, long group, long width) {
#define WEIGH(G, V) if (group == G && width == V * WIDTH) { add_rows(y, apart, values, weights, rows, G, V); return; }
  USUAL(WEIGH)
  for (long g = 0; g < group; g++)
    for (long r = 0; r < rows; r++) add_scaled(y + g * apart, values + r * width, weights[g * POSITIONS + r], width);
}

static void attend_task(Pages *p, long head, long task, float *scores) {
  const long group = p->heads / p->kvHeads, width = p->width;
  long first = p->from + task * POSITIONS, last = first + POSITIONS < p->to ? first + POSITIONS : p->to, count = last - first;
  for (long at = first; at < last;) {
    long page = at / p->pageSize, row = at % p->pageSize, rows = p->pageSize - row < last - at ? p->pageSize - row : last - at;
    const float *keys = p->keys[page] + (head * p->pageSize + row) * width;
    score(p->q + head * group * width, keys, scores + at - first, rows, p->scale, group, width);
    at += rows;
  }
  for (long g = 0; g < group; g++) {
    float *own = scores + g * POSITIONS, *result = result_of(p, head * group + g, task);
    weigh_scores(own, count, result);
    memset(result + 2, 0, 4 * (size_t)width);
  }
  for (long at = first; at < last;) {
    long page = at / p->pageSize, row = at % p->pageSize, rows = p->pageSize - row < last - at ? p->pageSize - row : last - at;
    const float *values = p->values[page] + (head * p->pageSize + row) * width;
    weigh_values(result_of(p, head * group, task) + 2, p->tasks * (width + 2), values, scores + at - first, rows, group, width);
    at += rows;
  }
}

static void pages_work(void *argument, int thread, int threads) {
  (void)threads;
  Pages *p = argument;
  /* The results of all tasks lie at the start of the first thread's memory. */
  long results = thread == 0 ? p->batch * p->heads * p->tasks * (p->width + 2) : 0, all = p->batch * p->kvHeads * p->tasks;
  float *room = thread == 0 ? p->results : scratch(p->pool, thread, (size_t)(p->heads / p->kvHeads * POSITIONS));
  if (room == NULL) {
    p->failed = 1;
    return;
  }
  for (long task; (task = atomic_fetch_add(&p->next, 1)) < all;) attend_task(p, task / p->tasks, task % p->tasks, room + results);
}

/*
 * Attention of one query of each sequence to positions [from, to) of pages: q, y [batch, heads, width]; keys and values: addresses of pages
 * [batch * kvHeads, pageSize, width], from that of position 0 on (those before `from` are not read).
 */
EXPORT int yoco_paged_attention(Pool *pool, const float *q, const float *const *keys, const float *const *values, float *y, int batch, int heads, int kvHeads, int width, int pageSize, int from, int to, float scale) {
  long tasks = (to - from + POSITIONS - 1) / POSITIONS;
  Pages p = {.pool = pool, .q = q, .keys = keys, .values = values, .y = y, .batch = batch, .heads = heads, .kvHeads = kvHeads, .width = width, .pageSize = pageSize, .from = from, .to = to, .tasks = tasks, .scale = scale};
  p.results = scratch(pool, 0, (size_t)((long)batch * heads * tasks * (width + 2) + heads / kvHeads * POSITIONS));
  if (p.results == NULL) return 1;
  run(pool, pages_work, &p);
  if (p.failed) return 1;
  for (long head = 0; head < (long)batch * heads; head++) merge_tasks(result_of(&p, head, 0), tasks, width, y + head * width);
  return 0;
}

typedef struct {
  const float *q, *k, *v, *logDecay;
  float *state, *y;
  long heads, shared, key, value;
} Step;

static void retention_work(void *argument, int thread, int threads) {
  const Step *s = argument;
  long head, to;
  const float scale = 1 / sqrtf((float)s->key);
  part(s->heads, 1, thread, threads, &head, &to);
  for (; head < to; head++) {
    const float decay = expf(s->logDecay[head]), *values = s->v + head * s->value;
    const float *queries = s->q + head / s->shared * s->key, *keys = s->k + head / s->shared * s->key;
    float *out = s->y + head * s->value;
    memset(out, 0, 4 * (size_t)s->value);
    for (long i = 0; i < s->key; i++) {
      float *row = s->state + (head * s->key + i) * s->value, query = queries[i], factor = keys[i] * scale;
      long j = 0;
      for (; j + WIDTH <= s->value; j += WIDTH) {
        vec next = load(row + j) * splat(decay) + splat(factor) * load(values + j);
        store(row + j, next);
        store(out + j, load(out + j) + splat(query) * next);
      }
      for (; j < s->value; j++) {
        row[j] = row[j] * decay + factor * values[j];
        out[j] += query * row[j];
      }
    }
  }
}

/* One position of gated retention: state [heads, key, value] changes in place; q, k [heads / shared, key]; v, y [heads, value]. */
EXPORT int yoco_retention_step(Pool *pool, const float *q, const float *k, const float *v, const float *logDecay, float *state, float *y, int heads, int shared, int key, int value) {
  Step s = {q, k, v, logDecay, state, y, heads, shared, key, value};
  if ((long)heads * key * value < 8192) retention_work(&s, 0, 1);
  else run(pool, retention_work, &s);
  return 0;
}
