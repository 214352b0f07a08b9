// Gated retention on the emulated Hopper against its definition, as `kernels/retention-hopper.ts` launches it: see retention.h.
#include "common.cuh"
#include "hopper.cuh"

// Tiles of 64 columns and of 128.
#undef HEAD
#define HEAD 64
namespace narrow {
#include "retention_hopper.cu"
}
#undef HEAD
#define HEAD 128
namespace wide {
#include "retention_hopper.cu"
}
namespace walk {
#include "retention_hopper_states.cu"
}
namespace backward {
#include "retention_grad.cu"
}
#include "retention.h"

// Of [1, positions, heads, width].
static TensorMap rows(const Scalars& x, int heads, int width, int box) {
  const i64 positions = x.size() / heads / width;
  return tensor_map({x.data(), {width, positions, heads, 1}, {1, heads * width, width, positions * heads * width}, box});
}

static int columns_of(int width) { return width % 128 ? 64 : 128; }

template <typename Shape>
static Shape shape_of(const Case& c) {
  const float scale = 1 / std::sqrt((float)c.keys);
  return {c.time, HEADS, c.keys, c.values, (c.time + 127) / 128, c.keys, c.values, c.group, scale};
}

static Results compute(const Case& c) {
  const int chunk = 128, chunks = (c.time + chunk - 1) / chunk, multiprocessors = 3;
  const size_t count = (size_t)c.time * HEADS;
  const scalar poison = {0xffff};
  const int groups = HEADS / c.group, keyBlocks = c.keys / columns_of(c.keys), size = c.keys * c.values;
  Floats last(c.state.size(), NAN), dFirst(c.state.size(), NAN), dDecay(count, NAN);
  Floats queryDots(count * keyBlocks, NAN), keyDots(count * keyBlocks, NAN);
  Scalars out(c.v.size(), poison), dv = out, dq(count * c.keys, poison), dk = dq;
  Scalars states((size_t)HEADS * chunks * size, poison);
  const TensorMap q = rows(c.q, groups, c.keys, chunk), k = rows(c.k, groups, c.keys, chunk);
  const TensorMap v = rows(c.v, HEADS, c.values, chunk), dOut = rows(c.dOut, HEADS, c.values, chunk);
  const auto states_map = [&](int box) {
    return tensor_map({states.data(), {c.values, c.keys, chunks, HEADS}, {1, c.values, size, chunks * size}, box});
  };
  const TensorMap m = states_map(64), written = states_map(16);
  const float* g = c.decay.data();
  const auto scan = [&](const TensorMap& a, const TensorMap& b, const Floats& first, Floats& end, int back) {
    // Two warpgroups a block where the rows allow it.
    const int warpgroups = c.keys % 128 ? 1 : 2, units = HEADS * c.keys / 64 / warpgroups * c.values / 64;
    const walk::Walk w = {warpgroups, warpgroups == 1 ? 6 : 4, units, back};
    launch({min(units, multiprocessors), 1, 1}, 128 * warpgroups + 128, [&] {
      walk::retention_hopper_states(a, b, written, g, first.data(), end.data(), shape_of<walk::Shape>(c), w);
    });
  };
  // A pass over rows, by the kernel of that name for the width of what is written.
#define PASS(name, a, b, c_, to, width, dotted, dots)                                                             \
  {                                                                                                                      \
    const int tiles = HEADS * chunks * width / columns_of(width);                                                        \
    const TensorMap result = rows(to, HEADS, width, 16);                                                                 \
    launch({min(tiles, multiprocessors), 1, 1}, 384, [&] {                                                               \
      if (columns_of(width) == 64)                                                                                       \
        narrow::retention_hopper_##name(a, b, c_, m, result, dotted, g, dots, tiles, shape_of<narrow::Shape>(c));        \
      else wide::retention_hopper_##name(a, b, c_, m, result, dotted, g, dots, tiles, shape_of<wide::Shape>(c));         \
    });                                                                                                                  \
  }
  scan(k, v, c.state, last, 0);
  PASS(output, q, k, v, out, c.values, q, nullptr);
  scan(k, v, c.state, dFirst, 0);
  PASS(query, dOut, v, k, dq, c.keys, q, queryDots.data());
  scan(q, dOut, c.dState, dFirst, 1);
  PASS(key, v, dOut, q, dk, c.keys, k, keyDots.data());
  PASS(value, k, q, dOut, dv, c.values, q, nullptr);
  launch({HEADS, 1, 1}, 1024, [&] {
    backward::retention_grad_decay(queryDots.data(), keyDots.data(), last.data(), c.dState.data(), dDecay.data(),
                                   shape_of<backward::Shape>(c), keyBlocks);
  });
  Results r;
  add(r.out, out), add(r.dq, dq), add(r.dk, dk), add(r.dv, dv), add(r.last, last), add(r.dState, dFirst), add(r.dDecay, dDecay);
  return r;
}
