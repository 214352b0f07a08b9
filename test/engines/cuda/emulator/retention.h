// A case of gated retention, its definition and the definition's gradient in float64, and the comparison. Arguments of a program: positions,
// key width, value width, of how many positions the last forgets everything (0: none), and heads of values with a common query and
// key (1 or 2). It prints the largest relative error.
#pragma once
#include <random>

typedef std::vector<double> Values;
typedef std::vector<float> Floats;
typedef std::vector<scalar> Scalars;

static std::mt19937 generator(1);
static double normal() {
  static std::normal_distribution<double> bell;
  return bell(generator);
}
static Scalars random_scalars(size_t size) {
  Scalars values(size);
  for (scalar& x : values) x = from_float(normal());
  return values;
}
static Floats random_floats(size_t size, double mean, double deviation) {
  Floats values(size);
  for (float& x : values) x = mean + deviation * normal();
  return values;
}
static void add(Values& sum, const Scalars& term) {
  sum.resize(term.size());
  for (size_t i = 0; i < term.size(); i++) sum[i] += to_float(term[i]);
}
static void add(Values& sum, const Floats& term) {
  sum.resize(term.size());
  for (size_t i = 0; i < term.size(); i++) sum[i] += term[i];
}
static double error(const Values& found, const Values& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    difference += (found[i] - expected[i]) * (found[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(difference / norm);
}

static const int HEADS = 2;
struct Case {
  int time, keys, values;
  int group;
  Scalars q, k, v, dOut;
  Floats decay, state, dState;
};
struct Results {
  Values out, last, dq, dk, dv, dDecay, dState;
};

// S_t = e^{g_t} S_{t-1} + Dk^-½ k_tᵀ v_t, o_t = q_t S_t, and backwards
static Results define(const Case& c) {
  const int keys = c.keys, values = c.values, size = keys * values;
  const size_t rows = (size_t)c.time * HEADS;
  const double scale = 1 / std::sqrt((double)keys);
  Results r = {Values(rows * values), Values(HEADS * size), Values(rows * keys), Values(rows * keys),
               Values(rows * values), Values(rows),         Values(HEADS * size)};
  for (int head = 0; head < HEADS; head++) {
    std::vector<Values> states(c.time + 1, Values(size));
    for (int i = 0; i < size; i++) states[0][i] = c.state[head * size + i];
    for (int t = 0; t < c.time; t++) {
      const size_t row = (size_t)t * HEADS + head;
      for (int i = 0; i < size; i++) {
        const size_t key = row / c.group * keys + i / values, value = row * values + i % values;
        states[t + 1][i] = std::exp(c.decay[row]) * states[t][i] + scale * to_float(c.k[key]) * to_float(c.v[value]);
        r.out[value] += to_float(c.q[key]) * states[t + 1][i];
      }
    }
    Values gradient(size);
    for (int i = 0; i < size; i++) {
      r.last[head * size + i] = states[c.time][i];
      gradient[i] = c.dState[head * size + i];
    }
    for (int t = c.time - 1; t >= 0; t--) {
      const size_t row = (size_t)t * HEADS + head;
      const double decay = std::exp(c.decay[row]);
      for (int i = 0; i < size; i++) {
        const size_t key = row / c.group * keys + i / values, value = row * values + i % values;
        const size_t own = row * keys + i / values;
        r.dq[own] += to_float(c.dOut[value]) * states[t + 1][i];
        gradient[i] += to_float(c.q[key]) * to_float(c.dOut[value]);
        r.dk[own] += scale * gradient[i] * to_float(c.v[value]);
        r.dv[value] += scale * gradient[i] * to_float(c.k[key]);
        r.dDecay[row] += gradient[i] * decay * states[t][i];
        gradient[i] *= decay;
      }
    }
    for (int i = 0; i < size; i++) r.dState[head * size + i] = gradient[i];
  }
  return r;
}

// What the kernels compute.
static Results compute(const Case& c);

int main(int, char** arguments) {
  Case c = {atoi(arguments[1]), atoi(arguments[2]), atoi(arguments[3]), atoi(arguments[5])};
  const size_t rows = (size_t)c.time * HEADS, size = (size_t)HEADS * c.keys * c.values;
  c.q = random_scalars(rows / c.group * c.keys);
  c.k = random_scalars(rows / c.group * c.keys);
  c.v = random_scalars(rows * c.values);
  c.dOut = random_scalars(rows * c.values);
  c.decay = random_floats(rows, -0.06, 0.02);
  const int every = atoi(arguments[4]);
  for (int t = every - 1; every && t < c.time; t += every)
    for (int head = 0; head < HEADS; head++) c.decay[t * HEADS + head] = -INFINITY;
  c.state = random_floats(size, 0, 1);
  c.dState = random_floats(size, 0, 1);
  const Results found = compute(c), expected = define(c);
  const double errors[] = {error(found.out, expected.out),       error(found.last, expected.last),
                           error(found.dq, expected.dq),         error(found.dk, expected.dk),
                           error(found.dv, expected.dv),         error(found.dDecay, expected.dDecay),
                           error(found.dState, expected.dState)};
  double worst = 0;
  for (double e : errors) worst = std::isnan(worst) || e <= worst ? worst : e;  // a NaN stays
  printf("%g\n", worst);
}
