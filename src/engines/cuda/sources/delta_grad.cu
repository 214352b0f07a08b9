// The gradient of the chunkwise gated delta rule (letters: delta_chunk.cu; formulas: ops/gated-delta-rule/chunkwise-gradient.ts), for
// key and value widths up to HEAD. With dS' the gradient of the state after a chunk and P = (Q Kᵀ) ∘ D,
//   dR = Tᵀ (Pᵀ dO + e^{G_C−G} K dS'),   dV = β dR,   dS = e^{G_C} dS' + (e^G Q)ᵀ dO − (e^G K)ᵀ dV.
// Four passes: what depends on no state (chunks in parallel), the states and N from the first chunk to the last, their gradients
// from the last to the first, and the gradients of the operands (chunks in parallel).
#include "delta_chunk.cuh"

// Beside what delta_solve gives, for the way back: targetsBack = Tᵀ Pᵀ dO and readersBack = Tᵀ e^{G_C−G} K. Grid (chunks, heads, batch).
KERNEL __launch_bounds__(THREADS) delta_grad_solve(const scalar* q, const scalar* k, const scalar* v, const scalar* dOut,
                                                   const float* logDecay, const float* beta, scalar* readers, scalar* targets,
                                                   scalar* readersBack, scalar* targetsBack, const Shape s, float queryScale,
                                                   float keyScale) {
  scalar *tileK = tiles, *tileV = tileK + ROWS * PITCH, *tileQ = tileV + ROWS * PITCH;
  float* inverse = (float*)(tileQ + ROWS * PITCH);
  __shared__ float sums[CHUNK], betas[CHUNK];
  const int chunk = blockIdx.x, head = blockIdx.y, batch = blockIdx.z, first = chunk * CHUNK;
  const int warp = threadIdx.x >> 5;
  const i64 at = (((i64)batch * s.heads + head) * s.chunks + chunk) * CHUNK * HEAD;
  load_tile(tileK, k, s, batch, head, 1, first, s.keyWidth, s.keyPitch);
  load_tile(tileQ, q, s, batch, head, 1, first, s.keyWidth, s.keyPitch);
  load_tile(tileV, v, s, batch, head, 1, first, s.valueWidth, s.valuePitch);
  load_betas(betas, beta, s, batch, head, first);
  sum_decays(sums, logDecay, s, batch, head, first);
  solve_chunk(inverse, tileK, sums, betas, keyScale);
  const float end = sums[CHUNK - 1];
  through_inverse<false>(inverse, tileK, readers + at, HEAD, [&](int i) { return betas[i] * keyScale * __expf(sums[i]); });
  through_inverse<true>(inverse, tileK, readersBack + at, HEAD, [&](int i) { return keyScale * __expf(end - sums[i]); });
  through_inverse<false>(inverse, tileV, targets + at, HEAD, [&](int i) { return betas[i]; });
  __syncthreads();
  load_tile(tileV, dOut, s, batch, head, 1, first, s.valueWidth, s.valuePitch);
  __syncthreads();
  float o[HEAD / 8][4] = {}, p[ROWS / 8][4];
  score<HEAD>(p, tileK, warp * 16, tileQ);
  apply_decay(p, sums, 0, 0, true, queryScale * keyScale);
  accumulate(o, p, tileV);
  __syncthreads();
#pragma unroll
  for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e += 2)
      *(u32*)(tileV + row_of(e) * PITCH + column_of(j, e)) = pack2(o[j][e], o[j][e + 1]);
  __syncthreads();
  through_inverse<true>(inverse, tileV, targetsBack + at, HEAD, [](int) { return 1.0f; });
}

// Grid (HEAD / VALUES, heads, batch), both. N takes the place of `targets`; `first` may be null (zeros).
KERNEL __launch_bounds__(THREADS) delta_grad_states(const scalar* k, const float* logDecay, const scalar* readers,
                                                    scalar* targets, const float* first, scalar* states, const Shape s,
                                                    float keyScale) {
  Passed x = {};
  x.k = k, x.logDecay = logDecay, x.readers = readers, x.targets = targets, x.first = first;
  x.states = states, x.keyScale = keyScale;
  pass_over_chunks<STATES>(x, s);
}
// dR takes the place of `targets`.
KERNEL __launch_bounds__(THREADS) delta_grad_back(const scalar* q, const scalar* k, const scalar* dOut, const float* logDecay,
                                                  const float* beta, const scalar* readers, scalar* targets, const float* dLast,
                                                  scalar* dStates, float* dFirst, const Shape s, float queryScale,
                                                  float keyScale) {
  Passed x = {};
  x.q = q, x.k = k, x.dOut = dOut, x.logDecay = logDecay, x.beta = beta, x.readers = readers, x.targets = targets;
  x.first = dLast, x.states = dStates, x.last = dFirst, x.queryScale = queryScale, x.keyScale = keyScale;
  pass_over_chunks<GRADIENTS>(x, s);
}

// A chunk's rows of HEAD columns into a tile.
DEVICE void load_rows(scalar* tile, const scalar* rows) {
  for (int i = threadIdx.x; i < ROWS * HEAD / 8; i += THREADS)
    *(Wide*)(tile + i / (HEAD / 8) * PITCH + i % (HEAD / 8) * 8) = ((const Wide*)rows)[i];
}
// to[row] += the sums of the four threads that have the rows row_of(0) and row_of(2).
DEVICE void add_rows(float* to, float low, float high) {
  low += __shfl_xor_sync(0xffffffffu, low, 1);
  low += __shfl_xor_sync(0xffffffffu, low, 2);
  high += __shfl_xor_sync(0xffffffffu, high, 1);
  high += __shfl_xor_sync(0xffffffffu, high, 2);
  if ((threadIdx.x & 3) == 0) to[row_of(0)] += low, to[row_of(2)] += high;
}

// to[column] = the sums over the 16 rows of a warp.
DEVICE void store_columns(float (&p)[ROWS / 8][4], float* to) {
#pragma unroll
  for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
    for (int e = 0; e < 2; e++) {
      float sum = p[j][e] + p[j][e + 2];
      sum += __shfl_xor_sync(0xffffffffu, sum, 4);
      sum += __shfl_xor_sync(0xffffffffu, sum, 8);
      sum += __shfl_xor_sync(0xffffffffu, sum, 16);
      if ((threadIdx.x & 31) < 4) to[column_of(j, e)] = sum;
    }
}

// The gradients of a chunk's operands from its N and dR and the states around it. dLogDecay_t is the sum of dL/dG_i over i ≥ t. What
// depends on e^{G_i−G_j} adds the same number to dG_i and takes it from dG_j, so that what cancels does so but for the rounding of
// float32, and no error adds up from chunk to chunk: G_C enters the state after it. Grid (chunks, heads, batch).
KERNEL __launch_bounds__(THREADS) delta_grad_rows(const scalar* q, const scalar* k, const scalar* v, const scalar* dOut,
                                                  const float* logDecay, const float* beta, const scalar* updates,
                                                  const scalar* dErrors, const scalar* states, const scalar* dStates, scalar* dq,
                                                  scalar* dk, scalar* dv, float* dDecay, float* dBeta, const Shape s,
                                                  float queryScale, float keyScale) {
  scalar *tileK = tiles, *tileN = tileK + ROWS * PITCH, *tileO = tileN + ROWS * PITCH, *tileR = tileO + ROWS * PITCH;
  scalar* tileS = tileR + ROWS * PITCH;
  __shared__ float sums[CHUNK], betas[CHUNK], slopes[CHUNK], strengths[CHUNK], written[CHUNK];
  __shared__ float asked[THREADS / 32][CHUNK], overlapped[THREADS / 32][CHUNK];
  const int chunk = blockIdx.x, head = blockIdx.y, batch = blockIdx.z, first = chunk * CHUNK;
  const int warp = threadIdx.x >> 5, low = row_of(0), high = row_of(2);
  const i64 unit = (i64)batch * s.heads + head;
  const i64 at = (unit * s.chunks + chunk) * CHUNK * HEAD;
  const scalar* before = states + (unit * (s.chunks + 1) + chunk) * HEAD * HEAD;
  const scalar* dAfter = dStates + (unit * (s.chunks + 1) + chunk + 1) * HEAD * HEAD;
  load_tile(tileK, k, s, batch, head, 1, first, s.keyWidth, s.keyPitch);
  load_tile(tileO, dOut, s, batch, head, 1, first, s.valueWidth, s.valuePitch);
  load_rows(tileN, updates + at);
  load_rows(tileR, dErrors + at);
  load_state(tileS, before);
  load_betas(betas, beta, s, batch, head, first);
  for (int i = threadIdx.x; i < CHUNK; i += THREADS) slopes[i] = strengths[i] = written[i] = 0.0f;
  sum_decays(sums, logDecay, s, batch, head, first);
  const float end = sums[CHUNK - 1], squared = keyScale * keyScale;
  // An element of [B,T,H,width], zero beyond both.
  const auto element = [&](const scalar* x, int e, int column, int width, int pitch) {
    const int t = first + row_of(e);
    if (t >= s.time || column >= width) return 0.0f;
    return to_float(x[(((i64)batch * s.time + t) * s.heads + head) * pitch + column]);
  };
  float p[ROWS / 8][4];
  {  // dQ = e^G dO Sᵀ + (dO Nᵀ ∘ D) K
    float o[HEAD / 8][4] = {}, dots[2] = {};
    through_state<true>(o, tileO, warp * 16, tileS);
    scale_rows(o, queryScale * __expf(sums[low]), queryScale * __expf(sums[high]));
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) dots[e >> 1] += o[j][e] * element(q, e, column_of(j, e), s.keyWidth, s.keyPitch);
    add_rows(slopes, dots[0], dots[1]);
    score<HEAD>(p, tileO, warp * 16, tileN);
    apply_decay(p, sums, 0, 0, false, queryScale * keyScale);
    accumulate(o, p, tileK);
    store_rows(o, dq, s, batch, head, first, s.keyWidth, s.keyPitch);
  }
  {  // dV = β dR, and dβ as far as it is the sum of dR ∘ (V − e^G K S)
    float o[HEAD / 8][4] = {}, dots[2] = {}, changes[2] = {};
    through_state<false>(o, tileK, warp * 16, tileS);
    scale_rows(o, keyScale * __expf(sums[low]), keyScale * __expf(sums[high]));
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int row = row_of(e), column = column_of(j, e);
        const float dError = to_float(tileR[row * PITCH + column]), value = element(v, e, column, s.valueWidth, s.valuePitch);
        changes[e >> 1] += dError * (value - o[j][e]);
        dots[e >> 1] -= betas[row] * dError * o[j][e];
        o[j][e] = betas[row] * dError;
      }
    add_rows(slopes, dots[0], dots[1]);
    add_rows(strengths, changes[0], changes[1]);
    store_rows(o, dv, s, batch, head, first, s.valueWidth, s.valuePitch);
  }
  // dK, first as the keys read S: − e^G dV Sᵀ.
  float o[HEAD / 8][4] = {};
  through_state<true>(o, tileR, warp * 16, tileS);
  scale_rows(o, -keyScale * betas[low] * __expf(sums[low]), -keyScale * betas[high] * __expf(sums[high]));
  float carried = 0.0f;  // ⟨dS', S⟩
  for (int i = threadIdx.x; i < HEAD * HEAD; i += THREADS) carried += to_float(before[i]) * to_float(dAfter[i]);
  carried = block_sum(carried);
  __syncthreads();
  load_state(tileS, dAfter);
  __syncthreads();
  {  // As they write S': e^{G_C−G} N dS'ᵀ.
    float x[HEAD / 8][4] = {}, dots[2] = {};
    through_state<true>(x, tileN, warp * 16, tileS);
    scale_rows(x, keyScale * __expf(end - sums[low]), keyScale * __expf(end - sums[high]));
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        o[j][e] += x[j][e];
        dots[e >> 1] += x[j][e] * to_float(tileK[row_of(e) * PITCH + column_of(j, e)]);
      }
    add_rows(written, dots[0], dots[1]);
  }
  {  // As they overlap with the keys before and after them: dA = − dR Nᵀ below the diagonal.
    float overlaps[ROWS / 8][4], dots[2] = {}, changes[2] = {};
    score<HEAD>(overlaps, tileK, warp * 16, tileK);
    score<HEAD>(p, tileR, warp * 16, tileN);
#pragma unroll
    for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int row = row_of(e), column = column_of(j, e);
        const float slope = column < row ? -p[j][e] * squared * __expf(sums[row] - sums[column]) : 0.0f;
        p[j][e] = betas[row] * slope;
        overlaps[j][e] *= slope;
        changes[e >> 1] += overlaps[j][e];
        overlaps[j][e] *= betas[row];
        dots[e >> 1] += overlaps[j][e];
      }
    add_rows(strengths, changes[0], changes[1]);
    add_rows(slopes, dots[0], dots[1]);
    store_columns(overlaps, overlapped[warp]);
    accumulate(o, p, tileK);
    score<HEAD>(p, tileN, warp * 16, tileR);
#pragma unroll
    for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int row = row_of(e), column = column_of(j, e);
        p[j][e] = column > row ? -p[j][e] * squared * betas[column] * __expf(sums[column] - sums[row]) : 0.0f;
      }
    accumulate(o, p, tileK);
  }
  scalar* tileQ = tileR;
  __syncthreads();
  load_tile(tileQ, q, s, batch, head, 1, first, s.keyWidth, s.keyPitch);
  __syncthreads();
  {  // As queries ask for them: (dO Nᵀ ∘ D)ᵀ Q.
    float answers[ROWS / 8][4], dots[2] = {};
    score<HEAD>(answers, tileK, warp * 16, tileQ);
    score<HEAD>(p, tileN, warp * 16, tileO);
    apply_decay(p, sums, 0, 0, true, queryScale * keyScale);
    accumulate(o, p, tileQ);
#pragma unroll
    for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        answers[j][e] *= p[j][e];
        dots[e >> 1] -= answers[j][e];
      }
    add_rows(slopes, dots[0], dots[1]);
    store_columns(answers, asked[warp]);
  }
  store_rows(o, dk, s, batch, head, first, s.keyWidth, s.keyPitch);
  __syncthreads();
  for (int i = threadIdx.x; i < CHUNK; i += THREADS)
    for (int w = 0; w < THREADS / 32; w++) slopes[i] += asked[w][i] - overlapped[w][i];
  __syncthreads();
  for (int i = threadIdx.x; i < CHUNK && first + i < s.time; i += THREADS) {
    float sum = __expf(end) * carried;
    for (int j = 0; j < CHUNK; j++) sum += j < i ? written[j] : slopes[j];
    const i64 place = ((i64)batch * s.time + first + i) * s.heads + head;
    dDecay[place] = sum;
    dBeta[place] = strengths[i];
  }
}
