// Rotary position embedding of x [B,T,H,D]. A block takes one position: the D/2 phases are computed once and
// shared by all heads.
#include "common.cuh"

#define KEPT 4  // packs a thread loads before the phases are known

// Neighbouring pairs of a pack by the (cos, sin) at `table`.
DEVICE void turn(Wide& a, const float* table) {
#pragma unroll
  for (int j = 0; j < WIDTH; j += 2) {
    const float p = to_float(a.v[j]), q = to_float(a.v[j + 1]), c = table[j], s = table[j + 1];
    a.v[j] = from_float(p * c - q * s);
    a.v[j + 1] = from_float(q * c + p * s);
  }
}

// One or two tensors of the same positions and width: queries and keys. Grid (rows, tensors).
struct Turned {
  const scalar* x[2];
  scalar* y[2];
  i64 heads[2];
};

template <bool HALF>
DEVICE void rotate(const Turned turned, const double* frequencies, const int* positions, const int* origin, int start,
                   int time, int width, float direction) {
  extern __shared__ float table[];  // cos, sin of each pair
  const int pairs = width / 2;
  const i64 row = blockIdx.x;
  const bool second = blockIdx.y == 1;
  const int heads = (int)(second ? turned.heads[1] : turned.heads[0]);
  const scalar* from = (second ? turned.x[1] : turned.x[0]) + row * heads * width;
  scalar* to = (second ? turned.y[1] : turned.y[0]) + row * heads * width;
  const int unit = WIDTH / 2;  // pairs that one thread turns at a time
  const auto know_phases = [&] {
    const int position = positions ? positions[row] : moving(origin, start) + (int)(row % time);
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
      const Phase phase = phase_of(position, frequencies[i]);
      table[2 * i] = phase.cosine;
      table[2 * i + 1] = direction * phase.sine;
    }
  };
  // In a recorded step while the kernel before ends; elsewhere while x is on its way.
  griddep_launch_dependents();
  if (origin) know_phases();
  griddep_wait();
  Wide kept[KEPT];
  if (!HALF && pairs % unit == 0) {
#pragma unroll
    for (int j = 0; j < KEPT; j++) {
      const int i = threadIdx.x + j * blockDim.x;
      if (i < heads * pairs / unit) kept[j] = ((const Wide*)from)[i];
    }
  }
  if (!origin) know_phases();
  __syncthreads();
  if (pairs % (HALF ? WIDTH : unit) != 0) {
    for (int i = threadIdx.x; i < heads * pairs; i += blockDim.x) {
      const int head = i / pairs, pair = i % pairs;
      const int a = head * width + (HALF ? pair : 2 * pair), b = HALF ? a + pairs : a + 1;
      const float p = to_float(from[a]), q = to_float(from[b]), c = table[2 * pair], s = table[2 * pair + 1];
      to[a] = from_float(p * c - q * s);
      to[b] = from_float(q * c + p * s);
    }
    return;
  }
  if (HALF) {
    const int packs = pairs / WIDTH;
    for (int i = threadIdx.x; i < heads * packs; i += blockDim.x) {
      const int head = i / packs, pack = i % packs;
      const int at = head * packs * 2 + pack;
      Wide a = ((const Wide*)from)[at], b = ((const Wide*)from)[at + packs];
#pragma unroll
      for (int j = 0; j < WIDTH; j++) {
        const float p = to_float(a.v[j]), q = to_float(b.v[j]);
        const float c = table[2 * (pack * WIDTH + j)], s = table[2 * (pack * WIDTH + j) + 1];
        a.v[j] = from_float(p * c - q * s);
        b.v[j] = from_float(q * c + p * s);
      }
      ((Wide*)to)[at] = a;
      ((Wide*)to)[at + packs] = b;
    }
  } else {
    const int packs = pairs / unit;
#pragma unroll
    for (int j = 0; j < KEPT; j++) {
      const int i = threadIdx.x + j * blockDim.x;
      if (i < heads * packs) turn(kept[j], table + i % packs * WIDTH), ((Wide*)to)[i] = kept[j];
    }
    for (int i = threadIdx.x + KEPT * blockDim.x; i < heads * packs; i += blockDim.x) {
      Wide a = ((const Wide*)from)[i];
      turn(a, table + i % packs * WIDTH);
      ((Wide*)to)[i] = a;
    }
  }
}
KERNEL rotary_interleaved(const Turned turned, const double* frequencies, const int* positions, const int* origin,
                          int start, int time, int width, float direction) {
  rotate<false>(turned, frequencies, positions, origin, start, time, width, direction);
}
KERNEL rotary_half(const Turned turned, const double* frequencies, const int* positions, const int* origin, int start,
                   int time, int width, float direction) {
  rotate<true>(turned, frequencies, positions, origin, start, time, width, direction);
}
