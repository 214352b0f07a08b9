// The rows of gated retention on Hopper: (A·Bᵀ ∘ decays)·C + factors ∘ (A·M) for the 128 rows of a chunk and 128 columns, with a state M.
// Outputs and the gradients of queries, keys and values are all of this form.
#include "retention_hopper.cuh"

#define BOX_BYTES (64 * 128)  // 64 columns of 64 rows of a state, or of half a slice
#define STAGE_BYTES (3 * SLICE_BYTES)

// The maps, the width of A and B and of what is written, and how many heads share those of A, of C and of what is dotted with the rows.
struct Operands {
  const TensorMap *a, *b, *c, *m;
  int inner, outer, groupA, groupC;
  bool descending;  // from the last positions on, which the pass before had last and the L2 cache may still hold
};
struct Bars {
  u32 full, empty, sumsFull, sumsEmpty;
};
// A tile of the walk: 128 columns of a chunk of a head.
struct Tile {
  int block, chunk, head, batch;
};
// Heads follow each other before positions do: their rows lie side by side.
DEVICE Tile tile_of(int index, int tiles, const Operands& of, const Shape& s) {
  const int blocks = of.outer / 128, at = of.descending ? tiles - 1 - index : index, rest = at / blocks;
  const int run = rest / s.heads;
  return {at % blocks, run % s.chunks, rest % s.heads, run / s.chunks};
}

// One thread: for each tile slices of 64 columns of A and B with their part of M, then C.
template <bool TURNED>
DEVICE void produce_rows(const Operands& of, u32 shared, const Bars& bars, int tiles, const Shape& s) {
  int slot = 0;
  for (int index = blockIdx.x; index < tiles; index += gridDim.x) {
    const Tile t = tile_of(index, tiles, of, s);
    const int first = t.chunk * CHUNK, unit = t.batch * s.heads + t.head;
    for (int k = 0; k <= of.inner / 64; k++, slot++) {
      const u32 to = shared + slot % STAGES * STAGE_BYTES, full = bars.full + 8 * (slot % STAGES);
      mbarrier_wait(bars.empty + 8 * (slot % STAGES), ((slot / STAGES) & 1) ^ 1);
      if (k < of.inner / 64) {
        mbarrier_expect_tx(full, STAGE_BYTES);
        tma_load(to, of.a, full, k * 64, first, t.head / of.groupA, t.batch);
        tma_load(to + SLICE_BYTES, of.b, full, k * 64, first, t.head / of.groupA, t.batch);
        for (int part = 0; part < 2; part++) {
          const int own = t.block * 128 + part * 64;
          tma_load(to + 2 * SLICE_BYTES + part * BOX_BYTES, of.m, full, TURNED ? k * 64 : own, TURNED ? own : k * 64,
                   t.chunk, unit);
        }
      } else {
        mbarrier_expect_tx(full, 2 * SLICE_BYTES);
        for (int part = 0; part < 2; part++)
          tma_load(to + part * SLICE_BYTES, of.c, full, t.block * 128 + part * 64, first, t.head / of.groupC, t.batch);
      }
    }
  }
}
DEVICE void produce_sums(float (&sums)[2][CHUNK], const float* logDecay, const Operands& of, const Bars& bars,
                         int tiles, const Shape& s) {
  const int lane = threadIdx.x & 31;
  int n = 0;
  for (int index = blockIdx.x; index < tiles; index += gridDim.x, n++) {
    const Tile t = tile_of(index, tiles, of, s);
    float own[4];
    sum_decays(own, logDecay, s, t.batch, t.head, t.chunk * CHUNK);
    mbarrier_wait(bars.sumsEmpty + 8 * (n & 1), ((n >> 1) & 1) ^ 1);
#pragma unroll
    for (int j = 0; j < 4; j++) sums[n & 1][lane * 4 + j] = own[j];
    mbarrier_arrive(bars.sumsFull + 8 * (n & 1));
  }
}

// REVERSED: rows are keys, which the queries from them on see. TURNED: the product is with the transpose of M. With `dotted`
// [B,T,H/groupC,outer], dots [block,B,T,H] receives its products with the rows, before rounding.
template <bool REVERSED, bool TURNED>
DEVICE void consume_rows(const Operands& of, u32 shared, const Bars& bars, const float (&sums)[2][CHUNK],
                         const scalar* dotted, scalar* out, float* dots, int tiles, const Shape& s) {
  const int group = (threadIdx.x >> 7) - 1, warp = (threadIdx.x >> 5) & 3, lane = threadIdx.x & 31;
  const int row = group * 64 + warp * 16 + (lane >> 2), pair = (lane & 3) * 2;
  const int blocks = of.outer / 128, slices = of.inner / 64;
  const i64 positions = (i64)(tiles / blocks / s.chunks / s.heads) * s.time;
  int slot = 0, n = 0;
  const auto release = [&](u32 bar) {
    __syncwarp();
    if (lane == 0) mbarrier_arrive(bar);
  };
  for (int index = blockIdx.x; index < tiles; index += gridDim.x, n++) {
    const Tile t = tile_of(index, tiles, of, s);
    float scores[64], o[64];
    for (int k = 0; k < slices; k++, slot++) {
      const int stage = slot % STAGES;
      const u32 tileA = shared + stage * STAGE_BYTES + group * BOX_BYTES, tileB = shared + stage * STAGE_BYTES + SLICE_BYTES;
      const u32 tileM = tileB + SLICE_BYTES;
      mbarrier_wait(bars.full + 8 * stage, (slot / STAGES) & 1);
      wgmma_fence();
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const u64 a = matrix_descriptor(tileA + j * 32, 16, 1024);
        wgmma_shared<false>(scores, a, matrix_descriptor(tileB + j * 32, 16, 1024), k + j > 0);
        if (TURNED) wgmma_shared<false>(o, a, matrix_descriptor(tileM + j * 32, 16, 1024), k + j > 0);
        else wgmma_shared<true>(o, a, matrix_descriptor(tileM + j * 16 * 128, BOX_BYTES, 1024), k + j > 0);
      }
      wgmma_commit();
      wgmma_wait<1>();
      if (k > 0) release(bars.empty + 8 * ((slot - 1) % STAGES));
    }
    wgmma_wait<0>();
    release(bars.empty + 8 * ((slot - 1) % STAGES));
    const float(&decays)[CHUNK] = sums[n & 1];
    mbarrier_wait(bars.sumsFull + 8 * (n & 1), (n >> 1) & 1);
    const float own[2] = {decays[row], decays[row + 8]}, total = decays[CHUNK - 1];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const float factor = REVERSED ? s.scale * __expf(total - own[r]) : __expf(own[r]);
#pragma unroll
      for (int j = 0; j < 16; j++) {
        o[4 * j + 2 * r] *= factor;
        o[4 * j + 2 * r + 1] *= factor;
      }
    }
    u32 p[8][4];
#pragma unroll
    for (int j = 0; j < 16; j++) {
      const float2 other = *(const float2*)&decays[j * 8 + pair];
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int i = row + 8 * (e >> 1), c = j * 8 + pair + (e & 1);
        const float by = e & 1 ? other.y : other.x;
        const bool seen = REVERSED ? c >= i : c <= i;
        const float decay = s.scale * __expf(REVERSED ? by - own[e >> 1] : own[e >> 1] - by);
        scores[4 * j + e] = seen ? scores[4 * j + e] * decay : 0.0f;
      }
    }
#pragma unroll
    for (int k = 0; k < 8; k++)
#pragma unroll
      for (int i = 0; i < 4; i++) p[k][i] = pack2(scores[8 * k + 2 * i], scores[8 * k + 2 * i + 1]);
    release(bars.sumsEmpty + 8 * (n & 1));
    const int stage = slot % STAGES;
    const u32 tileC = shared + stage * STAGE_BYTES;
    mbarrier_wait(bars.full + 8 * stage, (slot / STAGES) & 1);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 8; k++) wgmma_rs(o, p[k], matrix_descriptor(tileC + k * 16 * 128, SLICE_BYTES, 1024));
    wgmma_commit();
    wgmma_wait<0>();
    release(bars.empty + 8 * stage);
    slot++;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int time = t.chunk * CHUNK + row + 8 * r;
      const bool inside = time < s.time;
      const i64 position = (i64)t.batch * s.time + time;
      const int column = t.block * 128 + pair;
      if (inside) {
        scalar* to = out + (position * s.heads + t.head) * of.outer + column;
#pragma unroll
        for (int j = 0; j < 16; j++) *(u32*)(to + j * 8) = pack2(o[4 * j + 2 * r], o[4 * j + 2 * r + 1]);
      }
      if (!dotted) continue;
      float sum = 0.0f;
      if (inside) {
        const scalar* with = dotted + (position * (s.heads / of.groupC) + t.head / of.groupC) * of.outer + column;
#pragma unroll
        for (int j = 0; j < 16; j++) sum += o[4 * j + 2 * r] * to_float(with[j * 8]) + o[4 * j + 2 * r + 1] * to_float(with[j * 8 + 1]);
      }
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      if (inside && pair == 0) dots[(t.block * positions + position) * s.heads + t.head] = sum;
    }
  }
}

template <bool REVERSED, bool TURNED>
DEVICE void rows_of(const Operands& of, const scalar* dotted, const float* logDecay, scalar* out, float* dots, int tiles,
                    const Shape& s) {
  __shared__ __align__(8) u64 barriers[2 * STAGES + 4];
  __shared__ __align__(8) float sums[2][CHUNK];
  const u32 shared = aligned_memory(), at = shared_address(barriers);
  const Bars bars = {at, at + 8 * STAGES, at + 16 * STAGES, at + 16 * STAGES + 16};
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) mbarrier_init(bars.full + 8 * i, 1);
    for (int i = 0; i < STAGES; i++) mbarrier_init(bars.empty + 8 * i, 8);
    for (int i = 0; i < 2; i++) mbarrier_init(bars.sumsFull + 8 * i, 32);
    for (int i = 0; i < 2; i++) mbarrier_init(bars.sumsEmpty + 8 * i, 8);
    mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    keep_registers<40>();
    if (threadIdx.x == 0) produce_rows<TURNED>(of, shared, bars, tiles, s);
    if (threadIdx.x >> 5 == 1) produce_sums(sums, logDecay, of, bars, tiles, s);
  } else {
    take_registers<232>();
    consume_rows<REVERSED, TURNED>(of, shared, bars, sums, dotted, out, dots, tiles, s);
  }
}

// The maps are of the operands A, B, C and M of the tiles; any number of blocks of a producer warpgroup and two of consumers.
#define ROWS_KERNEL(name)                                                                                         \
  KERNEL __launch_bounds__(384, 1)                                                                                \
      name(const __grid_constant__ TensorMap mapA, const __grid_constant__ TensorMap mapB,                        \
           const __grid_constant__ TensorMap mapC, const __grid_constant__ TensorMap mapM, const float* logDecay, \
           const scalar* dotted, scalar* out, float* dots, int tiles, const Shape s)
#define MAPS &mapA, &mapB, &mapC, &mapM

// A = q, B = k, C = v, M = the state before the chunk.
ROWS_KERNEL(retention_hopper_output) {
  rows_of<false, false>({MAPS, s.keyWidth, s.valueWidth, s.group, 1, true}, dotted, logDecay, out, dots, tiles, s);
}
// dq: A = dOutput, B = v, C = k, M as above; dotted with q.
ROWS_KERNEL(retention_hopper_query) {
  rows_of<false, true>({MAPS, s.valueWidth, s.keyWidth, 1, s.group, true}, dotted, logDecay, out, dots, tiles, s);
}
// dk: A = v, B = dOutput, C = q, M = the gradient of the state behind the chunk; dotted with k.
ROWS_KERNEL(retention_hopper_key) {
  rows_of<true, true>({MAPS, s.valueWidth, s.keyWidth, 1, s.group, false}, dotted, logDecay, out, dots, tiles, s);
}
// dv: A = k, B = q, C = dOutput, M as of dk.
ROWS_KERNEL(retention_hopper_value) {
  rows_of<true, false>({MAPS, s.keyWidth, s.valueWidth, s.group, 1, true}, dotted, logDecay, out, dots, tiles, s);
}
