// The gated delta rule's recurrence and gates on the emulator against plain float64: from a state and from none, in place, odd widths, a
// decay of 0. Prints lines of a name and the relative error.
#define HEAD 64
#include "compare.h"

namespace delta {
#include "delta.cu"
}
namespace chunks {
#include "delta_chunk.cu"
}

struct Case {
  int batch, time, heads, key, value;
  bool state, inPlace, settled;
};

static void check_rule(const Case& c, bool chunked = false) {
  const int rows = c.batch * c.time * c.heads;
  const auto q = random_scalars(rows * c.key), k = random_scalars(rows * c.key), v = random_scalars(rows * c.value);
  std::vector<float> decay(rows), beta(rows);
  for (int i = 0; i < rows; i++) {
    decay[i] = i % 7 == 6 ? -INFINITY : -0.3 * std::abs(normal());
    beta[i] = 1 / (1 + std::exp(-normal()));
  }
  auto first = random_floats(c.batch * c.heads * c.key * c.value);
  const float queryScale = 0.3f, keyScale = 0.8f / std::sqrt((float)c.key);
  Values state(first.begin(), first.end()), out(rows * c.value);
  if (!c.state) std::fill(state.begin(), state.end(), 0);
  for (int b = 0; b < c.batch; b++)
    for (int t = 0; t < c.time; t++)
      for (int h = 0; h < c.heads; h++) {
        const int at = (b * c.time + t) * c.heads + h;
        double* s = &state[(b * c.heads + h) * c.key * c.value];
        for (int j = 0; j < c.value; j++) {
          double known = 0;
          for (int i = 0; i < c.key; i++) {
            s[i * c.value + j] *= std::exp(decay[at]);
            known += keyScale * as_double(k[at * c.key + i]) * s[i * c.value + j];
          }
          const double change = beta[at] * (as_double(v[at * c.value + j]) - known);
          for (int i = 0; i < c.key; i++) {
            s[i * c.value + j] += keyScale * as_double(k[at * c.key + i]) * change;
            out[at * c.value + j] += queryScale * as_double(q[at * c.key + i]) * s[i * c.value + j];
          }
        }
      }
  Output<scalar> found(rows * c.value);
  Output<float> last(first.size());
  if (c.inPlace) std::copy(first.begin(), first.end(), last.values.begin());
  const float* from = !c.state ? nullptr : c.inPlace ? last.data() : first.data();
  if (chunked) {
    const int count = (c.time + 63) / 64, padded = (c.value + HEAD - 1) / HEAD * HEAD, cells = c.batch * c.heads * count * 64;
    Output<scalar> readers(cells * HEAD), targets(cells * padded);
    const chunks::Shape s = {c.time, c.heads, c.key, c.value, count, c.key, c.value, 1, 1};
    launch({count, c.heads, c.batch}, 128, [&] {
      chunks::delta_solve(k.data(), v.data(), decay.data(), beta.data(), readers.data(), targets.data(), s, keyScale);
    });
    launch({(c.value + 63) / 64, c.heads, c.batch}, 128, [&] {
      chunks::delta_chunks(q.data(), k.data(), decay.data(), readers.data(), targets.data(), from, found.data(), last.data(), s,
                           queryScale, keyScale);
    });
    compare("chunks", found, out);
    compare("chunks: state", last, state);
    if (!readers.is_guarded() || !targets.is_guarded()) note("chunks", NAN);
    return;
  }
  const delta::Shape shape = {c.time, c.heads, c.key, c.value, queryScale, keyScale};
  launch({(c.value + 31) / 32, c.heads, c.batch}, 256, [&] {
    delta::delta_step(q.data(), k.data(), v.data(), decay.data(), beta.data(), from, found.data(), last.data(), shape,
                      c.settled);
  });
  compare("rule", found, out);
  compare("rule: state", last, state);
}

static double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

static void check_gates(int rows, int heads) {
  const int size = rows * heads;
  const auto a = random_scalars(size, 3), b = random_scalars(size, 3);
  const auto aLog = random_floats(heads), dtBias = random_floats(heads), dDecay = random_floats(size), dBeta = random_floats(size);
  Values decay(size), beta(size), da(size), db(size), dALog(heads), dDt(heads);
  for (int i = 0; i < size; i++) {
    const double x = as_double(a[i]) + dtBias[i % heads], y = as_double(b[i]), rate = std::exp(aLog[i % heads]);
    decay[i] = -rate * softplus(x);
    beta[i] = sigmoid(y);
    da[i] = -dDecay[i] * rate * sigmoid(x);
    db[i] = dBeta[i] * sigmoid(y) * sigmoid(-y);
    dALog[i % heads] += dDecay[i] * decay[i];
    dDt[i % heads] += da[i];
  }
  Output<float> foundDecay(size), foundBeta(size);
  launch({2, 1, 1}, 64, [&] {
    delta::delta_gates(a.data(), b.data(), aLog.data(), dtBias.data(), foundDecay.data(), foundBeta.data(), size, heads);
  });
  compare("gates", foundDecay, decay);
  compare("gates", foundBeta, beta);
  Output<scalar> foundA(size), foundB(size), foundALog(heads), foundDt(heads);
  launch({heads, 1, 1}, 64, [&] {
    delta::delta_gates_grad(a.data(), b.data(), aLog.data(), dtBias.data(), dDecay.data(), dBeta.data(), foundA.data(),
                            foundB.data(), foundALog.data(), foundDt.data(), rows, heads);
  });
  compare("gates: gradients", foundA, da);
  compare("gates: gradients", foundB, db);
  compare("gates: gradients", foundALog, dALog);
  compare("gates: gradients", foundDt, dDt);
}

int main() {
  for (const Case& c : {Case{1, 1, 2, 64, 32, true, true, true}, Case{2, 9, 2, 24, 40, true, false, false},
                        Case{1, 5, 1, 7, 33, false, false, false}, Case{1, 20, 1, 40, 8, true, true, false}})
    check_rule(c);
  for (const Case& c : {Case{1, 64, 1, 64, 64, false}, Case{2, 130, 2, 24, 40, true}, Case{1, 70, 1, 40, 130, true}}) check_rule(c, true);
  check_gates(150, 3);
  report();
}
