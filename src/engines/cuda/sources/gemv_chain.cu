// Successive products with few rows of a recorded step, and the norms in front of them, in one resident kernel. A stage's
// outputs are divided evenly over the blocks, one a multiprocessor, and every block has all outputs of a stage before the next
// begins. All of it is bound by reading the weights: each warp keeps a ring of them in shared memory, which it fills as far
// ahead as there is room, so that the memory works on while blocks meet and while the kernel in front ends.
#include "gemv.cuh"
#include "mbarrier.cuh"
#include "norm.cuh"

#define WARPS (THREADS / 32)

struct Stage {
  const scalar* x;         // [rows, inner]
  const scalar* scale;     // of the norm of x
  const scalar* gate;      // what the norm is gated by, or null
  scalar* normed;          // what the norm gives, also for others to read; null: x is taken as it is
  const scalar* residual;  // added to the only output, or null
  const scalar* weights[GEMV_WEIGHTS];
  scalar* outs[GEMV_WEIGHTS];
  int widths[GEMV_WEIGHTS];
  int inner;
  int members;  // weights with outputs: 1 of SwiGLU
  int swiglu;   // whether the output is silu(x·weights[0]ᵀ) · (x·weights[1]ᵀ)
  int packs;   // of a row of the norm
  int lanes;   // threads that share such a row; 0: the block does
  float eps;
};
struct Stages {
  Stage at[STAGES];
};

// Outputs of a stage are dealt to the blocks one by one, then to their warps: what all read at a time lies together.
DEVICE int first_output() { return blockIdx.x + gridDim.x * (threadIdx.x >> 5); }
DEVICE int output_step() { return gridDim.x * WARPS; }

// How far a warp has fetched: the rows of one weight, or of a SwiGLU's two in turn, that are this warp's and at equal distances.
struct Cursor {
  int stage, member, output;  // the output is the next one, counted from the member's first
  int left;                   // rows, the present one included; 0 behind the last of all
  int pack, packs;            // of the present row
  const Packed *row, *other;   // the present one, and what alternates with it
  i64 step;                   // packs from a row to the next of its weight
};

// The first rows from `member` of `stage` on.
DEVICE void find_rows(Cursor& at, const Stages& stages, int count) {
  for (; at.stage < count; at.stage++, at.member = 0, at.output = first_output()) {
    const Stage& stage = stages.at[at.stage];
    for (; at.member < stage.members; at.output -= stage.widths[at.member++]) {
      const int width = stage.widths[at.member];
      if (at.output >= width) continue;
      at.packs = stage.inner / WIDTH;
      at.step = (i64)output_step() * at.packs;
      at.row = (const Packed*)stage.weights[at.member] + (i64)at.output * at.packs;
      at.other = stage.swiglu ? (const Packed*)stage.weights[1] + (i64)at.output * at.packs : nullptr;
      const int outputs = (width - at.output + output_step() - 1) / output_step();
      at.left = stage.swiglu ? 2 * outputs : outputs;
      at.output += outputs * output_step() - width;
      at.member++;
      return;
    }
  }
}

// Begins to read what comes next, up to PACKS of one row, into a slot of the ring. By one lane: the copy engine does the rest,
// whereas loads by every lane would queue in front of the reads of shared memory. The warp waits for it: few instructions.
DEVICE void fetch(Cursor& at, Packed* slot, u32 barrier, const Stages& stages, int count) {
  if (at.left == 0) return;
  const int size = min(PACKS, at.packs - at.pack) * (int)sizeof(Packed);
  mbarrier_expect_tx(barrier, size);
  cp_async_bulk(shared_address(slot), at.row + at.pack, barrier, size);
  at.pack += PACKS;
  if (at.pack < at.packs) return;
  at.pack = 0;
  const Packed* next = at.row + at.step;
  at.row = at.other ? at.other : next;
  if (at.other) at.other = next;
  if (--at.left == 0) find_rows(at, stages, count);
}

// The scale of a norm has long left the caches when its turn comes.
DEVICE void prefetch_scale(const Stage& stage) {
  const int each = 128 / (int)sizeof(Packed), at = threadIdx.x * each;
  if (stage.scale && at < stage.packs) prefetch_l2((const Packed*)stage.scale + at);
}

// Every block has written what the others read after this.
DEVICE void grid_sync(u64* arrivals) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    // Counts on over all meetings of all kernels: each needs as many arrivals as there are blocks.
    const u64 before = atomicAdd(arrivals, (u64)1), full = (before / gridDim.x + 1) * gridDim.x;
    while (load_acquire(arrivals) < full) {}
  }
  __syncthreads();
}

// x of a stage, normed where it is to be, into shared memory.
DEVICE void stage_input(const Stage& stage, Packed* x, int rows) {
  const int packs = rows * stage.inner / WIDTH;
  const Packed* from = (const Packed*)stage.x;
  if (!stage.normed) {
    for (int i = threadIdx.x; i < packs; i += THREADS) x[i] = from[i];
    __syncthreads();
    return;
  }
  const Packed* scale = (const Packed*)stage.scale;
  const Packed* gate = (const Packed*)stage.gate;
  const int lanes = stage.lanes ? stage.lanes : THREADS, norms = packs / stage.packs;
  for (int first = 0; first < norms; first += THREADS / lanes) {
    const int row = first + threadIdx.x / lanes, start = row < norms ? row * stage.packs : 0;
    const Packed *gates = gate ? gate + start : nullptr, *read = (const Packed*)from + start;
    Packed* made = (Packed*)x + start;
    if (stage.lanes) {
      Packed kept[KEPT];
      normalize<false>(kept, read, scale, gates, made, stage.packs, threadIdx.x & (lanes - 1), lanes, row < norms,
                       stage.eps);
    } else {
      Packed kept[1];
      normalize<true>(kept, read, scale, gates, made, stage.packs, threadIdx.x, THREADS, true, stage.eps);
    }
  }
  __syncthreads();
  if (blockIdx.x == 0)
    for (int i = threadIdx.x; i < packs; i += THREADS) ((Packed*)stage.normed)[i] = x[i];
}

template <int ROWS>
DEVICE void run_stages(const Stages& stages, u64* arrivals, int count, int rows) {
  extern __shared__ __align__(16) scalar memory[];
  __shared__ u64 barriers[WARPS][SLOTS];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  Packed* ring = (Packed*)memory + warp * SLOTS * PACKS;
  Packed* x = (Packed*)memory + WARPS * SLOTS * PACKS;
  const u32 filled = shared_address(barriers[warp]);
  Cursor ahead = {};
  griddep_launch_dependents();
  if (lane == 0) {
    for (int slot = 0; slot < SLOTS; slot++) mbarrier_init(filled + 8 * slot, 1);
    mbarrier_init_fence();
    ahead.output = first_output();
    find_rows(ahead, stages, count);
#pragma unroll 1
    for (int slot = 0; slot < SLOTS; slot++) fetch(ahead, ring + slot * PACKS, filled + 8 * slot, stages, count);
  }
  prefetch_scale(stages.at[0]);
  __syncwarp();
  griddep_wait();  // weights are nobody's result
  int slot = 0, parity = 0;
  const auto gemv_row = [&](float (&sums)[ROWS], int packs) {
    for (int start = 0; start < packs; start += PACKS) {
      mbarrier_wait(filled + 8 * slot, parity);
      Packed* from = ring + slot * PACKS;
      const Packed* with = x + start + lane;
      Packed w[PACKS / 32];
#pragma unroll
      for (int i = 0; i < PACKS / 32; i++) w[i] = from[lane + 32 * i];
      __syncwarp();
      if (lane == 0) fetch(ahead, from, filled + 8 * slot, stages, count);
      if (++slot == SLOTS) slot = 0, parity ^= 1;
      // Asked of each pack it would be a branch, and each would be waited for by itself.
      if (start + PACKS <= packs) {
#pragma unroll
        for (int i = 0; i < PACKS / 32; i++) gemv_accumulate(sums, w[i], with + 32 * i, rows, packs);
      } else {
#pragma unroll
        for (int i = 0; i < PACKS / 32; i++)
          if (start + lane + 32 * i < packs) gemv_accumulate(sums, w[i], with + 32 * i, rows, packs);
      }
    }
    warp_sum_rows(sums, rows);
  };
  for (int s = 0; s < count; s++) {
    const Stage& stage = stages.at[s];
    const int packs = stage.inner / WIDTH;
    if (s > 0) {
      prefetch_scale(stage);
      grid_sync(arrivals);
    }
    stage_input(stage, x, rows);
    int output = first_output();
    for (int member = 0; member < stage.members; member++) {
      const int width = stage.widths[member];
      scalar* const outs = stage.outs[member];
      for (; output < width; output += output_step()) {
        float sums[ROWS] = {}, gates[ROWS] = {}, added[ROWS] = {};
#pragma unroll
        for (int row = 0; row < ROWS; row++)
          if (row < rows && stage.residual && lane == 0) added[row] = to_float(stage.residual[(i64)row * width + output]);
        gemv_row(sums, packs);
        if (stage.swiglu) gemv_row(gates, packs);
        if (lane != 0) continue;
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
          if (row >= rows) break;
          scalar* to = outs + (i64)row * width + output;
          if (stage.swiglu) *to = gate_with(sums[row], gates[row]);
          else *to = from_float(stage.residual ? sums[row] + added[row] : sums[row]);
        }
      }
      output -= width;
    }
  }
}

KERNEL __launch_bounds__(THREADS, 1) gemv_chain(const __grid_constant__ Stages stages, u64* arrivals, int count,
                                                  int rows) {
  run_stages<GEMV_ROWS>(stages, arrivals, count, rows);
}
// Of one row: nothing is asked of each row.
KERNEL __launch_bounds__(THREADS, 1) gemv_chain_one(const __grid_constant__ Stages stages, u64* arrivals, int count,
                                                      int rows) {
  run_stages<1>(stages, arrivals, count, 1);
}
