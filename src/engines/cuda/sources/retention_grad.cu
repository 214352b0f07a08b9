// The gradient of gated retention, from the states before each chunk and their gradients behind it, both by the recurrence of
// retention.cu.
#include "retention.cuh"

KERNEL __launch_bounds__(THREADS) retention_grad_query(const scalar* dOut, const scalar* q, const scalar* k,
                                                       const scalar* v, const float* logDecay, const scalar* states,
                                                       scalar* dq, float* dots, const Shape s) {
  rows_of<true>(dOut, v, k, q, logDecay, states, dq, dots, s);
}

// dk and dv of 64 positions; `dStates` are the gradients of the state behind each chunk; `dots` receives k·dk.
KERNEL __launch_bounds__(THREADS) retention_grad_key(const scalar* dOut, const scalar* q, const scalar* k,
                                                     const scalar* v, const float* logDecay, const scalar* dStates,
                                                     scalar* dk, scalar* dv, float* dots, const Shape s) {
  scalar *tileK = tiles, *tileV = tileK + ROWS * PITCH, *tileQ = tileV + ROWS * PITCH, *tileD = tileQ + ROWS * PITCH;
  scalar* tileS = tileQ;  // HEAD ≤ 128 rows: the room of the two tiles that come later
  __shared__ float sums[CHUNK];
  const int head = blockIdx.y, batch = blockIdx.z, first = blockIdx.x * ROWS;
  const int chunk = first / CHUNK, inside = first % CHUNK;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  load_tile(tileK, k, s, batch, head, s.group, first, s.keyWidth, s.keyPitch);
  load_tile(tileV, v, s, batch, head, 1, first, s.valueWidth, s.valuePitch);
  load_state(tileS, dStates + (((i64)batch * s.heads + head) * s.chunks + chunk) * HEAD * HEAD);
  sum_decays(sums, logDecay, s, batch, head, chunk * CHUNK);
  const float scale = s.scale;
  float gradK[HEAD / 8][4] = {}, gradV[HEAD / 8][4] = {};
  through_state<true>(gradK, tileV, warp * 16, tileS);
  through_state<false>(gradV, tileK, warp * 16, tileS);
  const int row = inside + warp * 16 + (lane >> 2);
  const float low = scale * __expf(sums[CHUNK - 1] - sums[row]), high = scale * __expf(sums[CHUNK - 1] - sums[row + 8]);
  scale_rows(gradK, low, high);
  scale_rows(gradV, low, high);
  for (int start = inside; start < CHUNK; start += ROWS) {
    __syncthreads();
    load_tile(tileQ, q, s, batch, head, s.group, chunk * CHUNK + start, s.keyWidth, s.keyPitch);
    load_tile(tileD, dOut, s, batch, head, 1, chunk * CHUNK + start, s.valueWidth, s.valuePitch);
    __syncthreads();
#pragma unroll
    for (int part = 0; part < ROWS; part += 32) {
      float p[4][4];
      score<HEAD>(p, tileV, warp * 16, tileD + part * PITCH);
      apply_decay(p, sums, inside, start + part, true, scale);
      accumulate(gradK, p, tileQ + part * PITCH);
      score<HEAD>(p, tileK, warp * 16, tileQ + part * PITCH);
      apply_decay(p, sums, inside, start + part, true, scale);
      accumulate(gradV, p, tileD + part * PITCH);
    }
  }
  store_dots(gradK, tileK, dots, s, batch, head, first);
  store_rows(gradK, dk, s, batch, head, first, s.keyWidth, s.keyPitch);
  store_rows(gradV, dv, s, batch, head, first, s.valueWidth, s.valuePitch);
}

// dLogDecay_t = Σ_{i≥t} (q_i·dq_i − k_i·dk_i) + ⟨last state, its gradient⟩: every term of o_i carries e^{G_i}, every
// key e^{−G_j}. The dots are sums of `parts`, one array after the other. Grid (heads, batch), 1024 threads, each with a run of
// positions.
KERNEL retention_grad_decay(const float* queryDots, const float* keyDots, const float* state, const float* dState,
                            float* out, const Shape s, int parts) {
  __shared__ float totals[1024];
  const int head = blockIdx.x, batch = blockIdx.y, thread = threadIdx.x;
  const i64 unit = ((i64)batch * s.heads + head) * s.keyPitch;
  float product = 0.0f;
  for (int i = thread; i < s.keyWidth * s.valueWidth; i += 1024) {
    const i64 place = (unit + i / s.valueWidth) * s.valuePitch + i % s.valueWidth;
    product += state[place] * dState[place];
  }
  product = block_sum(product);
  const int run = (s.time + 1023) / 1024, begin = thread * run, end = min(s.time, begin + run);
  auto at = [&](int t) { return ((i64)batch * s.time + t) * s.heads + head; };
  auto difference = [&](int t) {
    float sum = 0.0f;
    for (int part = 0; part < parts; part++) {
      const i64 place = (i64)part * gridDim.y * s.time * s.heads + at(t);
      sum += queryDots[place] - keyDots[place];
    }
    return sum;
  };
  float total = 0.0f;
  for (int t = begin; t < end; t++) total += difference(t);
  totals[thread] = total;
  __syncthreads();
  for (int offset = 1; offset < 1024; offset <<= 1) {  // sums over this and all later threads
    const float later = thread + offset < 1024 ? totals[thread + offset] : 0.0f;
    __syncthreads();
    totals[thread] += later;
    __syncthreads();
  }
  float sum = product + (thread + 1 < 1024 ? totals[thread + 1] : 0.0f);
  for (int t = end - 1; t >= begin; t--) {
    sum += difference(t);
    out[at(t)] = sum;
  }
}
