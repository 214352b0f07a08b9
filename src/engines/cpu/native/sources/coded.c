/*
 * Attention of one query of each sequence to codes (`ops/attention/codes.ts`), read as words of 32 bits. A word has several codes of a row, and
 * code p of all words of a vector is a vector of elements: so queries and results are arranged, element word * CODES + p at
 * (word / WIDTH * CODES + p) * WIDTH + word % WIDTH. Everything is computed in float32.
 */
#include <stdatomic.h>
#include "pool.h"
#include "tasks.h"
#include "vector.h"

/* Positions of a group, and of a task: its results do not depend on how many threads there are. */
#define GROUP 64
#define TASK_GROUPS 16
#define POSITIONS (GROUP * TASK_GROUPS)

/* As `native/coded.ts` numbers them. */
enum { BFLOAT16, FLOAT16, FLOAT8, INT8, INT4 };
#define IS_INTEGER(type) ((type) >= INT8)
/* Codes of a word. */
#define CODES(type) ((type) <= FLOAT16 ? 2 : (type) == INT4 ? 8 : 4)
/* Steps from the minimum are counted from here in stored codes. */
#define MIDDLE(type) ((type) == INT8 ? 128.0f : 0.0f)

/* Code p of each word. Those of integers are whole numbers. */
INLINE vec decode(const int type, ivec words, const int p) {
  if (type == BFLOAT16 && p == 0) return (vec)(words << 16);
  if (type == BFLOAT16) return (vec)(words & -65536);
  if (type == INT8) return __builtin_convertvector((words << (24 - 8 * p)) >> 24, vec);
  if (type == INT4) return __builtin_convertvector((words >> 4 * p) & 15, vec);
  ivec x = words << (type == FLOAT16 ? 16 - 16 * p : 24 - 8 * p), sign = x & INT32_MIN;
  /* The power of two is what the exponents of float32 are greater by. */
  if (type == FLOAT8) return (vec)((ivec)((vec)((x & 0x7f000000) >> 4) * splat(0x1p120f)) | sign);
  ivec magnitude = (x & 0x7fff0000) >> 3, beyond = magnitude >= 31 << 23;
  return (vec)((ivec)((vec)magnitude * splat(0x1p112f)) | sign | (beyond & 0x7f800000));
}

/* The same of `count` words, in order. */
static void decode_some(const int type, const int32_t *words, long count, float *out) {
  const int codes = CODES(type), bits = 32 / codes;
  for (long w = 0; w < count; w += WIDTH) {
    ivec some = {0};
    long n = count - w < WIDTH ? count - w : WIDTH;
    memcpy(&some, words + w, 4 * (size_t)n);
    for (int p = 0; p < codes; p++) {
      ivec own = some >> bits * p;
      vec x = type == BFLOAT16 ? decode(BFLOAT16, own, 0) : type == FLOAT16 ? decode(FLOAT16, own, 0) : type == FLOAT8 ? decode(FLOAT8, own, 0) : type == INT8 ? decode(INT8, own, 0) : decode(INT4, own, 0);
      for (long i = 0; i < n; i++) out[(w + i) * codes + p] = x[i];
    }
  }
}

typedef struct {
  Pool *pool;
  const float *q;
  const int32_t *const *keyCodes, *const *valueCodes, *const *keyScales, *const *valueScales;
  const float *keys, *values;
  float *results;
  /* Tasks of a head; the last one is the rows as computed, where there are any. */
  long type, heads, group, width, pageGroups, groups, codedTasks, tasks, rows, from, count;
  float scale;
  atomic_long next;
  atomic_int failed;
} Coded;

/* Of a query head: the largest score, the sum of exponentials and the weighted values. */
INLINE float *result_of(const Coded *c, long query, long task) { return c->results + (query * c->tasks + task) * (c->width + 2); }

/* Whether rows are read as words: a vector of them is part of a row, or two rows. Rows of other widths are decoded in order first. */
INLINE int rows_of_vector(const Coded *c) {
  long words = c->width / CODES(c->type);
  return words % WIDTH == 0 ? 1 : words * 2 == WIDTH ? 2 : 0;
}

/* Memory of a thread: scores of a task, arranged queries and sums, and a decoded group or its scales. */
typedef struct {
  float *scores, *queries, *sums, *rows, *scales, *bases, *plain;
} Room;

static size_t room_floats(const Coded *c) {
  return (size_t)(c->group * (POSITIONS + 5 * c->width) + (GROUP + 4) * c->width + 4 * GROUP);
}

static Room room_at(const Coded *c, float *at) {
  Room room = {.scores = at};
  room.queries = room.scores + c->group * POSITIONS;
  room.sums = room.queries + 2 * c->group * c->width;
  room.plain = room.sums + 2 * c->group * c->width;
  room.rows = room.plain + c->group * c->width;
  room.scales = room.rows + GROUP * c->width;
  room.bases = room.scales + 2 * c->width + GROUP;
  return room;
}

/* Float16 as float32. */
INLINE float half_of(uint16_t half) {
  union {
    int32_t bits;
    float value;
  } x = {(half & 0x7fff) << 13}, y;
  y.value = x.value * 0x1p112f;
  y.bits |= (half & 0x8000) << 16 | (x.bits >= 31 << 23 ? 0x7f800000 : 0);
  return y.value;
}

/* scores[g][r] = q[g] . rows[r] of a group; q and scores of a tile of queries. */
INLINE void score_codes(const int type, const int tile, const int shared, const float *q, long apart, const int32_t *codes, long vectors, float *scores) {
  const int count = CODES(type);
  for (long r = 0; r < GROUP; r += 4 * shared) {
    vec sums[4][4] = {{{0}}};
    const int32_t *row = codes + r / shared * vectors * WIDTH;
    for (long i = 0; i < vectors; i++) {
      ivec words[4];
#pragma GCC unroll 4
      for (int k = 0; k < 4; k++) {
        words[k] = *(const ivec *)(row + (k * vectors + i) * WIDTH);
        __builtin_prefetch((const char *)(row + (k * vectors + i) * WIDTH) + AHEAD);
      }
#pragma GCC unroll 8
      for (int p = 0; p < count; p++) {
        vec keys[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) keys[k] = decode(type, words[k], p);
#pragma GCC unroll 4
        for (int g = 0; g < tile; g++) {
          vec own = load(q + g * apart + (i * count + p) * WIDTH);
#pragma GCC unroll 4
          for (int k = 0; k < 4; k++) sums[g][k] += own * keys[k];
        }
      }
    }
#pragma GCC unroll 4
    for (int g = 0; g < tile; g++) {
      float *to = scores + g * POSITIONS + r;
      if (shared == 1) *(quarter *)to = sums_of(sums[g]);
      else
        for (int k = 0; k < 4; k++) {
          float all[WIDTH], low = 0, high = 0;
          store(all, sums[g][k]);
          for (int l = 0; l < WIDTH / 2; l++) low += all[l], high += all[WIDTH / 2 + l];
          to[2 * k] = low, to[2 * k + 1] = high;
        }
    }
  }
}

/* sums[g] += the sum of weights[g][r] rows[r] of a group. */
INLINE void add_codes(const int type, const int tile, const int shared, const float *weights, const int32_t *codes, long vectors, float *sums, long apart) {
  const int count = CODES(type), turns = tile * count <= 4 ? 4 : tile * count <= 8 ? 2 : 1;
  for (long i = 0; i < vectors; i++) {
    vec own[16] = {{0}};
    const int32_t *row = codes + i * WIDTH;
    for (long r = 0; r < GROUP; r += shared * turns)
#pragma GCC unroll 4
      for (int turn = 0; turn < turns; turn++, row += vectors * WIDTH) {
        ivec words = *(const ivec *)row;
        __builtin_prefetch((const char *)row + AHEAD);
        vec w[4];
        const float *from = weights + r + turn * shared;
#pragma GCC unroll 4
        for (int g = 0; g < tile; g++) {
          w[g] = splat(from[g * POSITIONS]);
          if (shared == 2) {
            ivec upper;
#pragma GCC unroll 16
            for (int l = 0; l < WIDTH; l++) upper[l] = l < WIDTH / 2 ? 0 : -1;
            w[g] = select(upper, splat(from[g * POSITIONS + 1]), w[g]);
          }
        }
#pragma GCC unroll 8
        for (int p = 0; p < count; p++) {
          vec value = decode(type, words, p);
#pragma GCC unroll 4
          for (int g = 0; g < tile; g++) own[(turn * tile + g) * count + p] += w[g] * value;
        }
      }
#pragma GCC unroll 4
    for (int g = 0; g < tile; g++)
#pragma GCC unroll 8
      for (int p = 0; p < count; p++) {
        float *to = sums + g * apart + (i * count + p) * WIDTH;
        vec all = load(to);
#pragma GCC unroll 4
        for (int turn = 0; turn < turns; turn++) all += own[(turn * tile + g) * count + p];
        store(to, all);
      }
  }
}

/* Queries of a tile: as many as have room for their sums in registers. */
#define EACH_TILE(DO, T) \
  for (; g + (T == INT4 ? 2 : 4) <= group; g += T == INT4 ? 2 : 4) DO(T, (T == INT4 ? 2 : 4)) \
  for (; g + 2 <= group; g += 2) DO(T, 2) \
  for (; g < group; g++) DO(T, 1)

static void score_group(long type, long shared, const float *q, long apart, const int32_t *codes, long vectors, float *scores, long group) {
  long g = 0;
#define SCORE(T, N) { if (shared == 2) score_codes(T, N, 2, q + g * apart, apart, codes, vectors, scores + g * POSITIONS); else score_codes(T, N, 1, q + g * apart, apart, codes, vectors, scores + g * POSITIONS); }
#define SCORE_TYPE(T) if (type == T) { EACH_TILE(SCORE, T) }
  SCORE_TYPE(BFLOAT16) SCORE_TYPE(FLOAT16) SCORE_TYPE(FLOAT8) SCORE_TYPE(INT8) SCORE_TYPE(INT4)
}

static void add_group(long type, long shared, const float *weights, const int32_t *codes, long vectors, float *sums, long apart, long group) {
  long g = 0;
#define ADD(T, N) { if (shared == 2) add_codes(T, N, 2, weights + g * POSITIONS, codes, vectors, sums + g * apart, apart); else add_codes(T, N, 1, weights + g * POSITIONS, codes, vectors, sums + g * apart, apart); }
#define ADD_TYPE(T) if (type == T) { EACH_TILE(ADD, T) }
  ADD_TYPE(BFLOAT16) ADD_TYPE(FLOAT16) ADD_TYPE(FLOAT8) ADD_TYPE(INT8) ADD_TYPE(INT4)
}

INLINE void arrange_by(const int codes, const float *from, long width, float *to) {
  const long block = codes * WIDTH;
  for (long at = 0; at < width; at += block) {
    long lanes = width - at < block ? (width - at) / codes : WIDTH;
    for (int p = 0; p < codes; p++) {
      for (long l = 0; l < lanes; l++) to[at + p * WIDTH + l] = from[at + l * codes + p];
      if (lanes < WIDTH) memcpy(to + at + p * WIDTH + lanes, to + at + p * WIDTH, 4 * (size_t)lanes);
    }
  }
}

/* Two rows in a vector have the query twice. */
static void arrange(long codes, const float *from, long width, float *to) {
  if (codes == 2) arrange_by(2, from, width, to);
  else if (codes == 4) arrange_by(4, from, width, to);
  else arrange_by(8, from, width, to);
}

static void restore(long codes, const float *from, long width, float *to, float shift, int twice) {
  for (long d = 0; d < width; d++) {
    long word = d / codes, at = (word / WIDTH * codes + d % codes) * WIDTH + word % WIDTH;
    to[d] = from[at] + (twice ? from[at + WIDTH / 2] : 0) + shift;
  }
}

INLINE const int32_t *group_at(const Coded *c, const int32_t *const *pages, long words, long head, long group) {
  return pages[group / c->pageGroups] + (head * c->pageGroups + group % c->pageGroups) * words;
}

static void scores_of_group(const Coded *c, Room room, long head, long index, float *scores) {
  const long width = c->width, group = c->group, codes = CODES(c->type), words = width / codes, shared = rows_of_vector(c);
  const int32_t *rows = group_at(c, c->keyCodes, GROUP * words, head, index);
  const float *q = c->q + head * group * width;
  float added[group];
  memset(added, 0, sizeof added);
  if (IS_INTEGER(c->type)) {
    const uint16_t *halves = (const uint16_t *)group_at(c, c->keyScales, width, head, index);
    for (long d = 0; d < width; d++) room.scales[d] = half_of(halves[d]);
    for (long d = 0; d < width; d++) room.bases[d] = half_of(halves[width + d]) + MIDDLE(c->type) * room.scales[d];
    for (long g = 0; g < group; g++) {
      added[g] = product_of(q + g * width, room.bases, width);
      for (long d = 0; d < width; d++) room.plain[g * width + d] = q[g * width + d] * room.scales[d];
    }
    q = room.plain;
    if (shared) for (long g = 0; g < group; g++) arrange(codes, q + g * width, width, room.queries + 2 * g * width);
  }
  if (shared) score_group(c->type, shared, room.queries, 2 * width, rows, words / WIDTH + (shared == 2), scores, group);
  else {
    decode_some((int)c->type, rows, GROUP * words, room.rows);
    for (long g = 0; g < group; g++)
      for (long r = 0; r < GROUP; r++) scores[g * POSITIONS + r] = product_of(q + g * width, room.rows + r * width, width);
  }
  const float factor = c->type == FLOAT8 ? *(const float *)group_at(c, c->keyScales, 1, head, index) : 1;
  if (IS_INTEGER(c->type) || c->type == FLOAT8)
    for (long g = 0; g < group; g++)
      for (long r = 0; r < GROUP; r++) scores[g * POSITIONS + r] = scores[g * POSITIONS + r] * factor + added[g];
}

/* Weights times scales take the place of the weights. */
static void values_of_group(const Coded *c, Room room, long head, long index, float *weights, float *shifts) {
  const long width = c->width, group = c->group, words = width / CODES(c->type), shared = rows_of_vector(c);
  const int32_t *rows = group_at(c, c->valueCodes, GROUP * words, head, index);
  if (IS_INTEGER(c->type)) {
    const uint16_t *halves = (const uint16_t *)group_at(c, c->valueScales, GROUP, head, index);
    float scales[GROUP], bases[GROUP];
    for (long r = 0; r < GROUP; r++) scales[r] = half_of(halves[2 * r]);
    for (long r = 0; r < GROUP; r++) bases[r] = half_of(halves[2 * r + 1]) + MIDDLE(c->type) * scales[r];
    for (long g = 0; g < group; g++) {
      float *own = weights + g * POSITIONS;
      shifts[g] += product_of(own, bases, GROUP);
      for (long r = 0; r < GROUP; r++) own[r] *= scales[r];
    }
  } else if (c->type == FLOAT8) {
    const float factor = *(const float *)group_at(c, c->valueScales, 1, head, index);
    for (long g = 0; g < group; g++)
      for (long r = 0; r < GROUP; r++) weights[g * POSITIONS + r] *= factor;
  }
  if (shared) add_group(c->type, shared, weights, rows, words / WIDTH + (shared == 2), room.sums, 2 * width, group);
  else {
    decode_some((int)c->type, rows, GROUP * words, room.rows);
    for (long g = 0; g < group; g++)
      for (long r = 0; r < GROUP; r++) add_scaled(room.sums + 2 * g * width, room.rows + r * width, weights[g * POSITIONS + r], width);
  }
}

/* Scores [0, count) of a task become exponentials. */
static void weigh_task(const Coded *c, float *scores, long count, long head, long task) {
  for (long g = 0; g < c->group; g++) {
    float *own = scores + g * POSITIONS, *result = result_of(c, head * c->group + g, task);
    for (long i = 0; i < count; i++) own[i] *= c->scale;
    weigh_scores(own, count, result);
  }
}

/* The rows as computed. */
static void attend_rows(const Coded *c, Room room, long head, long task) {
  const long group = c->group, width = c->width;
  const float *keys = c->keys + (head * c->rows + c->from) * width, *values = c->values + (head * c->rows + c->from) * width;
  for (long g = 0; g < group; g++)
    for (long r = 0; r < c->count; r++) room.scores[g * POSITIONS + r] = product_of(c->q + (head * group + g) * width, keys + r * width, width);
  weigh_task(c, room.scores, c->count, head, task);
  for (long g = 0; g < group; g++) {
    float *out = result_of(c, head * group + g, task) + 2;
    memset(out, 0, 4 * (size_t)width);
    for (long r = 0; r < c->count; r++) add_scaled(out, values + r * width, room.scores[g * POSITIONS + r], width);
  }
}

static void attend_task(const Coded *c, long head, long task, float *memory) {
  const Room room = room_at(c, memory);
  if (task == c->codedTasks) {
    attend_rows(c, room, head, task);
    return;
  }
  const long group = c->group, width = c->width, codes = CODES(c->type), shared = rows_of_vector(c);
  const long first = task * TASK_GROUPS, last = first + TASK_GROUPS < c->groups ? first + TASK_GROUPS : c->groups;
  float shifts[group];
  memset(shifts, 0, sizeof shifts);
  memset(room.sums, 0, 4 * (size_t)(2 * group * width));
  if (shared && !IS_INTEGER(c->type))
    for (long g = 0; g < group; g++) arrange(codes, c->q + (head * group + g) * width, width, room.queries + 2 * g * width);
  for (long i = first; i < last; i++) scores_of_group(c, room, head, i, room.scores + (i - first) * GROUP);
  weigh_task(c, room.scores, (last - first) * GROUP, head, task);
  for (long i = first; i < last; i++) values_of_group(c, room, head, i, room.scores + (i - first) * GROUP, shifts);
  for (long g = 0; g < group; g++) restore(shared ? codes : 1, room.sums + 2 * g * width, width, result_of(c, head * group + g, task) + 2, shifts[g], shared == 2);
}

static void coded_work(void *argument, int thread, int threads) {
  (void)threads;
  Coded *c = argument;
  /* The results of all tasks lie at the start of the first thread's memory. */
  float *room = thread == 0 ? c->results + c->heads * c->group * c->tasks * (c->width + 2) : scratch(c->pool, thread, room_floats(c));
  if (room == NULL) {
    c->failed = 1;
    return;
  }
  for (long task, all = c->heads * c->tasks; (task = atomic_fetch_add(&c->next, 1)) < all;) attend_task(c, task / c->tasks, task % c->tasks, room);
}

/*
 * Attention of q [heads, group, width] to the first `groups` groups of 64 positions of each head, addresses of whose pages of codes and scales
 * are given, [heads, pageGroups] groups each; and to `count` rows from row `from` on, at most POSITIONS, of keys and values [heads, rows, width].
 * y [heads, group, width]. scale > 0.
 */
EXPORT int yoco_coded_attention(Pool *pool, const float *q, const int32_t *const *keyCodes, const int32_t *const *valueCodes, const int32_t *const *keyScales, const int32_t *const *valueScales, const float *keys, const float *values, float *y, int type, int heads, int group, int width, int pageGroups, int groups, int rows, int from, int count, float scale) {
  const long codedTasks = (groups + TASK_GROUPS - 1) / TASK_GROUPS, tasks = codedTasks + (count > 0), queries = (long)heads * group;
  Coded c = {.pool = pool, .q = q, .keyCodes = keyCodes, .valueCodes = valueCodes, .keyScales = keyScales, .valueScales = valueScales, .keys = keys, .values = values, .type = type, .heads = heads, .group = group, .width = width, .pageGroups = pageGroups, .groups = groups, .codedTasks = codedTasks, .tasks = tasks, .rows = rows, .from = from, .count = count, .scale = scale};
  c.results = scratch(pool, 0, (size_t)(queries * tasks * (width + 2)) + room_floats(&c));
  if (c.results == NULL) return 1;
  run(pool, coded_work, &c);
  if (c.failed) return 1;
  for (long query = 0; query < queries; query++) merge_tasks(result_of(&c, query, 0), tasks, width, y + query * width);
  return 0;
}
