// Gradients of causal softmax attention for Hopper, without atomics: one kernel for dQ, one for dK and dV. Both hold 128
// rows (64 a consumer warpgroup) of two tensors in shared memory and stream tiles of the two others past them:
//   dQ:      rows Q and dO, streamed K and V:  P = e^{QKᵀ−lse}, dS = P∘(dO·Vᵀ − δ),  dQ += dS·K
//   dK, dV:  rows K and V, streamed Q and dO:  the transposes,  dV += Pᵀ·dO,  dK += dSᵀ·Q, over all heads of the group
// The scores of a tile are computed while the products of the tile before may still run. HEAD is 64 or 128.
#include "hopper.cuh"

#ifndef HEAD
#define HEAD 128
#endif
#define HALVES (HEAD / 64)           // 128-byte wide column blocks, the width of the swizzle
#define BOX_BYTES (TILE * 128)       // one column block of a box
#define RESIDENT_HALF (ROWS * 128)   // one column block of the rows held
#define RESIDENT_BYTES (HALVES * RESIDENT_HALF)
#define TILE_BYTES (HALVES * BOX_BYTES)
#define STAGE_BYTES (2 * TILE_BYTES)

struct Problem {
  int tq, tk, heads, kvHeads, window;
  float scale;
};
// The streamed tiles: `count` from `first` on, once for each head of the group.
struct Walk {
  int first, count, heads;
};

// scores[64,64] (+)= A[64,16]·B[64,16]ᵀ, both in shared memory
DEVICE void wgmma_ss(float (&d)[32], u64 a, u64 b, int accumulate) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\nwgmma.mma_async.sync.aligned.m64n64k16" TYPES "{" R32
               "}, %32, %33, p, 1, 1, 0, 0;\n}"
               : D32(0)
               : "l"(a), "l"(b), "r"(accumulate));
}
DEVICE void issue_scores(float (&s)[32], u32 rows, u32 tile) {
#pragma unroll
  for (int k = 0; k < HEAD / 16; k++) {
    const int half = k >> 2, column = (k & 3) * 32;
    wgmma_ss(s, matrix_descriptor(rows + half * RESIDENT_HALF + column, 16, 1024),
                   matrix_descriptor(tile + half * BOX_BYTES + column, 16, 1024), k > 0);
  }
}
DEVICE void issue_sums(float (&o)[HEAD / 2], const u32 (&p)[TILE / 16][4], u32 tile) {
#pragma unroll
  for (int k = 0; k < TILE / 16; k++) wgmma_rs(o, p[k], matrix_descriptor(tile + k * 16 * 128, BOX_BYTES, 1024));
}
DEVICE void convert(u32 (&p)[TILE / 16][4], const float (&s)[32]) {
#pragma unroll
  for (int k = 0; k < TILE / 16; k++)
#pragma unroll
    for (int i = 0; i < 4; i++) p[k][i] = pack2(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
}

struct Barriers {
  u32 resident, full, empty;
};
// What one thread does: the rows held, then tile after tile.
DEVICE void produce(const TensorMap* rowA, const TensorMap* rowB, const TensorMap* tileA, const TensorMap* tileB,
                    u32 shared, const Barriers& bars, const Walk& walk, int first, int rowHead, int tileHead, int batch) {
  mbarrier_expect_tx(bars.resident, 2 * RESIDENT_BYTES);
  for (int h = 0; h < HALVES; h++)
    for (int part = 0; part < ROWS; part += TILE) {
      const u32 to = shared + h * RESIDENT_HALF + part * 128;
      tma_load(to, rowA, bars.resident, h * 64, first + part, rowHead, batch);
      tma_load(to + RESIDENT_BYTES, rowB, bars.resident, h * 64, first + part, rowHead, batch);
    }
  const u32 ring = shared + 2 * RESIDENT_BYTES;
  for (int i = 0; i < walk.count * walk.heads; i++) {
    const int start = (walk.first + i % walk.count) * TILE, head = tileHead + i / walk.count, stage = i % STAGES;
    const u32 to = ring + stage * STAGE_BYTES, full = bars.full + 8 * stage;
    mbarrier_wait(bars.empty + 8 * stage, ((i / STAGES) & 1) ^ 1);
    mbarrier_expect_tx(full, STAGE_BYTES);
    for (int h = 0; h < HALVES; h++) {
      tma_load(to + h * BOX_BYTES, tileA, full, h * 64, start, head, batch);
      tma_load(to + TILE_BYTES + h * BOX_BYTES, tileB, full, h * 64, start, head, batch);
    }
  }
}
// What one warp does for dK and dV: logSumExp (in powers of 2) and delta of the streamed queries.
DEVICE void produce_sums(float (&shifts)[STAGES][TILE], float (&deltas)[STAGES][TILE], const float* logSumExp,
                         const float* delta, const Barriers& bars, const Walk& walk, const Problem& s, int tileHead,
                         int batch) {
  const int lane = threadIdx.x & 31;
  for (int i = 0; i < walk.count * walk.heads; i++) {
    const int start = (walk.first + i % walk.count) * TILE, head = tileHead + i / walk.count, stage = i % STAGES;
    const i64 base = ((i64)batch * s.heads + head) * s.tq;
    float x[2], y[2];
#pragma unroll
    for (int j = 0; j < 2; j++) {
      const int query = start + lane + 32 * j;
      x[j] = query < s.tq ? logSumExp[base + query] * LOG2_E : 0.0f;
      y[j] = query < s.tq ? delta[base + query] : 0.0f;
    }
    mbarrier_wait(bars.empty + 8 * stage, ((i / STAGES) & 1) ^ 1);
#pragma unroll
    for (int j = 0; j < 2; j++) {
      shifts[stage][lane + 32 * j] = x[j];
      deltas[stage][lane + 32 * j] = y[j];
    }
    mbarrier_arrive(bars.full + 8 * stage);
  }
}

DEVICE void store(float (&o)[HEAD / 2], scalar* out, int row, int time, int heads, int head, int batch, float factor) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (row + 8 * r >= time) continue;
    scalar* to = out + (((i64)batch * time + row + 8 * r) * heads + head) * HEAD + (lane & 3) * 2;
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++)
      *(u32*)(to + j * 8) = pack2(o[j * 4 + 2 * r] * factor, o[j * 4 + 2 * r + 1] * factor);
  }
}

// A consumer warpgroup's walk over the tiles. Without BY_KEY the rows are queries and only `sumA` (dQ) is formed.
template <bool BY_KEY>
DEVICE void consume(float (&sumA)[HEAD / 2], float (&sumB)[HEAD / 2], u32 shared, const Barriers& bars, const Walk& walk,
                    const Problem& problem, int top, const float (&rowShift)[2], const float (&rowDelta)[2],
                    const float (&shifts)[STAGES][TILE], const float (&deltas)[STAGES][TILE]) {
  const int group = (threadIdx.x >> 7) - 1, warp = (threadIdx.x >> 5) & 3, lane = threadIdx.x & 31;
  const bool leader = (threadIdx.x & 127) == 0;
  const u32 rowsA = shared + group * 64 * 128, rowsB = rowsA + RESIDENT_BYTES, ring = shared + 2 * RESIDENT_BYTES;
  const int row = top + warp * 16 + (lane >> 2), pair = (lane & 3) * 2;
  const int offset = problem.tk - problem.tq, window = problem.window;
  const float factor = problem.scale * LOG2_E;
  float s[32], dp[32];
  u32 p[TILE / 16][4], ds[TILE / 16][4];
  const int total = walk.count * walk.heads;
  mbarrier_wait(bars.resident, 0);
  for (int i = 0; i < total; i++) {
    const int stage = i % STAGES, start = (walk.first + i % walk.count) * TILE;
    const u32 tileA = ring + stage * STAGE_BYTES, tileB = tileA + TILE_BYTES;
    mbarrier_wait(bars.full + 8 * stage, (i / STAGES) & 1);
    wgmma_fence();
    issue_scores(s, rowsA, tileA);
    wgmma_commit();
    issue_scores(dp, rowsB, tileB);
    wgmma_commit();
    wgmma_wait<1>();  // the scores, and the sums of the tile before
    if (leader && i > 0) mbarrier_arrive(bars.empty + 8 * ((i - 1) % STAGES));
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const float2 shift = BY_KEY ? *(const float2*)&shifts[stage][j * 8 + pair] : make_float2(0.0f, 0.0f);
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const float by = BY_KEY ? (e & 1 ? shift.y : shift.x) : rowShift[e >> 1];
        s[4 * j + e] = exp2_fast(s[4 * j + e] * factor - by);
      }
    }
    const int firstKey = BY_KEY ? top : start, firstPosition = offset + (BY_KEY ? start : top);
    if (firstKey + 63 > firstPosition || (window != 0 && firstKey <= firstPosition + 63 - window)) {
#pragma unroll
      for (int e = 0; e < 32; e++) {
        const int r = row + 8 * ((e >> 1) & 1), c = start + (e >> 2) * 8 + pair + (e & 1);
        const int key = BY_KEY ? r : c, position = offset + (BY_KEY ? c : r);
        s[e] = key <= position && (window == 0 || key > position - window) ? s[e] : 0.0f;
      }
    }
    if (BY_KEY) {
      convert(p, s);
      wgmma_fence();
      issue_sums(sumB, p, tileB);
      wgmma_commit();
      wgmma_wait<1>();
    } else {
      wgmma_wait<0>();
    }
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const float2 delta = BY_KEY ? *(const float2*)&deltas[stage][j * 8 + pair] : make_float2(0.0f, 0.0f);
#pragma unroll
      for (int e = 0; e < 4; e++)
        s[4 * j + e] *= dp[4 * j + e] - (BY_KEY ? (e & 1 ? delta.y : delta.x) : rowDelta[e >> 1]);
    }
    convert(ds, s);
    wgmma_fence();
    issue_sums(sumA, ds, tileA);
    wgmma_commit();
  }
  wgmma_wait<0>();
}

DEVICE Barriers start_barriers(u64* barriers, int arrivals) {
  const u32 at = shared_address(barriers);
  const Barriers bars = {at, at + 8, at + 8 + 8 * STAGES};
  if (threadIdx.x == 0) {
    mbarrier_init(bars.resident, 1);
    for (int i = 0; i < STAGES; i++) mbarrier_init(bars.full + 8 * i, arrivals);
    for (int i = 0; i < STAGES; i++) mbarrier_init(bars.empty + 8 * i, 2);
    mbarrier_init_fence();
  }
  __syncthreads();
  return bars;
}

// Grid: query blocks × heads × batch in one dimension, the longest first of each head.
KERNEL __launch_bounds__(384, 1)
    attention_hopper_grad_query(const __grid_constant__ TensorMap mapQ, const __grid_constant__ TensorMap mapK,
                                const __grid_constant__ TensorMap mapV, const __grid_constant__ TensorMap mapDy,
                                const float* logSumExp, const float* delta, scalar* dq, const Problem problem) {
  extern __shared__ __align__(1024) unsigned char memory[];
  __shared__ __align__(8) u64 barriers[1 + 2 * STAGES];
  __shared__ float unused[STAGES][TILE];
  const u32 shared = (shared_address(memory) + 1023) & ~1023u;
  const int blocks = (problem.tq + ROWS - 1) / ROWS, offset = problem.tk - problem.tq;
  int at = blockIdx.x;
  const int first = (blocks - 1 - at % blocks) * ROWS;
  at /= blocks;
  const int head = at % problem.heads, batch = at / problem.heads, kvHead = head / (problem.heads / problem.kvHeads);
  const int lastKey = min(problem.tk, offset + first + ROWS);
  const int firstKey = problem.window ? max(0, offset + first - problem.window + 1) : 0;
  const Walk walk = {firstKey / TILE, max(0, (lastKey + TILE - 1) / TILE - firstKey / TILE), 1};
  const Barriers bars = start_barriers(barriers, 1);
  if (threadIdx.x < 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x == 0)
      produce(&mapQ, &mapDy, &mapK, &mapV, shared, bars, walk, first, head, kvHead, batch);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    const int top = first + ((threadIdx.x >> 7) - 1) * 64, lane = threadIdx.x & 31;
    const int row = top + ((threadIdx.x >> 5) & 3) * 16 + (lane >> 2);
    float o[HEAD / 2], shift[2], deltaOf[2];
#pragma unroll
    for (int i = 0; i < HEAD / 2; i++) o[i] = 0.0f;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int query = row + 8 * r;
      const i64 place = ((i64)batch * problem.heads + head) * problem.tq + query;
      shift[r] = query < problem.tq ? logSumExp[place] * LOG2_E : 0.0f;
      deltaOf[r] = query < problem.tq ? delta[place] : 0.0f;
    }
    consume<false>(o, o, shared, bars, walk, problem, top, shift, deltaOf, unused, unused);
    store(o, dq, row, problem.tq, problem.heads, head, batch, problem.scale);
  }
}

// Grid: key blocks × K/V heads × batch in one dimension, the longest first of each head.
KERNEL __launch_bounds__(384, 1)
    attention_hopper_grad_key(const __grid_constant__ TensorMap mapQ, const __grid_constant__ TensorMap mapK,
                              const __grid_constant__ TensorMap mapV, const __grid_constant__ TensorMap mapDy,
                              const float* logSumExp, const float* delta, scalar* dk, scalar* dv, const Problem problem) {
  extern __shared__ __align__(1024) unsigned char memory[];
  __shared__ __align__(8) u64 barriers[1 + 2 * STAGES];
  __shared__ __align__(8) float shifts[STAGES][TILE], deltas[STAGES][TILE];
  const u32 shared = (shared_address(memory) + 1023) & ~1023u;
  const int blocks = (problem.tk + ROWS - 1) / ROWS, offset = problem.tk - problem.tq;
  const int group = problem.heads / problem.kvHeads;
  int at = blockIdx.x;
  const int first = at % blocks * ROWS;
  at /= blocks;
  const int kvHead = at % problem.kvHeads, batch = at / problem.kvHeads;
  const int firstQuery = max(0, first - offset);
  const int lastQuery = problem.window ? min(problem.tq, first + ROWS + problem.window - 1 - offset) : problem.tq;
  const Walk walk = {firstQuery / TILE, max(0, (lastQuery + TILE - 1) / TILE - firstQuery / TILE), group};
  const Barriers bars = start_barriers(barriers, 1 + 32);
  if (threadIdx.x < 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x == 0)
      produce(&mapK, &mapV, &mapQ, &mapDy, shared, bars, walk, first, kvHead, kvHead * group, batch);
    if (threadIdx.x >> 5 == 1)
      produce_sums(shifts, deltas, logSumExp, delta, bars, walk, problem, kvHead * group, batch);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    const int top = first + ((threadIdx.x >> 7) - 1) * 64, lane = threadIdx.x & 31;
    const int row = top + ((threadIdx.x >> 5) & 3) * 16 + (lane >> 2);
    float gradK[HEAD / 2], gradV[HEAD / 2];
#pragma unroll
    for (int i = 0; i < HEAD / 2; i++) gradK[i] = gradV[i] = 0.0f;
    const float none[2] = {0.0f, 0.0f};
    consume<true>(gradK, gradV, shared, bars, walk, problem, top, none, none, shifts, deltas);
    store(gradK, dk, row, problem.tk, problem.kvHeads, kvHead, batch, problem.scale);
    store(gradV, dv, row, problem.tk, problem.kvHeads, kvHead, batch, 1.0f);
  }
}
