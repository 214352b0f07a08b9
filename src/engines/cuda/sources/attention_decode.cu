// Attention of a few queries over many keys: bound by reading K and V once. The rows (query, head of the group), at most
// 16, are one tensor-core operand; keys are split over blocks (`splits` a K/V head) and, within a block, over warps.
// Each split leaves its unnormalised output, peak and sum; a second kernel joins them. How keys are split follows from their
// number on the device, so that a recorded launch serves a growing cache: splits that get none leave a sum of 0.
#ifndef HEAD
#define HEAD 128
#endif
#define PITCH (HEAD + 8)
#define STEPS (HEAD / 16)
#define KEYS 64  // keys a block reads at a time, 16 a warp
#define THREADS 128
#define MOST 16  // rows
#define LEAST 256  // keys of a split
#define STEP 16    // and what their number is a multiple of
#define PARTS 8  // of the splits, joined at once
#define INFINITE __int_as_float(0x7f800000)

struct Cache {
  const scalar* const* keys;  // pages
  const scalar* const* values;
  i64 batch, position, head;  // strides
  i64 pageSize;
};

DEVICE void fetch(scalar* tile, const scalar* const* pages, const Cache& c, i64 base, int start, int end) {
  constexpr int PACKS = HEAD / 8, PER_PASS = THREADS / PACKS;  // rows the block reads at once
  const int column = threadIdx.x % PACKS * 8, first = threadIdx.x / PACKS;
  const int size = (int)c.pageSize, page = start / size, last = min(start + KEYS, end) - 1;
  if (last / size == page) {
    const scalar* from = pages[page] + base + (i64)(start - page * size) * c.position + column;
#pragma unroll
    for (int row = first; row < KEYS; row += PER_PASS)
      copy_async(tile + row * PITCH + column, from + (i64)min(row, last - start) * c.position, start + row <= last);
    return;
  }
  for (int row = first; row < KEYS; row += PER_PASS) {
    const int position = min(start + row, last);
    const scalar* from = pages[position / size] + base + (i64)(position % size) * c.position + column;
    copy_async(tile + row * PITCH + column, from, start + row <= last);
  }
}

// grid (splits, kvHeads, batch); partial [batch, kvHeads, splits, rows, HEAD + 2]; `most` splits at most
KERNEL __launch_bounds__(THREADS) attention_split(const scalar* q, const Cache cache, float* partial, int tq,
                                                  const int* origin, int length, int heads, int kvHeads, int window,
                                                  float scale, int most) {
  follow();
  extern __shared__ __align__(16) scalar tiles[];
  scalar* tileQ = tiles;
  scalar* stages = tiles + MOST * PITCH;
  const int split = blockIdx.x, kvHead = blockIdx.y, batch = blockIdx.z;
  const int group = heads / kvHeads, rows = group * tq, tk = moving(origin, length);
  const int perSplit = max(LEAST, ((tk + most - 1) / most + STEP - 1) / STEP * STEP);
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  // Rows are (query, group head); the first query sees the fewest keys.
  const int lowest = window ? max(0, tk - tq - window + 1) : 0;
  const int begin = max(lowest, split * perSplit), end = min(tk, (split + 1) * perSplit);
  const i64 base = batch * cache.batch + kvHead * cache.head;
  for (int i = threadIdx.x; i < MOST * HEAD; i += THREADS) {
    const int row = i / HEAD, column = i % HEAD;
    scalar x = {};
    if (row < rows) x = q[(((i64)batch * tq + row / group) * heads + kvHead * group + row % group) * HEAD + column];
    tileQ[row * PITCH + column] = x;
  }
  const int count = end > begin ? (end - begin + KEYS - 1) / KEYS : 0;
  auto load = [&](int tile) {
    scalar* stage = stages + (tile & 1) * 2 * KEYS * PITCH;
    if (tile < count) {
      fetch(stage, cache.keys, cache, base, begin + tile * KEYS, end);
      fetch(stage + KEYS * PITCH, cache.values, cache, base, begin + tile * KEYS, end);
    }
    copy_commit();
  };
  load(0);
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
  for (int tile = 0; tile < count; tile++) {
    load(tile + 1);
    copy_wait<1>();
    __syncthreads();
    const scalar* tileK = stages + (tile & 1) * 2 * KEYS * PITCH + warp * 16 * PITCH;
    const scalar* tileV = tileK + KEYS * PITCH;
    float s[2][4] = {};
#pragma unroll
    for (int k = 0; k < STEPS; k++) {
      u32 right[4];
      load_b(right, tileK, PITCH, 0, k * 16);
      multiply(s[0], query[k], right[0], right[1]);
      multiply(s[1], query[k], right[2], right[3]);
    }
    float top[2] = {peak[0], peak[1]};
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int r = e >> 1, key = begin + tile * KEYS + warp * 16 + j * 8 + (lane & 3) * 2 + (e & 1);
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
      load_b_turned(right, tileV, PITCH, j * 8, 0);
      multiply(o[j], left, right[0], right[1]);
      multiply(o[j + 1], left, right[2], right[3]);
    }
    __syncthreads();
  }
  copy_wait<0>();
  __syncthreads();

  // Join the four warps in shared memory, which the tiles no longer need.
  float* joined = (float*)tiles;                    // [4][MOST][HEAD]
  __shared__ float peaks[4][MOST], sums[4][MOST];
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
    for (int w = 0; w < 4; w++) top = fmaxf(top, peaks[w][row]);
    const float shift = top == -INFINITE ? 0.0f : top;
    for (int w = 0; w < 4; w++) {
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

// grid (heads, tq, batch), HEAD·PARTS threads: each takes the weights of some splits, then its column of every PARTS-th.
KERNEL attention_join(const float* partial, scalar* out, float* logSumExp, int tq, int heads, int kvHeads, int splits) {
  follow();
  extern __shared__ float weights[];  // a split
  __shared__ float parts[PARTS][HEAD];
  const int head = blockIdx.x, query = blockIdx.y, batch = blockIdx.z;
  const int column = threadIdx.x % HEAD, part = threadIdx.x / HEAD;
  const int group = heads / kvHeads, rows = group * tq, row = query * group + head % group;
  const float* from = partial + (((i64)batch * kvHeads + head / group) * splits * rows + row) * (HEAD + 2);
  const i64 step = (i64)rows * (HEAD + 2);
  float kept[PARTS];  // read before the weights are known
#pragma unroll
  for (int i = 0; i < PARTS; i++) kept[i] = part + i * PARTS < splits ? from[(part + i * PARTS) * step + column] : 0.0f;
  float top = -INFINITE;
  for (int s = threadIdx.x; s < splits; s += HEAD * PARTS) top = fmaxf(top, weights[s] = from[s * step + HEAD]);
  top = block_max(top);
  const float shift = top == -INFINITE ? 0.0f : top;
  float total = 0.0f, value = 0.0f;
  for (int s = threadIdx.x; s < splits; s += HEAD * PARTS) {
    weights[s] = exp2_fast(weights[s] - shift);
    total += weights[s] * from[s * step + HEAD + 1];
  }
  total = block_sum(total);  // and a barrier, behind which all weights are there
#pragma unroll
  for (int i = 0; i < PARTS; i++)
    if (part + i * PARTS < splits) value += weights[part + i * PARTS] * kept[i];
  for (int s = part + PARTS * PARTS; s < splits; s += PARTS) value += weights[s] * from[s * step + column];
  parts[part][column] = value;
  __syncthreads();
  if (part > 0) return;
  for (int i = 1; i < PARTS; i++) value += parts[i][column];
  const i64 at = ((i64)batch * tq + query) * heads + head;
  out[at * HEAD + column] = from_float(value / total);
  if (logSumExp && column == 0)
    logSumExp[((i64)batch * heads + head) * tq + query] = (top + log2f(total)) / LOG2_E;
}
