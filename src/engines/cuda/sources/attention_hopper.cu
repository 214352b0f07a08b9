// Causal softmax attention forward for Hopper: asynchronous warpgroup products (wgmma) fed by the tensor copy engine.
// One producer warpgroup streams K and V tiles through a ring of shared memory; two consumer warpgroups hold 64 query
// rows each, overlap the softmax of one tile with the products of the next, and take turns on the tensor cores (the
// schedule of Shah et al. 2024, FlashAttention-3). HEAD is 64 or 128. K/V are one array or pages of a multiple of 128
// positions, each with its tensor map, whose bounds make rows that do not exist zeros.
#include "hopper.cuh"

#ifndef HEAD
#define HEAD 128
#endif
#define HALVES (HEAD / 64)          // 128-byte wide column blocks, the width of the swizzle
#define HALF_BYTES (128 * 64 * 2)   // one column block of 128 rows
#define TILE_BYTES (HALVES * HALF_BYTES)
#define INFINITE __int_as_float(0x7f800000)

// scores[64,128] (+)= Q[64,16]·K[128,16]ᵀ, both in shared memory
DEVICE void wgmma_ss(float (&d)[64], u64 a, u64 b, int accumulate) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\nwgmma.mma_async.sync.aligned.m64n128k16" TYPES "{" R64
               "}, %64, %65, p, 1, 1, 0, 0;\n}"
               : D32(0), D32(32)
               : "l"(a), "l"(b), "r"(accumulate));
}
struct Tiles {
  int first, count;  // key tiles, walked from the last to the first
};
struct Problem {
  int tq, tk, heads, kvHeads, window;
  int offset;    // position of the first query; no query comes after the last key
  int pageSize;  // positions of a page; of all pages together at least tk
  float factor;  // scale · log2 e
};

DEVICE void produce(const TensorMap* mapQ, const TensorMap* mapsK, const TensorMap* mapsV, u32 shared, u32 bars,
                    const Problem& s, Tiles tiles, int first, int head, int batch) {
  const u32 fullQ = bars, fullK = bars + 8, fullV = fullK + 8 * STAGES, emptyK = fullV + 8 * STAGES,
            emptyV = emptyK + 8 * STAGES;
  const int kvHead = head / (s.heads / s.kvHeads);
  mbarrier_expect_tx(fullQ, TILE_BYTES);
  for (int h = 0; h < HALVES; h++) tma_load(shared + h * HALF_BYTES, mapQ, fullQ, h * 64, first, head, batch);
  const u32 ringK = shared + TILE_BYTES, ringV = ringK + STAGES * TILE_BYTES;
  int known = -1;
  for (int i = 0; i < tiles.count; i++) {
    const int start = (tiles.first + tiles.count - 1 - i) * KEYS;
    const int page = start / s.pageSize, row = start - page * s.pageSize;
    const int stage = i % STAGES, parity = (i / STAGES) & 1;
    if (page != known) {
      tensormap_acquire(mapsK + page);
      tensormap_acquire(mapsV + page);
      known = page;
    }
    mbarrier_wait(emptyK + 8 * stage, parity ^ 1);
    mbarrier_expect_tx(fullK + 8 * stage, TILE_BYTES);
    for (int h = 0; h < HALVES; h++)
      tma_load(ringK + stage * TILE_BYTES + h * HALF_BYTES, mapsK + page, fullK + 8 * stage, h * 64, row, kvHead, batch);
    mbarrier_wait(emptyV + 8 * stage, parity ^ 1);
    mbarrier_expect_tx(fullV + 8 * stage, TILE_BYTES);
    for (int h = 0; h < HALVES; h++)
      tma_load(ringV + stage * TILE_BYTES + h * HALF_BYTES, mapsV + page, fullV + 8 * stage, h * 64, row, kvHead, batch);
  }
}

DEVICE void issue_scores(float (&s)[64], u32 tileQ, u32 tileK) {
#pragma unroll
  for (int k = 0; k < HEAD / 16; k++) {
    const u32 offset = (k >> 2) * HALF_BYTES + (k & 3) * 32;
    wgmma_ss(s, matrix_descriptor(tileQ + offset, 16, 1024), matrix_descriptor(tileK + offset, 16, 1024), k > 0);
  }
}
DEVICE void issue_values(float (&o)[HEAD / 2], const u32 (&p)[KEYS / 16][4], u32 tileV) {
#pragma unroll
  for (int k = 0; k < KEYS / 16; k++)
    wgmma_rs(o, p[k], matrix_descriptor(tileV + k * 16 * 128, HALF_BYTES, 1024));
}

// Masks and exponentiates a tile of scores; returns in `shrink` what earlier sums and outputs are multiplied by.
DEVICE void softmax(float (&s)[64], float (&peak)[2], float (&sum)[2], float (&shrink)[2], const Problem& problem,
                    const int (&position)[2], int start, bool masked) {
  const int lane = threadIdx.x & 31;
  if (masked) {
#pragma unroll
    for (int i = 0; i < 64; i++) {
      const int r = (i >> 1) & 1, key = start + (i >> 2) * 8 + (lane & 3) * 2 + (i & 1);
      const bool seen = key <= position[r] && (problem.window == 0 || key > position[r] - problem.window);
      s[i] = seen ? s[i] : -INFINITE;
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
DEVICE void convert(u32 (&p)[KEYS / 16][4], const float (&s)[64]) {
#pragma unroll
  for (int k = 0; k < KEYS / 16; k++)
#pragma unroll
    for (int i = 0; i < 4; i++) p[k][i] = pack2(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
}

// Named barriers by which the two consumer warpgroups take turns; ids 1 and 2.
DEVICE void turn_wait(int group) { asm volatile("bar.sync %0, 256;" ::"r"(1 + group) : "memory"); }
DEVICE void turn_pass(int group) { asm volatile("bar.arrive %0, 256;" ::"r"(2 - group) : "memory"); }

DEVICE void consume(u32 shared, u32 bars, const Problem& problem, Tiles tiles, int first, int head, int batch,
                    scalar* out, float* logSumExp) {
  const u32 fullQ = bars, fullK = bars + 8, fullV = fullK + 8 * STAGES, emptyK = fullV + 8 * STAGES,
            emptyV = emptyK + 8 * STAGES;
  const int group = (threadIdx.x >> 7) - 1, warp = (threadIdx.x >> 5) & 3, lane = threadIdx.x & 31;
  const bool leader = (threadIdx.x & 127) == 0;
  const u32 tileQ = shared + group * 64 * 128, ringK = shared + TILE_BYTES, ringV = ringK + STAGES * TILE_BYTES;
  const int top = first + group * 64;  // first row of the warpgroup
  const int row = top + warp * 16 + (lane >> 2);
  const int offset = problem.offset, last = problem.tk - 1;
  const int position[2] = {min(offset + row, last), min(offset + row + 8, last)};
  float o[HEAD / 2], s[64], peak[2] = {-INFINITE, -INFINITE}, sum[2] = {0.0f, 0.0f}, shrink[2];
#pragma unroll
  for (int i = 0; i < HEAD / 2; i++) o[i] = 0.0f;
  u32 p[KEYS / 16][4];
  auto start_of = [&](int i) { return (tiles.first + tiles.count - 1 - i) * KEYS; };
  auto masked = [&](int start) {
    return start + KEYS - 1 > min(offset + top, last) || (problem.window != 0 && start <= offset + top + 63 - problem.window);
  };

  if (group == 1) turn_pass(1);
  mbarrier_wait(fullQ, 0);
  mbarrier_wait(fullK, 0);
  wgmma_fence();
  issue_scores(s, tileQ, ringK);
  wgmma_commit();
  wgmma_wait<0>();
  if (leader) mbarrier_arrive(emptyK);
  softmax(s, peak, sum, shrink, problem, position, start_of(0), masked(start_of(0)));
  convert(p, s);
  for (int i = 1; i < tiles.count; i++) {
    const int stage = i % STAGES, before = (i - 1) % STAGES;
    mbarrier_wait(fullK + 8 * stage, (i / STAGES) & 1);
    turn_wait(group);
    wgmma_fence();
    issue_scores(s, tileQ, ringK + stage * TILE_BYTES);
    wgmma_commit();
    mbarrier_wait(fullV + 8 * before, ((i - 1) / STAGES) & 1);
    issue_values(o, p, ringV + before * TILE_BYTES);
    wgmma_commit();
    turn_pass(group);
    wgmma_wait<1>();
    if (leader) mbarrier_arrive(emptyK + 8 * stage);
    const int start = start_of(i);
    softmax(s, peak, sum, shrink, problem, position, start, masked(start));
    wgmma_wait<0>();
    if (leader) mbarrier_arrive(emptyV + 8 * before);
#pragma unroll
    for (int j = 0; j < HEAD / 2; j++) o[j] *= shrink[(j >> 1) & 1];
    convert(p, s);
  }
  const int end = tiles.count - 1;
  mbarrier_wait(fullV + 8 * (end % STAGES), (end / STAGES) & 1);
  wgmma_fence();
  issue_values(o, p, ringV + (end % STAGES) * TILE_BYTES);
  wgmma_commit();
  wgmma_wait<0>();

#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int query = row + 8 * r;
    float total = sum[r] + __shfl_xor_sync(0xffffffffu, sum[r], 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    if (query >= problem.tq) continue;
    const float inverse = total > 0.0f ? 1.0f / total : 0.0f;
    scalar* to = out + (((i64)batch * problem.tq + query) * problem.heads + head) * HEAD + (lane & 3) * 2;
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++)
      *(u32*)(to + j * 8) = pack2(o[j * 4 + 2 * r] * inverse, o[j * 4 + 2 * r + 1] * inverse);
    if (logSumExp && (lane & 3) == 0)
      logSumExp[((i64)batch * problem.heads + head) * problem.tq + query] =
          (peak[r] * problem.factor + log2f(total)) / LOG2_E;
  }
}

// Grid: query blocks × heads × batch in one dimension, heads of one K/V head together so that its keys stay in L2.
KERNEL __launch_bounds__(384, 1)
    attention_forward(const __grid_constant__ TensorMap mapQ, const TensorMap* mapsK, const TensorMap* mapsV,
                      scalar* out, float* logSumExp, const Problem problem) {
  extern __shared__ __align__(1024) unsigned char memory[];
  __shared__ __align__(8) u64 barriers[1 + 4 * STAGES];
  const u32 shared = (shared_address(memory) + 1023) & ~1023u, bars = shared_address(barriers);
  const int group = problem.heads / problem.kvHeads, blocks = (problem.tq + ROWS - 1) / ROWS;
  int at = blockIdx.x;
  const int member = at % group;
  at /= group;
  const int first = (blocks - 1 - at % blocks) * ROWS;
  at /= blocks;
  const int head = at % problem.kvHeads * group + member, batch = at / problem.kvHeads;
  const int offset = problem.offset;
  const int lastKey = min(problem.tk, offset + first + ROWS), firstKey = problem.window ? max(0, offset + first - problem.window + 1) : 0;
  Tiles tiles;
  tiles.first = firstKey / KEYS;
  tiles.count = (lastKey + KEYS - 1) / KEYS - tiles.first;
  if (threadIdx.x == 0) {
    mbarrier_init(bars, 1);
    for (int i = 0; i < 2 * STAGES; i++) mbarrier_init(bars + 8 * (1 + i), 1);
    for (int i = 0; i < 2 * STAGES; i++) mbarrier_init(bars + 8 * (1 + 2 * STAGES + i), 2);
    mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x == 0) produce(&mapQ, mapsK, mapsV, shared, bars, problem, tiles, first, head, batch);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    consume(shared, bars, problem, tiles, first, head, batch, out, logSumExp);
  }
}
