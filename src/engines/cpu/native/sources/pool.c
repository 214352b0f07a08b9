/* A pool of threads. The caller is one of them; the others look for work for a while after each piece of it, then sleep. A pool has one caller. */
#define _GNU_SOURCE
#include "pool.h"
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

/* Looks for work before a thread sleeps: some 100 microseconds. A step of decoding comes back sooner. */
#define LOOKS 4000
#define MOST_THREADS 4096
/* Bytes of a large page: on x86-64, and on arm64 where others have 4 KiB. */
#define LARGE_PAGE ((size_t)1 << 21)
/* Bytes of a thread's memory from which it lies in large pages: panels that fill much of the second cache. */
#define LARGE_SCRATCH (LARGE_PAGE / 8)

typedef struct {
  float *memory;
  size_t floats;
} Scratch;

/* A piece of work has a part for each thread. Whoever is free takes the next part, so that the caller never waits for one that has not begun. */
struct Pool {
  int threads;
  /* Which piece of work this is, and in the last 16 bits how many of its parts are taken. */
  _Atomic uint64_t ticket;
  atomic_int done, asleep;
  Work work;
  void *argument;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  Scratch scratch[MOST_THREADS];
};

#define TAKEN 0xffff

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static int has_part(Pool *pool) { return (int)(atomic_load(&pool->ticket) & TAKEN) < pool->threads; }

/* Does a part of the present work that nobody has taken; 0 where there is none. */
static int do_part(Pool *pool) {
  uint64_t ticket = atomic_load(&pool->ticket);
  do {
    if ((int)(ticket & TAKEN) >= pool->threads) return 0;
  } while (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket + 1));
  /* From here on the caller of `run` waits for this part: its work stays. */
  pool->work(pool->argument, (int)(ticket & TAKEN), pool->threads);
  atomic_fetch_add(&pool->done, 1);
  return 1;
}

static void *serve(void *argument) {
  Pool *pool = argument;
  for (;;) {
    for (int i = 0; i < LOOKS && !has_part(pool); i++) relax();
    if (!has_part(pool)) {
      pthread_mutex_lock(&pool->lock);
      atomic_fetch_add(&pool->asleep, 1);
      while (!has_part(pool)) pthread_cond_wait(&pool->wake, &pool->lock);
      atomic_fetch_sub(&pool->asleep, 1);
      pthread_mutex_unlock(&pool->lock);
    }
    while (do_part(pool)) continue;
  }
  return NULL;
}

static const char stay_here = 0;

/* Keeps this library in memory: who opened it may close it, and threads would run on in what is no longer there. */
static void stay(void) {
  Dl_info own;
  if (dladdr(&stay_here, &own) != 0) dlopen(own.dli_fname, RTLD_NOW);
}

/* NULL where there is no memory. Where the system starts fewer threads, those do the parts of all. */
EXPORT Pool *yoco_pool(int threads) {
  if (threads < 1 || threads > MOST_THREADS) return NULL;
  Pool *pool = calloc(1, sizeof *pool);
  if (pool == NULL) return NULL;
  pool->threads = threads;
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->wake, NULL);
  atomic_store(&pool->ticket, (uint64_t)threads);
  stay();
  for (int i = 1; i < threads; i++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve, pool) != 0) break;
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
  atomic_store(&pool->done, 0);
  atomic_store(&pool->ticket, (atomic_load(&pool->ticket) | TAKEN) + 1);
  if (atomic_load(&pool->asleep) > 0) {
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
  }
  while (do_part(pool)) continue;
  for (int i = 0; atomic_load(&pool->done) < pool->threads; i++)
    if (i < LOOKS) relax();
    else sched_yield();
}

/* Asks for large pages where whole ones lie in this memory, before it is written to. It is advice: nothing depends on what the system makes of it. */
static void want_large_pages(void *memory, size_t bytes) {
#if defined(MADV_HUGEPAGE)
  uintptr_t from = ((uintptr_t)memory + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE, to = ((uintptr_t)memory + bytes) / LARGE_PAGE * LARGE_PAGE;
  if (from < to) madvise((void *)from, to - from, MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

/* For the memory of tensors. */
EXPORT int yoco_large_pages(Pool *pool, void *memory, long bytes) {
  (void)pool;
  want_large_pages(memory, (size_t)bytes);
  return 0;
}

float *scratch(Pool *pool, int thread, size_t floats) {
  Scratch *own = &pool->scratch[thread];
  if (own->floats < floats) {
    const int large = 4 * floats >= LARGE_SCRATCH;
    const size_t bytes = large ? (4 * floats + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE : 4 * floats;
    free(own->memory);
    if (posix_memalign((void **)&own->memory, large ? LARGE_PAGE : 64, bytes) != 0) own->memory = NULL;
    else if (large) want_large_pages(own->memory, bytes);
    own->floats = own->memory == NULL ? 0 : bytes / 4;
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
