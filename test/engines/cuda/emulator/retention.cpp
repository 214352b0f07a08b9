// Gated retention on the emulator against its definition, heads cut into blocks as `kernels/retention.ts` cuts them: see retention.h.
#include "common.cuh"

namespace forward {
#include "retention.cu"
}
namespace backward {
#include "retention_grad.cu"
}

#include "retention.h"

// A block of key columns against one of value columns, of `width` columns at most.
template <typename Shape>
static Shape shape_of(const Case& c, int chunks, int width, int key, int value) {
  return {c.time, HEADS,  min(width, c.keys - key), min(width, c.values - value),
          chunks, c.keys, c.values,                 c.group, 1 / std::sqrt((float)c.keys)};
}

static Results compute(const Case& c) {
  const int block = 128, chunks = (c.time + CHUNK - 1) / CHUNK, tiles = (c.time + ROWS - 1) / ROWS;
  const size_t rows = (size_t)c.time * HEADS, unit = (size_t)HEADS * chunks * HEAD * HEAD;
  const scalar poison = {0xffff};
  Results r;
  Floats last(c.state.size(), NAN), dFirst(c.state.size(), NAN);
  const int keyBlocks = (c.keys + block - 1) / block, valueBlocks = (c.values + block - 1) / block;
  std::vector<Scalars> outs(keyBlocks, Scalars(c.v.size(), poison)), dvs = outs;
  std::vector<Scalars> dqs(valueBlocks, Scalars(rows * c.keys, poison)), dks = dqs;
  for (int a = 0; a < keyBlocks; a++) {
    for (int b = 0; b < valueBlocks; b++) {
      const int key = a * block, value = b * block;
      const auto s = shape_of<forward::Shape>(c, chunks, block, key, value);
      const auto gradShape = shape_of<backward::Shape>(c, chunks, block, key, value);
      const size_t corner = (size_t)key * c.values + value;
      const scalar *q = c.q.data() + key, *k = c.k.data() + key, *v = c.v.data() + value, *dOut = c.dOut.data() + value;
      const float* g = c.decay.data();
      Floats contributions(unit, NAN), decays(HEADS * chunks, NAN), queryDots(rows, NAN), keyDots(rows, NAN), dDecay(rows, NAN);
      Scalars states(unit, poison);
      auto scan = [&](const scalar* x, const scalar* y, const float* first, float* end, int backward) {
        launch({chunks, HEADS, 1}, 128,
               [&] { forward::retention_contribution(x, y, g, contributions.data(), decays.data(), s, backward); });
        launch({HEAD * HEAD / 256, HEADS, 1}, 256, [&] {
          forward::retention_recurrence(contributions.data(), decays.data(), first, states.data(), end, s, backward);
        });
      };
      const float* first = c.state.data() + corner;
      scalar* out = outs[a].data() + value;
      scan(k, v, first, last.data() + corner, 0);
      launch({tiles, HEADS, 1}, 128, [&] { forward::retention_output(q, k, v, g, states.data(), out, s); });
      scan(k, v, first, dFirst.data() + corner, 0);
      launch({tiles, HEADS, 1}, 128, [&] {
        backward::retention_grad_query(dOut, q, k, v, g, states.data(), dqs[b].data() + key, queryDots.data(), gradShape);
      });
      scan(q, dOut, c.dState.data() + corner, dFirst.data() + corner, 1);
      launch({tiles, HEADS, 1}, 128, [&] {
        backward::retention_grad_key(dOut, q, k, v, g, states.data(), dks[b].data() + key, dvs[a].data() + value,
                                     keyDots.data(), gradShape);
      });
      launch({HEADS, 1, 1}, 1024, [&] {
        backward::retention_grad_decay(queryDots.data(), keyDots.data(), last.data() + corner, c.dState.data() + corner,
                                       dDecay.data(), gradShape, 1);
      });
      add(r.dDecay, dDecay);
    }
  }
  for (const Scalars& term : outs) add(r.out, term);
  for (const Scalars& term : dqs) add(r.dq, term);
  for (const Scalars& term : dks) add(r.dk, term);
  for (const Scalars& term : dvs) add(r.dv, term);
  add(r.last, last);
  add(r.dState, dFirst);
  return r;
}
