// New keys and values into a page: page[b,h,position+t,:] = rows[b,start+t,h,:] of both. In a recorded step the position begins
// again behind the end of the page, which is a ring then.
#include "common.cuh"

// In packs of 16 bytes or element by element, `width` of them a row. Grid (blocks, 2).
template <typename T>
struct Written {
  T* page[2];
  const T* rows[2];
};
template <typename T>
DEVICE void write_page(const Written<T>& w, i64 size, int heads, int width, int pageSize, int time, int position,
                       int start, int count) {
  T* page = blockIdx.y ? w.page[1] : w.page[0];
  const T* rows = blockIdx.y ? w.rows[1] : w.rows[0];
  for (i64 i = global_thread(); i < size; i += global_threads()) {
    const int column = i % width;
    const i64 rest = i / width;
    const int head = rest % heads, t = rest / heads % count;
    const i64 b = rest / ((i64)heads * count);
    page[((b * heads + head) * pageSize + position + t) * width + column] =
        rows[((b * time + start + t) * heads + head) * width + column];
  }
}
KERNEL page_write(const Written<scalar> w, i64 size, int heads, int width, int pageSize, int time, const int* origin,
                  int position, int start, int count) {
  griddep_sync();
  write_page(w, size, heads, width, pageSize, time, moving(origin, position) % pageSize, start, count);
}
KERNEL page_write_wide(const Written<Wide> w, i64 size, int heads, int width, int pageSize, int time, const int* origin,
                       int position, int start, int count) {
  griddep_sync();
  write_page(w, size, heads, width, pageSize, time, moving(origin, position) % pageSize, start, count);
}

// With keys turned as in rotary.cu; key t is at `turnedStart` + t. A thread takes a pair of the keys and the elements of the
// values that are in their place.
KERNEL page_write_rotated(const Written<scalar> w, i64 size, int heads, int pairs, int pageSize, int time,
                          const int* origin, int position, int start, int count, const double* frequencies,
                          const int* turnedOrigin, int turnedStart, int half) {
  griddep_launch_dependents();
  const i64 i = global_thread(), rest = i / pairs, width = 2 * pairs;
  const int pair = i % pairs, head = rest % heads, t = rest / heads % count;
  const i64 batch = rest / ((i64)heads * count);
  const Phase phase = phase_of(moving(turnedOrigin, turnedStart) + start + t, frequencies[pair]);
  const i64 from = ((batch * time + start + t) * heads + head) * width;
  const i64 to = ((batch * heads + head) * pageSize + moving(origin, position) % pageSize + t) * width;
  const int a = half ? pair : 2 * pair, b = half ? pair + pairs : a + 1;
  griddep_wait();
  if (i >= size) return;
  const float p = to_float(w.rows[0][from + a]), q = to_float(w.rows[0][from + b]);
  w.page[0][to + a] = from_float(p * phase.cosine - q * phase.sine);
  w.page[0][to + b] = from_float(q * phase.cosine + p * phase.sine);
  w.page[1][to + a] = w.rows[1][from + a];
  w.page[1][to + b] = w.rows[1][from + b];
}
