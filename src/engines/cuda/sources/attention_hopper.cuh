// What causal attention and its gradients on Hopper have in common. Blocks of threads stay as long as there are rows, and the thread that
// copies runs ahead into the next ones, which hides where one walk ends and another begins.
#pragma once
#include "hopper.cuh"

#ifndef HEAD
#define HEAD 128
#endif
#define HALVES (HEAD / 64)       // 128-byte wide column blocks, the width of the swizzle
#define HALF_BYTES (64 * 128)    // one column block of 64 rows
#define ROWS_BYTES (HALVES * HALF_BYTES)  // the rows of a warpgroup

// The row blocks of heads. Blocks of threads take one at a time, or, `paired`, a long and a short one, and at the end those in the middle.
struct Schedule {
  int blocks, heads, group, batch, paired;
};
// Row blocks are numbered by the tiles that they take, the most being last.
struct Item {
  int block, head, batch;
};
struct Place {
  int unit;
  bool second;
};
// The heads of a group follow each other, so that what they share stays in L2. Blocks of threads that have a pair less than others take
// the first of the middle blocks, two each.
DEVICE bool next_item(Item& item, Place& at, const Schedule& s) {
  const int all = s.heads * s.batch, runs = s.paired ? s.blocks / 2 : s.blocks, grid = gridDim.x;
  const bool middle = at.unit >= runs * all;
  int index = at.unit, run, pair;
  bool two = s.paired;
  if (middle) {
    const int spare = grid - runs * all % grid;
    index -= runs * all;
    two = index < spare;
    if (at.second || !two) index += spare;
    if (index >= all || !s.paired || s.blocks % 2 == 0) return false;
    run = index / s.group;
    pair = runs;
  } else {
    run = index / s.group / runs;
    pair = index / s.group % runs;
  }
  const int groups = s.heads / s.group;
  item = {at.second && !middle ? pair : s.blocks - 1 - pair, run % groups * s.group + index % s.group, run / groups};
  at.second = two && !at.second;
  if (!at.second) at.unit += grid;
  return true;
}

// A place in a ring, and the parity of the round.
struct Slot {
  int index, parity;
};
template <int LENGTH>
DEVICE void advance(Slot& slot) {
  slot.index = slot.index + 1 == LENGTH ? 0 : slot.index + 1;
  slot.parity ^= slot.index == 0;
}

// A warp has read what lies there.
DEVICE void release(u32 bars, const Slot& slot) {
  __syncwarp();
  if ((threadIdx.x & 31) == 0) mbarrier_arrive(bars + 8 * slot.index);
}
// What is left to each thread of a warpgroup of a block, once so many others have `taken` registers a thread: more than the block
// begins with would be waited for forever.
DEVICE constexpr int registers_left(int consumers, int taken) {
  return 512 / (1 + consumers) / 8 * 8 * (1 + consumers) - consumers * taken;
}

// Rows `row` and row + 8 of a warpgroup's 64, times a factor each.
DEVICE void store_rows(const float (&o)[HEAD / 2], scalar* out, int row, int time, int heads, int head, int batch,
                       const float (&factor)[2]) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (row + 8 * r >= time) continue;
    scalar* to = out + (((i64)batch * time + row + 8 * r) * heads + head) * HEAD + (lane & 3) * 2;
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++)
      *(u32*)(to + j * 8) = pack2(o[j * 4 + 2 * r] * factor[r], o[j * 4 + 2 * r + 1] * factor[r]);
  }
}
// Two neighbouring 16×8 tiles of products at a time as operands A of the next.
template <int COUNT>
DEVICE void convert(u32 (&p)[COUNT / 8][4], const float (&s)[COUNT]) {
#pragma unroll
  for (int k = 0; k < COUNT / 8; k++)
#pragma unroll
    for (int i = 0; i < 4; i++) p[k][i] = pack2(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
}
// scores[64,N] = A·Bᵀ of HEAD columns, both in shared memory in column blocks so many bytes apart
template <int COUNT>
DEVICE void issue_scores(float (&s)[COUNT], u64 a, int halfA, u64 b, int halfB) {
#pragma unroll
  for (int k = 0; k < HEAD / 16; k++) {
    const int half = k >> 2, column = (k & 3) * 32;
    wgmma_shared<false>(s, descriptor_at(a, half * halfA + column), descriptor_at(b, half * halfB + column), k > 0);
  }
}
// o[64,HEAD] += P·B for P in registers
template <int COUNT>
DEVICE void issue_sums(float (&o)[HEAD / 2], const u32 (&p)[COUNT][4], u64 b) {
#pragma unroll
  for (int k = 0; k < COUNT; k++) wgmma_rs(o, p[k], descriptor_at(b, k * 16 * 128));
}
