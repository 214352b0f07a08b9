/*
 * Products of matrices by one thread: C = A B or C += A B. B lies in panels, [n / PANEL][k][PANEL], the last one padded with zeros; A is
 * read where it lies, element (row, k) at row * rowStride + k * innerStride, one of which is 1.
 */
#ifndef YOCO_PRODUCT_H
#define YOCO_PRODUCT_H
#include "vector.h"

#define PANEL (2 * WIDTH)
/* Rows at a time: their sums fill the vector registers. */
#if WIDTH == 8
#define ROWS 6
#else
#define ROWS 14
#endif

typedef struct {
  const float *at;
  long row, inner;
} Left;

typedef struct {
  float *at;
  long row;
} Target;

INLINE long panels(long n) { return (n + PANEL - 1) / PANEL * PANEL; }

/* Panels of b[inner][n], rows `stride` apart. */
static void pack_rows(const float *b, long stride, long inner, long n, float *out) {
  for (long j = 0; j < n; j += PANEL) {
    long width = n - j < PANEL ? n - j : PANEL;
    for (long k = 0; k < inner; k++, out += PANEL) {
      const float *from = b + k * stride + j;
      if (width == PANEL) {
        store(out, load(from));
        store(out + WIDTH, load(from + WIDTH));
      } else {
        memset(out, 0, 4 * PANEL);
        memcpy(out, from, 4 * (size_t)width);
      }
    }
  }
}

/* Four columns of a panel from four rows of b. */
INLINE void turn_four(const float *b, long stride, long inner, float *out) {
  long k = 0;
  for (; k + 4 <= inner; k += 4, out += 4 * PANEL) {
    quarter r[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) r[i] = *(const quarter *)(b + i * stride + k);
    quarter low01 = PICK(r[0], r[1], 0, 4, 1, 5), low23 = PICK(r[2], r[3], 0, 4, 1, 5);
    quarter high01 = PICK(r[0], r[1], 2, 6, 3, 7), high23 = PICK(r[2], r[3], 2, 6, 3, 7);
    *(quarter *)out = PICK(low01, low23, 0, 1, 4, 5);
    *(quarter *)(out + PANEL) = PICK(low01, low23, 2, 3, 6, 7);
    *(quarter *)(out + 2 * PANEL) = PICK(high01, high23, 0, 1, 4, 5);
    *(quarter *)(out + 3 * PANEL) = PICK(high01, high23, 2, 3, 6, 7);
  }
  for (; k < inner; k++, out += PANEL)
    for (int i = 0; i < 4; i++) out[i] = b[i * stride + k];
}

/* Panels of the transpose of b[n][inner]. */
static void pack_columns(const float *b, long stride, long inner, long n, float *out) {
  for (long j = 0; j < n; j += PANEL, out += inner * PANEL) {
    long width = n - j < PANEL ? n - j : PANEL, c = 0;
    const float *from = b + j * stride;
    for (; c + 4 <= width; c += 4) turn_four(from + c * stride, stride, inner, out + c);
    for (; c < PANEL; c++)
      for (long k = 0; k < inner; k++) out[k * PANEL + c] = c < width ? from[c * stride + k] : 0;
  }
}

/* `rows` rows of one panel; `before` is added unless it is NULL. */
INLINE void tile(const int rows, const int along, long inner, Left a, const float *b, const float *before, long beforeRow, float *c, long cRow) {
  vec sums[ROWS][2];
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++) {
    sums[r][0] = before ? load(before + r * beforeRow) : (vec){0};
    sums[r][1] = before ? load(before + r * beforeRow + WIDTH) : (vec){0};
  }
  /* What the stores at the end would wait for: C is seldom in the first cache. */
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++) {
    __builtin_prefetch(c + r * cRow, 1);
    __builtin_prefetch(c + r * cRow + WIDTH, 1);
  }
  const float *p0 = a.at, *p4 = a.at + 4 * a.row, *p8 = a.at + 8 * a.row, *p12 = a.at + 12 * a.row;
  const long row = a.row, row3 = 3 * a.row;
  for (long k = 0; k < inner; k++) {
    vec b0 = load(b + k * PANEL), b1 = load(b + k * PANEL + WIDTH);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
      const float *p = r < 4 ? p0 : r < 8 ? p4 : r < 12 ? p8 : p12;
      const int i = r % 4;
      vec x = splat(along ? p0[r] : i == 0 ? p[k] : i == 1 ? p[row + k] : i == 2 ? p[2 * row + k] : p[row3 + k]);
      sums[r][0] += x * b0;
      sums[r][1] += x * b1;
    }
    if (along) p0 += a.inner;
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++) {
    store(c + r * cRow, sums[r][0]);
    store(c + r * cRow + WIDTH, sums[r][1]);
  }
}

typedef void (*Tile)(long, Left, const float *, const float *, long, float *, long);
#define DEFINE_TILE(R) \
  static void tile_rows_##R(long k, Left a, const float *b, const float *s, long sr, float *c, long cr) { tile(R, 0, k, a, b, s, sr, c, cr); } \
  static void tile_along_##R(long k, Left a, const float *b, const float *s, long sr, float *c, long cr) { tile(R, 1, k, a, b, s, sr, c, cr); }
#define EACH_FEW(X) X(1) X(2) X(3) X(4) X(5) X(6)
#if ROWS == 6
#define EACH(X) EACH_FEW(X)
#else
#define EACH(X) EACH_FEW(X) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#endif
EACH(DEFINE_TILE)
#define NAME_ROWS(R) tile_rows_##R,
#define NAME_ALONG(R) tile_along_##R,
static const Tile TILES[2][ROWS + 1] = {{0, EACH(NAME_ROWS)}, {0, EACH(NAME_ALONG)}};

/* c[rows][n] = a b, plus `before` where its address is not NULL. */
static void multiply(long rows, long n, long inner, Left a, const float *b, Target before, Target c) {
  /* Few rows at a time: what is written then lies in few pages, and each panel still serves several tiles. */
  const long block = 2 * ROWS;
  const Tile *tiles = TILES[a.row == 1 && a.inner != 1];
  for (long i0 = 0; i0 < rows; i0 += block) {
    long last = rows - i0 < block ? rows : i0 + block;
    for (long j = 0; j < n; j += PANEL) {
      long width = n - j < PANEL ? n - j : PANEL;
      for (long i = i0; i < last; i += ROWS) {
        long count = last - i < ROWS ? last - i : ROWS;
        Left own = {a.at + i * a.row, a.row, a.inner};
        float *to = c.at + i * c.row + j;
        const float *from = before.at ? before.at + i * before.row + j : NULL;
        if (width == PANEL) tiles[count](inner, own, b + j * inner, from, before.row, to, c.row);
        else {
          float part[ROWS * PANEL] = {0};
          if (from) for (long r = 0; r < count; r++) memcpy(part + r * PANEL, from + r * before.row, 4 * (size_t)width);
          tiles[count](inner, own, b + j * inner, from ? part : NULL, PANEL, part, PANEL);
          for (long r = 0; r < count; r++) memcpy(to + r * c.row, part + r * PANEL, 4 * (size_t)width);
        }
      }
    }
  }
}
#endif
