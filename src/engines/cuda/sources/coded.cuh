// What attention over a compressed cache has in common. A query sees its own group of 64 positions as computed (`Raw`) and earlier
// groups as coded.
#pragma once
#include "codes.cuh"

#define INFINITE __int_as_float(0x7f800000)

struct Problem {
  int tq, heads, kvHeads, pageSize;
  float scale;
};
// Keys and values as computed, [B, Hkv, rows, HEAD]; row 0 holds position `start`, or (a negative start) row p mod 2 groups holds
// position p.
struct Raw {
  const scalar* keys;
  const scalar* values;
  int rows, start;
};
DEVICE int raw_row(const Raw& raw, int position) {
  return raw.start < 0 ? position % (2 * GROUP) : position - raw.start;
}
