// y = silu(x·activatedᵀ) ∘ (x·gateᵀ) on Hopper for many rows, in one pass: asynchronous warpgroup products (wgmma) fed by the tensor
// copy engine. A tile is 128 rows of x by 128 rows of each weight, whose boxes lie behind each other in shared memory, so that one
// product of 64 × 256 has both factors of an output in one thread. Blocks stay: one thread copies slices of 64 inner elements into a ring
// and runs ahead into the next tile, two warpgroups have 64 rows each. The second one follows SKEW slices behind the first, so that one
// has the tensor cores to itself while the other gates and stores.
#include "swizzled.cuh"

#define TILE 128
#define BOX_BYTES (TILE * 128)  // 64 columns of 128 rows
#define STAGE_BYTES (3 * BOX_BYTES)
#define WARP_BYTES (16 * 128)   // 64 columns of a warp's rows of y
#define CONSUMERS 8             // warps

extern __shared__ __align__(1024) u8 memory[];

// Tiles of y: rows of them and columns; slices of 64 inner elements.
struct Grid {
  int rows, columns, slices;
};
struct Tile {
  int row, column;
};
struct Bars {
  u32 full, empty;
};

// Tiles go down BAND rows before they go on to the next column, so that those in work at a time have few rows of x and of the weights.
// Every second band goes back the way the one before came: the weights that it begins with are still in the L2 cache.
DEVICE Tile tile_of(int i, const Grid& grid) {
  const int band = i / (BAND * grid.columns), first = band * BAND, height = min(BAND, grid.rows - first);
  const int at = i - first * grid.columns, column = at / height;
  return {first + at % height, band & 1 ? grid.columns - 1 - column : column};
}

// One thread.
DEVICE void produce(const TensorMap* x, const TensorMap* activated, const TensorMap* gate, u32 shared, const Bars& bars,
                    const Grid& grid) {
  int slot = 0;
  for (int i = blockIdx.x; i < grid.rows * grid.columns; i += gridDim.x) {
    const Tile tile = tile_of(i, grid);
    for (int k = 0; k < grid.slices; k++, slot++) {
      const int stage = slot % STAGES;
      const u32 to = shared + stage * STAGE_BYTES, full = bars.full + 8 * stage;
      mbarrier_wait(bars.empty + 8 * stage, ((slot / STAGES) & 1) ^ 1);
      mbarrier_expect_tx(full, STAGE_BYTES);
      tma_load(to, x, full, k * 64, tile.row * TILE, 0, 0);
      tma_load(to + BOX_BYTES, activated, full, k * 64, tile.column * TILE, 0, 0);
      tma_load(to + 2 * BOX_BYTES, gate, full, k * 64, tile.column * TILE, 0, 0);
    }
  }
}

struct Consumer {
  int group;
  bool skewed;
  u64 a, b;  // descriptors of the group's rows of x and of both weights, in the first stage
};
DEVICE void release(int slot, const Bars& bars) {
  __syncwarp();
  if ((threadIdx.x & 31) == 0) mbarrier_arrive(bars.empty + 8 * (slot % STAGES));
}
// d = the products of all slices of a tile, the first of which is in `slot`.
DEVICE void multiply(float (&d)[TILE], const Consumer& own, const Bars& bars, const Grid& grid, int slot) {
  if (own.skewed && own.group == 1) named_barrier_wait(1, 256);
  for (int k = 0; k < grid.slices; k++, slot++) {
    const int stage = slot % STAGES, at = stage * STAGE_BYTES;
    mbarrier_wait(bars.full + 8 * stage, (slot / STAGES) & 1);
    wgmma_fence();
#pragma unroll
    for (int j = 0; j < 4; j++)
      wgmma_shared<false>(d, descriptor_at(own.a, at + j * 32), descriptor_at(own.b, at + j * 32), k + j > 0);
    wgmma_commit();
    wgmma_wait<1>();
    if (k > 0) release(slot - 1, bars);
    if (own.skewed && own.group == 0 && k == SKEW) named_barrier_arrive(1, 256);  // SKEW slices done, the next under way
  }
  wgmma_wait<0>();
  release(slot - 1, bars);
}

// silu(a)·b of two neighbours, both rounded first as projections are where they are kept. `scale` is -LOG2_E.
DEVICE u32 gated(const float* a, const float* b, float scale) {
  const u32 p = pack2(a[0], a[1]), q = pack2(b[0], b[1]);
  const auto silu = [&](float x) { return x * reciprocal(1.0f + exp2_fast(scale * x)); };
  return pack2(silu(low_of(p)) * low_of(q), silu(high_of(p)) * high_of(q));
}
// A warp's 16 rows of y, 64 columns at a time, by way of two places in `rows`.
DEVICE void finish(const float (&d)[TILE], const TensorMap* y, u8* rows, const volatile float* scaleAt, int row, int column) {
  const int lane = threadIdx.x & 31;
  const float scale = *scaleAt;  // which the compiler cannot know: what needs it comes after the last slice is given back
#pragma unroll
  for (int part = 0; part < TILE / 64; part++) {
    u8* to = rows + part * WARP_BYTES;
    if (lane == 0) tma_wait<1>();  // the same part of the tile before has left
    __syncwarp();
#pragma unroll
    for (int j = 0; j < 4; j++) {
      u32 packed[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float* a = &d[32 * part + 8 * j + 2 * i];
        packed[i] = gated(a, a + TILE / 2, scale);
      }
      stmatrix(pack_of(to, j), packed);
    }
    async_fence();
    __syncwarp();
    if (lane == 0) {
      tma_store(y, shared_address(to), column + part * 64, row, 0, 0);
      tma_commit();
    }
  }
}

DEVICE void consume(const TensorMap* y, u32 shared, u8* results, const volatile float* scale, const Bars& bars, const Grid& grid) {
  const int group = uniform(threadIdx.x >> 7) - 1, warp = (threadIdx.x >> 5) - 4;
  // With fewer slices than stages the first warpgroup could be a tile ahead.
  const Consumer own = {group, grid.slices >= STAGES, matrix_descriptor(shared + group * BOX_BYTES / 2, 16, 1024),
                        matrix_descriptor(shared + BOX_BYTES, 16, 1024)};
  int slot = 0;
  for (int i = blockIdx.x; i < grid.rows * grid.columns; i += gridDim.x, slot += grid.slices) {
    const Tile tile = tile_of(i, grid);
    float d[TILE];
    multiply(d, own, bars, grid, slot);
    finish(d, y, results + warp * 2 * WARP_BYTES, scale, tile.row * TILE + warp * 16, tile.column * TILE);
  }
  if ((threadIdx.x & 31) == 0) tma_wait<0>();
}

// Any number of blocks. Boxes of 128 rows for what is read and of 16 for y.
KERNEL __launch_bounds__(384, 1)
    linear_swiglu_hopper(const __grid_constant__ TensorMap mapX, const __grid_constant__ TensorMap mapActivated,
                         const __grid_constant__ TensorMap mapGate, const __grid_constant__ TensorMap mapY,
                         const Grid grid) {
  const u32 shared = (shared_address(memory) + 1023) & ~1023u;
  u8* results = memory + (shared - shared_address(memory)) + STAGES * STAGE_BYTES;
  u8* ends = results + CONSUMERS * 2 * WARP_BYTES;
  const Bars bars = {shared_address(ends), shared_address(ends) + 8 * STAGES};
  volatile float* scale = (volatile float*)(ends + 16 * STAGES);
  if (threadIdx.x == 0) {
    *scale = -LOG2_E;
    for (int i = 0; i < STAGES; i++) mbarrier_init(bars.full + 8 * i, 1);
    for (int i = 0; i < STAGES; i++) mbarrier_init(bars.empty + 8 * i, CONSUMERS);
    mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    keep_registers<40>();
    if (threadIdx.x == 0) produce(&mapX, &mapActivated, &mapGate, shared, bars, grid);
  } else {
    take_registers<232>();
    consume(&mapY, shared, results, scale, bars, grid);
  }
}
