// Causal softmax attention forward for Hopper: asynchronous warpgroup products (wgmma) fed by the tensor copy engine.
// One producer warpgroup streams K and V tiles through a ring of shared memory; consumer warpgroups hold 64 query rows
// each, overlap the softmax of one tile with the products of the next, and take turns on the tensor cores (the
// schedule of Shah et al. 2024, FlashAttention-3). HEAD is 64 or 128. K/V are one array or pages of a multiple of 128
// positions, each with its tensor map, whose bounds make rows that do not exist zeros.
#include "attention_hopper.cuh"

#define CONSUMERS (HEAD == 64 ? CONSUMERS_64 : CONSUMERS_128)
#define STAGES (HEAD == 64 ? STAGES_64 : STAGES_128)
#define TURNS (HEAD == 64 ? TURNS_64 : TURNS_128)
#define ROWS (64 * CONSUMERS)
#define HELD_BYTES (CONSUMERS * ROWS_BYTES)
#define TILE_HALF (KEYS * 128)  // one column block of a tile
#define TILE_BYTES (HALVES * TILE_HALF)
#define REGISTERS (CONSUMERS == 3 ? 160 : 232)
#define INFINITE __int_as_float(0x7f800000)

struct Tiles {
  int first, count;  // key tiles, walked from the last to the first
};
struct Problem {
  int tq, tk, heads, kvHeads, window;
  int offset;    // position of the first query; no query comes after the last key
  int pageSize;  // positions of a page; of all pages together at least tk
  int batch, paired;  // see attention_hopper.cuh
  float factor;  // scale · log2 e
};
struct Bars {
  u32 fullQ, emptyQ, fullK, fullV, emptyK, emptyV;
};

// What rows from `first` on see together.
DEVICE Tiles tiles_of(const Problem& s, int first, int rows) {
  const int last = s.tk - 1, from = min(s.offset + first, last), to = min(s.offset + first + rows - 1, last);
  const int low = s.window ? max(0, from - s.window + 1) / KEYS : 0;
  return {low, to / KEYS - low + 1};
}
DEVICE Schedule schedule_of(const Problem& s) {
  return {(s.tq + ROWS - 1) / ROWS, s.heads, s.heads / s.kvHeads, s.batch, s.paired};
}

DEVICE void produce(const TensorMap* mapQ, const TensorMap* mapsK, const TensorMap* mapsV, u32 shared, const Bars& bars,
                    const Problem& s) {
  const Schedule schedule = schedule_of(s);
  const u32 ringK = shared + 2 * HELD_BYTES, ringV = ringK + STAGES * TILE_BYTES;
  Place place = {(int)blockIdx.x, false};
  Slot held = {0, 0}, slot = {0, 0};
  int known = -1;
  for (Item item; next_item(item, place, schedule); advance<2>(held)) {
    const int first = item.block * ROWS, kvHead = item.head / schedule.group;
    const u32 fullQ = bars.fullQ + 8 * held.index, toQ = shared + held.index * HELD_BYTES;
    mbarrier_wait(bars.emptyQ + 8 * held.index, held.parity ^ 1);
    mbarrier_expect_tx(fullQ, HELD_BYTES);
    for (int g = 0; g < CONSUMERS; g++)
      for (int h = 0; h < HALVES; h++)
        tma_load(toQ + g * ROWS_BYTES + h * HALF_BYTES, mapQ, fullQ, h * 64, first + g * 64, item.head, item.batch);
    const Tiles tiles = tiles_of(s, first, ROWS);
#pragma unroll 1
    for (int tile = tiles.first + tiles.count - 1; tile >= tiles.first; tile--, advance<STAGES>(slot)) {
      const int start = tile * KEYS, page = start / s.pageSize, row = start - page * s.pageSize;
      const u32 at = 8 * slot.index, to = slot.index * TILE_BYTES;
      if (page != known) {
        tensormap_acquire(mapsK + page);
        tensormap_acquire(mapsV + page);
        known = page;
      }
      mbarrier_wait(bars.emptyK + at, slot.parity ^ 1);
      mbarrier_expect_tx(bars.fullK + at, TILE_BYTES);
      for (int h = 0; h < HALVES; h++)
        tma_load(ringK + to + h * TILE_HALF, mapsK + page, bars.fullK + at, h * 64, row, kvHead, item.batch);
      mbarrier_wait(bars.emptyV + at, slot.parity ^ 1);
      mbarrier_expect_tx(bars.fullV + at, TILE_BYTES);
      for (int h = 0; h < HALVES; h++)
        tma_load(ringV + to + h * TILE_HALF, mapsV + page, bars.fullV + at, h * 64, row, kvHead, item.batch);
    }
  }
}

// Masks and exponentiates a tile of scores; returns in `shrink` what earlier sums and outputs are multiplied by.
DEVICE void softmax(float (&s)[64], float (&peak)[2], float (&sum)[2], float (&shrink)[2], const Problem& problem,
                    const int (&position)[2], int start, bool masked) {
  const int lane = threadIdx.x & 31;
  if (masked) {
#pragma unroll
    for (int i = 0; i < 64; i++) {
      const int high = position[(i >> 1) & 1] - start - (lane & 3) * 2;
      s[i] = (i >> 2) * 8 + (i & 1) <= high ? s[i] : -INFINITE;
    }
    if (problem.window != 0) {
#pragma unroll
      for (int i = 0; i < 64; i++) {
        const int low = position[(i >> 1) & 1] - problem.window - start - (lane & 3) * 2;
        s[i] = (i >> 2) * 8 + (i & 1) > low ? s[i] : -INFINITE;
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float top = peak[r];
#pragma unroll
    for (int j = 0; j < 16; j++) top = fmaxf(top, fmaxf(s[j * 4 + 2 * r], s[j * 4 + 2 * r + 1]));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
    const float shift = top == -INFINITE ? 0.0f : top * problem.factor;
    shrink[r] = exp2_fast(peak[r] * problem.factor - shift);
    peak[r] = top;
    float total = 0.0f;
#pragma unroll
    for (int j = 0; j < 16; j++)
#pragma unroll
      for (int c = 0; c < 2; c++) {
        float& x = s[j * 4 + 2 * r + c];
        x = exp2_fast(x * problem.factor - shift);
        total += x;
      }
    sum[r] = sum[r] * shrink[r] + total;
  }
}

// Named barriers by which the consumer warpgroups take turns, one after the other.
DEVICE void turn_wait(int group) {
  if (TURNS) named_barrier_wait(1 + group, 256);
}
DEVICE void turn_pass(int group) {
  if (TURNS) named_barrier_arrive(group + 1 == CONSUMERS ? 1 : 2 + group, 256);
}

DEVICE void consume(u32 shared, const Bars& bars, const Problem& problem, scalar* out, float* logSumExp) {
  const Schedule schedule = schedule_of(problem);
  const int group = uniform((threadIdx.x >> 7) - 1), warp = (threadIdx.x >> 5) & 3, lane = threadIdx.x & 31;
  const u64 rowsQ = matrix_descriptor(shared + group * ROWS_BYTES, 16, 1024);
  const u64 ringK = matrix_descriptor(shared + 2 * HELD_BYTES, 16, 1024);
  const u64 ringV = matrix_descriptor(shared + 2 * HELD_BYTES + STAGES * TILE_BYTES, TILE_HALF, 1024);
  const int offset = problem.offset, last = problem.tk - 1;
  Place place = {(int)blockIdx.x, false};
  Slot held = {0, 0}, slot = {0, 0};
  float o[HEAD / 2], s[64];
  u32 p[KEYS / 16][4];
  // Tiles that others of the block see, but this warpgroup does not.
  const auto skip = [&](int count) {
    for (int i = 0; i < count; i++, advance<STAGES>(slot)) {
      turn_wait(group);
      turn_pass(group);
      mbarrier_wait(bars.fullK + 8 * slot.index, slot.parity);
      mbarrier_wait(bars.fullV + 8 * slot.index, slot.parity);
      release(bars.emptyK, slot);
      release(bars.emptyV, slot);
    }
  };

  if (group == CONSUMERS - 1) turn_pass(group);
  for (Item item; next_item(item, place, schedule); advance<2>(held)) {
    const int top = item.block * ROWS + group * 64;  // first row of the warpgroup
    const int row = top + warp * 16 + (lane >> 2);
    const int position[2] = {min(offset + row, last), min(offset + row + 8, last)};
    const Tiles tiles = tiles_of(problem, item.block * ROWS, ROWS), own = tiles_of(problem, top, 64);
    const bool any = top < problem.tq;
    const int before = any ? tiles.first + tiles.count - own.first - own.count : tiles.count;
    const u64 tileQ = descriptor_at(rowsQ, held.index * HELD_BYTES);
    const auto masked = [&](int start) {
      return start + KEYS - 1 > min(offset + top, last) ||
             (problem.window != 0 && start <= min(offset + top + 63, last) - problem.window);
    };
    mbarrier_wait(bars.fullQ + 8 * held.index, held.parity);
    skip(before);
    if (any) {
      float peak[2] = {-INFINITE, -INFINITE}, sum[2] = {0.0f, 0.0f}, shrink[2];
      int start = (own.first + own.count - 1) * KEYS;
#pragma unroll
      for (int i = 0; i < HEAD / 2; i++) o[i] = 0.0f;
      mbarrier_wait(bars.fullK + 8 * slot.index, slot.parity);
      turn_wait(group);
      wgmma_fence();
      issue_scores(s, tileQ, HALF_BYTES, descriptor_at(ringK, slot.index * TILE_BYTES), TILE_HALF);
      wgmma_commit();
      turn_pass(group);
      wgmma_wait<0>();
      release(bars.emptyK, slot);
      softmax(s, peak, sum, shrink, problem, position, start, masked(start));
      convert(p, s);
      for (int i = 1; i < own.count; i++) {
        const Slot before = slot;
        advance<STAGES>(slot);
        start -= KEYS;
        mbarrier_wait(bars.fullK + 8 * slot.index, slot.parity);
        turn_wait(group);
        wgmma_fence();
        issue_scores(s, tileQ, HALF_BYTES, descriptor_at(ringK, slot.index * TILE_BYTES), TILE_HALF);
        wgmma_commit();
        mbarrier_wait(bars.fullV + 8 * before.index, before.parity);
        wgmma_fence();
        issue_sums(o, p, descriptor_at(ringV, before.index * TILE_BYTES));
        wgmma_commit();
        turn_pass(group);
        wgmma_wait<1>();
        release(bars.emptyK, slot);
        softmax(s, peak, sum, shrink, problem, position, start, masked(start));
        wgmma_wait<0>();
        release(bars.emptyV, before);
#pragma unroll
        for (int j = 0; j < HEAD / 2; j++) o[j] *= shrink[(j >> 1) & 1];
        convert(p, s);
      }
      release(bars.emptyQ, held);
      mbarrier_wait(bars.fullV + 8 * slot.index, slot.parity);
      wgmma_fence();
      issue_sums(o, p, descriptor_at(ringV, slot.index * TILE_BYTES));
      wgmma_commit();
      wgmma_wait<0>();
      release(bars.emptyV, slot);
      advance<STAGES>(slot);
      float inverse[2];
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const int query = row + 8 * r;
        float total = sum[r] + __shfl_xor_sync(0xffffffffu, sum[r], 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        inverse[r] = total > 0.0f ? 1.0f / total : 0.0f;
        if (logSumExp && (lane & 3) == 0 && query < problem.tq)
          logSumExp[((i64)item.batch * problem.heads + item.head) * problem.tq + query] =
              (peak[r] * problem.factor + log2f(total)) / LOG2_E;
      }
      store_rows(o, out, row, problem.tq, problem.heads, item.head, item.batch, inverse);
      skip(own.first - tiles.first);
    } else {
      release(bars.emptyQ, held);
    }
  }
}

// Any number of blocks. Every map but that of Q is in a table, one for each page.
KERNEL __launch_bounds__(128 * (1 + CONSUMERS), 1)
    attention_forward(const __grid_constant__ TensorMap mapQ, const TensorMap* mapsK, const TensorMap* mapsV,
                      scalar* out, float* logSumExp, const Problem problem) {
  extern __shared__ __align__(1024) u8 memory[];
  __shared__ __align__(8) u64 barriers[4 + 4 * STAGES];
  const u32 shared = (shared_address(memory) + 1023) & ~1023u, at = shared_address(barriers);
  const Bars bars = {at, at + 16, at + 32, at + 32 + 8 * STAGES, at + 32 + 16 * STAGES, at + 32 + 24 * STAGES};
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; i++) mbarrier_init(bars.fullQ + 8 * i, 1);
    for (int i = 0; i < 2; i++) mbarrier_init(bars.emptyQ + 8 * i, 4 * CONSUMERS);
    for (int i = 0; i < 2 * STAGES; i++) mbarrier_init(bars.fullK + 8 * i, 1);
    for (int i = 0; i < 2 * STAGES; i++) mbarrier_init(bars.emptyK + 8 * i, 4 * CONSUMERS);
    mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    keep_registers<registers_left(CONSUMERS, REGISTERS)>();
    if (threadIdx.x == 0) produce(&mapQ, mapsK, mapsV, shared, bars, problem);
  } else {
    take_registers<REGISTERS>();
    consume(shared, bars, problem, out, logSumExp);
  }
}
