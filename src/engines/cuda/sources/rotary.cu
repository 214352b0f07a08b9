// Rotary position embedding of x [B,T,H,D]. A thread has the phases of a few neighbouring pairs at one position in registers, and
// turns those pairs of several heads and sequences by them, with four packs of each in flight.
#include "common.cuh"

#define AHEAD 4  // packs, or pairs of packs, in flight

// One or two tensors of the same positions and width: queries and keys. Grid (threads, parts of the heads, tensors).
struct Turned {
  const scalar* x[2];
  scalar* y[2];
  i64 heads[2];
};
// One pair at a time where 16 bytes are not whole pairs.
struct One {
  scalar v;
};
DEVICE float value_of(const One& p, int) { return to_float(p.v); }
DEVICE void put(One& to, const float (&x)[1]) { to.v = from_float(x[0]); }
DEVICE void put(Packed& to, const float (&x)[WIDTH]) { to = packed(x); }

// SIZE pairs in two loads of as many values, or (NEIGHBOURS) half as many pairs in one. There are `rows` positions of `batch`
// sequences each: T and B, or all B·T and one where `positions` are given. A thread takes `each` heads, counted over the sequences.
template <typename T, int SIZE, bool HALF>
DEVICE void rotate(const Turned& turned, const double* frequencies, const int* positions, const int* origin, int start,
                   i64 rows, int batch, int width, int each, float direction) {
  constexpr bool NEIGHBOURS = !HALF && SIZE > 1;
  constexpr int PAIRS = NEIGHBOURS ? SIZE / 2 : SIZE, LOADS = NEIGHBOURS ? 1 : 2;
  griddep_launch_dependents();
  const int columns = width / 2 / PAIRS;
  const u32 thread = global_thread(), row = thread / columns, column = thread % columns;
  const bool second = blockIdx.z == 1;
  const int heads = (int)(second ? turned.heads[1] : turned.heads[0]);
  const int first = blockIdx.y * each, last = min(first + each, batch * heads);
  // While the kernel before ends: nothing that it writes is read yet.
  const int position = positions && row < rows ? positions[row] : moving(origin, start) + (int)row;
  float cosine[PAIRS], sine[PAIRS];
#pragma unroll
  for (int i = 0; i < PAIRS; i++) {
    const Phase phase = phase_of(position, frequencies[column * PAIRS + i]);
    cosine[i] = phase.cosine;
    sine[i] = direction * phase.sine;
  }
  griddep_wait();
  if (row >= rows) return;
  const int head = first % heads;
  const i64 sequence = rows * heads * width, skipped = sequence - (i64)heads * width;
  // The place of what is read next, and how many heads of its sequence are left.
  i64 at = first / heads * sequence + ((i64)row * heads + head) * width + column * (HALF ? PAIRS : 2 * PAIRS);
  int left = heads - head;
  const i64 apart = HALF ? width / 2 : SIZE;  // from one load to the other
  const scalar* from = second ? turned.x[1] : turned.x[0];
  scalar* to = second ? turned.y[1] : turned.y[0];
  for (int unit = first; unit < last; unit += AHEAD) {
    T x[AHEAD][LOADS];
    i64 place[AHEAD];
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
      place[j] = at;
#pragma unroll
      for (int n = 0; n < LOADS; n++)
        if (unit + j < last) x[j][n] = *(const T*)(from + at + n * apart);
      at += width;
      if (--left == 0) at += skipped, left = heads;
    }
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
      if (unit + j >= last) break;
      float y[LOADS][SIZE];
#pragma unroll
      for (int i = 0; i < PAIRS; i++) {
        const int a = NEIGHBOURS ? 2 * i : i, b = NEIGHBOURS ? a + 1 : i;
        const float p = value_of(x[j][0], a), q = value_of(x[j][LOADS - 1], b);
        y[0][a] = p * cosine[i] - q * sine[i];
        y[LOADS - 1][b] = q * cosine[i] + p * sine[i];
      }
#pragma unroll
      for (int n = 0; n < LOADS; n++) put(*(T*)(to + place[j] + n * apart), y[n]);
    }
  }
}

KERNEL rotary_interleaved(const Turned turned, const double* frequencies, const int* positions, const int* origin,
                          int start, i64 rows, int batch, int width, int each, float direction) {
  rotate<Packed, WIDTH, false>(turned, frequencies, positions, origin, start, rows, batch, width, each, direction);
}
KERNEL rotary_half(const Turned turned, const double* frequencies, const int* positions, const int* origin,
                   int start, i64 rows, int batch, int width, int each, float direction) {
  rotate<Packed, WIDTH, true>(turned, frequencies, positions, origin, start, rows, batch, width, each, direction);
}
KERNEL rotary_interleaved_any(const Turned turned, const double* frequencies, const int* positions, const int* origin,
                              int start, i64 rows, int batch, int width, int each, float direction) {
  rotate<One, 1, false>(turned, frequencies, positions, origin, start, rows, batch, width, each, direction);
}
KERNEL rotary_half_any(const Turned turned, const double* frequencies, const int* positions, const int* origin,
                       int start, i64 rows, int batch, int width, int each, float direction) {
  rotate<One, 1, true>(turned, frequencies, positions, origin, start, rows, batch, width, each, direction);
}
