// Gradients of causal softmax attention for Hopper, without atomics: one kernel for dQ, one for dK and dV. Both hold 64 rows a
// consumer warpgroup of two tensors in shared memory and stream tiles of the two others past them:
//   dQ:      rows Q and dO, streamed K and V:  P = e^{QKᵀ−lse}, dS = P∘(dO·Vᵀ − δ),  dQ += dS·K
//   dK, dV:  rows K and V, streamed Q and dO:  the transposes,  dV += Pᵀ·dO,  dK += dSᵀ·Q, over all heads of the group
// The order of products lets them run while weights are formed: scores come before the sums of the tile before, and what is in flight
// at the end of a step has been waited for, without which the compiler serialises all. HEAD is 64 or 128.
#include "attention_hopper.cuh"

#define STAGES (HEAD == 64 ? STAGES_64 : STAGES_128)
#define STAGE_BYTES (2 * ROWS_BYTES)  // tiles of two tensors

struct Problem {
  int tq, tk, heads, kvHeads, window, batch, paired;
  float scale;
};
// The streamed tiles: `count` from `first` on, once for each head of the group.
struct Tiles {
  int first, count, heads;
};
struct Bars {
  u32 fullRows, emptyRows, full, empty;
};
// Of a tile of queries, logSumExp in powers of 2 and δ; for each head [tiles of queries].
struct Sums {
  float shift[TILE], delta[TILE];
};

// Consumer warpgroups.
template <bool BY_KEY>
DEVICE constexpr int consumers() {
  return BY_KEY ? 2 : HEAD == 64 ? QUERY_CONSUMERS_64 : QUERY_CONSUMERS_128;
}
// What so many rows from `first` on need.
template <bool BY_KEY>
DEVICE Tiles tiles_of(const Problem& s, int first, int rows) {
  const int offset = s.tk - s.tq, heads = BY_KEY ? s.heads / s.kvHeads : 1;
  if (first >= (BY_KEY ? s.tk : s.tq)) return {0, 0, heads};
  const int low = BY_KEY ? first - offset : s.window ? offset + first - s.window + 1 : 0;
  const int end = BY_KEY ? s.window ? min(s.tq, first + rows + s.window - 1 - offset) : s.tq : min(s.tk, offset + first + rows);
  const int from = max(0, low) / TILE;
  return {from, max(0, (end + TILE - 1) / TILE - from), heads};
}
template <bool BY_KEY>
DEVICE Schedule schedule_of(const Problem& s) {
  const int rows = BY_KEY ? s.tk : s.tq, heads = BY_KEY ? s.kvHeads : s.heads, held = 64 * consumers<BY_KEY>();
  return {(rows + held - 1) / held, heads, 1, s.batch, s.paired};
}
// The last keys are those that fewest queries see, the last queries those that see most keys.
template <bool BY_KEY>
DEVICE int first_row(const Item& item, const Schedule& s) {
  return (BY_KEY ? s.blocks - 1 - item.block : item.block) * 64 * consumers<BY_KEY>();
}

// What one thread does: rows, then tile after tile, and again; for dK and dV with the sums of the streamed queries.
template <bool BY_KEY>
DEVICE void produce(const TensorMap* rowA, const TensorMap* rowB, const TensorMap* tileA, const TensorMap* tileB,
                    u32 shared, Sums (&ring)[STAGES], const Sums* sums, const Bars& bars, const Problem& s) {
  const Schedule schedule = schedule_of<BY_KEY>(s);
  const int heldBytes = consumers<BY_KEY>() * STAGE_BYTES, group = s.heads / s.kvHeads, queryTiles = (s.tq + TILE - 1) / TILE;
  Place place = {(int)blockIdx.x, false};
  Slot held = {0, 0}, slot = {0, 0};
  for (Item item; next_item(item, place, schedule); advance<2>(held)) {
    const int first = first_row<BY_KEY>(item, schedule);
    const u32 fullRows = bars.fullRows + 8 * held.index, rows = shared + held.index * heldBytes;
    mbarrier_wait(bars.emptyRows + 8 * held.index, held.parity ^ 1);
    mbarrier_expect_tx(fullRows, heldBytes);
    for (int g = 0; g < consumers<BY_KEY>(); g++)
      for (int h = 0; h < HALVES; h++) {
        const u32 to = rows + g * STAGE_BYTES + h * HALF_BYTES;
        tma_load(to, rowA, fullRows, h * 64, first + g * 64, item.head, item.batch);
        tma_load(to + ROWS_BYTES, rowB, fullRows, h * 64, first + g * 64, item.head, item.batch);
      }
    const Tiles tiles = tiles_of<BY_KEY>(s, first, 64 * consumers<BY_KEY>());
#pragma unroll 1
    for (int member = 0; member < tiles.heads; member++) {
      const int head = BY_KEY ? item.head * group + member : item.head / group;
#pragma unroll 1
      for (int i = 0; i < tiles.count; i++, advance<STAGES>(slot)) {
        const int tile = tiles.first + i;
        const u32 to = shared + 2 * heldBytes + slot.index * STAGE_BYTES, full = bars.full + 8 * slot.index;
        mbarrier_wait(bars.empty + 8 * slot.index, slot.parity ^ 1);
        mbarrier_expect_tx(full, STAGE_BYTES + (BY_KEY ? (int)sizeof(Sums) : 0));
        for (int h = 0; h < HALVES; h++) {
          tma_load(to + h * HALF_BYTES, tileA, full, h * 64, tile * TILE, head, item.batch);
          tma_load(to + ROWS_BYTES + h * HALF_BYTES, tileB, full, h * 64, tile * TILE, head, item.batch);
        }
        if (BY_KEY)
          cp_async_bulk(shared_address(&ring[slot.index]), sums + ((i64)item.batch * s.heads + head) * queryTiles + tile,
                        full, sizeof(Sums));
      }
    }
  }
}

// A consumer warpgroup's part of a block's work.
struct Work {
  Problem problem;
  u64 rowsA, rowsB;                  // of the warpgroup
  u64 tileA, tileB, sumsA, sumsB;    // the first of the ring, as operands of scores and of sums
  int top, row;                      // the first row of the warpgroup and of this thread
  float shift[2], delta[2];          // of the thread's rows, for dQ
};
// Zeros where a key is not seen, from the weights of a tile.
template <bool BY_KEY>
DEVICE void mask(float (&s)[32], const Work& w, int start) {
  const int offset = w.problem.tk - w.problem.tq, window = w.problem.window, pair = (threadIdx.x & 3) * 2;
  const int firstKey = BY_KEY ? w.top : start, firstPosition = offset + (BY_KEY ? start : w.top);
  if (firstKey + 63 > firstPosition) {
#pragma unroll
    for (int i = 0; i < 32; i++) {
      const int r = w.row + 8 * ((i >> 1) & 1), column = (i >> 2) * 8 + (i & 1);
      const bool seen = BY_KEY ? column >= r - offset - start - pair : column <= offset + r - start - pair;
      s[i] = seen ? s[i] : 0.0f;
    }
  }
  if (window != 0 && firstKey <= firstPosition + 63 - window) {
#pragma unroll
    for (int i = 0; i < 32; i++) {
      const int r = w.row + 8 * ((i >> 1) & 1), column = (i >> 2) * 8 + (i & 1);
      const bool seen = BY_KEY ? column < r + window - offset - start - pair : column > offset + r - window - start - pair;
      s[i] = seen ? s[i] : 0.0f;
    }
  }
}

DEVICE void issue_scores_of(float (&s)[32], const Work& w, const Slot& slot) {
  issue_scores(s, w.rowsA, HALF_BYTES, descriptor_at(w.tileA, slot.index * STAGE_BYTES), HALF_BYTES);
}
DEVICE void issue_slopes_of(float (&dp)[32], const Work& w, const Slot& slot) {
  issue_scores(dp, w.rowsB, HALF_BYTES, descriptor_at(w.tileB, slot.index * STAGE_BYTES), HALF_BYTES);
}

// weights = e^(scores − lse), masked
template <bool BY_KEY>
DEVICE void weigh(float (&weights)[32], const float (&scores)[32], const Work& w, const Sums& sums, int start) {
  const int pair = (threadIdx.x & 3) * 2;
  const float factor = w.problem.scale * LOG2_E;
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const float2 shift = BY_KEY ? *(const float2*)&sums.shift[j * 8 + pair] : make_float2(0.0f, 0.0f);
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const float by = BY_KEY ? (e & 1 ? shift.y : shift.x) : w.shift[e >> 1];
      weights[4 * j + e] = exp2_fast(scores[4 * j + e] * factor - by);
    }
  }
  mask<BY_KEY>(weights, w, start);
}
// dp = weights ∘ (dp − δ)
template <bool BY_KEY>
DEVICE void differentiate_weights(float (&dp)[32], const float (&weights)[32], const Work& w, const Sums& sums) {
  const int pair = (threadIdx.x & 3) * 2;
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const float2 delta = BY_KEY ? *(const float2*)&sums.delta[j * 8 + pair] : make_float2(0.0f, 0.0f);
#pragma unroll
    for (int e = 0; e < 4; e++)
      dp[4 * j + e] = weights[4 * j + e] * (dp[4 * j + e] - (BY_KEY ? (e & 1 ? delta.y : delta.x) : w.delta[e >> 1]));
  }
}

template <bool BY_KEY>
DEVICE void consume(u32 shared, const Bars& bars, const Problem& problem, const Sums* rowSums, const Sums (&sums)[STAGES],
                    scalar* outA, scalar* outB) {
  // Whether there are registers for scores of the next tile beside the weights of this one: then they come as early as they can.
  const bool EARLY = BY_KEY ? HEAD == 64 : consumers<false>() == 2;
  const Schedule schedule = schedule_of<BY_KEY>(problem);
  const int group = uniform((threadIdx.x >> 7) - 1), warp = (threadIdx.x >> 5) & 3, lane = threadIdx.x & 31;
  const int heldBytes = consumers<BY_KEY>() * STAGE_BYTES;
  const u32 ring = shared + 2 * heldBytes;
  const u64 rows = matrix_descriptor(shared + group * STAGE_BYTES, 16, 1024);
  Work w;
  w.problem = problem;
  w.tileA = matrix_descriptor(ring, 16, 1024);
  w.tileB = descriptor_at(w.tileA, ROWS_BYTES);
  w.sumsA = matrix_descriptor(ring, HALF_BYTES, 1024);
  w.sumsB = descriptor_at(w.sumsA, ROWS_BYTES);
  Place place = {(int)blockIdx.x, false};
  Slot held = {0, 0};
  Slot next = {0, 0};
  float sumA[HEAD / 2], sumB[HEAD / 2], scores[32], weights[32], dp[32];
  u32 p[TILE / 16][4];
  for (Item item; next_item(item, place, schedule); advance<2>(held)) {
    const int first = first_row<BY_KEY>(item, schedule);
    w.top = first + group * 64;
    w.row = w.top + warp * 16 + (lane >> 2);
    w.rowsA = descriptor_at(rows, held.index * heldBytes);
    w.rowsB = descriptor_at(w.rowsA, ROWS_BYTES);
    const Tiles tiles = tiles_of<BY_KEY>(problem, first, 64 * consumers<BY_KEY>()), own = tiles_of<BY_KEY>(problem, w.top, 64);
    // Tiles that the other warpgroups need.
    const auto skip = [&](int count) {
#pragma unroll 1
      for (; count > 0; count--, advance<STAGES>(next)) {
        mbarrier_wait(bars.full + 8 * next.index, next.parity);
        release(bars.empty, next);
      }
    };
    const int before = own.first - tiles.first, others = tiles.count - own.count, total = own.count * own.heads;
    if (!BY_KEY) {
      const Sums* of = rowSums + ((i64)item.batch * problem.heads + item.head) * ((problem.tq + TILE - 1) / TILE);
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const int query = w.row + 8 * r;
        w.shift[r] = query < problem.tq ? of[query / TILE].shift[query % TILE] : 0.0f;
        w.delta[r] = query < problem.tq ? of[query / TILE].delta[query % TILE] : 0.0f;
      }
    }
#pragma unroll
    for (int i = 0; i < HEAD / 2; i++) sumA[i] = 0.0f;
    if (BY_KEY)
#pragma unroll
      for (int i = 0; i < HEAD / 2; i++) sumB[i] = 0.0f;
    mbarrier_wait(bars.fullRows + 8 * held.index, held.parity);
    if (total == 0) skip(tiles.count * tiles.heads);
    if (total > 0) {
      skip(before);
      Slot at = next;
      int tile = own.first;
      mbarrier_wait(bars.full + 8 * at.index, at.parity);
      wgmma_fence();
      issue_scores_of(scores, w, at);
      wgmma_commit();
      issue_slopes_of(dp, w, at);
      wgmma_commit();
      wgmma_wait<1>();
      weigh<BY_KEY>(weights, scores, w, sums[at.index], tile * TILE);
      wgmma_wait<0>();
      if (BY_KEY) convert(p, weights);
      // A tile's sums, and on the way the scores and weights of the next.
#pragma unroll 1
      for (int i = 1; i < total; i++) {
        advance<STAGES>(next);
        if (++tile == own.first + own.count) {
          skip(others);
          tile = own.first;
        }
        mbarrier_wait(bars.full + 8 * next.index, next.parity);
        wgmma_fence();
        if (BY_KEY) {
          issue_sums(sumB, p, descriptor_at(w.sumsB, at.index * STAGE_BYTES));
          wgmma_commit();
        }
        if (EARLY) {
          issue_scores_of(scores, w, next);
          wgmma_commit();
        }
        differentiate_weights<BY_KEY>(dp, weights, w, sums[at.index]);
        if (BY_KEY) wgmma_wait<EARLY ? 1 : 0>();  // p is free
        convert(p, dp);
        wgmma_fence();
        issue_sums(sumA, p, descriptor_at(w.sumsA, at.index * STAGE_BYTES));
        if (!EARLY) {
          issue_scores_of(scores, w, next);
          wgmma_commit();
        }
        issue_slopes_of(dp, w, next);
        wgmma_commit();
        wgmma_wait<1>();
        weigh<BY_KEY>(weights, scores, w, sums[next.index], tile * TILE);
        wgmma_wait<0>();
        if (BY_KEY) convert(p, weights);
        release(bars.empty, at);
        at = next;
      }
      wgmma_fence();
      if (BY_KEY) issue_sums(sumB, p, descriptor_at(w.sumsB, at.index * STAGE_BYTES));
      wgmma_commit();
      differentiate_weights<BY_KEY>(dp, weights, w, sums[at.index]);
      wgmma_wait<0>();
      convert(p, dp);
      wgmma_fence();
      issue_sums(sumA, p, descriptor_at(w.sumsA, at.index * STAGE_BYTES));
      wgmma_commit();
      wgmma_wait<0>();
      release(bars.empty, at);
      advance<STAGES>(next);
      skip(others - before);
    }
    release(bars.emptyRows, held);
    const int time = BY_KEY ? problem.tk : problem.tq;
    const float scale[2] = {problem.scale, problem.scale}, one[2] = {1.0f, 1.0f};
    store_rows(sumA, outA, w.row, time, schedule.heads, item.head, item.batch, scale);
    if (BY_KEY) store_rows(sumB, outB, w.row, time, schedule.heads, item.head, item.batch, one);
  }
}

template <bool BY_KEY>
DEVICE void differentiate(const TensorMap* rowA, const TensorMap* rowB, const TensorMap* tileA, const TensorMap* tileB,
                          const Sums* sums, scalar* outA, scalar* outB, const Problem& problem) {
  extern __shared__ __align__(1024) u8 memory[];
  __shared__ __align__(8) u64 barriers[4 + 2 * STAGES];
  __shared__ __align__(16) Sums ring[STAGES];
  const int taken = consumers<BY_KEY>() == 3 ? 160 : BY_KEY && HEAD == 128 ? 240 : 232;
  const u32 shared = (shared_address(memory) + 1023) & ~1023u, at = shared_address(barriers);
  const Bars bars = {at, at + 16, at + 32, at + 32 + 8 * STAGES};
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; i++) mbarrier_init(bars.fullRows + 8 * i, 1);
    for (int i = 0; i < 2; i++) mbarrier_init(bars.emptyRows + 8 * i, 4 * consumers<BY_KEY>());
    for (int i = 0; i < STAGES; i++) mbarrier_init(bars.full + 8 * i, 1);
    for (int i = 0; i < STAGES; i++) mbarrier_init(bars.empty + 8 * i, 4 * consumers<BY_KEY>());
    mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    keep_registers<registers_left(consumers<BY_KEY>(), taken)>();
    if (threadIdx.x == 0) produce<BY_KEY>(rowA, rowB, tileA, tileB, shared, ring, sums, bars, problem);
  } else {
    take_registers<taken>();
    consume<BY_KEY>(shared, bars, problem, sums, ring, outA, outB);
  }
}

// Any number of blocks, of both.
KERNEL __launch_bounds__(128 * (1 + consumers<false>()), 1)
    attention_hopper_grad_query(const __grid_constant__ TensorMap mapQ, const __grid_constant__ TensorMap mapK,
                                const __grid_constant__ TensorMap mapV, const __grid_constant__ TensorMap mapDy,
                                const Sums* sums, scalar* dq, const Problem problem) {
  differentiate<false>(&mapQ, &mapDy, &mapK, &mapV, sums, dq, nullptr, problem);
}
KERNEL __launch_bounds__(128 * (1 + consumers<true>()), 1)
    attention_hopper_grad_key(const __grid_constant__ TensorMap mapQ, const __grid_constant__ TensorMap mapK,
                              const __grid_constant__ TensorMap mapV, const __grid_constant__ TensorMap mapDy,
                              const Sums* sums, scalar* dk, scalar* dv, const Problem problem) {
  differentiate<true>(&mapK, &mapV, &mapQ, &mapDy, sums, dk, dv, problem);
}

// The sums of every query, and zeros where the last tile has none. HEAD / 8 threads a query.
KERNEL attention_hopper_sums(const scalar* dy, const scalar* out, const float* logSumExp, Sums* sums, int time, int heads,
                             i64 rows) {
  const int threads = HEAD / 8, part = threadIdx.x % threads, tiles = (time + TILE - 1) / TILE;
  const i64 index = global_thread() / threads, run = index / heads;
  const int head = index % heads, t = run % (tiles * TILE);
  const i64 batch = run / (tiles * TILE);
  const bool inside = index < rows && t < time;
  float sum = 0.0f;
  if (inside) {
    const i64 from = ((batch * time + t) * heads + head) * threads + part;
    const Wide a = ((const Wide*)dy)[from], b = ((const Wide*)out)[from];
#pragma unroll
    for (int i = 0; i < 8; i++) sum += to_float(a.v[i]) * to_float(b.v[i]);
  }
#pragma unroll
  for (int offset = threads / 2; offset > 0; offset >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  if (index >= rows || part != 0) return;
  Sums& to = sums[(batch * heads + head) * tiles + t / TILE];
  to.shift[t % TILE] = inside ? logSumExp[(batch * heads + head) * time + t] * LOG2_E : 0.0f;
  to.delta[t % TILE] = sum;
}
