// The short convolution and its gradient on the emulator against plain float64: packs and single channels, 4 taps and other numbers,
// fewer positions than taps and several strips, with and without bias and state. Prints lines of a name and the relative error.
#include "compare.h"

namespace convolution {
#include "short_convolution.cu"
}

struct Case {
  int batch, time, width, taps, silu;
  bool bias, state;
};

static void check(const Case& c) {
  const int ahead = c.taps - 1, threads = 64, size = c.batch * c.time * c.width;
  const auto x = random_scalars(size), weight = random_scalars(c.width * c.taps), bias = random_scalars(c.width);
  const auto state = random_scalars(c.batch * ahead * c.width), dState = random_scalars(c.batch * ahead * c.width);
  const auto dOutput = random_scalars(size);
  const convolution::Shape shape = {c.batch, c.time, c.width, c.taps, c.silu};
  const scalar *b = c.bias ? bias.data() : nullptr, *s = c.state ? state.data() : nullptr;
  const int packs = c.width % WIDTH == 0 ? c.width / WIDTH : c.width;
  const int blocks = (c.batch * ((c.time + 15) / 16 + 1) * packs + threads - 1) / threads;

  const auto input = [&](int batch, int t, int d) {
    if (t >= 0) return as_double(x[(batch * c.time + t) * c.width + d]);
    return c.state ? as_double(state[(batch * ahead + ahead + t) * c.width + d]) : 0.0;
  };
  Values y(size), last(state.size()), slope(size), inputs(c.batch * (c.time + ahead) * c.width);
  Values taps(c.width * c.taps), total(c.width);
  for (int n = 0; n < c.batch; n++)
    for (int d = 0; d < c.width; d++) {
      for (int i = 0; i < ahead; i++) {
        last[(n * ahead + i) * c.width + d] = input(n, c.time - ahead + i, d);
        inputs[(n * (c.time + ahead) + c.time + i) * c.width + d] += as_double(dState[(n * ahead + i) * c.width + d]);
      }
      for (int t = 0; t < c.time; t++) {
        const int at = (n * c.time + t) * c.width + d;
        double z = c.bias ? as_double(bias[d]) : 0;
        for (int j = 0; j < c.taps; j++) z += as_double(weight[d * c.taps + j]) * input(n, t - ahead + j, d);
        const double sigmoid = 1 / (1 + std::exp(-z));
        y[at] = c.silu ? z * sigmoid : z;
        slope[at] = as_double(dOutput[at]) * (c.silu ? sigmoid * (1 + z * (1 - sigmoid)) : 1);
        total[d] += slope[at];
        for (int j = 0; j < c.taps; j++) {
          taps[d * c.taps + j] += slope[at] * input(n, t - ahead + j, d);
          inputs[(n * (c.time + ahead) + t + j) * c.width + d] += slope[at] * as_double(weight[d * c.taps + j]);
        }
      }
    }

  Output<scalar> out(size), end(state.size()), dx(size), dFirst(state.size());
  launch({blocks, 1, 1}, threads, [&] {
    convolution::short_convolution(x.data(), weight.data(), b, s, out.data(), end.data(), shape);
  });
  compare("output", out, y);
  compare("state", end, last);
  Output<float> dSum(size);
  launch({blocks, 1, 1}, threads, [&] {
    convolution::short_convolution_slope(x.data(), weight.data(), b, s, dOutput.data(), dSum.data(), shape);
  });
  compare("slope", dSum, slope);
  launch({3, 1, 1}, threads, [&] {
    convolution::short_convolution_grad_input(dSum.data(), weight.data(), dState.data(), dx.data(), dFirst.data(), shape);
  });
  Values first, rest;
  for (int n = 0; n < c.batch; n++) {
    const auto begin = inputs.begin() + n * (c.time + ahead) * c.width;
    first.insert(first.end(), begin, begin + ahead * c.width);
    rest.insert(rest.end(), begin + ahead * c.width, begin + (c.time + ahead) * c.width);
  }
  compare("inputs", dFirst, first);
  compare("inputs", dx, rest);
  const int slab = 7, slabs = (c.batch * c.time + slab - 1) / slab, columns = c.width * (c.taps + 1);
  Output<float> partial(slabs * columns);
  launch({(c.width + threads - 1) / threads, slabs, 1}, threads, [&] {
    convolution::short_convolution_grad_taps(dSum.data(), x.data(), s, partial.data(), shape, slab);
  });
  Output<float> dTaps(taps.size()), dBias(c.width);
  for (int i = 0; i < columns; i++) {
    float sum = 0;
    for (int k = 0; k < slabs; k++) sum += partial.values[k * columns + i];
    (i < c.width * c.taps ? dTaps.values[i] : dBias.values[i - c.width * c.taps]) = sum;
  }
  compare("taps", dTaps, taps);
  compare("bias", dBias, total);
}

int main() {
  for (const Case& c : {Case{1, 1, 8, 4, 1, true, true}, Case{2, 37, 24, 4, 1, true, true}, Case{2, 3, 16, 4, 0, false, false},
                        Case{1, 20, 7, 4, 1, false, true}, Case{2, 18, 8, 3, 1, true, false}, Case{1, 5, 9, 9, 0, true, true}})
    check(c);
  report();
}
