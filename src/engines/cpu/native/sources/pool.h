/* Threads that wait for work; see pool.c. */
#ifndef YOCO_POOL_H
#define YOCO_POOL_H
#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))

typedef struct Pool Pool;
/* Part number `thread` of the `threads` parts of some work: which thread does it is open, and none does two at a time. */
typedef void (*Work)(void *argument, int thread, int threads);

void run(Pool *pool, Work work, void *argument);
int threads_of(const Pool *pool);
/* Memory of a part, kept from call to call; contents undefined. NULL where there is none. */
float *scratch(Pool *pool, int thread, size_t floats);
/* Bounds of a thread's part of `count` things, in multiples of `unit`. */
void part(long count, long unit, int thread, int threads, long *from, long *to);

/* Work on so many elements, each read and written once: waking threads for fewer than 16,384 takes longer than it saves. */
static inline void divided(Pool *pool, Work work, void *argument, long elements) {
  if (elements < 16384) work(argument, 0, 1);
  else run(pool, work, argument);
}
#endif
