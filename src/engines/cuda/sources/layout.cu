// Moving elements without changing them: transpose, slice, concat, pad, tile, reverse, gather and their kin.
#include "common.cuh"

struct Walk {
  i64 shape[RANK];
  i64 source[RANK];
  i64 destination[RANK];
};

// destination[Σ i·destinationStride] = source[Σ i·sourceStride] over all indices of `shape`.
template <typename T>
DEVICE void copy(const T* source, T* destination, i64 size, int rank, const Walk& walk) {
  for (i64 i = global_thread(); i < size; i += global_threads()) {
    i64 from = 0, to = 0, rest = i;
    for (int axis = rank - 1; axis >= 0; axis--) {
      const i64 extent = walk.shape[axis];
      const i64 at = rest % extent;
      rest /= extent;
      from += at * walk.source[axis];
      to += at * walk.destination[axis];
    }
    destination[to] = source[from];
  }
}
#define COPY(bytes, T)                                                                                      \
  KERNEL copy##bytes(const T* source, T* destination, i64 size, int rank, const Walk walk) {                \
    copy(source, destination, size, rank, walk);                                                            \
  }
struct alignas(16) Quad {
  u32 v[4];
};
COPY(1, u8)
COPY(2, u16)
COPY(4, u32)
COPY(8, u64)
COPY(16, Quad)

// Rows of `inner` elements picked by index; outer × indices × inner. An index outside the axis gives zeros.
template <typename T>
DEVICE void gather(const T* x, const int* indices, T* out, i64 size, int axis, i64 count, i64 inner) {
  for (i64 i = global_thread(); i < size; i += global_threads()) {
    const i64 column = i % inner, pick = i / inner % count, outer = i / (inner * count);
    const int index = indices[pick];
    T value = {};
    if (index >= 0 && index < axis) value = x[(outer * axis + index) * inner + column];
    out[i] = value;
  }
}
#define GATHER(bytes, T)                                                                                    \
  KERNEL gather##bytes(const T* x, const int* indices, T* out, i64 size, int axis, i64 count, i64 inner) {  \
    gather(x, indices, out, size, axis, count, inner);                                                      \
  }
GATHER(1, u8)
GATHER(2, u16)
GATHER(4, u32)

// sums[index[row]] += row; float32 sums, so that many rows of one index lose nothing.
KERNEL scatter_add(const scalar* rows, const int* indices, float* sums, i64 size, i64 inner, int segments) {
  for (i64 i = global_thread(); i < size; i += global_threads()) {
    const int index = indices[i / inner];
    if (index >= 0 && index < segments)
      atomicAdd(&sums[(i64)index * inner + i % inner], to_float(rows[i]));
  }
}

KERNEL one_hot(const int* indices, scalar* out, i64 size, int depth, float on, float off) {
  for (i64 i = global_thread(); i < size; i += global_threads())
    out[i] = from_float(indices[i / depth] == (int)(i % depth) ? on : off);
}
