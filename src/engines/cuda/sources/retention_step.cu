// Gated retention of a few positions by the recurrence itself, S' = e^g S + scale kᵀ v and o = q S', for all key columns, in one
// launch: it can rotate q and k and take the decay from the gate's logits. As the state-space layer of Mamba-2 it takes both the
// decay and a factor of v from the logits of a step. HEAD: key width rounded up to 32, 64, 128, 256.
#include "common.cuh"

#ifndef HEAD
#define HEAD 128
#endif
#define THREADS (COLUMNS * PARTS)

struct Shape {
  int time, heads, keyWidth, valueWidth;
  int group;      // heads of values that share a query and a key
  float scale;    // Dk^-½; 1 of a state space
  float inverse;  // of the gate's normalizer
};

// Pairs of q and k are turned as in rotary.cu, by no angle where `frequencies` is null. Either `logDecay` is given or `gate`, whose
// log sigmoid · inverse it is; or, of a state space, whose softplus(gate + bias) is the step Δ: then the decay is e^(-Δ e^aLog), v
// counts Δ times and skip · v is added to the output. `first` may be null (zeros), and `last` may be
// `first`: every element is read and written by one thread. A state is `settled` if no kernel ahead of this one in a recorded
// step writes it. Then what wrote it, this kernel or a copy at the step's end, belonged to an earlier launch of the graph;
// launches of a stream do not overlap, so that it can be read while the kernel before this one still runs. Grid
// (columns / 32, heads, batch).
KERNEL __launch_bounds__(THREADS) retention_step(const scalar* q, const scalar* k, const scalar* v, const float* logDecay,
                                                 const scalar* gate, const float* first, scalar* out, float* last,
                                                 const Shape s, const double* frequencies, const int* origin, int start,
                                                 int half, const float* bias, const float* aLog, const float* skip,
                                                 int settled) {
  __shared__ float turned[2][HEAD], partial[PARTS][COLUMNS];  // q and k of a position
  constexpr int MINE = HEAD / PARTS;
  const int lane = threadIdx.x & 31, part = threadIdx.x >> 5;
  const int head = blockIdx.y, batch = blockIdx.z, column = blockIdx.x * COLUMNS + lane;
  const bool inside = column < s.valueWidth;
  const i64 corner = ((i64)batch * s.heads + head) * s.keyWidth * s.valueWidth + column;
  float state[MINE];
  const auto load_state = [&] {
#pragma unroll
    for (int i = 0; i < MINE; i++) {
      const int row = part * MINE + i;
      state[i] = first && inside && row < s.keyWidth ? first[corner + (i64)row * s.valueWidth] : 0.0f;
    }
  };
  // A thread turns one pair of q or of k.
  const int tensor = threadIdx.x / (HEAD / 2), pair = threadIdx.x % (HEAD / 2);
  const int a = half ? pair : 2 * pair, b = half ? pair + s.keyWidth / 2 : a + 1;
  const bool turns = tensor < 2 && a < (half ? s.keyWidth / 2 : s.keyWidth);
  Phase phase = {1.0f, 0.0f};
  const auto know_phase = [&](int t) {
    if (turns && frequencies) phase = phase_of(moving(origin, start) + t, frequencies[pair]);
  };
  griddep_launch_dependents();
  if (settled) load_state();
  know_phase(0);
  for (int i = threadIdx.x; i < 2 * HEAD; i += THREADS) turned[i / HEAD][i % HEAD] = 0.0f;
  __syncthreads();
  griddep_wait();
  if (!settled) load_state();
  for (int t = 0; t < s.time; t++) {
    const i64 at = ((i64)batch * s.time + t) * s.heads + head;
    if (turns) {
      const i64 shared = ((i64)batch * s.time + t) * (s.heads / s.group) + head / s.group;
      const scalar* x = (tensor == 0 ? q : k) + shared * s.keyWidth;
      const float p = to_float(x[a]), n = b < s.keyWidth ? to_float(x[b]) : 0.0f;
      turned[tensor][a] = p * phase.cosine - n * phase.sine;
      if (b < s.keyWidth) turned[tensor][b] = n * phase.cosine + p * phase.sine;
    }
    const float step = bias ? -log_sigmoid(-to_float(gate[at]) - bias[head]) : 1.0f;
    const float decay = bias ? __expf(-step * __expf(aLog[head]))
                             : __expf(gate ? log_sigmoid(to_float(gate[at])) * s.inverse : logDecay[at]);
    const float given = inside ? to_float(v[at * s.valueWidth + column]) : 0.0f, value = given * s.scale * step;
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < MINE; i++) {
      const int row = part * MINE + i;
      state[i] = decay * state[i] + turned[1][row] * value;
      sum += turned[0][row] * state[i];
    }
    partial[part][lane] = sum;
    __syncthreads();
    if (part == 0 && inside) {
#pragma unroll
      for (int other = 1; other < PARTS; other++) sum += partial[other][lane];
      if (skip) sum += skip[head] * given;
      out[at * s.valueWidth + column] = from_float(sum);
    }
    if (t + 1 < s.time) know_phase(t + 1);
  }
#pragma unroll
  for (int i = 0; i < MINE; i++) {
    const int row = part * MINE + i;
    if (inside && row < s.keyWidth) last[corner + (i64)row * s.valueWidth] = state[i];
  }
}
