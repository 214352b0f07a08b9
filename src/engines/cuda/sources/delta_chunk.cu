// The gated delta rule, chunkwise on tensor cores (Yang et al., arXiv 2412.06464, section 3.3), with a float32 state. With G the sum
// of log decays since the chunk's start, inclusive, and S the state before it, position i writes n_i to its key, where
//   N = T β (V - e^G K S),   T = (I + A)⁻¹,   A_ij = β_i (k_i · k_j) e^{G_i−G_j} below the diagonal;
// then O = e^G Q S + ((Q Kᵀ) ∘ D) N and S' = e^{G_C} S + (e^{G_C−G} K)ᵀ N. Two passes: what does not depend on the state, T β V
// and T β e^G K (chunks in parallel, T in float32), and the chunks of a head one after the other.
#include "delta_chunk.cuh"

// targets = T β V and readers = T β e^G K of a chunk, [rows, width] in storage, widths of HEAD and of whole blocks of HEAD. Grid
// (chunks, heads, batch).
KERNEL __launch_bounds__(THREADS) delta_solve(const scalar* k, const scalar* v, const float* logDecay, const float* beta,
                                              scalar* readers, scalar* targets, const Shape s, float keyScale) {
  scalar *tileK = tiles, *tileV = tileK + ROWS * PITCH;
  float* inverse = (float*)(tileV + ROWS * PITCH);
  __shared__ float sums[CHUNK], betas[CHUNK];
  const int chunk = blockIdx.x, head = blockIdx.y, batch = blockIdx.z, first = chunk * CHUNK;
  const i64 at = (((i64)batch * s.heads + head) * s.chunks + chunk) * CHUNK;
  load_tile(tileK, k, s, batch, head, 1, first, s.keyWidth, s.keyPitch);
  load_betas(betas, beta, s, batch, head, first);
  sum_decays(sums, logDecay, s, batch, head, first);
  solve_chunk(inverse, tileK, sums, betas, keyScale);
  through_inverse<false>(inverse, tileK, readers + at * HEAD, HEAD,
                         [&](int i) { return betas[i] * keyScale * __expf(sums[i]); });
  const int width = (s.valueWidth + HEAD - 1) / HEAD * HEAD;
  for (int offset = 0; offset < width; offset += HEAD) {
    __syncthreads();
    load_tile(tileV, v + offset, s, batch, head, 1, first, min(HEAD, s.valueWidth - offset), s.valuePitch);
    __syncthreads();
    through_inverse<false>(inverse, tileV, targets + at * width + offset, width, [&](int i) { return betas[i]; });
  }
}

// Grid (blocks of VALUES columns, heads, batch). `state` may be null (zeros).
KERNEL __launch_bounds__(THREADS) delta_chunks(const scalar* q, const scalar* k, const float* logDecay, const scalar* readers,
                                               scalar* targets, const float* state, scalar* out, float* last, const Shape s,
                                               float queryScale, float keyScale) {
  Passed x = {};
  x.q = q, x.k = k, x.logDecay = logDecay, x.readers = readers, x.targets = targets, x.first = state;
  x.out = out, x.last = last, x.queryScale = queryScale, x.keyScale = keyScale;
  pass_over_chunks<OUTPUTS>(x, s);
}
