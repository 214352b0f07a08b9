// Rounding a row to float8 out of registers, for kernels of rows and for those that round what they make or read. For Hopper, which
// converts by instructions.
#pragma once
#include "float8.cuh"

// WIDTH codes.
struct alignas(WIDTH) Codes {
  u32 words[WIDTH / 4];
};

// Infinite for what is no finite number.
DEVICE float magnitude_of(float x) {
  const float magnitude = fabsf(x), infinite = __int_as_float(0x7f800000);
  return magnitude < infinite ? magnitude : infinite;
}
// A zero has no sign.
DEVICE u32 code_pair(float low, float high, float inverse) {
  return float8_pair(fmaf(low, inverse, 0.0f), fmaf(high, inverse, 0.0f));
}
DEVICE Codes codes_of(const Packed& p, float inverse) {
  Codes codes;
#pragma unroll
  for (int i = 0; i < WIDTH / 4; i++)
    codes.words[i] = code_pair(value_of(p, 4 * i), value_of(p, 4 * i + 1), inverse) |
                     code_pair(value_of(p, 4 * i + 2), value_of(p, 4 * i + 3), inverse) << 16;
  return codes;
}

// One row by the `threads` threads that have it, the `first` of which is this: lanes of a warp, or the whole block. `kept`: the packs
// that this thread has.
template <bool BLOCK>
DEVICE void round_kept(const Packed (&kept)[KEPT], Codes* codes, float* factor, int packs, int first, int threads,
                       bool valid) {
  float largest = 0.0f;
#pragma unroll
  for (int j = 0; j < KEPT; j++) {
    if (first + j * threads >= packs) continue;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) largest = fmaxf(largest, magnitude_of(value_of(kept[j], i)));
  }
  if (BLOCK) largest = block_max(largest);
  else
    for (int offset = threads >> 1; offset > 0; offset >>= 1)
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
  if (!valid) return;
  const float scale = float8_factor(largest), inverse = 1.0f / scale;
#pragma unroll
  for (int j = 0; j < KEPT; j++)
    if (first + j * threads < packs) codes[first + j * threads] = codes_of(kept[j], inverse);
  if (first == 0) *factor = scale;
}
