// Attention of a few queries over a compressed cache: bound by reading codes. A warp copies tiles of codes into its ring in
// shared memory, ahead of their use, and attends to them there (coded_tile.cuh).
#include "coded_tile.cuh"

#define THREADS (32 * WARPS)

// Words from one row to the next in the ring, such that lanes read from different banks.
DEVICE constexpr int key_pitch(int type) { return words_of(type) + (words_of(type) % 32 == 0 ? 4 : 0); }
DEVICE constexpr int value_pitch(int type) { return words_of(type) + 4; }
DEVICE constexpr int stages_of(int type) { return type == INT4 ? STAGES : STAGES - 1; }
// Words of a stage: keys, values, and the scales of the values. Behind the stages lie the scales of the keys of two groups.
DEVICE constexpr int stage_words(int type) { return KEYS * (key_pitch(type) + value_pitch(type) + 1); }
DEVICE constexpr int ring_words(int type) { return stages_of(type) * stage_words(type) + 2 * HEAD; }

// Half a group, and with its first half the scales of the keys. By a warp.
template <int TYPE>
DEVICE void fetch_codes(u32* stage, u32* scales, const CodePage& page, i64 group, int half) {
  constexpr int WORDS = words_of(TYPE), PACKS = WORDS / 4;
  const int lane = threadIdx.x & 31;
  const i64 first = (group * GROUP + half * KEYS) * WORDS;
  u32* values = stage + KEYS * key_pitch(TYPE);
#pragma unroll
  for (int i = lane; i < KEYS * PACKS; i += 32) {
    const int row = i / PACKS, column = i % PACKS * 4;
    cp_async(stage + row * key_pitch(TYPE) + column, page.keyCodes + first + i * 4, true);
    cp_async(values + row * value_pitch(TYPE) + column, page.valueCodes + first + i * 4, true);
  }
  if (TYPE == FLOAT8) {
    if (half == 0 && lane < 2) cp_async_word(scales + lane, (lane ? page.valueScales : page.keyScales) + group);
    return;
  }
  if (lane < KEYS / 4)
    cp_async(values + KEYS * value_pitch(TYPE) + lane * 4, page.valueScales + group * GROUP + half * KEYS + lane * 4, true);
  if (half == 0)
    for (int i = lane; i < HEAD / 4; i += 32) cp_async(scales + i * 4, page.keyScales + group * HEAD + i * 4, true);
}

// Joins the warps in shared memory, which the codes no longer need.
template <int N>
DEVICE void join_warps(const State<N>& st, float* shared, float* to, int rows, float surplus) {
  __shared__ float peaks[WARPS][MOST], sums[WARPS][MOST], extras[WARPS][MOST];
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, low = lane >> 2, part = lane & 3;
  __syncthreads();
#pragma unroll
  for (int n = 0; n < N; n++)
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int row = n * 8 + part * 2 + i;
      float sum = st.sum[n][i], extra = st.extra[n][i];
#pragma unroll
      for (int mask = 4; mask < 32; mask *= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, mask);
        extra += __shfl_xor_sync(0xffffffffu, extra, mask);
      }
      if (low == 0) peaks[warp][row] = st.peak[n][i], sums[warp][row] = sum, extras[warp][row] = extra - surplus * st.ones[n][i];
#pragma unroll
      for (int t = 0; t < HEAD / 16; t++)
#pragma unroll
        for (int c = 0; c < 2; c++)
          shared[(warp * 8 * N + row) * HEAD + low * (HEAD / 8) + 2 * t + c] = st.o[n][t][2 * c + i];
    }
  __syncthreads();
  for (int i = threadIdx.x; i < rows * HEAD; i += THREADS) {
    const int row = i / HEAD, column = i % HEAD;
    float top = -INFINITE, total = 0.0f, value = 0.0f;
    for (int w = 0; w < WARPS; w++) top = fmaxf(top, peaks[w][row]);
    const float shift = top == -INFINITE ? 0.0f : top;
    for (int w = 0; w < WARPS; w++) {
      const float weight = exp2_fast(peaks[w][row] - shift);
      total += weight * sums[w][row];
      value += weight * (shared[(w * 8 * N + row) * HEAD + column] + extras[w][row]);
    }
    to[row * (HEAD + 2) + column] = value;
    if (column == 0) {
      to[row * (HEAD + 2) + HEAD] = top;
      to[row * (HEAD + 2) + HEAD + 1] = total;
    }
  }
}

// Grid (splits, kvHeads, batch), the first split for the keys as computed; partial as of attention_split. A recorded launch has
// splits that get none: behind all others, so that they do not change the order in which splits are joined. Codes that the launch
// before it may write are read when that has ended: of the group before the newest.
template <int TYPE, int N>
DEVICE void split_codes(const scalar* q, const CodePage* pages, const Raw& raw, float* partial, const Problem& problem,
                        int tk, int most) {
  extern __shared__ __align__(16) u32 rings[];
  griddep_launch_dependents();
  const int split = blockIdx.x, kvHead = blockIdx.y, batch = blockIdx.z;
  const int group = problem.heads / problem.kvHeads, rows = group * problem.tq;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, low = lane >> 2, part = lane & 3;
  const i64 head = (i64)batch * problem.kvHeads + kvHead;
  const int newest = (tk - 1) / GROUP, oldest = (tk - problem.tq) / GROUP, pageGroups = problem.pageSize / GROUP;
  const int perSplit = max(LEAST / GROUP, (newest + most - 1) / most);
  const int begin = max(0, split - 1) * perSplit + warp, end = min(newest, split * perSplit);
  u32 *ring = rings + warp * ring_words(TYPE), *scales = ring + stages_of(TYPE) * stage_words(TYPE);
  const auto group_of = [&](int stage) { return begin + stage / 2 * WARPS; };
  // Of the next group to be copied: its page, and where it is in that.
  int index = begin / pageGroups, within = begin % pageGroups;
  CodePage page = {};
  if (begin < end) page = pages[index];
  const auto load = [&](int stage) {
    if (group_of(stage) < end)
      fetch_codes<TYPE>(ring + stage % stages_of(TYPE) * stage_words(TYPE), scales + (stage / 2 & 1) * HEAD, page,
                        head * pageGroups + within, stage & 1);
    cp_async_commit();
    if (stage % 2 == 0) return;
    within += WARPS;
    if (within < pageGroups) return;
    index += within / pageGroups;
    within %= pageGroups;
    if (group_of(stage + 1) < end) page = pages[index];
  };
  int loaded = 0;
  while (loaded < stages_of(TYPE) && group_of(loaded) < min(end, newest - 1)) load(loaded++);
  griddep_wait();
  while (loaded < stages_of(TYPE)) load(loaded++);

  u32 own[N][HEAD / 8];
#pragma unroll
  for (int n = 0; n < N; n++) {
    const int row = n * 8 + low, query = row / group, from = kvHead * group + row % group;
    const i64 at = (((i64)batch * problem.tq + query) * problem.heads + from) * HEAD + part * (HEAD / 4);
#pragma unroll
    for (int r = 0; r < HEAD / 8; r++) own[n][r] = 0;
    if (row < rows) load_words(own[n], (const u32*)(q + at));
  }
  const float factor = problem.scale * LOG2_E;
  State<N> st = {};
#pragma unroll
  for (int n = 0; n < N; n++) st.peak[n][0] = st.peak[n][1] = -INFINITE;
  Queries<N> queries;
  // Rows that are none see what the last one sees.
  const auto position_of = [&](int row) { return tk - problem.tq + min(row, rows - 1) / group; };
  float weight = 1.0f;
  for (int stage = 0; group_of(stage) < end; stage++) {
    cp_async_wait<stages_of(TYPE) - 1>();
    __syncwarp();
    const u32* keys = ring + stage % stages_of(TYPE) * stage_words(TYPE);
    const u32 *values = keys + KEYS * key_pitch(TYPE), *steps = values + KEYS * value_pitch(TYPE);
    if (stage % 2 == 0) {
      const u32* ofGroup = scales + (stage / 2 & 1) * HEAD;
      scale_queries<TYPE>(queries, own, ofGroup, factor);
      if (TYPE == FLOAT8) weight = __uint_as_float(ofGroup[1]);
    }
    const int g = group_of(stage);
    const auto seen = [&](int, int row) { return g < position_of(row) / GROUP; };
    if (g < oldest)
      attend_keys<TYPE, N, false>(st, queries, keys, key_pitch(TYPE), values, value_pitch(TYPE), steps, weight, KEYS, seen);
    else attend_keys<TYPE, N, true>(st, queries, keys, key_pitch(TYPE), values, value_pitch(TYPE), steps, weight, KEYS, seen);
    __syncwarp();
    load(stage + stages_of(TYPE));
  }
  cp_async_wait<0>();
  if (split == 0) {
    scale_queries<RAW>(queries, own, nullptr, factor);
    for (int first = oldest * GROUP + warp * KEYS; first < tk; first += WARPS * KEYS) {
      const i64 at = (head * raw.rows + raw_row(raw, first)) * words_of(RAW);
      const auto seen = [&](int key, int row) {
        const int position = position_of(row);
        return first + key <= position && first / GROUP == position / GROUP;
      };
      attend_keys<RAW, N, true>(st, queries, (const u32*)raw.keys + at, words_of(RAW), (const u32*)raw.values + at, words_of(RAW),
                                nullptr, 1.0f, min(KEYS, tk - first), seen);
    }
  }
  join_warps(st, (float*)rings, partial + (head * gridDim.x + split) * rows * (HEAD + 2), rows, split == 0 ? 0.0f : surplus_of(TYPE));
}

#define KERNEL_OF(name, TYPE, N)                                                                                       \
  KERNEL __launch_bounds__(THREADS) name(const scalar* q, const CodePage* pages, const Raw raw, float* partial,        \
                                         const Problem problem, const int* origin, int length, int most) {             \
    split_codes<TYPE, N>(q, pages, raw, partial, problem, moving(origin, length), most);                               \
  }
// Of at most 8 rows (query, head of the group), and of at most 16.
#define KERNELS(name, TYPE)        \
  KERNEL_OF(split_##name, TYPE, 1) \
  KERNEL_OF(split_wide_##name, TYPE, 2)
KERNELS(float8, FLOAT8)
KERNELS(int8, INT8)
KERNELS(int4, INT4)
