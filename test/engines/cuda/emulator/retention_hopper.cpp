// Gated retention on the emulated Hopper against its definition, as `kernels/retention-hopper.ts` launches it: see retention.h.
#include "common.cuh"
#include "hopper.cuh"

namespace hopper {
#include "retention_hopper.cu"
}
namespace walk {
#include "retention_hopper_states.cu"
}
namespace backward {
#include "retention_grad.cu"
}
#include "retention.h"

typedef hopper::Shape Shape;

// Of [1, positions, heads, width].
static TensorMap rows(const Scalars& x, int heads, int width, int box) {
  const i64 positions = x.size() / heads / width;
  return tensor_map({x.data(), {width, positions, heads, 1}, {1, heads * width, width, positions * heads * width}, box});
}

template <typename Other>
static Other same(const Shape& s) {
  return {s.time, s.heads, s.keyWidth, s.valueWidth, s.chunks, s.keyPitch, s.valuePitch, s.group, s.scale};
}

static Results compute(const Case& c) {
  const int chunk = 128, chunks = (c.time + chunk - 1) / chunk, multiprocessors = 3;
  const size_t count = (size_t)c.time * HEADS;
  const scalar poison = {0xffff};
  const Shape s = {c.time, HEADS, c.keys, c.values, chunks, c.keys, c.values, c.group, 1 / std::sqrt((float)c.keys)};
  const int groups = HEADS / c.group, keyBlocks = c.keys / 128, size = c.keys * c.values;
  Floats last(c.state.size(), NAN), dFirst(c.state.size(), NAN), dDecay(count, NAN);
  Floats queryDots(count * keyBlocks, NAN), keyDots(count * keyBlocks, NAN);
  Scalars out(c.v.size(), poison), dv = out, dq(count * c.keys, poison), dk = dq;
  Scalars states((size_t)HEADS * chunks * size, poison);
  const TensorMap q = rows(c.q, groups, c.keys, chunk), k = rows(c.k, groups, c.keys, chunk);
  const TensorMap v = rows(c.v, HEADS, c.values, chunk), dOut = rows(c.dOut, HEADS, c.values, chunk);
  const TensorMap m = tensor_map({states.data(), {c.values, c.keys, chunks, HEADS}, {1, c.values, size, chunks * size}, 64});
  const float* g = c.decay.data();
  const auto scan = [&](const TensorMap& a, const TensorMap& b, const Floats& first, Floats& end, int back) {
    launch({c.values / 64, c.keys / 64, HEADS}, 160, [&] {
      walk::retention_hopper_states(a, b, g, first.data(), states.data(), end.data(), same<walk::Shape>(s), back);
    });
  };
  const int keyTiles = HEADS * chunks * keyBlocks, valueTiles = HEADS * chunks * c.values / 128;
  const auto pass = [&](int tiles, const std::function<void(int)>& kernel) {
    launch({min(tiles, multiprocessors), 1, 1}, 384, [&] { kernel(tiles); });
  };
  scan(k, v, c.state, last, 0);
  pass(valueTiles, [&](int n) { hopper::retention_hopper_output(q, k, v, m, g, nullptr, out.data(), nullptr, n, s); });
  scan(k, v, c.state, dFirst, 0);
  pass(keyTiles, [&](int n) {
    hopper::retention_hopper_query(dOut, v, k, m, g, c.q.data(), dq.data(), queryDots.data(), n, s);
  });
  scan(q, dOut, c.dState, dFirst, 1);
  pass(keyTiles, [&](int n) {
    hopper::retention_hopper_key(v, dOut, q, m, g, c.k.data(), dk.data(), keyDots.data(), n, s);
  });
  pass(valueTiles, [&](int n) { hopper::retention_hopper_value(k, q, dOut, m, g, nullptr, dv.data(), nullptr, n, s); });
  const auto shape = same<backward::Shape>(s);
  launch({HEADS, 1, 1}, 1024, [&] {
    backward::retention_grad_decay(queryDots.data(), keyDots.data(), last.data(), c.dState.data(), dDecay.data(), shape,
                                   keyBlocks);
  });
  Results r;
  add(r.out, out), add(r.dq, dq), add(r.dk, dk), add(r.dv, dv), add(r.last, last), add(r.dState, dFirst), add(r.dDecay, dDecay);
  return r;
}
