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

DEVICE Packed from_partner(const Packed& given, int apart) {
  Packed taken;
#pragma unroll
  for (int i = 0; i < 4; i++)
    taken.words[i] = __float_as_uint(__shfl_xor_sync(0xffffffffu, __uint_as_float(given.words[i]), apart));
  return taken;
}

// Halves of less than 128 bytes, a power of two of packs: read as halves they would be parts of lines. Neighbouring threads take
// the packs of a head as they lie. Of two heads the thread of a pack of the first half turns one, the thread of the pack that
// belongs to it turns the other; before and after they exchange what the other needs.
KERNEL __launch_bounds__(256, 4) rotary_half_narrow(const Turned turned, const double* frequencies, const int* positions, const int* origin,
                          int start, i64 rows, int batch, int width, int each, float direction) {
  griddep_launch_dependents();
  const int columns = width / WIDTH, half = columns / 2;
  const u32 thread = global_thread(), row = thread / columns, column = thread % columns;
  const bool second = blockIdx.z == 1, high = column >= half, valid = row < rows;  // the others stay for the shuffles
  const int heads = (int)(second ? turned.heads[1] : turned.heads[0]);
  const int first = blockIdx.y * each, last = min(first + each, batch * heads);
  const int position = positions && valid ? positions[row] : moving(origin, start) + (int)row;
  float cosine[WIDTH], sine[WIDTH];
#pragma unroll
  for (int i = 0; i < WIDTH / 2; i++) {  // half of the phases each
    const Phase phase = phase_of(position, frequencies[column % half * WIDTH + (high ? WIDTH / 2 : 0) + i]);
    const float c = __shfl_xor_sync(0xffffffffu, phase.cosine, half), s = __shfl_xor_sync(0xffffffffu, phase.sine, half);
    cosine[i] = high ? c : phase.cosine;
    cosine[i + WIDTH / 2] = high ? phase.cosine : c;
    sine[i] = direction * (high ? s : phase.sine);
    sine[i + WIDTH / 2] = direction * (high ? phase.sine : s);
  }
  griddep_wait();
  const int head = first % heads;
  const i64 sequence = rows * heads * width, skipped = sequence - (i64)heads * width;
  i64 at = first / heads * sequence + ((i64)row * heads + head) * width + column * WIDTH;
  int left = heads - head;
  const scalar* from = second ? turned.x[1] : turned.x[0];
  scalar* to = second ? turned.y[1] : turned.y[0];
  for (int unit = first; unit < last; unit += AHEAD) {
    Packed x[AHEAD];
    i64 place[AHEAD];
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
      place[j] = at;
      x[j] = valid && unit + j < last ? *(const Packed*)(from + at) : Packed();
      at += width;
      if (--left == 0) at += skipped, left = heads;
    }
#pragma unroll
    for (int j = 0; j < AHEAD; j += 2) {
      if (unit + j >= last) break;
      const Packed own = high ? x[j + 1] : x[j], taken = from_partner(high ? x[j] : x[j + 1], half);
      const Packed a = high ? taken : own, b = high ? own : taken;
      float y[2][WIDTH];
#pragma unroll
      for (int i = 0; i < WIDTH; i++) {
        const float p = value_of(a, i), q = value_of(b, i);
        y[0][i] = p * cosine[i] - q * sine[i];
        y[1][i] = q * cosine[i] + p * sine[i];
      }
      const Packed low = packed(y[0]), top = packed(y[1]);
      const Packed kept = high ? top : low, back = from_partner(high ? low : top, half);
      if (valid) *(Packed*)(to + place[j]) = high ? back : kept;
      if (valid && unit + j + 1 < last) *(Packed*)(to + place[j + 1]) = high ? kept : back;
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
