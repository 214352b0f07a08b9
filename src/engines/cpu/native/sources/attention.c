/*
 * Causal attention of several queries; formulas in src/ops/attention. A task is some queries of all heads that share a key/value head of a
 * sequence. It packs a block of keys and values into panels and takes its queries through them, with one softmax running over all blocks.
 * Blocks begin at fixed positions, so that no bit depends on how queries are dealt out.
 */
#include <stdatomic.h>
#include "pool.h"
#include "product.h"
#include "softmax.h"

/* Queries of a head at a time, and keys: their scores stay in the second cache. */
#define QUERIES (4 * ROWS)
#define KEYS 256
/* Blocks of queries of a task at most: enough to be worth packing keys for. */
#define MOST_BLOCKS 16
/* Tasks that each thread should have at least, where there are so many. */
#define TASKS 4

typedef struct {
  Pool *pool;
  const float *q;
  const float *const *keys, *const *values;
  float *y;
  long batch, time, length, heads, kvHeads, width, pageSize, window;
  /* Floats between keys of a page: of successive sequences, heads and positions. */
  long nextSequence, nextHead, nextKey;
  float factor;
  /* Blocks of queries of a sequence, of a task, and tasks of a sequence's head. */
  long blocks, taken, parts;
  atomic_long next;
  atomic_int failed;
} Attention;

/* A thread's memory. */
typedef struct {
  float *keys, *values, *scores;
  /* Of every query of the task: the largest power so far, and the sum of weights. */
  float *peaks, *sums;
} Room;

typedef struct {
  long b, head;
  /* Queries [first, last). */
  long first, last;
} Task;

/* Keys [start, start + count) meet queries [row, row + rows) of query head `head`; columns of a block's scores are its keys. */
static void attend_block(const Attention *t, const Room *room, Task task, long head, long row, long rows, long start, long count) {
  const long position = t->length - t->time + row, stride = t->heads * t->width, own = (head % (t->heads / t->kvHeads)) * (task.last - task.first) + row - task.first;
  float *y = t->y + ((task.b * t->time + row) * t->heads + head) * t->width, *peaks = room->peaks + own, *sums = room->sums + own;
  const float *q = t->q + (y - t->y);
  const Target none = {NULL, 0};
  const long seen = smaller(count, position + rows - start), columns = panels(seen);
  multiply(rows, columns, t->width, (Left){q, stride, 1}, room->keys, none, (Target){room->scores, columns});
  int begun = 0;
  for (long r = 0; r < rows; r++) begun |= sums[r] != 0;
  for (long r = 0; r < rows; r++) {
    float *scores = room->scores + r * columns;
    long to = smaller(seen, position + r + 1 - start), from = position + r - t->window + 1 - start;
    if (from < 0) from = 0;
    if (from >= to) {
      memset(scores, 0, 4 * (size_t)columns);
      continue;
    }
    float before = peaks[r], added = weigh(scores, from, to, columns, t->factor, peaks + r);
    if (peaks[r] > before && sums[r] != 0) {
      vec shrink = vexp2(splat(before - peaks[r]));
      sums[r] *= shrink[0];
      for (long i = 0; i < t->width; i++) y[r * stride + i] *= shrink[0];
    }
    sums[r] += added;
  }
  for (long j = 0; j < t->width; j += PANEL) {
    Target part = {y + j, stride};
    multiply(rows, smaller(PANEL, t->width - j), seen, (Left){room->scores, columns, 1}, room->values + j * KEYS, begun ? part : none, part);
  }
}

/* Keys [from, from + count) of a page, of which the first has position `start`. */
static void meet_keys(const Attention *t, const Room *room, Task task, long page, long from, long start, long count) {
  const long at = task.b * t->nextSequence + task.head * t->nextHead + from * t->nextKey, offset = t->length - t->time;
  pack_columns(t->keys[page] + at, t->nextKey, t->width, count, room->keys);
  for (long j = 0; j < t->width; j += PANEL) pack_rows(t->values[page] + at + j, t->nextKey, count, smaller(PANEL, t->width - j), room->values + j * KEYS);
  const long group = t->heads / t->kvHeads;
  for (long row = task.first; row < task.last; row += QUERIES) {
    long rows = smaller(QUERIES, task.last - row);
    if (offset + row + rows <= start || offset + row - t->window + 1 >= start + count) continue;
    for (long g = 0; g < group; g++) attend_block(t, room, task, task.head * group + g, row, rows, start, count);
  }
}

static void attend(const Attention *t, const Room *room, Task task) {
  const long offset = t->length - t->time, queries = task.last - task.first, group = t->heads / t->kvHeads;
  for (long i = 0; i < group * queries; i++) {
    room->peaks[i] = -INFINITY;
    room->sums[i] = 0;
  }
  long oldest = offset + task.first - t->window + 1, end = offset + task.last;
  if (oldest < 0) oldest = 0;
  for (long page = oldest / t->pageSize; page * t->pageSize < end; page++) {
    const long start = page * t->pageSize, last = smaller(t->pageSize, end - start);
    for (long from = oldest > start ? (oldest - start) / KEYS * KEYS : 0; from < last; from += KEYS)
      meet_keys(t, room, task, page, from, start + from, smaller(KEYS, last - from));
  }
  for (long g = 0; g < group; g++)
    for (long i = 0; i < queries; i++) {
      float *y = t->y + ((task.b * t->time + task.first + i) * t->heads + task.head * group + g) * t->width, inverse = 1 / room->sums[g * queries + i];
      for (long j = 0; j < t->width; j++) y[j] *= inverse;
    }
}

static void attend_work(void *argument, int thread, int threads) {
  (void)threads;
  Attention *t = argument;
  const long wide = panels(t->width), queries = t->heads / t->kvHeads * t->taken * QUERIES, tasks = t->batch * t->kvHeads * t->parts;
  float *memory = scratch(t->pool, thread, (size_t)(KEYS * (t->width + wide) + QUERIES * KEYS + 2 * queries));
  if (memory == NULL) {
    t->failed = 1;
    return;
  }
  Room room = {memory, memory + KEYS * t->width, 0, 0, 0};
  room.scores = room.values + KEYS * wide;
  room.peaks = room.scores + QUERIES * KEYS;
  room.sums = room.peaks + queries;
  for (long i; (i = atomic_fetch_add(&t->next, 1)) < tasks;) {
    /* Late queries see the most keys: they come first. */
    long first = (t->parts - 1 - i / (t->batch * t->kvHeads)) * t->taken * QUERIES, head = i % (t->batch * t->kvHeads);
    Task task = {head / t->kvHeads, head % t->kvHeads, first, smaller(t->time, first + t->taken * QUERIES)};
    attend(t, &room, task);
  }
}

/*
 * q, y [batch, time, heads, width], the last `time` of `length` positions; window: keys that a query sees at most. keys and values: addresses
 * of pages [batch, kvHeads, pageSize, width], or where pageSize is 0 of one tensor [batch, length, kvHeads, width]. Not 0 where memory was missing.
 */
EXPORT int yoco_attention(Pool *pool, const float *q, const float *const *keys, const float *const *values, float *y, int batch, int time, int length, int heads, int kvHeads, int width, int pageSize, int window, float scale) {
  Attention t = {.pool = pool, .q = q, .keys = keys, .values = values, .y = y, .batch = batch, .time = time, .length = length, .heads = heads, .kvHeads = kvHeads, .width = width, .window = window, .factor = to_powers(scale)};
  t.pageSize = pageSize == 0 ? length : pageSize;
  t.nextKey = pageSize == 0 ? t.kvHeads * t.width : t.width;
  t.nextHead = pageSize == 0 ? t.width : t.pageSize * t.width;
  t.nextSequence = t.kvHeads * t.pageSize * t.width;
  t.blocks = (t.time + QUERIES - 1) / QUERIES;
  t.taken = smaller(MOST_BLOCKS, t.blocks * t.batch * t.kvHeads / (TASKS * threads_of(pool)));
  if (t.taken < 1) t.taken = 1;
  t.parts = (t.blocks + t.taken - 1) / t.taken;
  run(pool, attend_work, &t);
  return t.failed;
}
