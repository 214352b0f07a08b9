// The gradient of an embedding: sums of the rows of dy that have equal ids, in fixed point, as integer addition has no order. Tokens are
// first sorted by id, so that a row of the result is summed in registers and written once; where in the order an id comes depends
// on timing, the sums do not. Of an id that occurs often, chunks of tokens are summed side by side and added up in memory.
#include "common.cuh"

#define FIXED 1099511627776.0f  // 2^40: range ±8e6, resolution 1e-12
#define AHEAD 4  // rows of dy in flight a thread

// What the steps share. Ids that occur often have the places behind the others', from `tokens` on, in whole chunks.
struct Sorted {
  const int* ids;
  int* counts;    // [vocabulary], zeros before
  int* used;      // places of ids that occur seldom, and chunks of the others: zeros before
  int* starts;    // [vocabulary]: place of the first token, of ids that occur
  int* ordinals;  // [tokens], among those of the same id
  int* order;     // [3 · tokens]: tokens by place
  int* owners;    // [2 · tokens / CHUNK]: ids of chunks
  int tokens, vocabulary;
};

KERNEL embedding_count(const Sorted sorted) {
  griddep_sync();
  const int token = global_thread();
  if (token >= sorted.tokens) return;
  const int id = sorted.ids[token];
  if (id >= 0 && id < sorted.vocabulary) sorted.ordinals[token] = atomicAdd(&sorted.counts[id], 1);
}

// Reserves `wanted` of a counter for every lane.
DEVICE int reserve(int* counter, int wanted) {
  const int lane = threadIdx.x & 31;
  int sum = wanted;  // of this lane and those before it
#pragma unroll
  for (int offset = 1; offset < 32; offset <<= 1) {
    const int before = __float_as_uint(__shfl_up_sync(0xffffffffu, __uint_as_float(sum), offset));
    if (lane >= offset) sum += before;
  }
  int base = 0;
  if (lane == 31 && sum > 0) base = atomicAdd(counter, sum);
  return (int)__float_as_uint(__shfl_sync(0xffffffffu, __uint_as_float(base), 31)) + sum - wanted;
}
KERNEL embedding_place(const Sorted sorted) {
  griddep_sync();
  const int id = global_thread(), count = id < sorted.vocabulary ? sorted.counts[id] : 0;
  const bool often = count > CHUNK;
  const int place = reserve(&sorted.used[0], often ? 0 : count);
  const int chunk = reserve(&sorted.used[1], often ? (count + CHUNK - 1) / CHUNK : 0);
  if (count > 0) sorted.starts[id] = often ? sorted.tokens + chunk * CHUNK : place;
}

KERNEL embedding_order(const Sorted sorted) {
  griddep_sync();
  const int token = global_thread();
  if (token >= sorted.tokens) return;
  const int id = sorted.ids[token];
  if (id < 0 || id >= sorted.vocabulary) return;
  const int ordinal = sorted.ordinals[token], place = sorted.starts[id] + ordinal;
  sorted.order[place] = token;
  if (sorted.counts[id] > CHUNK && ordinal % CHUNK == 0) sorted.owners[(place - sorted.tokens) / CHUNK] = id;
}

// One value where rows are not whole packs.
struct One {
  scalar v;
};
DEVICE float value_of(const One& p, int) { return to_float(p.v); }
DEVICE void put(One& to, const float (&x)[1]) { to.v = from_float(x[0]); }
DEVICE void put(Packed& to, const float (&x)[WIDTH]) { to = packed(x); }

DEVICE i64 fixed(float x) { return __double2ll_rn((double)x * FIXED); }
template <typename T, int SIZE>
DEVICE void store(T& to, const i64 (&sums)[SIZE], float scale) {
  float y[SIZE];
#pragma unroll
  for (int i = 0; i < SIZE; i++) y[i] = (float)((double)sums[i] * (scale / (double)FIXED));
  put(to, y);
}

// A thread has one of `packs` columns of an id that does not occur often, or of a chunk.
template <typename T, int SIZE>
DEVICE void sum_rows(const Sorted& sorted, const T* dy, T* out, u64* shared_sums, int packs, float scale) {
  const i64 thread = global_thread(), item = quotient(thread, packs);
  const int column = thread - item * packs, chunk = item - sorted.vocabulary;
  if (chunk >= sorted.used[1]) return;
  const int id = chunk < 0 ? item : sorted.owners[chunk], count = sorted.counts[id];
  if (chunk < 0 && count > CHUNK) return;
  const int start = count > 0 ? sorted.starts[id] : 0;
  const int first = chunk < 0 ? start : sorted.tokens + chunk * CHUNK, last = min(first + CHUNK, start + count);
  i64 sums[SIZE] = {};
  for (int place = first; place < last; place += AHEAD) {
    T x[AHEAD];
#pragma unroll
    for (int j = 0; j < AHEAD; j++)
      x[j] = place + j < last ? dy[(i64)sorted.order[place + j] * packs + column] : T();
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
      if (place + j >= last) break;
#pragma unroll
      for (int i = 0; i < SIZE; i++) sums[i] += fixed(value_of(x[j], i));
    }
  }
  if (chunk < 0) {
    store(out[(i64)id * packs + column], sums, scale);
    return;
  }
  u64* to = shared_sums + ((i64)((start - sorted.tokens) / CHUNK) * packs + column) * SIZE;
#pragma unroll
  for (int i = 0; i < SIZE; i++) atomicAdd(&to[i], (u64)sums[i]);
}
// Of ids that occur often, whose sums are those of their first chunk.
template <typename T, int SIZE>
DEVICE void finish(const Sorted& sorted, const u64* shared_sums, T* out, int packs, float scale) {
  const i64 thread = global_thread();
  const int chunk = quotient(thread, packs), column = thread - (i64)chunk * packs;
  if (chunk >= sorted.used[1]) return;
  const int id = sorted.owners[chunk];
  if (sorted.starts[id] != sorted.tokens + chunk * CHUNK) return;
  i64 sums[SIZE];
#pragma unroll
  for (int i = 0; i < SIZE; i++) sums[i] = shared_sums[thread * SIZE + i];
  store(out[(i64)id * packs + column], sums, scale);
}

KERNEL embedding_grad(const Sorted sorted, const scalar* dy, scalar* out, u64* sums, int packs, float scale) {
  griddep_sync();
  sum_rows<Packed, WIDTH>(sorted, (const Packed*)dy, (Packed*)out, sums, packs, scale);
}
KERNEL embedding_grad_any(const Sorted sorted, const scalar* dy, scalar* out, u64* sums, int packs, float scale) {
  griddep_sync();
  sum_rows<One, 1>(sorted, (const One*)dy, (One*)out, sums, packs, scale);
}
KERNEL embedding_grad_finish(const Sorted sorted, const u64* sums, scalar* out, int packs, float scale) {
  griddep_sync();
  finish<Packed, WIDTH>(sorted, sums, (Packed*)out, packs, scale);
}
KERNEL embedding_grad_finish_any(const Sorted sorted, const u64* sums, scalar* out, int packs, float scale) {
  griddep_sync();
  finish<One, 1>(sorted, sums, (One*)out, packs, scale);
}
