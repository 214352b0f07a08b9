// Attention of a few queries over many keys: bound by reading K and V once. The rows (query, head of the group), at most
// 16, are one tensor-core operand; keys are split over blocks (`splits` a K/V head) and, within a block, over warps, which
// read and compute each on their own.
// Each split leaves its unnormalised output, peak and sum; a second kernel joins them. How keys are split follows from their
// number on the device, so that a recorded launch serves a growing cache: splits that get none leave a sum of 0.
#include "common.cuh"

#ifndef HEAD
#define HEAD 128
#endif
#define PITCH (HEAD + 8)
#define STEPS (HEAD / 16)
#define THREADS (32 * WARPS)
#define INFINITE __int_as_float(0x7f800000)

struct Cache {
  const scalar* const* keys;  // pages
  const scalar* const* values;
  i64 batch, position, head;  // strides
  i64 pageSize;
};

// Rows `start` to `end`, at most KEYS, into a tile; zeros behind them. By a warp.
DEVICE void fetch(scalar* tile, const scalar* const* pages, const Cache& c, i64 base, int start, int end) {
  constexpr int PACKS = HEAD / 8, PER_PASS = 32 / PACKS;  // rows the warp reads at once
  const int lane = threadIdx.x & 31, column = lane % PACKS * 8, first = lane / PACKS;
  const int size = (int)c.pageSize, page = start / size, last = min(start + KEYS, end) - 1;
  if (last / size == page) {
    const scalar* from = pages[page] + base + (i64)(start - page * size) * c.position + column;
#pragma unroll
    for (int row = first; row < KEYS; row += PER_PASS)
      cp_async(tile + row * PITCH + column, from + (i64)min(row, last - start) * c.position, start + row <= last);
    return;
  }
  for (int row = first; row < KEYS; row += PER_PASS) {
    const int position = min(start + row, last);
    const scalar* from = pages[position / size] + base + (i64)(position % size) * c.position + column;
    cp_async(tile + row * PITCH + column, from, start + row <= last);
  }
}

// The rows of q that read one K/V head into a tile, rotated as in rotary.cu where there are `frequencies`; `meanwhile` is run
// when the kernel before has ended and q is on its way.
struct Queries {
  const scalar* q;
  int count, heads, group, first;  // queries, heads of all, of the group, and the first of it
  const double* frequencies;
  int position, half;  // of the first query
};
template <typename Work>
DEVICE void load_queries(scalar* tile, const Queries& from, int batch, const Work& meanwhile) {
  constexpr int PAIRS = HEAD / 2, ROWS = THREADS / PAIRS, PASSES = MOST / ROWS;
  const int pair = threadIdx.x % PAIRS, first = threadIdx.x / PAIRS, rows = from.group * from.count;
  const int a = from.half ? pair : 2 * pair, b = from.half ? pair + PAIRS : a + 1;
  const double frequency = from.frequencies ? from.frequencies[pair] : 0.0;
  int known = 0;  // the query whose phase it is
  Phase phase = phase_of(from.position, frequency);
  griddep_wait();
  float x[PASSES][2];
#pragma unroll
  for (int i = 0; i < PASSES; i++) {
    const int row = first + i * ROWS, query = row / from.group, head = from.first + row % from.group;
    const scalar* at = from.q + (((i64)batch * from.count + query) * from.heads + head) * HEAD;
    x[i][0] = row < rows ? to_float(at[a]) : 0.0f;
    x[i][1] = row < rows ? to_float(at[b]) : 0.0f;
  }
  meanwhile();
#pragma unroll
  for (int i = 0; i < PASSES; i++) {
    const int row = first + i * ROWS, query = row / from.group;
    if (row < rows && query != known) phase = phase_of(from.position + query, frequency), known = query;
    tile[row * PITCH + a] = from_float(x[i][0] * phase.cosine - x[i][1] * phase.sine);
    tile[row * PITCH + b] = from_float(x[i][1] * phase.cosine + x[i][0] * phase.sine);
  }
}

// Grid (splits, kvHeads, batch); partial [batch, kvHeads, splits, rows, HEAD + 2]; `most` splits at most. In a recorded step
// `origin` is the position of its first row: keys before it were written by earlier steps, whose launches have ended, and
// are read while the kernel before this one still runs.
KERNEL __launch_bounds__(THREADS) attention_split(const scalar* q, const Cache cache, float* partial, int tq,
                                                  const int* origin, int length, int heads, int kvHeads, int window,
                                                  float scale, int most, const double* frequencies,
                                                  const int* turnedFrom, int start, int half) {
  griddep_launch_dependents();
  extern __shared__ __align__(16) scalar tiles[];
  scalar* tileQ = tiles;
  const int split = blockIdx.x, kvHead = blockIdx.y, batch = blockIdx.z;
  const int group = heads / kvHeads, rows = group * tq, tk = moving(origin, length), settled = moving(origin, 0);
  const int perSplit = max(LEAST, ((tk + most - 1) / most + STEP - 1) / STEP * STEP);
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  // Rows are (query, group head); the first query sees the fewest keys.
  const int lowest = window ? max(0, tk - tq - window + 1) : 0;
  const int begin = max(lowest, split * perSplit), end = min(tk, (split + 1) * perSplit);
  const i64 base = batch * cache.batch + kvHead * cache.head;
  // The warp's keys: KEYS of every WARPS * KEYS.
  scalar* stages = tiles + (MOST + warp * STAGES * 2 * KEYS) * PITCH;
  const auto first_key = [&](int tile) { return begin + (tile * WARPS + warp) * KEYS; };
  const auto load = [&](int tile) {
    scalar* stage = stages + tile % STAGES * 2 * KEYS * PITCH;
    const int key = first_key(tile);
    if (key < end) {
      fetch(stage, cache.keys, cache, base, key, end);
      fetch(stage + KEYS * PITCH, cache.values, cache, base, key, end);
    }
    cp_async_commit();
  };
  int loaded = 0;
  while (loaded < STAGES && first_key(loaded) + KEYS <= settled) load(loaded++);
  const Queries queries = {q, tq, heads, group, kvHead * group, frequencies, moving(turnedFrom, start), half};
  load_queries(tileQ, queries, batch, [&] {
    while (loaded < STAGES) load(loaded++);
  });
  __syncthreads();
  u32 query[STEPS][4];
#pragma unroll
  for (int k = 0; k < STEPS; k++) load_a(query[k], tileQ, PITCH, 0, k * 16);
  int position[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int row = (lane >> 2) + 8 * r;
    position[r] = row < rows ? tk - tq + row / group : -1;
  }
  const float factor = scale * LOG2_E;
  float o[HEAD / 8][4] = {}, peak[2] = {-INFINITE, -INFINITE}, sum[2] = {0.0f, 0.0f};
  for (int tile = 0; first_key(tile) < end; tile++) {
    cp_async_wait<STAGES - 1>();
    __syncwarp();
    const scalar* tileK = stages + tile % STAGES * 2 * KEYS * PITCH;
    const scalar* tileV = tileK + KEYS * PITCH;
    float s[2][4] = {};
#pragma unroll
    for (int k = 0; k < STEPS; k++) {
      u32 right[4];
      load_b(right, tileK, PITCH, 0, k * 16);
      mma(s[0], query[k], right[0], right[1]);
      mma(s[1], query[k], right[2], right[3]);
    }
    float top[2] = {peak[0], peak[1]};
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int r = e >> 1, key = first_key(tile) + j * 8 + (lane & 3) * 2 + (e & 1);
        const bool seen = key < end && key <= position[r] && (window == 0 || key > position[r] - window);
        s[j][e] = seen ? s[j][e] * factor : -INFINITE;
        top[r] = fmaxf(top[r], s[j][e]);
      }
#pragma unroll
    for (int r = 0; r < 2; r++) {
      top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 1));
      top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 2));
      const float shift = top[r] == -INFINITE ? 0.0f : top[r];
      const float shrink = exp2_fast(peak[r] - shift);
      peak[r] = top[r];
      sum[r] *= shrink;
#pragma unroll
      for (int j = 0; j < HEAD / 8; j++) {
        o[j][2 * r] *= shrink;
        o[j][2 * r + 1] *= shrink;
      }
#pragma unroll
      for (int j = 0; j < 2; j++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
          s[j][2 * r + c] = exp2_fast(s[j][2 * r + c] - shift);
          sum[r] += s[j][2 * r + c];
        }
    }
    u32 left[4], right[4];
    pack_a(left, s[0], s[1]);
#pragma unroll
    for (int j = 0; j < HEAD / 8; j += 2) {
      load_b_trans(right, tileV, PITCH, j * 8, 0);
      mma(o[j], left, right[0], right[1]);
      mma(o[j + 1], left, right[2], right[3]);
    }
    __syncwarp();
    load(tile + STAGES);
  }
  cp_async_wait<0>();
  __syncthreads();

  // Join the warps in shared memory, which the tiles no longer need.
  float* joined = (float*)tiles;  // [WARPS][MOST][HEAD]
  __shared__ float peaks[WARPS][MOST], sums[WARPS][MOST];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
    const int row = (lane >> 2) + 8 * r;
    if ((lane & 3) == 0) peaks[warp][row] = peak[r], sums[warp][row] = sum[r];
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
      for (int c = 0; c < 2; c++)
        joined[(warp * MOST + row) * HEAD + j * 8 + (lane & 3) * 2 + c] = o[j][2 * r + c];
  }
  __syncthreads();
  float* to = partial + (((i64)batch * kvHeads + kvHead) * gridDim.x + split) * rows * (HEAD + 2);
  for (int i = threadIdx.x; i < rows * HEAD; i += THREADS) {
    const int row = i / HEAD, column = i % HEAD;
    float top = -INFINITE, total = 0.0f, value = 0.0f;
    for (int w = 0; w < WARPS; w++) top = fmaxf(top, peaks[w][row]);
    const float shift = top == -INFINITE ? 0.0f : top;
    for (int w = 0; w < WARPS; w++) {
      const float weight = exp2_fast(peaks[w][row] - shift);
      total += weight * sums[w][row];
      value += weight * joined[(w * MOST + row) * HEAD + column];
    }
    to[row * (HEAD + 2) + column] = value;
    if (column == 0) {
      to[row * (HEAD + 2) + HEAD] = top;
      to[row * (HEAD + 2) + HEAD + 1] = total;
    }
  }
}

DEVICE float weight_of(float peak, float top) { return peak == -INFINITE ? 0.0f : exp2_fast(peak - top); }

// Grid (heads, tq, batch), HEAD·PARTS threads: each adds up its column of every PARTS-th split. Every warp finds the largest
// peak and the sum by itself, from values that are read at once, so that none waits for another before the end.
KERNEL attention_join(const float* partial, scalar* out, float* logSumExp, int tq, int heads, int kvHeads, int splits) {
  griddep_sync();
  __shared__ float parts[PARTS][HEAD];
  const int head = blockIdx.x, query = blockIdx.y, batch = blockIdx.z;
  const int column = threadIdx.x % HEAD, part = threadIdx.x / HEAD;
  const int group = heads / kvHeads, rows = group * tq, row = query * group + head % group;
  const float* from = partial + (((i64)batch * kvHeads + head / group) * splits * rows + row) * (HEAD + 2);
  const i64 step = (i64)rows * (HEAD + 2);
  float kept[PARTS], peaks[PARTS];  // read before the weights are known
#pragma unroll
  for (int i = 0; i < PARTS; i++) {
    const int s = part + i * PARTS;
    kept[i] = s < splits ? from[s * step + column] : 0.0f;
    peaks[i] = s < splits ? from[s * step + HEAD] : -INFINITE;
  }
  float highest = -INFINITE, sum = 0.0f;  // of the splits of this lane
#pragma unroll 4
  for (int s = threadIdx.x & 31; s < splits; s += 32) {
    const float peak = from[s * step + HEAD], share = from[s * step + HEAD + 1], before = highest;
    highest = fmaxf(highest, peak);
    sum = weight_of(before, highest) * sum + weight_of(peak, highest) * share;
  }
  const float top = warp_max(highest), total = warp_sum(weight_of(highest, top) * sum);
  float value = 0.0f;
#pragma unroll
  for (int i = 0; i < PARTS; i++) value += weight_of(peaks[i], top) * kept[i];
  for (int s = part + PARTS * PARTS; s < splits; s += PARTS)
    value += weight_of(from[s * step + HEAD], top) * from[s * step + column];
  parts[part][column] = value;
  __syncthreads();
  if (part > 0) return;
#pragma unroll
  for (int i = 1; i < PARTS; i++) value += parts[i][column];
  const i64 at = ((i64)batch * tq + query) * heads + head;
  out[at * HEAD + column] = from_float(value / total);
  if (logSumExp && column == 0)
    logSumExp[((i64)batch * heads + head) * tq + query] = (top + log2f(total)) / LOG2_E;
}
