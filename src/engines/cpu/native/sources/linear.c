/* y = op(a) op(b) (+ before): the products of linear layers and of their gradients, divided over threads. */
#include "pool.h"
#include "product.h"

/* Inner elements at a time: a panel then stays in the first cache. */
#define INNER 256
#define MOST_INNER 384

typedef struct {
  Pool *pool;
  const float *a, *b, *before;
  float *y;
  long m, n, k;
  int transA, transB, failed;
} Product;

/* Rows [from, to) and columns [left, right) of y. */
static void multiply_part(Product *p, float *room, long from, long to, long left, long right) {
  long lda = p->transA ? p->m : p->k, ldb = p->transB ? p->k : p->n, n = right - left;
  long step = p->k <= MOST_INNER ? p->k : INNER;
  float *packed = room, *turned = room + panels(n) * step;
  for (long k = 0; k < p->k; k += step) {
    long inner = p->k - k < step ? p->k - k : step;
    if (p->transB) pack_columns(p->b + left * ldb + k, ldb, inner, n, packed);
    else pack_rows(p->b + k * ldb + left, ldb, inner, n, packed);
    Target y = {p->y + from * p->n + left, p->n};
    Target before = k > 0 ? y : (Target){p->before ? (float *)p->before + from * p->n + left : NULL, p->n};
    if (!p->transA) {
      multiply(to - from, n, inner, (Left){p->a + from * lda + k, lda, 1}, packed, before, y);
      continue;
    }
    /* Columns of A lie rows apart: some at a time are brought together. */
    const long columns = 8 * ROWS;
    for (long i = from; i < to; i += columns) {
      long count = to - i < columns ? to - i : columns;
      for (long q = 0; q < inner; q++) memcpy(turned + q * columns, p->a + (k + q) * lda + i, 4 * (size_t)count);
      Target part = {y.at + (i - from) * p->n, p->n}, earlier = {before.at ? before.at + (i - from) * p->n : NULL, p->n};
      multiply(count, n, inner, (Left){turned, 1, columns}, packed, earlier, part);
    }
  }
}

static void product_work(void *argument, int thread, int threads) {
  Product *p = argument;
  long from = 0, to = p->m, left = 0, right = p->n;
  if (p->m >= p->n || p->n < 2 * PANEL) part(p->m, ROWS, thread, threads, &from, &to);
  else part(p->n, PANEL, thread, threads, &left, &right);
  if (from >= to || left >= right) return;
  long step = p->k <= MOST_INNER ? p->k : INNER;
  float *room = scratch(p->pool, thread, (size_t)((panels(right - left) + 8 * ROWS) * step));
  if (room == NULL) p->failed = 1;
  else multiply_part(p, room, from, to, left, right);
}

/* y[m][n]; a[m][k], or [k][m] where transA; b[k][n], or [n][k] where transB; before like y, or NULL. Not 0 where memory was missing. */
EXPORT int yoco_product(Pool *pool, const float *a, const float *b, const float *before, float *y, int m, int n, int k, int transA, int transB) {
  Product p = {pool, a, b, before, y, m, n, k, transA, transB, 0};
  run(pool, product_work, &p);
  return p.failed;
}
