// Blocks of threads on the CPU, one fiber a thread: it runs until it waits at a barrier, then the next one does.
#include <setjmp.h>
#include <ucontext.h>

#include <functional>
#include <vector>

struct Dim {
  int x, y, z;
};
static Dim threadIdx, blockIdx, blockDim, gridDim;

static const int STACK_BYTES = 1 << 18;
static std::vector<ucontext_t> fibers;
static std::vector<bool> finished;
static std::vector<std::vector<char>> stacks;
static std::function<void()> body;
static ucontext_t host;
static int current, alive;

static int next_fiber() {
  int next = current;
  do next = (next + 1) % (int)fibers.size();
  while (finished[next] && next != current);
  return next;
}
// Contexts begin a fiber; from then on it is left and entered by jumps, which make no system calls.
static std::vector<jmp_buf> places;
static std::vector<bool> begun;
static void enter(int fiber) {
  current = fiber;
  if (begun[fiber]) _longjmp(places[fiber], 1);
  begun[fiber] = true;
  setcontext(&fibers[fiber]);
}
static void yield() {
  const int self = current, next = next_fiber();
  if (next == self) return;
  if (_setjmp(places[self]) == 0) enter(next);
  current = threadIdx.x = self;
}
static void run_fiber() {
  threadIdx.x = current;
  body();
  finished[current] = true;
  if (--alive == 0) setcontext(&host);
  enter(next_fiber());
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
static void __syncwarp() { warp_wait(); }

static void launch(Dim grid, int threads, const std::function<void()>& kernel) {
  body = kernel;
  gridDim = grid;
  blockDim = {threads, 1, 1};
  while ((int)stacks.size() < threads) stacks.emplace_back(STACK_BYTES);
  for (int block = 0; block < grid.x * grid.y * grid.z; block++) {
    blockIdx = {block % grid.x, block / grid.x % grid.y, block / grid.x / grid.y};
    if (previous) previous(false);
    fibers.assign(threads, ucontext_t());
    finished.assign(threads, false);
    begun.assign(threads, false);
    places = std::vector<jmp_buf>(threads);
    block_barrier = Barrier();
    for (Barrier& barrier : warp_barriers) barrier = Barrier();
    for (Barrier& barrier : named_barriers) barrier = Barrier();
    alive = threads;
    for (int t = 0; t < threads; t++) {
      getcontext(&fibers[t]);
      fibers[t].uc_stack.ss_sp = stacks[t].data();
      fibers[t].uc_stack.ss_size = STACK_BYTES;
      makecontext(&fibers[t], run_fiber, 0);
    }
    volatile bool started = false;
    getcontext(&host);  // the last fiber comes back here
    if (!started) {
      started = true;
      enter(0);
    }
  }
}
