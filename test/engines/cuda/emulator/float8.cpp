// Rows in float8 and products of few rows with weights in it, on the emulator: codes and factors to the last bit, products against
// plain float64 over what the codes mean.
#include "compare.h"

namespace rows {
#include "float8.cu"
}
namespace few {
#include "gemv_float8.cu"
}
namespace fused {
#include "fused.cu"
}
namespace norm {
#include "norm.cu"
}
namespace norm8 {
#include "norm_float8.cu"
}

struct Rounded {
  std::vector<u8> codes;
  std::vector<float> factors;
  int width;
  double value(size_t row, size_t i) const { return float8_meaning(codes[row * width + i]) * (double)factors[row]; }
};
static Rounded rounded(const std::vector<scalar>& x, int count, int width) {
  Rounded to{std::vector<u8>((size_t)count * width), std::vector<float>(count), width};
  for (int row = 0; row < count; row++) {
    const scalar* from = &x[(size_t)row * width];
    double largest = 0;
    bool finite = true;
    for (int i = 0; i < width; i++) {
      finite = finite && std::isfinite(as_double(from[i]));
      largest = std::max(largest, std::fabs(as_double(from[i])));
    }
    int exponent = -100;
    while (finite && largest > 448 * std::ldexp(1.0, exponent)) exponent++;
    to.factors[row] = !finite ? NAN : largest == 0 ? 1 : std::ldexp(1.0f, exponent);
    for (int i = 0; i < width; i++) {
      const double scaled = as_double(from[i]) / to.factors[row];
      to.codes[(size_t)row * width + i] = float8_of(scaled == 0 ? 0.0 : scaled);
    }
  }
  return to;
}

// Rows of many magnitudes: the first are zeros, huge, tiny, at the end of a binade, and no finite numbers.
static std::vector<scalar> mixed(int count, int width, bool finite) {
  auto x = random_scalars((size_t)count * width);
  for (int row = 0; row < count; row++) {
    const double scale = std::ldexp(1.0, between(-40, 40));
    for (int i = 0; i < width; i++) x[(size_t)row * width + i] = from_float(as_double(x[(size_t)row * width + i]) * scale);
  }
  const auto fill = [&](int row, float even, float odd) {
    for (int i = 0; row < count && i < width; i++) x[(size_t)row * width + i] = from_float(i % 2 ? odd : even);
  };
  fill(0, 0.0f, -0.0f);
  fill(1, 3e38f, -1e38f);
  fill(2, 1e-38f, -2e-36f);
  fill(3, 448 * 8.0f, -1.0f);
  fill(4, 450 * 8.0f, 1.0f);
  if (finite) return x;
  if (count > 5) x[5 * width + width / 2] = from_float(NAN);
  if (count > 6) x[6 * width + width - 1] = from_float(-INFINITY);
  return x;
}

struct Found {
  Output<u8> codes;
  Output<float> factors;
  Found(int count, int width) : codes((size_t)count * width), factors(count) {}
};
// How many codes and factors differ.
static void same(const char* name, const Found& found, const Rounded& expected) {
  int differing = !found.codes.is_guarded() + !found.factors.is_guarded();
  for (size_t row = 0; row < expected.factors.size(); row++) {
    const float a = found.factors.values[row], b = expected.factors[row];
    differing += !(a == b || (std::isnan(a) && std::isnan(b)));
    // The sign of a NaN means nothing.
    for (int i = 0; i < expected.width; i++) {
      const u8 code = found.codes.values[row * expected.width + i], other = expected.codes[row * expected.width + i];
      differing += code != other && !((code & 0x7f) == 0x7f && (other & 0x7f) == 0x7f);
    }
  }
  note(name, differing);
}

enum Way { SMALL, BLOCK, ANY };
static void rounding(Way way, int count, int width, int threads, bool gated) {
  const auto a = mixed(count, width, gated), b = random_scalars((size_t)count * width);
  std::vector<scalar> values = a;
  if (gated) launch({2, 1, 1}, 64, [&] { fused::swiglu(a.data(), b.data(), values.data(), (i64)count * width); });
  Found found(count, width);
  u8* codes = found.codes.data();
  float* factors = found.factors.data();
  const scalar *x = a.data(), *y = b.data();
  const int packs = width / 8, blocks = way == SMALL ? (count * threads + 255) / 256 : count;
  launch({blocks, 1, 1}, way == SMALL ? 256 : threads, [&] {
    if (way == SMALL && gated) rows::swiglu_rows_small(x, y, codes, factors, count, packs, threads);
    else if (way == SMALL) rows::round_rows_small(x, y, codes, factors, count, packs, threads);
    else if (way == BLOCK && gated) rows::swiglu_rows(x, y, codes, factors, count, packs, 0);
    else if (way == BLOCK) rows::round_rows(x, y, codes, factors, count, packs, 0);
    else if (gated) rows::swiglu_rows_any(x, y, codes, factors, count, width, 0);
    else rows::round_rows_any(x, y, codes, factors, count, width, 0);
  });
  same(gated ? "rows: SwiGLU" : "rows", found, rounded(values, count, width));
}

// What the plain norm gives, to the last bit, and its rows as they are rounded.
static void norms(Way way, int count, int width, int threads, bool weighted) {
  const auto x = mixed(count, width, false), weight = random_scalars(width);
  const scalar *from = x.data(), *scale = weighted ? weight.data() : nullptr;
  Output<scalar> plain((size_t)count * width), y((size_t)count * width);
  Found found(count, width);
  u8* codes = found.codes.data();
  float* factors = found.factors.data();
  const int packs = width / 8, blocks = way == SMALL ? (count * threads + 255) / 256 : count;
  launch({blocks, 1, 1}, way == SMALL ? 256 : threads, [&] {
    if (way == SMALL) norm::rms_norm_small(from, scale, nullptr, plain.data(), count, packs, threads, 1e-5f);
    else norm::rms_norm(from, scale, nullptr, plain.data(), count, packs, 0, 1e-5f);
  });
  launch({blocks, 1, 1}, way == SMALL ? 256 : threads, [&] {
    if (way == SMALL) norm8::rms_norm_float8_small(from, scale, y.data(), codes, factors, count, packs, threads, 1e-5f);
    else norm8::rms_norm_float8(from, scale, y.data(), codes, factors, count, packs, 0, 1e-5f);
  });
  int differing = !y.is_guarded();
  for (size_t i = 0; i < y.size; i++) differing += y.values[i].bits != plain.values[i].bits;
  note("norm", differing);
  same("norm", found, rounded(plain.values, count, width));
}

static void meaning(int count, int width) {
  const Rounded x = rounded(mixed(count, width, true), count, width);
  Output<scalar> y((size_t)count * width);
  Values expected(y.size);
  for (size_t i = 0; i < y.size; i++) expected[i] = as_double(from_float(x.value(i / width, i % width)));
  launch({2, 1, 1}, 64, [&] { rows::float8_values(x.codes.data(), x.factors.data(), y.data(), y.size, width); });
  int differing = !y.is_guarded();
  for (size_t i = 0; i < y.size; i++) differing += as_double(y.values[i]) != expected[i];
  note("values", differing);
}

static Rounded random_rows(int count, int width, double scale = 1) {
  auto x = random_scalars((size_t)count * width);
  for (auto& value : x) value = from_float(as_double(value) * scale);
  return rounded(x, count, width);
}
static double product(const Rounded& x, int row, const Rounded& weight, int column) {
  double sum = 0;
  for (int i = 0; i < x.width; i++) sum += x.value(row, i) * weight.value(column, i);
  return sum;
}

static void linear(int count, int inner, const std::vector<int>& widths, bool residual) {
  const Rounded x = random_rows(count, inner, 1000);
  few::Group group = {};
  std::vector<Rounded> weights;
  std::vector<Output<scalar>> outs;
  int total = 0;
  for (int width : widths) {
    weights.push_back(random_rows(width, inner, 1 / std::sqrt((double)inner)));
    outs.emplace_back((size_t)count * width);
    total += width;
  }
  for (size_t i = 0; i < widths.size(); i++) {
    group.codes[i] = weights[i].codes.data();
    group.factors[i] = weights[i].factors.data();
    group.outs[i] = outs[i].data();
    group.widths[i] = widths[i];
  }
  const auto added = random_scalars((size_t)count * total);
  launch({total / 8, 1, 1}, 256, [&] {
    few::gemv_float8(x.codes.data(), x.factors.data(), group, residual ? added.data() : nullptr, count, inner);
  });
  for (size_t member = 0; member < widths.size(); member++) {
    const int width = widths[member];
    Values expected((size_t)count * width);
    for (int i = 0; i < count * width; i++)
      expected[i] = product(x, i / width, weights[member], i % width) + (residual ? as_double(added[i]) : 0);
    compare(residual ? "linear: residual" : "linear", outs[member], expected);
  }
}

static void linear_swiglu(int count, int inner, int width) {
  const double scale = 1 / std::sqrt((double)inner);
  const Rounded x = random_rows(count, inner), activated = random_rows(width, inner, scale), gate = random_rows(width, inner, scale);
  Output<scalar> y((size_t)count * width);
  launch({width / 8, 1, 1}, 256, [&] {
    few::gemv_float8_swiglu(x.codes.data(), x.factors.data(), activated.codes.data(), activated.factors.data(),
                            gate.codes.data(), gate.factors.data(), y.data(), count, inner, width);
  });
  Values expected((size_t)count * width);
  for (int i = 0; i < count * width; i++) {
    const double a = product(x, i / width, activated, i % width), b = product(x, i / width, gate, i % width);
    expected[i] = a / (1 + std::exp(-a)) * b;
  }
  compare("linear: SwiGLU", y, expected);
}

// A row that is NaN stays the only one.
static void confined() {
  const int inner = 48, width = 16;
  auto values = random_scalars(3 * inner);
  values[inner + 5] = from_float(NAN);
  const Rounded x = rounded(values, 3, inner), weight = random_rows(width, inner);
  Output<scalar> y(3 * width);
  few::Group group = {{weight.codes.data()}, {weight.factors.data()}, {y.data()}, {width}};
  launch({width / 8, 1, 1}, 256, [&] { few::gemv_float8(x.codes.data(), x.factors.data(), group, nullptr, 3, inner); });
  int wrong = 0;
  for (int i = 0; i < 3 * width; i++) wrong += std::isnan(as_double(y.values[i])) != (i / width == 1);
  note("linear: a NaN", wrong);
}

int main() {
  for (bool gated : {false, true}) {
    rounding(SMALL, 11, 16, 2, gated);
    rounding(SMALL, 9, 48, 4, gated);
    rounding(SMALL, 70, 512, 16, gated);
    rounding(SMALL, 3, 256, 32, gated);
    rounding(BLOCK, 8, 1040, 64, gated);
    rounding(BLOCK, 7, 3072, 384, gated);
    rounding(ANY, 7, 1001, 256, gated);
  }
  for (bool weighted : {false, true}) {
    norms(SMALL, 11, 16, 2, weighted);
    norms(SMALL, 9, 48, 4, weighted);
    norms(SMALL, 70, 512, 16, weighted);
    norms(SMALL, 3, 256, 32, weighted);
    norms(BLOCK, 8, 1040, 64, weighted);
    norms(BLOCK, 7, 3072, 384, weighted);
  }
  meaning(9, 48);
  meaning(5, 33);
  for (int count = 1; count <= 8; count++) {
    linear(count, 16 * between(1, 150), {16 * between(1, 3), 16, 16 * between(1, 3)}, false);
    linear(count, 16 * between(1, 40), {16 * between(1, 3)}, true);
    linear_swiglu(count, 16 * between(1, 120), 16 * between(1, 3));
  }
  linear(8, 16, {16, 16, 16, 16, 16, 16, 16, 16}, false);
  linear(1, 3072, {16}, true);
  confined();
  report();
}
