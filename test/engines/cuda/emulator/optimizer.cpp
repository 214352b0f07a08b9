// AdamW and the norm of gradients on the emulator against float64: tensors of several pieces, of less than a pack, of one
// element, with gradients in storage and in float32. Prints a line a result: its name and its largest relative error.
#include "common.cuh"

#include <random>

#include "optimizer.cu"

static std::mt19937 generator(5);
static float normal() {
  static std::normal_distribution<float> bell;
  return bell(generator);
}

struct Owned {
  std::vector<float> parameter, wide, first, second;
  std::vector<scalar> stored, narrow;
  bool isWide;
  std::vector<double> p, g, m, v;  // the same in float64
};
static const float DECAY = 0.1f, GUARD = 12345.0f;

static Owned owned(int size, bool isWide) {
  Owned t;
  t.isWide = isWide;
  for (int i = 0; i < size + 8; i++) {  // 8 elements behind the end, to be left alone
    const scalar g = from_float(normal());
    t.narrow.push_back(g);
    t.wide.push_back(to_float(g));
    t.parameter.push_back(i < size ? normal() : GUARD);
    t.first.push_back(i < size ? normal() : GUARD);
    t.second.push_back(i < size ? fabsf(normal()) : GUARD);
    t.stored.push_back(from_float(GUARD));
  }
  t.p.assign(t.parameter.begin(), t.parameter.end() - 8);
  t.g.assign(t.wide.begin(), t.wide.end() - 8);
  t.m.assign(t.first.begin(), t.first.end() - 8);
  t.v.assign(t.second.begin(), t.second.end() - 8);
  return t;
}
static double worst;
static void compare(double found, double expected) {
  const double error = fabs(found - expected) / (fabs(expected) + 1e-3);
  if (!std::isnan(worst) && !(error <= worst)) worst = error;
}
static void print(const char* name) {
  printf("%s\t%g\n", name, worst);
  worst = 0;
}

int main() {
  std::vector<Owned> all;
  for (int size : {1, 7, 8192, 0, 16387, 3}) all.push_back(owned(size, all.size() % 2 == 1));
  std::vector<Tensor> table;
  int pieces = 0;
  for (Owned& t : all) {
    const void* gradient = t.isWide ? (const void*)t.wide.data() : (const void*)t.narrow.data();
    table.push_back({t.parameter.data(), t.stored.data(), gradient, t.first.data(), t.second.data(), (i64)t.p.size(),
                     pieces, t.isWide, DECAY, 0});
    pieces += ((int)t.p.size() + PIECE - 1) / PIECE;
  }
  const int count = (int)table.size();

  std::vector<float> sums(pieces, NAN);
  float norm = NAN, scale = NAN;
  launch({pieces, 1, 1}, 256, [&] { square_sums(table.data(), count, sums.data()); });
  launch({1, 1, 1}, 1024, [&] { clip_scale(sums.data(), pieces, 1.0f, &norm, &scale); });
  double total = 0;
  for (const Owned& t : all)
    for (double g : t.g) total += g * g;
  compare(norm, sqrt(total));
  print("norm");
  compare(scale, 1 / sqrt(total));
  print("scale");
  float free = NAN, loose = NAN;
  launch({1, 1, 1}, 1024, [&] { clip_scale(sums.data(), pieces, 0.0f, &norm, &free); });
  launch({1, 1, 1}, 1024, [&] { clip_scale(sums.data(), pieces, 1e6f, &norm, &loose); });
  compare(free, 1);
  compare(loose, 1);
  print("scale: within the limit");

  const float rate = 0.01f, beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f;
  const Rule rule = {beta1, beta2, epsilon, rate / (1 - beta1 * beta1), 1 / (1 - beta2 * beta2), rate};
  const Rule idle = {0, 0, 0, NAN, 0, 0};
  const auto run = [&](const float* factor, const Rule* moving, const Rule& given) {
    launch({pieces, 1, 1}, 256, [&] { adamw(table.data(), count, factor, 1.0f, moving, given); });
  };
  sums[0] = INFINITY;
  float diverged = 1;
  launch({1, 1, 1}, 1024, [&] { clip_scale(sums.data(), pieces, 1.0f, &norm, &diverged); });
  run(&diverged, nullptr, rule);
  run(&scale, &idle, rule);
  for (const Owned& t : all)
    for (size_t i = 0; i < t.p.size(); i++) compare(t.parameter[i], t.p[i]), compare(t.first[i], t.m[i]);
  if (!std::isnan(diverged)) worst = NAN;
  print("adamw: no finite norm");

  run(&scale, nullptr, rule);
  run(nullptr, &rule, idle);
  for (double factor : {(double)scale, 1.0})
    for (Owned& t : all)
      for (size_t i = 0; i < t.p.size(); i++) {
        const double g = t.g[i] * factor;
        t.m[i] = beta1 * t.m[i] + (1 - beta1) * g;
        t.v[i] = beta2 * t.v[i] + (1 - beta2) * g * g;
        const double step = t.m[i] / (1 - beta1 * beta1) / (sqrt(t.v[i] / (1 - beta2 * beta2)) + epsilon);
        t.p[i] = t.p[i] * (1 - rate * DECAY) - rate * step;
      }
  for (const Owned& t : all)
    for (size_t i = 0; i < t.p.size(); i++) {
      compare(t.parameter[i], t.p[i]);
      compare(t.first[i], t.m[i]);
      compare(t.second[i], t.v[i]);
    }
  print("adamw");
  for (const Owned& t : all)
    for (size_t i = 0; i < t.p.size() + 8; i++) {
      const bool inside = i < t.p.size();
      compare(to_float(t.stored[i]), to_float(from_float(inside ? t.parameter[i] : GUARD)));
      if (!inside) compare(t.parameter[i] + t.first[i] + t.second[i], 3 * GUARD);
    }
  print("adamw: storage and guards");
}
