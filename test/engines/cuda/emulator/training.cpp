// The gradient of the loss on the emulator against plain float64: rows of any length, apart, in place, and of float32 logits. Prints lines of a
// name and the relative error.
#include "common.cuh"

namespace loss {
#include "cross_entropy.cu"
}

#include <random>

static std::mt19937 generator(7);
static double normal() {
  static std::normal_distribution<double> bell;
  return bell(generator);
}

static double error(const scalar* found, const std::vector<double>& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    difference += std::pow(to_float(found[i]) - expected[i], 2);
    norm += std::pow(expected[i], 2);
  }
  return std::sqrt(difference / norm);
}

// dy·(softmax − one-hot); the second row's target is no word of the vocabulary.
enum class Logits { apart, in_place, raw };
static double loss_gradient(int extent, Logits kind) {
  const int rows = 3;
  std::vector<scalar> logits(rows * extent), apart(rows * extent, scalar{0xffff});
  std::vector<float> sums(rows), dy(rows);
  std::vector<double> expected(rows * extent);
  const std::vector<int> targets = {extent - 1, -1, extent / 2};
  for (scalar& x : logits) x = from_float(3 * normal());
  std::vector<float> raw;
  for (const scalar& x : logits) raw.push_back(to_float(x));
  for (int row = 0; row < rows; row++) {
    double sum = 0;
    for (int i = 0; i < extent; i++) sum += std::exp(to_float(logits[row * extent + i]));
    sums[row] = std::log(sum);
    dy[row] = normal();
    for (int i = 0; i < extent; i++)
      expected[row * extent + i] =
          dy[row] * (std::exp(to_float(logits[row * extent + i])) / sum - (i == targets[row] ? 1 : 0));
  }
  scalar* out = kind == Logits::in_place ? logits.data() : apart.data();
  const int packs = rows * (extent % 4 == 0 ? extent / 4 : extent);
  if (kind == Logits::raw)
    launch({(packs + 1023) / 1024, 1, 1}, 256, [&] {
      loss::cross_entropy_grad_raw(raw.data(), targets.data(), sums.data(), dy.data(), out, rows, extent);
    });
  else
    launch({rows, 1, 1}, 512, [&] {
      loss::cross_entropy_grad(logits.data(), targets.data(), sums.data(), dy.data(), out, extent);
    });
  return error(out, expected);
}

int main() {
  for (const int extent : {501, 40, 20000}) {
    printf("loss gradient of %d\t%g\n", extent, loss_gradient(extent, Logits::apart));
    printf("loss gradient of %d, in place\t%g\n", extent, loss_gradient(extent, Logits::in_place));
    printf("loss gradient of %d, float32\t%g\n", extent, loss_gradient(extent, Logits::raw));
  }
}
