// Blocks of threads on the CPU, one fiber a thread: it runs until it waits at a barrier, then the next one does.
#include <setjmp.h>
#include <ucontext.h>

#include <functional>
#include <memory>
#include <vector>

struct Dim {
  int x, y, z;
};
static Dim threadIdx, blockIdx, blockDim, gridDim;

static const int STACK_BYTES = 1 << 18;
// A context begins a fiber, once for all launches; from then on it is left and entered by jumps, which make no system calls.
struct Fiber {
  ucontext_t start;
  jmp_buf place;
  bool begun = false;
  std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
};
static std::vector<std::unique_ptr<Fiber>> fibers;
static std::vector<char> finished;  // of this block's
static std::function<void()> body;
static jmp_buf host;
static int current, alive;

static int next_fiber() {
  const int count = finished.size();
  int next = current;
  do next = next + 1 == count ? 0 : next + 1;
  while (finished[next] && next != current);
  return next;
}
static void enter(int index) {
  current = index;
  Fiber& fiber = *fibers[index];
  if (fiber.begun) _longjmp(fiber.place, 1);
  fiber.begun = true;
  setcontext(&fiber.start);
}
static void yield() {
  const int self = current, next = next_fiber();
  if (next == self) return;
  if (_setjmp(fibers[self]->place) == 0) enter(next);
  current = threadIdx.x = self;
}
// One thread of one block after the other.
static void run_fiber() {
  for (;;) {
    threadIdx.x = current;
    body();
    finished[current] = true;
    if (_setjmp(fibers[current]->place) == 0) {
      if (--alive == 0) _longjmp(host, 1);
      enter(next_fiber());
    }
  }
}
// Runs `kernel`, a call of a kernel with its arguments, for every block of the grid.
static void launch(Dim grid, int threads, const std::function<void()>& kernel);

struct Barrier {
  int waiting = 0, generation = 0;
  void arrive(int threads) {
    if (++waiting < threads) return;
    waiting = 0;
    generation++;
  }
  void wait(int threads) {
    const int before = generation;
    arrive(threads);
    while (generation == before) yield();
  }
};
static Barrier block_barrier, warp_barriers[32], named_barriers[16];
static void __syncthreads() { block_barrier.wait(blockDim.x); }
// The kernel before: memory is as it is while that still runs (false) until a block waits for its end (true).
static std::function<void(bool ended)> previous;
static void griddep_launch_dependents() {}
static int warp() { return threadIdx.x >> 5; }
static int lane() { return threadIdx.x & 31; }
static void warp_wait() { warp_barriers[warp()].wait(32); }
// How often this warp's lanes have met: the same for all of them until they meet again.
static int warp_meetings() { return warp_barriers[warp()].generation; }
static void __syncwarp() { warp_wait(); }

static void launch(Dim grid, int threads, const std::function<void()>& kernel) {
  body = kernel;
  gridDim = grid;
  blockDim = {threads, 1, 1};
  while ((int)fibers.size() < threads) {
    fibers.emplace_back(new Fiber);
    Fiber& fiber = *fibers.back();
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber.start, run_fiber, 0);
  }
  for (int block = 0; block < grid.x * grid.y * grid.z; block++) {
    blockIdx = {block % grid.x, block / grid.x % grid.y, block / grid.x / grid.y};
    if (previous) previous(false);
    finished.assign(threads, false);
    block_barrier = Barrier();
    for (Barrier& barrier : warp_barriers) barrier = Barrier();
    for (Barrier& barrier : named_barriers) barrier = Barrier();
    alive = threads;
    if (_setjmp(host) == 0) enter(0);  // the last fiber comes back here
  }
}
