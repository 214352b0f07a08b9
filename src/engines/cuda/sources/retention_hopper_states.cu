// The states of gated retention on Hopper: warpgroups walk the chunks of a head with 64×64 elements of the state each in registers, in
// float32, and leave what the state was before each chunk. Nothing else of the recurrence touches memory.
#include "retention_hopper.cuh"

// What a warp has of the state, 16 rows of 64 columns, in storage.
#define WARP_BYTES (16 * 128)

// What a block does: units of 64 rows a warpgroup by 64 columns of a head's state, one after the other, through all chunks.
struct Walk {
  int groups, stages, units, backward;
};
// Where a block is in its walk: the corner of its unit, batch · heads + head, and the chunk.
struct Place {
  int row, column, run, chunk;
};
// Units that differ in columns alone are next to each other: they read the same rows of a.
DEVICE Place place_of(int step, const Walk& w, const Shape& s) {
  const int unit = blockIdx.x + step / s.chunks * gridDim.x, i = step % s.chunks;
  const int columns = s.valueWidth / 64, rows = s.keyWidth / (64 * w.groups), rest = unit / columns;
  return {rest % rows * 64 * w.groups, unit % columns * 64, rest / rows, w.backward ? s.chunks - 1 - i : i};
}
DEVICE int steps_of(const Walk& w, const Shape& s) { return (w.units - blockIdx.x + gridDim.x - 1) / gridDim.x * s.chunks; }

// Two elements of storage, each times a factor.
DEVICE u32 scaled(u32 pair, float low, float high) {
  const scalar a = {(u16)(pair & 0xffff)}, b = {(u16)(pair >> 16)};
  return pack2(to_float(a) * low, to_float(b) * high);
}

// What a producer warp does: tiles of a and b, and the factors of their positions. Decays take as long to come as tiles do, so that
// PRODUCERS warps, no more than there are stages, wait for them in turn.
DEVICE void produce_states(const TensorMap* mapA, const TensorMap* mapB, u32 shared, u32 full, u32 empty,
                           float (&weights)[STAGES][CHUNK], float (&decays)[STAGES], const float* logDecay, const Walk& w,
                           const Shape& s, int producer) {
  const int lane = threadIdx.x & 31, steps = steps_of(w, s), bytes = (w.groups + 1) * SLICE_BYTES;
  for (int step = producer; step < steps; step += PRODUCERS) {
    const Place at = place_of(step, w, s);
    const int head = at.run % s.heads, batch = at.run / s.heads, first = at.chunk * CHUNK, stage = step % w.stages;
    const u32 to = shared + stage * bytes, bar = full + 8 * stage;
    float sums[4];
    sum_decays(sums, logDecay, s, batch, head, first);
    const float total = __shfl_sync(0xffffffffu, sums[3], 31);
    mbarrier_wait(empty + 8 * stage, ((step / w.stages) & 1) ^ 1);
    if (lane == 0) {
      mbarrier_expect_tx(bar, bytes);
      for (int group = 0; group < w.groups; group++)
        tma_load(to + group * SLICE_BYTES, mapA, bar, at.row + group * 64, first, head / s.group, batch);
      tma_load(to + w.groups * SLICE_BYTES, mapB, bar, at.column, first, head, batch);
      decays[stage] = __expf(total);
    }
#pragma unroll
    for (int j = 0; j < 4; j++)
      weights[stage][lane * 4 + j] = w.backward ? __expf(sums[j]) : s.scale * __expf(total - sums[j]);
    mbarrier_arrive(bar);
  }
}

// A warp's part of aᵀ, 64 columns by the positions of a tile, times the factors of the positions. The swizzle of the tile's rows has
// moved 16 bytes by the lower bits of the position.
DEVICE void load_turned(u32 (&a)[CHUNK / 16][4], const u8* tile, const float (&weights)[CHUNK]) {
  const int warp = (threadIdx.x >> 5) & 3, lane = threadIdx.x & 31;
  const int pack = (warp * 2 + ((lane >> 3) & 1)) ^ (lane & 7);
#pragma unroll
  for (int k = 0; k < CHUNK / 16; k++) {
    const int position = k * 16 + (lane & 7) + (lane >> 4) * 8;
    ldmatrix_trans(a[k], (const scalar*)(tile + position * 128 + pack * 16));
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const float2 by = *(const float2*)&weights[k * 16 + half * 8 + (lane & 3) * 2];
      a[k][2 * half] = scaled(a[k][2 * half], by.x, by.y);
      a[k][2 * half + 1] = scaled(a[k][2 * half + 1], by.x, by.y);
    }
  }
}

// What a consumer warp does. `room` is where its part of the states waits to be copied.
DEVICE void consume_states(const TensorMap* mapStates, u8* tiles, u8* room, u32 full, u32 empty,
                           const float (&weights)[STAGES][CHUNK], const float (&decays)[STAGES], const float* start,
                           float* last, const Walk& w, const Shape& s) {
  const int group = threadIdx.x >> 7, warp = (threadIdx.x >> 5) & 3, lane = threadIdx.x & 31;
  const int bytes = (w.groups + 1) * SLICE_BYTES;
  u32 a[CHUNK / 16][4], next[CHUNK / 16][4];
  int stage = 0, phase = 0, left = steps_of(w, s);
  mbarrier_wait(full, 0);
  load_turned(a, tiles + group * SLICE_BYTES, weights[0]);
  for (int step = 0; left > 0; step += s.chunks) {
    const Place at = place_of(step, w, s);
    const int ownRow = at.row + group * 64 + warp * 16;
    const i64 corner = ((i64)at.run * s.keyWidth + ownRow + (lane >> 2)) * s.valueWidth + at.column + (lane & 3) * 2;
    float state[32];
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
      for (int j = 0; j < 8; j++)
#pragma unroll
        for (int c = 0; c < 2; c++)
          state[4 * j + 2 * r + c] = start ? start[corner + 8 * r * s.valueWidth + j * 8 + c] : 0.0f;
    for (int i = 0; i < s.chunks; i++) {
      u32 before[4][4];
#pragma unroll
      for (int j = 0; j < 4; j++) pack_rows(before[j], state, j);
      const float decay = decays[stage];
#pragma unroll
      for (int e = 0; e < 32; e++) state[e] *= decay;
      const u32 tileB = shared_address(tiles) + stage * bytes + w.groups * SLICE_BYTES;
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < CHUNK / 16; k++)
        wgmma_rs(state, a[k], matrix_descriptor(tileB + k * 16 * 128, SLICE_BYTES, 1024));
      wgmma_commit();
      // Meanwhile the next tile of a, and what the state was.
      const int then = stage + 1 == w.stages ? 0 : stage + 1, thenPhase = phase ^ (then == 0);
      if (--left > 0) {
        mbarrier_wait(full + 8 * then, thenPhase);
        load_turned(next, tiles + then * bytes + group * SLICE_BYTES, weights[then]);
      }
      if (lane == 0) tma_wait();
      __syncwarp();
#pragma unroll
      for (int j = 0; j < 4; j++) stmatrix(pack_of(room, j), before[j]);
      async_fence();
      __syncwarp();
      if (lane == 0) {
        tma_store(mapStates, shared_address(room), at.column, ownRow, w.backward ? s.chunks - 1 - i : i, at.run);
        tma_commit();
      }
      wgmma_wait<0>();
      hold(a, s.time < 0);
      __syncwarp();
      if (lane == 0) mbarrier_arrive(empty + 8 * stage);
#pragma unroll
      for (int k = 0; k < CHUNK / 16; k++)
#pragma unroll
        for (int e = 0; e < 4; e++) a[k][e] = next[k][e];
      stage = then;
      phase = thenPhase;
    }
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
      for (int j = 0; j < 8; j++)
        *(float2*)(last + corner + 8 * r * s.valueWidth + j * 8) =
            make_float2(state[4 * j + 2 * r], state[4 * j + 2 * r + 1]);
  }
  if (lane == 0) tma_wait();
}

// The recurrence S' = decay·S + Σ_t w_t·a_tᵀ b_t from chunk to chunk, forwards (a = k, b = v, w = Dk^-½ e^{G_C−G_t}) or backwards
// (a = q, b = dOutput, w = e^{G_t}). `mapStates` is of [B·H, chunks, Dk, Dv], which receive, in storage, the S before each step. Any
// number of blocks of one or two warpgroups and the producer warps.
KERNEL __launch_bounds__(256 + 32 * PRODUCERS, 1)
    retention_hopper_states(const __grid_constant__ TensorMap mapA, const __grid_constant__ TensorMap mapB,
                            const __grid_constant__ TensorMap mapStates, const float* logDecay, const float* start,
                            float* last, const Shape s, const Walk w) {
  __shared__ __align__(8) u64 barriers[2 * STAGES];
  __shared__ __align__(8) float weights[STAGES][CHUNK];
  __shared__ float decays[STAGES];
  const u32 shared = aligned_memory(), full = shared_address(barriers), empty = full + 8 * STAGES;
  if (threadIdx.x == 0) {
    for (int i = 0; i < w.stages; i++) mbarrier_init(full + 8 * i, 1 + 32);
    for (int i = 0; i < w.stages; i++) mbarrier_init(empty + 8 * i, 4 * w.groups);
    mbarrier_init_fence();
  }
  __syncthreads();
  const int warp = threadIdx.x >> 5, producer = warp - 4 * w.groups;
  if (producer >= 0) {
    produce_states(&mapA, &mapB, shared, full, empty, weights, decays, logDecay, w, s, producer);
    return;
  }
  u8* tiles = memory + (shared - shared_address(memory));
  u8* room = tiles + w.stages * (w.groups + 1) * SLICE_BYTES + warp * WARP_BYTES;
  consume_states(&mapStates, tiles, room, full, empty, weights, decays, start, last, w, s);
}
