// Two projections and SwiGLU on the emulated Hopper against their definition.
#include "common.cuh"
#include "hopper.cuh"
#include "linear_swiglu_hopper.cu"

#include "compare.h"

static TensorMap rows_of(const scalar* x, i64 width, i64 rows, int box) {
  return tensor_map({x, {width, rows, 1, 1}, {1, width, width * rows, width * rows}, box});
}
static void check(const std::string& name, int rows, int columns, int inner, int blocks) {
  const double scale = 2 / std::sqrt((double)inner);
  const auto x = random_scalars((size_t)rows * inner), activated = random_scalars((size_t)columns * inner, scale);
  const auto gate = random_scalars((size_t)columns * inner, scale);
  const auto product = [&](const std::vector<scalar>& weight, int row, int column) {
    double sum = 0;
    for (int k = 0; k < inner; k++)
      sum += as_double(x[(size_t)row * inner + k]) * as_double(weight[(size_t)column * inner + k]);
    return as_double(from_float(sum));
  };
  Values expected((size_t)rows * columns);
  for (int row = 0; row < rows; row++)
    for (int column = 0; column < columns; column++) {
      const double a = product(activated, row, column);
      expected[(size_t)row * columns + column] = a / (1 + std::exp(-a)) * product(gate, row, column);
    }
  const Grid grid = {(rows + TILE - 1) / TILE, (columns + TILE - 1) / TILE, (inner + 63) / 64};
  for (const bool early : {false, true}) {
    eager = early;
    Output<scalar> y((size_t)rows * columns);
    const TensorMap mapX = rows_of(x.data(), inner, rows, TILE), mapY = rows_of(y.data(), columns, rows, 16);
    const TensorMap mapA = rows_of(activated.data(), inner, columns, TILE);
    const TensorMap mapG = rows_of(gate.data(), inner, columns, TILE);
    launch({blocks, 1, 1}, 384, [&] { linear_swiglu_hopper(mapX, mapA, mapG, mapY, grid); });
    compare(name, y, expected);
  }
}

int main() {
  check("few", 5, 8, 8, 1);
  check("odd", 330, 264, 392, 2);    // more slices than stages
  check("even", 300, 136, 256, 1);   // as many
  check("bands", 2200, 136, 72, 3);  // fewer, and more rows of tiles than a band has
  report();
}
