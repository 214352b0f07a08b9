// The rows of gated retention on Hopper: (A·Bᵀ ∘ decays)·C + factors ∘ (A·M) for the 128 rows of a chunk and HEAD columns, with a state
// M. Outputs and the gradients of queries, keys and values are all of this form. HEAD: 128, or 64 where the width is no multiple of it.
#include "retention_hopper.cuh"

#ifndef HEAD
#define HEAD 128
#endif
#define BOX_BYTES (64 * 128)  // 64 columns of 64 rows of a state, or of half a slice
#define STAGE_BYTES (2 * SLICE_BYTES + HEAD / 64 * BOX_BYTES)
#define RESULT_BYTES (HEAD / 64 * SLICE_BYTES)
#define CONSUMERS 8  // warps
#define LOG2_E 1.4426950408889634f

// The maps, the width of A and B and of what is written, and how many heads share those of A, of C and of what is dotted with the rows.
struct Operands {
  const TensorMap *a, *b, *c, *m, *out, *dotted;
  int inner, outer, groupA, groupC;
  bool descending;  // from the last positions on, which the pass before had last and the L2 cache may still hold
};
// Of tiles, of sums of decays, and of the place of a result, where what it is dotted with comes before it.
struct Bars {
  u32 full, empty, sumsFull, sumsEmpty, dottedFull, resultEmpty;
};
// A tile of the walk: HEAD columns of a chunk of a head.
struct Tile {
  int block, chunk, head, batch;
};
// Heads follow each other before positions do: their rows lie side by side.
DEVICE Tile tile_of(int index, int tiles, const Operands& of, const Shape& s) {
  const int blocks = of.outer / HEAD, at = of.descending ? tiles - 1 - index : index, rest = at / blocks;
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
        for (int part = 0; part < HEAD / 64; part++) {
          const int own = t.block * HEAD + part * 64;
          tma_load(to + 2 * SLICE_BYTES + part * BOX_BYTES, of.m, full, TURNED ? k * 64 : own, TURNED ? own : k * 64,
                   t.chunk, unit);
        }
      } else {
        mbarrier_expect_tx(full, RESULT_BYTES);
        for (int part = 0; part < HEAD / 64; part++)
          tma_load(to + part * SLICE_BYTES, of.c, full, t.block * HEAD + part * 64, first, t.head / of.groupC, t.batch);
      }
    }
  }
}
// A warp: sums of the logarithms of decays, of base 2.
DEVICE void produce_sums(float (*sums)[CHUNK], const float* logDecay, const Operands& of, const Bars& bars, int tiles,
                         const Shape& s) {
  const int lane = threadIdx.x & 31;
  int n = 0;
  for (int index = blockIdx.x; index < tiles; index += gridDim.x, n++) {
    const Tile t = tile_of(index, tiles, of, s);
    float own[4];
    sum_decays(own, logDecay, s, t.batch, t.head, t.chunk * CHUNK);
    mbarrier_wait(bars.sumsEmpty + 8 * (n & 1), ((n >> 1) & 1) ^ 1);
#pragma unroll
    for (int j = 0; j < 4; j++) sums[n & 1][lane * 4 + j] = LOG2_E * own[j];
    mbarrier_arrive(bars.sumsFull + 8 * (n & 1));
  }
}
// One thread: what results are dotted with, to where they will be.
DEVICE void produce_dotted(const Operands& of, u32 result, const Bars& bars, int tiles, const Shape& s) {
  int n = 0;
  for (int index = blockIdx.x; index < tiles; index += gridDim.x, n++) {
    const Tile t = tile_of(index, tiles, of, s);
    mbarrier_wait(bars.resultEmpty, (n & 1) ^ 1);
    mbarrier_expect_tx(bars.dottedFull, RESULT_BYTES);
    for (int part = 0; part < HEAD / 64; part++)
      tma_load(result + part * SLICE_BYTES, of.dotted, bars.dottedFull, t.block * HEAD + part * 64, t.chunk * CHUNK,
               t.head / of.groupC, t.batch);
  }
}

// A warp's 16 rows of a result, from `position` on, which take the place of `rows` and are copied to memory. With `dots` their products
// with what was there go to it.
DEVICE void finish_rows(const float (&o)[HEAD / 2], const Operands& of, u8* rows, const Bars& bars, float* dots, int tiles,
                        int n, int position, const Tile& t, const Shape& s) {
  const int lane = threadIdx.x & 31;
  float sums[2] = {};
  if (dots) {
    mbarrier_wait(bars.dottedFull, n & 1);
#pragma unroll
    for (int j = 0; j < HEAD / 16; j++) {
      u32 with[4];
      ldmatrix(with, pack_of(rows + j / 4 * SLICE_BYTES, j % 4));
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const scalar low = {(u16)(with[i] & 0xffff)}, high = {(u16)(with[i] >> 16)};
        sums[i & 1] += o[8 * j + 2 * i] * to_float(low) + o[8 * j + 2 * i + 1] * to_float(high);
      }
    }
  } else if (lane == 0) {
    tma_wait();
  }
  __syncwarp();
#pragma unroll
  for (int j = 0; j < HEAD / 16; j++) {
    u32 packed[4];
    pack_rows(packed, o, j);
    stmatrix(pack_of(rows + j / 4 * SLICE_BYTES, j % 4), packed);
  }
  async_fence();
  __syncwarp();
  if (lane == 0) {
    for (int part = 0; part < HEAD / 64; part++)
      tma_store(of.out, shared_address(rows + part * SLICE_BYTES), t.block * HEAD + part * 64, position, t.head, t.batch);
    tma_commit();
  }
  if (!dots) return;
  const i64 batches = tiles / (of.outer / HEAD * s.chunks * s.heads), batch = t.block * batches + t.batch;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    sums[r] += __shfl_xor_sync(0xffffffffu, sums[r], 1);
    sums[r] += __shfl_xor_sync(0xffffffffu, sums[r], 2);
    const int time = position + (lane >> 2) + 8 * r;
    if (time < s.time && (lane & 3) == 0) dots[(batch * s.time + time) * s.heads + t.head] = sums[r];
  }
}

// REVERSED: rows are keys, which the queries from them on see. TURNED: the product is with the transpose of M. HALF: rows that see only
// the half of the chunk that they are in.
template <bool REVERSED, bool TURNED, bool HALF>
DEVICE void consume_rows(const Operands& of, u32 shared, u8* results, const Bars& bars, const float (*sums)[CHUNK],
                         float* dots, int tiles, const Shape& s) {
  constexpr int SEEN = HALF ? CHUNK / 2 : CHUNK, FIRST = HALF && REVERSED ? CHUNK / 2 : 0;
  const int group = (threadIdx.x >> 7) - 1, warp = (threadIdx.x >> 5) & 3, lane = threadIdx.x & 31;
  const int rows = group * 64 + warp * 16, row = rows + (lane >> 2), pair = (lane & 3) * 2, slices = of.inner / 64;
  const float scale = log2f(s.scale);
  int slot = 0, n = 0;
  const auto release = [&](u32 bar) {
    __syncwarp();
    if (lane == 0) mbarrier_arrive(bar);
  };
  for (int index = blockIdx.x; index < tiles; index += gridDim.x, n++) {
    const Tile t = tile_of(index, tiles, of, s);
    if (n > 0 && dots) {  // the result before has left
      if (lane == 0) tma_wait();
      release(bars.resultEmpty);
    }
    float scores[SEEN / 2], o[HEAD / 2];
    for (int k = 0; k < slices; k++, slot++) {
      const int stage = slot % STAGES;
      const u32 tileA = shared + stage * STAGE_BYTES + group * BOX_BYTES, tileB = shared + stage * STAGE_BYTES + SLICE_BYTES;
      const u32 tileM = tileB + SLICE_BYTES;
      mbarrier_wait(bars.full + 8 * stage, (slot / STAGES) & 1);
      wgmma_fence();
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const u64 a = matrix_descriptor(tileA + j * 32, 16, 1024);
        wgmma_shared<false>(scores, a, matrix_descriptor(tileB + FIRST * 128 + j * 32, 16, 1024), k + j > 0);
        if (TURNED) wgmma_shared<false>(o, a, matrix_descriptor(tileM + j * 32, 16, 1024), k + j > 0);
        else wgmma_shared<true>(o, a, matrix_descriptor(tileM + j * 16 * 128, BOX_BYTES, 1024), k + j > 0);
      }
      wgmma_commit();
      wgmma_wait<1>();
      if (k > 0) release(bars.empty + 8 * ((slot - 1) % STAGES));
    }
    wgmma_wait<0>();
    release(bars.empty + 8 * ((slot - 1) % STAGES));
    const float* decays = sums[n & 1];
    mbarrier_wait(bars.sumsFull + 8 * (n & 1), (n >> 1) & 1);
    const float total = decays[CHUNK - 1];
    float own[2] = {decays[row], decays[row + 8]};
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const float factor = exp2_fast(REVERSED ? scale + total - own[r] : own[r]);
#pragma unroll
      for (int j = 0; j < HEAD / 8; j++) {
        o[4 * j + 2 * r] *= factor;
        o[4 * j + 2 * r + 1] *= factor;
      }
      own[r] = REVERSED ? own[r] - scale : own[r] + scale;
    }
    u32 p[SEEN / 16][4];
#pragma unroll
    for (int j = 0; j < SEEN / 8; j++) {
      const float2 other = *(const float2*)&decays[FIRST + j * 8 + pair];
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int i = row + 8 * (e >> 1), c = FIRST + j * 8 + pair + (e & 1);
        const float by = e & 1 ? other.y : other.x;
        const bool seen = REVERSED ? c >= i : c <= i;
        const float decay = exp2_fast(REVERSED ? by - own[e >> 1] : own[e >> 1] - by);
        scores[4 * j + e] = seen ? scores[4 * j + e] * decay : 0.0f;
      }
    }
#pragma unroll
    for (int k = 0; k < SEEN / 16; k++) pack_rows(p[k], scores, k);
    release(bars.sumsEmpty + 8 * (n & 1));
    const int stage = slot % STAGES;
    const u32 tileC = shared + stage * STAGE_BYTES + FIRST * 128;
    mbarrier_wait(bars.full + 8 * stage, (slot / STAGES) & 1);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < SEEN / 16; k++) wgmma_rs(o, p[k], matrix_descriptor(tileC + k * 16 * 128, SLICE_BYTES, 1024));
    wgmma_commit();
    wgmma_wait<0>();
    release(bars.empty + 8 * stage);
    slot++;
    finish_rows(o, of, results + rows * 128, bars, dots, tiles, n, t.chunk * CHUNK + rows, t, s);
  }
  if (lane == 0) tma_wait();
}

template <bool REVERSED, bool TURNED>
DEVICE void rows_of(const Operands& of, const float* logDecay, float* dots, int tiles, const Shape& s) {
  const u32 shared = aligned_memory(), result = shared + STAGES * STAGE_BYTES, at = result + RESULT_BYTES;
  u8* results = memory + (result - shared_address(memory));
  float(*sums)[CHUNK] = (float(*)[CHUNK])(results + RESULT_BYTES);  // two
  const u32 bar = at + 2 * CHUNK * 4;
  const Bars bars = {bar, bar + 8 * STAGES, bar + 16 * STAGES, bar + 16 * STAGES + 16, bar + 16 * STAGES + 32,
                     bar + 16 * STAGES + 40};
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) mbarrier_init(bars.full + 8 * i, 1);
    for (int i = 0; i < STAGES; i++) mbarrier_init(bars.empty + 8 * i, CONSUMERS);
    for (int i = 0; i < 2; i++) mbarrier_init(bars.sumsFull + 8 * i, 32);
    for (int i = 0; i < 2; i++) mbarrier_init(bars.sumsEmpty + 8 * i, CONSUMERS);
    mbarrier_init(bars.dottedFull, 1);
    mbarrier_init(bars.resultEmpty, CONSUMERS);
    mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    keep_registers<40>();
    const int warp = threadIdx.x >> 5;
    if (threadIdx.x == 0) produce_rows<TURNED>(of, shared, bars, tiles, s);
    if (warp == 1) produce_sums(sums, logDecay, of, bars, tiles, s);
    if (threadIdx.x == 64 && dots) produce_dotted(of, result, bars, tiles, s);
  } else {
    take_registers<232>();
    if (threadIdx.x < 256 != REVERSED)
      consume_rows<REVERSED, TURNED, true>(of, shared, results, bars, sums, dots, tiles, s);
    else
      consume_rows<REVERSED, TURNED, false>(of, shared, results, bars, sums, dots, tiles, s);
  }
}

// The maps are of the operands A, B, C and M of the tiles, of the result, and of what it is dotted with where `dots`
// [block,B,T,H] receives these products, of the rows before rounding. Any number of blocks of a producer warpgroup and two of consumers.
#define ROWS_KERNEL(name)                                                                                           \
  KERNEL __launch_bounds__(384, 1)                                                                                  \
      name(const __grid_constant__ TensorMap mapA, const __grid_constant__ TensorMap mapB,                          \
           const __grid_constant__ TensorMap mapC, const __grid_constant__ TensorMap mapM,                          \
           const __grid_constant__ TensorMap mapOut, const __grid_constant__ TensorMap mapDotted, const float* logDecay, \
           float* dots, int tiles, const Shape s)
#define MAPS &mapA, &mapB, &mapC, &mapM, &mapOut, &mapDotted

// A = q, B = k, C = v, M = the state before the chunk.
ROWS_KERNEL(retention_hopper_output) {
  rows_of<false, false>({MAPS, s.keyWidth, s.valueWidth, s.group, 1, true}, logDecay, dots, tiles, s);
}
// dq: A = dOutput, B = v, C = k, M as above; dotted with q.
ROWS_KERNEL(retention_hopper_query) {
  rows_of<false, true>({MAPS, s.valueWidth, s.keyWidth, 1, s.group, true}, logDecay, dots, tiles, s);
}
// dk: A = v, B = dOutput, C = q, M = the gradient of the state behind the chunk; dotted with k.
ROWS_KERNEL(retention_hopper_key) {
  rows_of<true, true>({MAPS, s.valueWidth, s.keyWidth, 1, s.group, false}, logDecay, dots, tiles, s);
}
// dv: A = k, B = q, C = dOutput, M as of dk.
ROWS_KERNEL(retention_hopper_value) {
  rows_of<true, false>({MAPS, s.keyWidth, s.valueWidth, s.group, 1, true}, logDecay, dots, tiles, s);
}
