// Projections to few columns and their gradients, on the emulator against plain float64: every number of columns, odd rows and widths.
#include "compare.h"

namespace narrow {
#include "linear_narrow.cu"
}

static int blocks(int size, int each) { return (size + each - 1) / each; }

static void projection(int rows, int inner, int columns) {
  auto x = random_scalars((size_t)rows * inner), weight = random_scalars((size_t)columns * inner);
  Output<scalar> y((size_t)rows * columns);
  Values expected(y.size);
  for (int row = 0; row < rows; row++)
    for (int column = 0; column < columns; column++)
      for (int i = 0; i < inner; i++)
        expected[row * columns + column] += as_double(x[row * inner + i]) * as_double(weight[column * inner + i]);
  launch({blocks(rows, 16), 1, 1}, 128,
         [&] { narrow::linear_narrow(x.data(), weight.data(), y.data(), rows, inner, columns); });
  compare("projection", y, expected);
}

static void input_gradient(int rows, int inner, int columns, bool added) {
  auto dy = random_scalars((size_t)rows * columns), weight = random_scalars((size_t)columns * inner),
       add = random_scalars((size_t)rows * inner);
  Output<scalar> dx((size_t)rows * inner);
  Values expected = added ? as_doubles(add.data(), rows * inner) : Values(dx.size);
  for (int row = 0; row < rows; row++)
    for (int column = 0; column < columns; column++)
      for (int i = 0; i < inner; i++)
        expected[row * inner + i] += as_double(dy[row * columns + column]) * as_double(weight[column * inner + i]);
  launch({blocks(inner, 256), blocks(rows, 64), 1}, 128, [&] {
    narrow::linear_narrow_input_grad(dy.data(), weight.data(), added ? add.data() : nullptr, dx.data(), rows, inner, columns);
  });
  compare(added ? "input gradient: added" : "input gradient", dx, expected);
}

static void weight_gradient(int rows, int inner, int columns, int slices) {
  auto x = random_scalars((size_t)rows * inner), dy = random_scalars((size_t)rows * columns);
  const int size = columns * inner;
  Output<float> partial((size_t)slices * size);
  Output<scalar> dWeight(size);
  Values expected(size);
  for (int row = 0; row < rows; row++)
    for (int i = 0; i < size; i++)
      expected[i] += as_double(dy[row * columns + i / inner]) * as_double(x[row * inner + i % inner]);
  launch({blocks(inner, 64), slices, 1}, 256,
         [&] { narrow::linear_narrow_weight_grad(dy.data(), x.data(), partial.data(), rows, inner, columns); });
  launch({blocks(size, 32), 1, 1}, 256, [&] { narrow::linear_narrow_sum(partial.data(), dWeight.data(), size, slices); });
  if (!partial.is_guarded()) note("weight gradient", NAN);
  compare("weight gradient", dWeight, expected);
}

int main() {
  for (int columns = 1; columns <= 7; columns++) {
    projection(between(1, 50), 8 * between(1, 40), columns);
    const int inner = 8 * between(1, 40);
    input_gradient(between(1, 150), inner, columns, columns % 2);
    weight_gradient(between(1, 300), 8 * between(1, 20), columns, between(1, 5));
  }
  projection(16, 768, 3);
  projection(7, 8, 7);
  input_gradient(65, 264, 3, false);
  weight_gradient(129, 72, 3, 12);
  report();
}
