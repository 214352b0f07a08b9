/*
 * The gradient of gated retention; formulas in src/ops/gated-retention. A task is a head of a sequence. Chunks go backward in time with the gradient of
 * the state after them. The states before them are computed going forward, for a segment of some chunks at a time, from the state before each segment.
 */
#include <math.h>
#include <stdatomic.h>
#include "pool.h"
#include "product.h"
#include "retention.h"

/* Chunks of a segment: their states fit the second cache. */
#define SEGMENT 16
/* Rows of a product at a time where the others end elsewhere. */
#define STEP (2 * ROWS)

typedef struct {
  Pool *pool;
  const float *q, *k, *v, *logDecay, *before, *after, *dy;
  float *dq, *dk, *dv, *dLogDecay, *dState;
  long batch, time, heads, shared, key, value;
  /* Widths in whole panels, floats of a state [panels of keys][value][PANEL], and segments. */
  long wideKey, wideValue, size, segments;
  float scale;
  atomic_long next;
  atomic_int failed;
} Retention;

/* A thread's memory. */
typedef struct {
  /* The state before each segment, and before each chunk of one. */
  float *starts, *states;
  /* The gradient of the state after a chunk, [panels of values][key][PANEL], and as the states lie. */
  float *dState, *dTurned;
  /* Of a chunk in panels: a matrix in columns; keys, queries and dy in rows. */
  float *columns, *keys, *queries, *dy;
  /* Scores and their gradients, decays [CHUNK][CHUNK], and rows times their decays. */
  float *scores, *dScores, *pairs, *faded;
} Room;

/* Where the positions of a chunk of a head lie. */
typedef struct {
  long count, keyRow, valueRow, ownRow;
  const float *q, *k, *v, *dy, *gates;
  float *dq, *dk, *dv, *dLogDecay;
} Chunk;

static const Target NONE = {NULL, 0};

static Chunk chunk_at(const Retention *p, long b, long head, long start) {
  const long at = b * p->time + start, keyRow = p->shared * p->key, valueRow = p->heads * p->value, ownRow = p->heads * p->key;
  const long key = at * keyRow + head / (p->heads / p->shared) * p->key, value = at * valueRow + head * p->value, own = at * ownRow + head * p->key, gate = at * p->heads + head;
  return (Chunk){smaller(CHUNK, p->time - start), keyRow, valueRow, ownRow, p->q + key, p->k + key, p->v + value, p->dy + value, p->logDecay + gate, p->dq + own, p->dk + own, p->dv + value, p->dLogDecay + gate};
}

/* The state after a chunk from that before it; `after` may be `before`. */
static void advance(const Retention *p, const Room *room, const Chunk *c, const float *before, float *after) {
  double sums[CHUNK];
  float fromStart[CHUNK], toEnd[CHUNK];
  decays_of(c->gates, p->heads, c->count, sums, fromStart, toEnd);
  const vec all = splat(fromStart[c->count - 1]);
  for (long t = 0; t < c->count; t++) toEnd[t] *= p->scale;
  fade(c->v, c->valueRow, c->count, p->value, toEnd, room->faded);
  pack_rows(c->k, c->keyRow, c->count, p->key, room->keys);
  for (long i = 0; i < p->size; i += WIDTH) store(after + i, load(before + i) * all);
  for (long j = 0; j < p->wideKey; j += PANEL) {
    Target own = {after + j * p->value, PANEL};
    multiply(p->value, PANEL, c->count, (Left){room->faded, 1, p->value}, room->keys + j * c->count, own, own);
  }
}

/* dState as the states lie. */
static void turn(const Retention *p, const Room *room) {
  for (long j = 0; j < p->value; j += PANEL)
    for (long i = 0; i < p->key; i += PANEL)
      pack_columns(room->dState + j * p->key + i * PANEL, PANEL, smaller(PANEL, p->value - j), smaller(PANEL, p->key - i), room->dTurned + i * p->value + j * PANEL);
}

/* a bᵀ times the decays and `scale`, of positions and earlier ones; those of whole panels of later ones are left out. */
static void weigh_pairs(const Room *room, const Chunk *c, const float *a, const float *b, long stride[2], long width, float scale, float *out) {
  pack_columns(b, stride[1], width, c->count, room->columns);
  for (long row = 0; row < c->count; row += STEP) {
    const long rows = smaller(STEP, c->count - row), seen = panels(row + rows);
    multiply(rows, seen, width, (Left){a + row * stride[0], stride[0], 1}, room->columns, NONE, (Target){out + row * CHUNK, CHUNK});
    for (long t = row; t < row + rows; t++)
      for (long i = 0; i < seen; i += WIDTH) store(out + t * CHUNK + i, load(out + t * CHUNK + i) * load(room->pairs + t * CHUNK + i) * splat(scale));
  }
}

/* y += weights b, of b in panels [width][count][PANEL]: a position takes from earlier ones. */
static void add_earlier(const Chunk *c, const float *weights, const float *b, long width, Target y) {
  for (long row = 0; row < c->count; row += STEP) {
    const long rows = smaller(STEP, c->count - row);
    for (long j = 0; j < width; j += PANEL) {
      Target part = {y.at + row * y.row + j, y.row};
      multiply(rows, smaller(PANEL, width - j), row + rows, (Left){weights + row * CHUNK, CHUNK, 1}, b + j * c->count, part, part);
    }
  }
}

/* y += weightsᵀ b: a position takes from later ones. */
static void add_later(const Chunk *c, const float *weights, const float *b, long width, Target y) {
  for (long row = 0; row < c->count; row += STEP) {
    const long rows = smaller(STEP, c->count - row);
    for (long j = 0; j < width; j += PANEL) {
      Target part = {y.at + row * y.row + j, y.row};
      multiply(rows, smaller(PANEL, width - j), c->count - row, (Left){weights + row * CHUNK + row, 1, CHUNK}, b + j * c->count + row * PANEL, part, part);
    }
  }
}

static void scale_rows(float *y, long stride, long rows, long width, const float *factors) {
  for (long i = 0; i < rows; i++)
    for (long j = 0; j < width; j++) y[i * stride + j] *= factors[i];
}

/* The gradients of a chunk, and the gradient of the state before it in place of that after it; *later: the sum of the slopes of later positions. */
static void retain_grad(const Retention *p, const Room *room, const Chunk *c, const float *state, double *later) {
  double sums[CHUNK];
  float fromStart[CHUNK], toEnd[CHUNK];
  const Target dq = {c->dq, c->ownRow}, dk = {c->dk, c->ownRow}, dv = {c->dv, c->valueRow};
  decays_of(c->gates, p->heads, c->count, sums, fromStart, toEnd);
  pairs_of(sums, c->count, room->pairs);
  const vec all = splat(fromStart[c->count - 1]);
  for (long t = 0; t < c->count; t++) toEnd[t] *= p->scale;
  weigh_pairs(room, c, c->q, c->k, (long[]){c->keyRow, c->keyRow}, p->key, p->scale, room->scores);
  weigh_pairs(room, c, c->dy, c->v, (long[]){c->valueRow, c->valueRow}, p->value, p->scale, room->dScores);
  pack_rows(c->q, c->keyRow, c->count, p->key, room->queries);
  pack_rows(c->k, c->keyRow, c->count, p->key, room->keys);
  pack_rows(c->dy, c->valueRow, c->count, p->value, room->dy);
  turn(p, room);

  multiply(c->count, p->key, p->value, (Left){c->dy, c->valueRow, 1}, state, NONE, dq);
  scale_rows(c->dq, c->ownRow, c->count, p->key, fromStart);
  add_earlier(c, room->dScores, room->keys, p->key, dq);

  multiply(c->count, p->key, p->value, (Left){c->v, c->valueRow, 1}, room->dTurned, NONE, dk);
  scale_rows(c->dk, c->ownRow, c->count, p->key, toEnd);
  add_later(c, room->dScores, room->queries, p->key, dk);

  fade(c->k, c->keyRow, c->count, p->key, toEnd, room->faded);
  multiply(c->count, p->value, p->key, (Left){room->faded, p->key, 1}, room->dState, NONE, dv);
  add_later(c, room->scores, room->dy, p->value, dv);

  fade(c->q, c->keyRow, c->count, p->key, fromStart, room->faded);
  for (long i = 0; i < p->key * p->wideValue; i += WIDTH) store(room->dState + i, load(room->dState + i) * all);
  for (long j = 0; j < p->wideValue; j += PANEL) {
    Target own = {room->dState + j * p->key, PANEL};
    multiply(p->key, PANEL, c->count, (Left){room->faded, 1, p->key}, room->dy + j * c->count, own, own);
  }
  for (long t = c->count - 1; t >= 0; t--) {
    *later += (double)product_of(c->q + t * c->keyRow, c->dq + t * c->ownRow, p->key) - (double)product_of(c->k + t * c->keyRow, c->dk + t * c->ownRow, p->key);
    c->dLogDecay[t * p->heads] = (float)*later;
  }
}

static void head_grad(const Retention *p, const Room *room, long b, long head) {
  const long own = (b * p->heads + head) * p->key * p->value, chunks = (p->time + CHUNK - 1) / CHUNK;
  float *dState = p->dState + own;
  double later = 0;
  for (long i = 0; i < p->key * p->value; i++) later += (double)dState[i] * (double)p->after[own + i];
  if (p->before == NULL) memset(room->starts, 0, 4 * (size_t)p->size);
  else pack_columns(p->before + own, p->value, p->value, p->key, room->starts);
  for (long s = 1; s < p->segments; s++)
    for (long i = (s - 1) * SEGMENT; i < s * SEGMENT; i++) {
      Chunk c = chunk_at(p, b, head, i * CHUNK);
      advance(p, room, &c, room->starts + (i % SEGMENT == 0 ? s - 1 : s) * p->size, room->starts + s * p->size);
    }
  for (long j = 0; j < p->value; j += PANEL) pack_rows(dState + j, p->value, p->key, smaller(PANEL, p->value - j), room->dState + j * p->key);
  for (long s = p->segments - 1; s >= 0; s--) {
    const long first = s * SEGMENT, count = smaller(SEGMENT, chunks - first);
    memcpy(room->states, room->starts + s * p->size, 4 * (size_t)p->size);
    for (long i = 1; i < count; i++) {
      Chunk c = chunk_at(p, b, head, (first + i - 1) * CHUNK);
      advance(p, room, &c, room->states + (i - 1) * p->size, room->states + i * p->size);
    }
    for (long i = count - 1; i >= 0; i--) {
      Chunk c = chunk_at(p, b, head, (first + i) * CHUNK);
      retain_grad(p, room, &c, room->states + i * p->size, &later);
    }
  }
  for (long j = 0; j < p->value; j += PANEL)
    for (long i = 0; i < p->key; i++) memcpy(dState + i * p->value + j, room->dState + j * p->key + i * PANEL, 4 * (size_t)smaller(PANEL, p->value - j));
}

static float *cut(float **memory, long floats) {
  float *own = *memory;
  *memory += floats;
  return own;
}

static void retention_grad_work(void *argument, int thread, int threads) {
  (void)threads;
  Retention *p = argument;
  const long states = smaller(SEGMENT, (p->time + CHUNK - 1) / CHUNK), widest = p->wideKey > p->wideValue ? p->wideKey : p->wideValue;
  long i = atomic_fetch_add(&p->next, 1);
  if (i >= p->batch * p->heads) return;
  float *memory = scratch(p->pool, thread, (size_t)((p->segments + states + 1) * p->size + p->key * p->wideValue + CHUNK * (2 * widest + 2 * p->wideKey + p->wideValue + 3 * CHUNK)));
  if (memory == NULL) {
    p->failed = 1;
    return;
  }
  Room room;
  room.starts = cut(&memory, p->segments * p->size);
  room.states = cut(&memory, states * p->size);
  room.dState = cut(&memory, p->key * p->wideValue);
  room.dTurned = cut(&memory, p->size);
  room.columns = cut(&memory, CHUNK * widest);
  room.keys = cut(&memory, CHUNK * p->wideKey);
  room.queries = cut(&memory, CHUNK * p->wideKey);
  room.dy = cut(&memory, CHUNK * p->wideValue);
  room.scores = cut(&memory, CHUNK * CHUNK);
  room.dScores = cut(&memory, CHUNK * CHUNK);
  room.pairs = cut(&memory, CHUNK * CHUNK);
  room.faded = cut(&memory, CHUNK * widest);
  for (; i < p->batch * p->heads; i = atomic_fetch_add(&p->next, 1)) head_grad(p, &room, i / p->heads, i % p->heads);
}

/*
 * q, k [batch, time, shared, key]; v, dy, dv [batch, time, heads, value]; dq, dk [batch, time, heads, key]; logDecay, dLogDecay [batch, time, heads];
 * the states before the first position (NULL for zeros) and after the last, [batch, heads, key, value]; dState: the gradient of the latter, and in its place that of the
 * former. Not 0 where memory was missing.
 */
EXPORT int yoco_retention_grad(Pool *pool, const float *q, const float *k, const float *v, const float *logDecay, const float *before, const float *after, const float *dy, float *dq, float *dk, float *dv, float *dLogDecay, float *dState, int batch, int time, int heads, int shared, int key, int value) {
  Retention p = {.pool = pool, .q = q, .k = k, .v = v, .logDecay = logDecay, .before = before, .after = after, .dy = dy, .dq = dq, .dk = dk, .dv = dv, .dLogDecay = dLogDecay, .dState = dState, .batch = batch, .time = time, .heads = heads, .shared = shared, .key = key, .value = value};
  p.wideKey = panels(key);
  p.wideValue = panels(value);
  p.size = p.wideKey * p.value;
  p.segments = (time + SEGMENT * CHUNK - 1) / (SEGMENT * CHUNK);
  p.scale = 1 / sqrtf((float)key);
  run(pool, retention_grad_work, &p);
  return p.failed;
}
