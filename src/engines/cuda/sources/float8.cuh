// e4m3 (OCP 8-bit floating point, ops/attention/small-floats.ts) without its hardware, and the power of two that goes with a group.
#pragma once
#include "common.cuh"

DEVICE float power_of_two(int exponent) { return __int_as_float((exponent + 127) << 23); }
DEVICE int exponent_of(float x) { return (int)((__float_as_uint(x) >> 23) & 255) - 127; }

DEVICE u32 float8_bits(float x) {
  if (!(x == x)) return 0x7f;
  const float magnitude = fminf(448.0f, fabsf(x));
  const u32 sign = x < 0.0f ? 0x80 : 0;
  if (magnitude < power_of_two(-6)) return sign | (u32)rintf(magnitude * 512.0f);
  const int exponent = exponent_of(magnitude);
  return sign | (((exponent + 7) << 3) + (u32)rintf((magnitude * power_of_two(-exponent) - 1.0f) * 8.0f));
}
DEVICE float float8_value(u32 byte) {
  const int exponent = (byte >> 3) & 15, mantissa = byte & 7;
  const float sign = byte & 0x80 ? -1.0f : 1.0f;
  if (exponent == 15 && mantissa == 7) return __int_as_float(0x7fc00000);
  return exponent == 0 ? sign * mantissa * power_of_two(-9) : sign * (8 + mantissa) * power_of_two(exponent - 10);
}
// The power of two that brings elements up to `largest` into the range of float8.
DEVICE float float8_factor(float largest) {
  if (!(largest < __int_as_float(0x7f800000))) return __int_as_float(0x7fc00000);
  if (largest == 0.0f) return 1.0f;
  const float ratio = largest / 448.0f;
  const int exponent = exponent_of(ratio);
  return power_of_two(max(-100, ratio > power_of_two(exponent) ? exponent + 1 : exponent));
}
