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
  int total;   // outputs: the sum of the widths, or the width of SwiGLU
  int swiglu;  // whether the output is silu(x·weights[0]ᵀ) · (x·weights[1]ᵀ)
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

// Which of a stage's weights has an output, which becomes that of its rows.
DEVICE int member_of(const Stage& stage, int& output) {
  int member = 0;
  while (member < GEMV_WEIGHTS - 1 && output >= stage.widths[member]) output -= stage.widths[member++];
  return member;
}

// How far a warp has fetched: stage, output, which of a SwiGLU's two rows, and the pack of that row.
struct Cursor {
  int stage, output, second, pack;
  const Wide* row;  // null behind the last one
};

DEVICE void find_row(Cursor& at, const Stages& stages, int count) {
  while (at.output >= stages.at[at.stage].total) {
    at.row = nullptr;
    if (++at.stage >= count) return;
    at.output = first_output();
  }
  const Stage& stage = stages.at[at.stage];
  int output = at.output;
  const int member = stage.swiglu ? at.second : member_of(stage, output);
  at.row = (const Wide*)(stage.weights[member] + (i64)output * stage.inner);
}

// Begins to read what comes next, up to PACKS of one row, into a slot of the ring. By one lane: the copy engine does the rest,
// whereas loads by every lane would queue in front of the reads of shared memory.
DEVICE void fetch(Cursor& at, Wide* slot, u32 barrier, const Stages& stages, int count) {
  if (!at.row) return;
  const Stage& stage = stages.at[at.stage];
  const int packs = stage.inner / WIDTH, size = min(PACKS, packs - at.pack) * (int)sizeof(Wide);
  mbarrier_expect_tx(barrier, size);
  cp_async_bulk(shared_address(slot), at.row + at.pack, barrier, size);
  at.pack += PACKS;
  if (at.pack < packs) return;
  at.pack = 0;
  at.second = stage.swiglu && !at.second;
  if (!at.second) at.output += output_step();
  find_row(at, stages, count);
}

// The scale of a norm has long left the caches when its turn comes.
DEVICE void prefetch_scale(const Stage& stage) {
  const int each = 128 / (int)sizeof(Wide), at = threadIdx.x * each;
  if (stage.scale && at < stage.packs) prefetch_l2((const Wide*)stage.scale + at);
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
DEVICE void stage_input(const Stage& stage, Wide* x, int rows) {
  const int packs = rows * stage.inner / WIDTH;
  const Wide* from = (const Wide*)stage.x;
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
    if (stage.lanes)
      normalize<false>(read, scale, gates, made, stage.packs, threadIdx.x & (lanes - 1), lanes, row < norms, stage.eps);
    else
      normalize<true, 1>(read, scale, gates, made, stage.packs, threadIdx.x, THREADS, true, stage.eps);
  }
  __syncthreads();
  if (blockIdx.x == 0)
    for (int i = threadIdx.x; i < packs; i += THREADS) ((Wide*)stage.normed)[i] = x[i];
}

template <int ROWS>
DEVICE void run_stages(const Stages& stages, u64* arrivals, int count, int rows) {
  extern __shared__ __align__(16) scalar memory[];
  __shared__ u64 barriers[WARPS][SLOTS];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  Wide* ring = (Wide*)memory + warp * SLOTS * PACKS;
  Wide* x = (Wide*)memory + WARPS * SLOTS * PACKS;
  const u32 filled = shared_address(barriers[warp]);
  Cursor ahead = {};
  griddep_launch_dependents();
  if (lane == 0) {
    for (int slot = 0; slot < SLOTS; slot++) mbarrier_init(filled + 8 * slot, 1);
    mbarrier_init_fence();
    ahead.output = first_output();
    find_row(ahead, stages, count);
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
      Wide* from = ring + slot * PACKS;
#pragma unroll
      for (int i = lane; i < PACKS; i += 32)
        if (start + i < packs) gemv_accumulate(sums, from[i], x + start + i, rows, packs);
      __syncwarp();
      if (lane == 0) fetch(ahead, from, filled + 8 * slot, stages, count);
      if (++slot == SLOTS) slot = 0, parity ^= 1;
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
    for (int first = first_output(); first < stage.total; first += output_step()) {
      int output = first;
      const int member = stage.swiglu ? 0 : member_of(stage, output), width = stage.widths[member];
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
        scalar* to = stage.outs[member] + (i64)row * width + output;
        if (stage.swiglu) *to = gate_with(sums[row], gates[row]);
        else *to = from_float(stage.residual ? sums[row] + added[row] : sums[row]);
      }
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
  run_stages<1>(stages, arrivals, count, rows);
}
