// A grid with more blocks in y or z than the hardware takes, launched in x alone: kernels see the grid that was meant.
#define FOLD_X 3
#define FOLD_Y 5
#include "compare.h"

KERNEL note_blocks(float* out) {
  const i64 row = (i64)blockIdx.z * gridDim.y + blockIdx.y;
  out[row * gridDim.x + blockIdx.x] = blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z + 1000 * gridDim.z;
}

int main() {
  const int depth = 4, count = FOLD_X * FOLD_Y * depth;
  Output<float> blocks(count);
  Values expected;
  for (int z = 0; z < depth; z++)
    for (int y = 0; y < FOLD_Y; y++)
      for (int x = 0; x < FOLD_X; x++) expected.push_back(x + 10 * y + 100 * z + 1000 * depth);
  launch({count, 1, 1}, 32, [&] { note_blocks(blocks.data()); });
  compare("blocks", blocks, expected);
  report();
}
