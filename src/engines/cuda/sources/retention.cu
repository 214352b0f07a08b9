// Gated retention, chunkwise on tensor cores with a float32 state (Sun et al. 2024, section 3.2). With G the sum of
// log decays since the chunk's start, inclusive, and k' = Dk^-½ k:
//   o_i = Σ_{j≤i} e^{G_i−G_j} (q_i·k'_j) v_j + e^{G_i} q_i S,   S' = e^{G_C} S + Σ_j e^{G_C−G_j} k'_jᵀ v_j.
// Three passes: every chunk's own contribution to the state (parallel), the recurrence over chunks (element-wise), and
// the outputs (parallel). The gradient runs the same recurrence backwards: see retention_grad.cu. A few positions: see
// retention_step.cu.
#include "retention.cuh"

// contributions[b,h,chunk] = Σ_t w_t·a_tᵀ b_t, [HEAD, HEAD] float32. Forward: a = k, b = v, w = Dk^-½ e^{G_C−G_t};
// backward: a = q, b = dOutput, w = e^{G_t}. Also the whole chunk's decay. Grid (chunks, heads, batch).
KERNEL __launch_bounds__(THREADS) retention_contribution(const scalar* a, const scalar* b, const float* logDecay,
                                                         float* contributions, float* decays, const Shape s,
                                                         int backward) {
  scalar *tileA = tiles, *tileB = tiles + ROWS * PITCH;
  __shared__ float sums[CHUNK], weights[CHUNK];
  const int chunk = blockIdx.x, head = blockIdx.y, batch = blockIdx.z;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const i64 at = ((i64)batch * s.heads + head) * s.chunks + chunk;
  sum_decays(sums, logDecay, s, batch, head, chunk * CHUNK);
  const float scale = s.scale;
  for (int i = threadIdx.x; i < CHUNK; i += THREADS)
    weights[i] = backward ? __expf(sums[i]) : scale * __expf(sums[CHUNK - 1] - sums[i]);
  constexpr int MINE = (STEPS + 3) / 4;  // 16-row tiles of the result a warp holds
  float o[MINE][HEAD / 8][4] = {};
  for (int start = 0; start < CHUNK; start += ROWS) {
    __syncthreads();
    load_tile(tileA, a, s, batch, head, s.group, chunk * CHUNK + start, s.keyWidth, s.keyPitch);
    load_tile(tileB, b, s, batch, head, 1, chunk * CHUNK + start, s.valueWidth, s.valuePitch, weights + start);
    __syncthreads();
#pragma unroll
    for (int m = 0; m < MINE; m++) {
      const int tile = warp + 4 * m;
      if (tile >= STEPS) continue;
#pragma unroll
      for (int k = 0; k < ROWS / 16; k++) {
        u32 left[4], right[4];
        load_a_trans(left, tileA, PITCH, tile * 16, k * 16);
#pragma unroll
        for (int j = 0; j < HEAD / 8; j += 2) {
          load_b_trans(right, tileB, PITCH, j * 8, k * 16);
          mma(o[m][j], left, right[0], right[1]);
          mma(o[m][j + 1], left, right[2], right[3]);
        }
      }
    }
  }
  float* to = contributions + at * HEAD * HEAD;
#pragma unroll
  for (int m = 0; m < MINE; m++) {
    const int tile = warp + 4 * m;
    if (tile >= STEPS) continue;
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const int row = tile * 16 + (lane >> 2) + 8 * r, column = j * 8 + (lane & 3) * 2;
        *(float2*)(to + row * HEAD + column) = make_float2(o[m][j][2 * r], o[m][j][2 * r + 1]);
      }
  }
  if (threadIdx.x == 0) decays[at] = __expf(sums[CHUNK - 1]);
}

// S' = decay·S + contribution from chunk to chunk, forwards or backwards; `states` receives, in storage, the S before
// each step (its counterpart from behind when backwards). One thread an element; grid (elements, heads, batch).
KERNEL retention_recurrence(const float* contributions, const float* decays, const float* first, scalar* states,
                            float* last, const Shape s, int backward) {
  const int element = blockIdx.x * blockDim.x + threadIdx.x, row = element / HEAD, column = element % HEAD;
  const i64 unit = (i64)blockIdx.z * s.heads + blockIdx.y;
  const bool inside = row < s.keyWidth && column < s.valueWidth;
  const i64 at = (unit * s.keyPitch + row) * s.valuePitch + column;
  float state = inside && first ? first[at] : 0.0f;
#pragma unroll 4
  for (int i = 0; i < s.chunks; i++) {
    const i64 chunk = unit * s.chunks + (backward ? s.chunks - 1 - i : i);
    const i64 place = chunk * HEAD * HEAD + element;
    const float x = contributions[place];
    if (states) states[place] = from_float(state);
    state = decays[chunk] * state + x;
  }
  if (inside) last[at] = state;
}

KERNEL __launch_bounds__(THREADS) retention_output(const scalar* q, const scalar* k, const scalar* v,
                                                   const float* logDecay, const scalar* states, scalar* out,
                                                   const Shape s) {
  rows_of<false>(q, k, v, nullptr, logDecay, states, out, nullptr, s);
}
