/*
 * Gated retention of several positions, chunk after chunk; formulas in src/ops/gated-retention. A task is a head of a sequence, or some columns
 * of its values where there are more threads than heads: no column's result depends on that.
 */
#include <math.h>
#include <stdatomic.h>
#include "pool.h"
#include "product.h"
#include "retention.h"

typedef struct {
  Pool *pool;
  const float *q, *k, *v, *logDecay;
  float *state, *y;
  long batch, time, heads, shared, key, value;
  /* Tasks of a head. */
  long parts;
  atomic_long next;
  atomic_int failed;
} Retention;

/* A thread's memory. */
typedef struct {
  /* Of a chunk: keys and values in panels, scores, queries and keys times their decays [CHUNK][key], and all decays. */
  float *keys, *values, *scores, *faded, *pairs;
  /* Panels [key][PANEL] of the state. */
  float *state;
} Room;

/* Positions [start, start + count) of a head; columns [left, right) of its values. */
typedef struct {
  long b, head, left, right, start, count;
} Chunk;

/* y of a chunk, and the state after it. */
static void retain(const Retention *p, const Room *room, const Chunk *c) {
  double sums[CHUNK];
  float fromStart[CHUNK], toEnd[CHUNK];
  const long shared = c->head / (p->heads / p->shared), keyRow = p->shared * p->key, valueRow = p->heads * p->value;
  const long keyAt = (c->b * p->time + c->start) * keyRow + shared * p->key, valueAt = (c->b * p->time + c->start) * valueRow + c->head * p->value;
  const float *q = p->q + keyAt, *k = p->k + keyAt;
  const Target none = {NULL, 0};
  const float scale = 1 / sqrtf((float)p->key);
  decays_of(p->logDecay + (c->b * p->time + c->start) * p->heads + c->head, p->heads, c->count, sums, fromStart, toEnd);
  pairs_of(sums, c->count, room->pairs);
  pack_columns(k, keyRow, p->key, c->count, room->keys);
  /* Queries see no later keys: whole panels of those are left out. */
  for (long row = 0; row < c->count; row += PANEL) {
    long rows = smaller(PANEL, c->count - row), seen = row + rows;
    multiply(rows, panels(seen), p->key, (Left){q + row * keyRow, keyRow, 1}, room->keys, none, (Target){room->scores + row * CHUNK, CHUNK});
    for (long t = row; t < seen; t++)
      for (long i = 0; i < panels(seen); i += WIDTH) {
        float *at = room->scores + t * CHUNK + i;
        store(at, load(at) * load(room->pairs + t * CHUNK + i) * splat(scale));
      }
  }
  fade(q, keyRow, c->count, p->key, fromStart, room->faded);
  for (long j = c->left; j < c->right; j += PANEL) {
    long width = smaller(PANEL, c->right - j);
    float *values = room->values + (j - c->left) * CHUNK, *state = room->state + (j - c->left) * p->key;
    Target y = {p->y + valueAt + j, valueRow};
    pack_rows(p->v + valueAt + j, valueRow, c->count, width, values);
    multiply(c->count, width, p->key, (Left){room->faded, p->key, 1}, state, none, y);
    for (long row = 0; row < c->count; row += PANEL) {
      long rows = smaller(PANEL, c->count - row);
      Target part = {y.at + row * valueRow, valueRow};
      multiply(rows, width, row + rows, (Left){room->scores + row * CHUNK, CHUNK, 1}, values, part, part);
    }
  }
  for (long t = 0; t < c->count; t++) toEnd[t] *= scale;
  fade(k, keyRow, c->count, p->key, toEnd, room->faded);
  const vec all = splat(fromStart[c->count - 1]);
  for (long j = c->left; j < c->right; j += PANEL) {
    float *state = room->state + (j - c->left) * p->key;
    for (long i = 0; i < p->key * PANEL; i += WIDTH) store(state + i, load(state + i) * all);
    Target own = {state, PANEL};
    multiply(p->key, PANEL, c->count, (Left){room->faded, 1, p->key}, room->values + (j - c->left) * CHUNK, own, own);
  }
}

static void retain_head(const Retention *p, const Room *room, long b, long head, long left, long right) {
  float *state = p->state + (b * p->heads + head) * p->key * p->value;
  for (long j = left; j < right; j += PANEL) pack_rows(state + j, p->value, p->key, smaller(PANEL, right - j), room->state + (j - left) * p->key);
  for (long start = 0; start < p->time; start += CHUNK) {
    Chunk c = {b, head, left, right, start, smaller(CHUNK, p->time - start)};
    retain(p, room, &c);
  }
  for (long j = left; j < right; j += PANEL)
    for (long i = 0; i < p->key; i++)
      memcpy(state + i * p->value + j, room->state + (j - left) * p->key + i * PANEL, 4 * (size_t)smaller(PANEL, right - j));
}

static void retention_chunks(void *argument, int thread, int threads) {
  (void)threads;
  Retention *p = argument;
  const long wide = panels(p->value), chunk = panels(CHUNK);
  float *memory = scratch(p->pool, thread, (size_t)(chunk * (2 * p->key + 2 * CHUNK + wide) + wide * p->key));
  if (memory == NULL) {
    p->failed = 1;
    return;
  }
  Room room = {.keys = memory, .faded = memory + chunk * p->key, .scores = memory + 2 * chunk * p->key};
  room.pairs = room.scores + chunk * CHUNK;
  room.values = room.pairs + chunk * CHUNK;
  room.state = room.values + chunk * wide;
  for (long i; (i = atomic_fetch_add(&p->next, 1)) < p->batch * p->heads * p->parts;) {
    long head = i / p->parts, left, right;
    part(p->value, PANEL, (int)(i % p->parts), (int)p->parts, &left, &right);
    retain_head(p, &room, head / p->heads, head % p->heads, left, right);
  }
}

/*
 * q, k [batch, time, shared, key]; v, y [batch, time, heads, value]; logDecay [batch, time, heads]; state [batch, heads, key, value]: before the
 * first position, and in its place after the last. Not 0 where memory was missing.
 */
EXPORT int yoco_retention(Pool *pool, const float *q, const float *k, const float *v, const float *logDecay, float *state, float *y, int batch, int time, int heads, int shared, int key, int value) {
  Retention p = {.pool = pool, .q = q, .k = k, .v = v, .logDecay = logDecay, .state = state, .y = y, .batch = batch, .time = time, .heads = heads, .shared = shared, .key = key, .value = value};
  long most = panels(value) / PANEL, wanted = (threads_of(pool) + (long)batch * heads - 1) / ((long)batch * heads);
  p.parts = smaller(most, wanted);
  run(pool, retention_chunks, &p);
  return p.failed;
}
