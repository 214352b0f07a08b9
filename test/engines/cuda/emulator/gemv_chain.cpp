// A chain of products on the emulator against the kernels that it stands for, to the last bit: random shapes, outputs filled with
// NaNs beforehand. Prints a line a case that differs, and the number of cases.
#include "common.cuh"

#include <random>

namespace norm {
#include "norm.cu"
}
namespace few {
#include "gemv.cu"
}
namespace chain {
#include "gemv_chain.cu"
}

typedef std::vector<scalar> Scalars;
static std::mt19937 generator(11);
static int between(int least, int most) { return std::uniform_int_distribution<int>(least, most)(generator); }
static Scalars random_scalars(size_t size) {
  std::normal_distribution<float> bell;
  Scalars values(size);
  for (scalar& x : values) x = from_float(bell(generator) / 4);
  return values;
}
static Scalars unwritten(size_t size) { return Scalars(size, {0xffff}); }

enum Norm { PLAIN, BLOCK, GATED };
struct Step {
  Norm norm;
  bool swiglu, residual;
  int inner;
  std::vector<int> widths;
};
// Everything a step reads beside x.
struct Given {
  Scalars scale, gate, residual;
  std::vector<Scalars> weights;
};
struct Made {
  Scalars normed;
  std::vector<Scalars> outs;
};
static const float EPS = 1e-5f;

static Given random_inputs(const Step& step, int rows) {
  Given given = {random_scalars(step.inner), random_scalars(rows * step.inner), random_scalars(rows * step.widths[0]), {}};
  for (int i = 0; i < (int)step.widths.size(); i++) given.weights.push_back(random_scalars(step.widths[i] * step.inner));
  return given;
}
static Made room(const Step& step, int rows) {
  Made made = {unwritten(rows * step.inner), {}};
  for (int i = 0; i < (step.swiglu ? 1 : (int)step.widths.size()); i++) made.outs.push_back(unwritten(rows * step.widths[i]));
  return made;
}

// Rows of a gated norm, in packs, and the threads that share one.
static int gated_packs(const Step& step) { return step.inner / WIDTH % 4 == 0 ? 4 : 1; }
static const int LANES = 2;

static Made by_kernels(const Step& step, const Given& given, const scalar* x, int rows) {
  Made made = room(step, rows);
  const int packs = step.inner / WIDTH;
  if (step.norm == BLOCK)
    launch({rows, 1, 1}, (packs + 31) / 32 * 32,
           [&] { norm::rms_norm(x, given.scale.data(), nullptr, made.normed.data(), rows, packs, 0, EPS); });
  if (step.norm == GATED) {
    const int norms = rows * packs / gated_packs(step);
    launch({(norms * LANES + 255) / 256, 1, 1}, 256, [&] {
      norm::rms_norm_small(x, nullptr, given.gate.data(), made.normed.data(), norms, gated_packs(step), LANES, EPS);
    });
  }
  if (step.norm != PLAIN) x = made.normed.data();
  const int width = step.widths[0];
  if (step.swiglu) {
    launch({(width + 1) / 2, 1, 1}, 128, [&] {
      few::gemv_swiglu(x, given.weights[0].data(), given.weights[1].data(), made.outs[0].data(), rows, step.inner, width);
    });
    return made;
  }
  few::Group group = {};
  int total = 0;
  for (size_t i = 0; i < step.widths.size(); i++) {
    group.weights[i] = given.weights[i].data();
    group.outs[i] = made.outs[i].data();
    group.widths[i] = step.widths[i];
    total += step.widths[i];
  }
  launch({(total + 3) / 4, 1, 1}, 128,
         [&] { few::gemv(x, group, step.residual ? given.residual.data() : nullptr, rows, step.inner, total); });
  return made;
}

static chain::Stage stage_of(const Step& step, const Given& given, const scalar* x, Made& made) {
  chain::Stage stage = {};
  stage.x = x;
  if (step.norm == BLOCK) stage.scale = given.scale.data();
  if (step.norm == GATED) stage.gate = given.gate.data();
  if (step.norm != PLAIN) stage.normed = made.normed.data();
  if (step.residual) stage.residual = given.residual.data();
  for (size_t i = 0; i < step.widths.size(); i++) {
    stage.weights[i] = given.weights[i].data();
    stage.widths[i] = step.widths[i];
  }
  for (size_t i = 0; i < made.outs.size(); i++) stage.outs[i] = made.outs[i].data();
  stage.inner = step.inner;
  stage.members = (int)made.outs.size();
  stage.swiglu = step.swiglu;
  stage.packs = step.norm == GATED ? gated_packs(step) : step.inner / WIDTH;
  stage.lanes = step.norm == GATED ? LANES : 0;
  stage.eps = EPS;
  return stage;
}

static bool equal(const Scalars& a, const Scalars& b) { return memcmp(a.data(), b.data(), a.size() * sizeof(scalar)) == 0; }

static int cases = 0;
static void compare(const std::vector<Step>& steps, int rows, int blocks) {
  const Scalars x = random_scalars(rows * steps[0].inner);
  std::vector<Given> given;
  std::vector<Made> expected, found;
  for (const Step& step : steps) given.push_back(random_inputs(step, rows)), found.push_back(room(step, rows));
  chain::Stages stages = {};
  for (size_t i = 0; i < steps.size(); i++) {
    expected.push_back(by_kernels(steps[i], given[i], i ? expected[i - 1].outs[0].data() : x.data(), rows));
    stages.at[i] = stage_of(steps[i], given[i], i ? found[i - 1].outs[0].data() : x.data(), found[i]);
  }
  u64 arrivals = 0;
  launch({blocks, 1, 1}, 512, [&] {
    if (rows == 1) chain::gemv_chain_one(stages, &arrivals, (int)steps.size(), rows);
    else chain::gemv_chain(stages, &arrivals, (int)steps.size(), rows);
  });
  cases++;
  for (size_t i = 0; i < steps.size(); i++) {
    bool same = equal(found[i].normed, expected[i].normed);
    for (size_t j = 0; j < found[i].outs.size(); j++) same = same && equal(found[i].outs[j], expected[i].outs[j]);
    if (!same) printf("step %zu of %zu, %d rows, %d blocks differs\n", i + 1, steps.size(), rows, blocks);
  }
}

int main() {
  // Blocks run one after the other: several of them can share a stage, but not meet.
  for (const int rows : {1, 3})
    for (const int blocks : {1, 2}) {
      compare({{PLAIN, false, false, 8, {1}}}, rows, blocks);
      compare({{BLOCK, false, false, 8 * between(1, 90), {between(1, 20), 1, between(1, 20)}}}, rows, blocks);
      compare({{GATED, false, true, 32 * between(1, 9), {between(1, 40)}}}, rows, blocks);
      compare({{BLOCK, true, false, 8 * between(1, 160), {19, 19}}}, rows, blocks);
      compare({{PLAIN, false, true, 8 * between(120, 300), {between(1, 40)}}}, rows, blocks);
    }
  for (const int rows : {1, 3}) {
    const int width = 8 * between(2, 12), hidden = 8 * between(129, 140), inner = 32 * between(1, 5);
    compare({{GATED, false, true, inner, {width}},
             {BLOCK, true, false, width, {hidden, hidden}},
             {PLAIN, false, true, hidden, {width}},
             {BLOCK, false, false, width, {inner, 3, 8, inner}}},
            rows, 1);
  }
  printf("%d cases\n", cases);
}
