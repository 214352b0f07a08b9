/* A pool of threads. The caller is one of them; the others look for work for a while after each piece of it, then sleep. */
#include "pool.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Looks for work before a thread sleeps: some 100 microseconds. A step of decoding comes back sooner. */
#define LOOKS 4000
#define MOST_THREADS 256

typedef struct {
  float *memory;
  size_t floats;
} Scratch;

struct Pool {
  int threads;
  atomic_uint turn;
  atomic_int busy, asleep;
  Work work;
  void *argument;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  Scratch scratch[MOST_THREADS];
};

typedef struct {
  Pool *pool;
  int thread;
} Worker;

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void *serve(void *argument) {
  Worker worker = *(Worker *)argument;
  Pool *pool = worker.pool;
  free(argument);
  for (unsigned seen = 0;; seen++) {
    for (int i = 0; i < LOOKS && atomic_load_explicit(&pool->turn, memory_order_acquire) == seen; i++) relax();
    if (atomic_load(&pool->turn) == seen) {
      pthread_mutex_lock(&pool->lock);
      atomic_fetch_add(&pool->asleep, 1);
      while (atomic_load(&pool->turn) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
      atomic_fetch_sub(&pool->asleep, 1);
      pthread_mutex_unlock(&pool->lock);
    }
    pool->work(pool->argument, worker.thread, pool->threads);
    atomic_fetch_sub_explicit(&pool->busy, 1, memory_order_release);
  }
  return NULL;
}

/* NULL where a thread does not start: those before it then sleep for ever. */
EXPORT Pool *yoco_pool(int threads) {
  if (threads < 1 || threads > MOST_THREADS) return NULL;
  Pool *pool = calloc(1, sizeof *pool);
  if (pool == NULL) return NULL;
  pool->threads = threads;
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->wake, NULL);
  for (int i = 1; i < threads; i++) {
    Worker *worker = malloc(sizeof *worker);
    pthread_t thread;
    if (worker == NULL) return NULL;
    *worker = (Worker){pool, i};
    if (pthread_create(&thread, NULL, serve, worker) != 0) return NULL;
    pthread_detach(thread);
  }
  return pool;
}

int threads_of(const Pool *pool) { return pool->threads; }

void run(Pool *pool, Work work, void *argument) {
  if (pool->threads == 1) {
    work(argument, 0, 1);
    return;
  }
  pool->work = work;
  pool->argument = argument;
  atomic_store(&pool->busy, pool->threads - 1);
  atomic_fetch_add(&pool->turn, 1);
  if (atomic_load(&pool->asleep) > 0) {
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
  }
  work(argument, 0, pool->threads);
  for (int i = 0; atomic_load_explicit(&pool->busy, memory_order_acquire) > 0; i++)
    if (i < LOOKS) relax();
    else sched_yield();
}

float *scratch(Pool *pool, int thread, size_t floats) {
  Scratch *own = &pool->scratch[thread];
  if (own->floats < floats) {
    free(own->memory);
    if (posix_memalign((void **)&own->memory, 64, 4 * floats) != 0) own->memory = NULL;
    own->floats = own->memory == NULL ? 0 : floats;
  }
  return own->memory;
}

void part(long count, long unit, int thread, int threads, long *from, long *to) {
  long units = (count + unit - 1) / unit;
  *from = units * thread / threads * unit;
  *to = units * (thread + 1) / threads * unit;
  if (*from > count) *from = count;
  if (*to > count) *to = count;
}
