/* What lies at both ends of a model: cross-entropy with its gradient, and the gradient of the embedding; formulas in src/ops. */
#include "pool.h"
#include "softmax.h"

#define LN_2 0.69314718055994531

typedef struct {
  float *logits;
  const int32_t *targets;
  const float *weights;
  float *losses, *logSumExp;
  long rows, width;
} Loss;

static void loss_work(void *argument, int thread, int threads) {
  const Loss *l = argument;
  long row, to;
  part(l->rows, 1, thread, threads, &row, &to);
  for (; row < to; row++) {
    float *logits = l->logits + row * l->width, *target = logits + l->targets[row], own = *target, peak = -INFINITY;
    const float total = weigh(logits, 0, l->width, l->width, to_powers(1), &peak);
    const double sum = log((double)total) + (double)peak * LN_2;
    l->losses[row] = (float)(sum - (double)own);
    l->logSumExp[row] = (float)sum;
    if (l->weights == NULL) continue;
    const float factor = l->weights[row] / total;
    for (long i = 0; i < l->width; i++) logits[i] *= factor;
    *target -= l->weights[row];
  }
}

/*
 * losses, logSumExp [rows] of logits [rows][width], which are overwritten: with the gradient of the sum of the losses times weights [rows] unless those are
 * NULL. targets [rows] are below width.
 */
EXPORT int yoco_cross_entropy(Pool *pool, float *logits, const int32_t *targets, const float *weights, float *losses, float *logSumExp, int rows, int width) {
  Loss l = {logits, targets, weights, losses, logSumExp, rows, width};
  run(pool, loss_work, &l);
  return 0;
}

typedef struct {
  const float *dy;
  const int32_t *ids;
  float *dWeight;
  long rows, width, vocabulary;
  float scale;
} Embedding;

/* Some columns of all rows, one after the other. */
static void embedding_grad_work(void *argument, int thread, int threads) {
  const Embedding *e = argument;
  long from, to;
  part(e->width, WIDTH, thread, threads, &from, &to);
  for (long id = 0; id < e->vocabulary; id++) memset(e->dWeight + id * e->width + from, 0, 4 * (size_t)(to - from));
  for (long row = 0; row < e->rows; row++) add_scaled(e->dWeight + e->ids[row] * e->width + from, e->dy + row * e->width + from, e->scale, to - from);
}

/* dWeight [vocabulary][width]: scale times the sum of the rows of dy [rows][width] of each id; ids [rows] are below vocabulary. */
EXPORT int yoco_embedding_grad(Pool *pool, const float *dy, const int32_t *ids, float *dWeight, int rows, int width, int vocabulary, float scale) {
  Embedding e = {dy, ids, dWeight, rows, width, vocabulary, scale};
  run(pool, embedding_grad_work, &e);
  return 0;
}
