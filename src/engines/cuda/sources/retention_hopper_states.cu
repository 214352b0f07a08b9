// The states of gated retention on Hopper: a block walks the chunks of a head with 64×64 elements of the state in registers, in float32,
// and leaves what the state was before each chunk. Nothing else of the recurrence touches memory.
#include "retention_hopper.cuh"

// Two elements of storage, each times a factor.
DEVICE u32 scaled(u32 pair, float low, float high) {
  const scalar a = {(u16)(pair & 0xffff)}, b = {(u16)(pair >> 16)};
  return pack2(to_float(a) * low, to_float(b) * high);
}

// What the producer warp of `retention_hopper_states` does: tiles of a and b, and the factors of their positions.
DEVICE void produce_states(const TensorMap* mapA, const TensorMap* mapB, u32 shared, u32 full, u32 empty,
                           float (&weights)[STAGES][CHUNK], float (&decays)[STAGES], const float* logDecay,
                           const Shape& s, int backward) {
  const int head = blockIdx.z % s.heads, batch = blockIdx.z / s.heads, lane = threadIdx.x & 31;
  for (int i = 0; i < s.chunks; i++) {
    const int first = (backward ? s.chunks - 1 - i : i) * CHUNK, stage = i % STAGES;
    const u32 to = shared + stage * 2 * SLICE_BYTES, bar = full + 8 * stage;
    float sums[4];
    sum_decays(sums, logDecay, s, batch, head, first);
    const float total = __shfl_sync(0xffffffffu, sums[3], 31);
    mbarrier_wait(empty + 8 * stage, ((i / STAGES) & 1) ^ 1);
    if (lane == 0) {
      mbarrier_expect_tx(bar, 2 * SLICE_BYTES);
      tma_load(to, mapA, bar, blockIdx.y * 64, first, head / s.group, batch);
      tma_load(to + SLICE_BYTES, mapB, bar, blockIdx.x * 64, first, head, batch);
      decays[stage] = __expf(total);
    }
#pragma unroll
    for (int j = 0; j < 4; j++)
      weights[stage][lane * 4 + j] = backward ? __expf(sums[j]) : s.scale * __expf(total - sums[j]);
    mbarrier_arrive(bar);
  }
}

// A warp's part of aᵀ, 64 columns by the positions of a tile, times the factors of the positions. The swizzle of the tile's rows has
// moved 16 bytes by the lower bits of the position.
DEVICE void load_turned(u32 (&a)[CHUNK / 16][4], const u8* tile, const float (&weights)[CHUNK]) {
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
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

// The recurrence S' = decay·S + Σ_t w_t·a_tᵀ b_t from chunk to chunk, forwards (a = k, b = v, w = Dk^-½ e^{G_C−G_t}) or backwards
// (a = q, b = dOutput, w = e^{G_t}). `states` [B·H, chunks, Dk, Dv] receives, in storage, the S before each step. Grid (64
// columns, 64 rows, batch · heads), a warpgroup and a producer warp.
KERNEL __launch_bounds__(160)
    retention_hopper_states(const __grid_constant__ TensorMap mapA, const __grid_constant__ TensorMap mapB,
                            const float* logDecay, const float* start, scalar* states, float* last, const Shape s,
                            int backward) {
  __shared__ __align__(8) u64 barriers[2 * STAGES];
  __shared__ __align__(8) float weights[STAGES][CHUNK];
  __shared__ float decays[STAGES];
  const u32 shared = aligned_memory(), full = shared_address(barriers), empty = full + 8 * STAGES;
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) mbarrier_init(full + 8 * i, 1 + 32);
    for (int i = 0; i < STAGES; i++) mbarrier_init(empty + 8 * i, 4);
    mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x >= 128) {
    produce_states(&mapA, &mapB, shared, full, empty, weights, decays, logDecay, s, backward);
    return;
  }
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const u8* tiles = memory + (shared - shared_address(memory));
  const int row = blockIdx.y * 64 + warp * 16 + (lane >> 2), column = blockIdx.x * 64 + (lane & 3) * 2;
  const i64 size = (i64)s.keyWidth * s.valueWidth, corner = (i64)row * s.valueWidth + column;
  float state[32];
#pragma unroll
  for (int r = 0; r < 2; r++)
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
      for (int c = 0; c < 2; c++)
        state[4 * j + 2 * r + c] =
            start ? start[blockIdx.z * size + corner + 8 * r * s.valueWidth + j * 8 + c] : 0.0f;
  u32 a[CHUNK / 16][4], next[CHUNK / 16][4];
  mbarrier_wait(full, 0);
  load_turned(a, tiles, weights[0]);
  for (int i = 0; i < s.chunks; i++) {
    const int chunk = backward ? s.chunks - 1 - i : i, stage = i % STAGES;
    scalar* to = states + ((i64)blockIdx.z * s.chunks + chunk) * size + corner;
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
      for (int j = 0; j < 8; j++)
        *(u32*)(to + 8 * r * s.valueWidth + j * 8) = pack2(state[4 * j + 2 * r], state[4 * j + 2 * r + 1]);
    const float decay = decays[stage];
#pragma unroll
    for (int e = 0; e < 32; e++) state[e] *= decay;
    const u32 tileB = shared + stage * 2 * SLICE_BYTES + SLICE_BYTES;
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < CHUNK / 16; k++)
      wgmma_rs(state, a[k], matrix_descriptor(tileB + k * 16 * 128, SLICE_BYTES, 1024));
    wgmma_commit();
    if (i + 1 < s.chunks) {  // meanwhile
      const int then = (i + 1) % STAGES;
      mbarrier_wait(full + 8 * then, ((i + 1) / STAGES) & 1);
      load_turned(next, tiles + then * 2 * SLICE_BYTES, weights[then]);
    }
    wgmma_wait<0>();
    hold(a, s.time < 0);
    __syncwarp();
    if (lane == 0) mbarrier_arrive(empty + 8 * stage);
#pragma unroll
    for (int k = 0; k < CHUNK / 16; k++)
#pragma unroll
      for (int e = 0; e < 4; e++) a[k][e] = next[k][e];
  }
#pragma unroll
  for (int r = 0; r < 2; r++)
#pragma unroll
    for (int j = 0; j < 8; j++)
      *(float2*)(last + blockIdx.z * size + corner + 8 * r * s.valueWidth + j * 8) =
          make_float2(state[4 * j + 2 * r], state[4 * j + 2 * r + 1]);
}
