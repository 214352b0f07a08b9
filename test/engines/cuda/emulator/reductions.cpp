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
  } else if (packs <= (rows > 64 ? 128 : 32)) {
    int lanes = 1;
    while (4 * lanes < packs || (lanes < 4 && lanes < packs)) lanes *= 2;
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
                          void (*block)(const T*, const int*, float*, float*, i64, i64),
                          void (*narrow)(const T*, const int*, float*, float*, i64, i64)) {
  Values losses(rows), sums(rows);
  std::vector<int> targets(rows);
  for (int row = 0; row < rows; row++) {
    targets[row] = row == 1 ? -1 : between(0, extent - 1);
    double total = 0;
    for (int i = 0; i < extent; i++) total += std::exp(as_double(logits[(size_t)row * extent + i]));
    sums[row] = std::log(total);
    losses[row] = sums[row] - (row == 1 ? 0 : as_double(logits[(size_t)row * extent + targets[row]]));
  }
  // By rules of its own a row is taken by a warp or a block: here by both.
  for (const bool isNarrow : {false, true}) {
    if (isNarrow && extent > 1024) continue;
    Output<float> loss(rows), sum(rows);
    launch({isNarrow ? (rows + 7) / 8 : rows, 1, 1}, isNarrow ? 256 : min(512, (extent + 1023) / 1024 * 32), [&] {
      (isNarrow ? narrow : block)(logits.data(), targets.data(), loss.data(), sum.data(), rows, extent);
    });
    compare(name, loss, losses);
    compare(name, sum, sums);
  }
}

// A NaN alone in a row shows.
static void broken(int extent) {
  std::vector<float> logits = random_floats(extent);
  logits[between(0, extent - 1)] = NAN;
  Output<float> sums(1), losses(1);
  const int target = 0;
  const auto kernel = extent > 1024 ? loss::cross_entropy_raw : loss::cross_entropy_raw_narrow;
  launch({1, 1, 1}, 256, [&] { kernel(logits.data(), &target, losses.data(), sums.data(), 1, extent); });
  note("loss: a NaN shows", std::isnan(sums.values[0]) ? 0 : 1);
}

int main() {
  for (const int width : {8, 40, 256, 264, 1032, 4104, 7, 301}) rms_norm(between(1, 5), width, width % 16 != 0);
  for (const int width : {264, 1032, 4104, 9000}) rms_norm(2, width, true, false, width > 8192 ? 2 : 1);  // few rows
  for (const int width : {8, 40, 301, 1032}) rms_norm(between(1, 5), width, width == 40, true);
  for (const int width : {64, 768, 1000}) rms_norm(70, width, true, width == 1000);  // rows that do not fill the last block
  for (const int extent : {1, 31, 264, 512, 513, 1024, 4096, 4097, 9001}) {
    const int rows = extent < 1000 ? 11 : 3;
    cross_entropy("loss", random_scalars(rows * extent, 3), rows, extent, loss::cross_entropy, loss::cross_entropy_narrow);
    cross_entropy("loss: float32", random_floats(rows * extent, 3), rows, extent, loss::cross_entropy_raw,
                  loss::cross_entropy_raw_narrow);
  }
  cross_entropy("loss", random_scalars(100288, 3), 1, 100288, loss::cross_entropy, loss::cross_entropy_narrow);
  for (const int extent : {1, 500, 3001}) broken(extent);
  report();
}
