// The chunkwise gradient of the gated delta rule on the emulator against that of the recurrence in float64: from a state and from none,
// chunks that are and are not whole, odd widths, value columns that are a part of a head, a decay of 0. Prints lines of a name and the
// relative error.
#define HEAD 128
#include "compare.h"

namespace gradient {
#include "delta_grad.cu"
}

// `columns` of the `value` columns of a head, from `offset` on, are the kernels' share.
struct Case {
  int batch, time, heads, key, value, offset, columns;
  bool state;
};

struct Operands {
  std::vector<scalar> q, k, v, dOut;
  std::vector<float> decay, beta, first, dLast;
};
static const float QUERY_SCALE = 0.3f;

static Operands operands_of(const Case& c) {
  const int rows = c.batch * c.time * c.heads, states = c.batch * c.heads * c.key * c.value;
  Operands x = {random_scalars(rows * c.key), random_scalars(rows * c.key), random_scalars(rows * c.value),
                random_scalars(rows * c.value), Floats(rows), Floats(rows), random_floats(states), random_floats(states)};
  for (int i = 0; i < rows; i++) {
    x.decay[i] = i % 23 == 22 ? -INFINITY : -0.2 * std::abs(normal());
    x.beta[i] = 1 / (1 + std::exp(-normal()));
  }
  if (!c.state) std::fill(x.first.begin(), x.first.end(), 0);
  return x;
}

struct Gradients {
  Values q, k, v, decay, beta, state;
};

// S̄ = α S, n = β (v - k S̄), S' = S̄ + kᵀ n, o = q S' of one head and the columns, and backwards.
static void define(const Case& c, const Operands& x, float keyScale, int batch, int head, Gradients& to) {
  const int size = c.key * c.columns;
  std::vector<Values> kept(c.time, Values(size)), after(c.time, Values(size)), changes(c.time, Values(c.columns));
  const auto row_at = [&](int t) { return (batch * c.time + t) * c.heads + head; };
  const auto key_at = [&](int t, int i) { return keyScale * as_double(x.k[row_at(t) * c.key + i]); };
  const auto query_at = [&](int t, int i) { return QUERY_SCALE * as_double(x.q[row_at(t) * c.key + i]); };
  const auto place_of = [&](int i, int j) { return ((batch * c.heads + head) * c.key + i) * c.value + c.offset + j; };
  for (int t = 0; t < c.time; t++) {
    const int row = row_at(t);
    for (int j = 0; j < c.columns; j++) {
      double known = 0;
      for (int i = 0; i < c.key; i++) {
        const double before = t ? after[t - 1][i * c.columns + j] : x.first[place_of(i, j)];
        kept[t][i * c.columns + j] = std::exp(x.decay[row]) * before;
        known += key_at(t, i) * kept[t][i * c.columns + j];
      }
      changes[t][j] = as_double(x.v[row * c.value + c.offset + j]) - known;
      for (int i = 0; i < c.key; i++)
        after[t][i * c.columns + j] = kept[t][i * c.columns + j] + key_at(t, i) * x.beta[row] * changes[t][j];
    }
  }
  Values d(size);
  for (int i = 0; i < c.key; i++)
    for (int j = 0; j < c.columns; j++) d[i * c.columns + j] = x.dLast[place_of(i, j)];
  for (int t = c.time - 1; t >= 0; t--) {
    const int row = row_at(t);
    for (int j = 0; j < c.columns; j++) {
      const int value = row * c.value + c.offset + j;
      const double dOut = as_double(x.dOut[value]);
      double dUpdate = 0;
      for (int i = 0; i < c.key; i++) {
        const int place = i * c.columns + j;
        to.q[row * c.key + i] += QUERY_SCALE * dOut * after[t][place];
        d[place] += query_at(t, i) * dOut;
        to.k[row * c.key + i] += keyScale * d[place] * x.beta[row] * changes[t][j];
        dUpdate += key_at(t, i) * d[place];
      }
      const double dChange = x.beta[row] * dUpdate;
      to.beta[row] += dUpdate * changes[t][j];
      to.v[value] += dChange;
      for (int i = 0; i < c.key; i++) {
        const int place = i * c.columns + j;
        to.k[row * c.key + i] -= keyScale * kept[t][place] * dChange;
        d[place] -= key_at(t, i) * dChange;
        to.decay[row] += d[place] * kept[t][place];
        d[place] *= std::exp(x.decay[row]);
      }
    }
  }
  for (int i = 0; i < c.key; i++)
    for (int j = 0; j < c.columns; j++) to.state[place_of(i, j)] = d[i * c.columns + j];
}

static void check(const Case& c) {
  const Operands x = operands_of(c);
  const float keyScale = 0.8f / std::sqrt((float)c.key);
  const int rows = c.batch * c.time * c.heads, states = c.batch * c.heads * c.key * c.value;
  Gradients expected = {Values(rows * c.key), Values(rows * c.key), Values(rows * c.value),
                        Values(rows),         Values(rows),         Values(states)};
  for (int b = 0; b < c.batch; b++)
    for (int h = 0; h < c.heads; h++) define(c, x, keyScale, b, h, expected);

  const int count = (c.time + 63) / 64, units = c.batch * c.heads, cells = units * count * 64 * HEAD;
  Output<scalar> readers(cells), updates(cells), readersBack(cells), dErrors(cells);
  Output<scalar> between(units * (count + 1) * HEAD * HEAD), dBetween(units * (count + 1) * HEAD * HEAD);
  Output<scalar> dq(rows * c.key), dk(rows * c.key), dv(rows * c.value);
  Output<float> dDecay(rows), dBeta(rows), dFirst(states);
  const gradient::Shape s = {c.time, c.heads, c.key, c.columns, count, c.key, c.value, 1, 1};
  const scalar *v = x.v.data() + c.offset, *dOut = x.dOut.data() + c.offset;
  const Dim chunks = {count, c.heads, c.batch}, columns = {HEAD / 64, c.heads, c.batch};
  launch(chunks, 128, [&] {
    gradient::delta_grad_solve(x.q.data(), x.k.data(), v, dOut, x.decay.data(), x.beta.data(), readers.data(), updates.data(),
                               readersBack.data(), dErrors.data(), s, QUERY_SCALE, keyScale);
  });
  launch(columns, 128, [&] {
    gradient::delta_grad_states(x.k.data(), x.decay.data(), readers.data(), updates.data(),
                                c.state ? x.first.data() + c.offset : nullptr, between.data(), s, keyScale);
  });
  launch(columns, 128, [&] {
    gradient::delta_grad_back(x.q.data(), x.k.data(), dOut, x.decay.data(), x.beta.data(), readersBack.data(), dErrors.data(),
                              x.dLast.data() + c.offset, dBetween.data(), dFirst.data() + c.offset, s, QUERY_SCALE, keyScale);
  });
  launch(chunks, 128, [&] {
    gradient::delta_grad_rows(x.q.data(), x.k.data(), v, dOut, x.decay.data(), x.beta.data(), updates.data(), dErrors.data(),
                              between.data(), dBetween.data(), dq.data(), dk.data(), dv.data() + c.offset, dDecay.data(),
                              dBeta.data(), s, QUERY_SCALE, keyScale);
  });
  // Columns of others stay as they are.
  const auto others = [&](auto& found, Values& values) {
    for (size_t i = 0; i < values.size(); i++) {
      const int column = i % c.value - c.offset;
      if (column >= 0 && column < c.columns) continue;
      if (!std::isnan(as_double(found.values[i]))) note("gradients: other columns", NAN);
      found.values[i] = {};
      values[i] = 0;
    }
  };
  others(dv, expected.v);
  others(dFirst, expected.state);
  for (const Output<scalar>* buffer : {&readers, &updates, &readersBack, &dErrors, &between, &dBetween})
    note("gradients: guards", buffer->is_guarded() ? 0 : NAN);
  compare("gradients: queries", dq, expected.q);
  compare("gradients: keys", dk, expected.k);
  compare("gradients: values", dv, expected.v);
  compare("gradients: decays", dDecay, expected.decay);
  compare("gradients: strengths", dBeta, expected.beta);
  compare("gradients: state", dFirst, expected.state);
}

int main() {
  check({1, 64, 1, 64, 64, 0, 64, false});
  check({2, 130, 1, 24, 40, 0, 40, true});
  check({1, 70, 2, 100, 136, 0, 128, true});
  check({1, 70, 1, 40, 148, 128, 20, true});
  check({1, 3, 1, 7, 5, 0, 5, true});
  report();
}
