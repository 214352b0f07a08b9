// Norms and losses, which reduce rows, on the emulator against plain float64: random shapes.
#include "compare.h"

namespace norm {
#include "norm.cu"
}
namespace loss {
#include "cross_entropy.cu"
}

static void rms_norm(int rows, int width, bool weighted, bool gated = false, int perThread = 4) {
  const size_t size = (size_t)rows * width;
  const auto x = random_scalars(size), weight = random_scalars(width), gate = random_scalars(size);
  const float eps = 1e-5f;
  Values expected(size);
  for (int row = 0; row < rows; row++) {
    double square = 0;
    for (int i = 0; i < width; i++) square += std::pow(as_double(x[(size_t)row * width + i]), 2);
    for (int i = 0; i < width; i++) {
      const size_t at = (size_t)row * width + i;
      const double g = as_double(gate[at]);
      expected[at] = as_double(x[at]) / std::sqrt(square / width + eps) * (weighted ? as_double(weight[i]) : 1) *
                     (gated ? g / (1 + std::exp(-g)) : 1);
    }
  }
  Output<scalar> out(size);
  const scalar *scales = weighted ? weight.data() : nullptr, *gates = gated ? gate.data() : nullptr;
  const int packs = width / 8;
  if (width % 8 != 0) {
    launch({rows, 1, 1}, 256, [&] { norm::rms_norm_any(x.data(), scales, gates, out.data(), rows, width, 0, eps); });
  } else if (packs <= 32) {
    int lanes = 1;
    while (4 * lanes < packs) lanes *= 2;
    launch({(rows * lanes + 255) / 256, 1, 1}, 256,
           [&] { norm::rms_norm_small(x.data(), scales, gates, out.data(), rows, packs, lanes, eps); });
  } else {
    launch({rows, 1, 1}, min(1024, ((packs + perThread - 1) / perThread + 31) / 32 * 32),
           [&] { norm::rms_norm(x.data(), scales, gates, out.data(), rows, packs, 0, eps); });
  }
  compare(gated ? "norm: gated" : width % 8 ? "norm: any width" : packs <= 32 ? "norm: narrow" : "norm: wide", out,
          expected);
}

template <typename T>
static void cross_entropy(const char* name, const std::vector<T>& logits, int rows, int extent,
                          void (*kernel)(const T*, const int*, float*, float*, i64)) {
  Values losses(rows), sums(rows);
  std::vector<int> targets(rows);
  for (int row = 0; row < rows; row++) {
    targets[row] = row == 1 ? -1 : between(0, extent - 1);
    double total = 0;
    for (int i = 0; i < extent; i++) total += std::exp(as_double(logits[(size_t)row * extent + i]));
    sums[row] = std::log(total);
    losses[row] = sums[row] - (row == 1 ? 0 : as_double(logits[(size_t)row * extent + targets[row]]));
  }
  Output<float> loss(rows), sum(rows);
  launch({rows, 1, 1}, 512, [&] { kernel(logits.data(), targets.data(), loss.data(), sum.data(), extent); });
  compare(name, loss, losses);
  compare(name, sum, sums);
}

int main() {
  for (const int width : {8, 40, 256, 264, 1032, 4104, 7, 301}) rms_norm(between(1, 5), width, width % 16 != 0);
  for (const int width : {264, 1032, 4104, 9000}) rms_norm(2, width, true, false, width > 8192 ? 2 : 1);  // few rows
  for (const int width : {8, 40, 301, 1032}) rms_norm(between(1, 5), width, width == 40, true);
  rms_norm(70, 64, true);  // rows that do not fill the last block
  for (const int extent : {1, 31, 512, 513, 4096, 4097, 9001}) {
    cross_entropy("loss", random_scalars(3 * extent, 3), 3, extent, loss::cross_entropy);
    cross_entropy("loss: float32", random_floats(3 * extent, 3), 3, extent, loss::cross_entropy_raw);
  }
  std::vector<float> broken = random_floats(500);  // one a thread
  broken[between(0, 499)] = NAN;
  Output<float> sums(1), losses(1);
  const int target = 0;
  launch({1, 1, 1}, 512, [&] { loss::cross_entropy_raw(broken.data(), &target, losses.data(), sums.data(), 500); });
  note("loss: a NaN shows", std::isnan(sums.values[0]) ? 0 : 1);
  report();
}
