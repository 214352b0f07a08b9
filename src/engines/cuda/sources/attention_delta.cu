// What the gradient of attention takes off every row of dP: delta[b,h,t] = Σ dy·out of rows [b,t,h]. Bound by memory. HEAD is the head
// width rounded up to 32, 64, 128 or 256.
#include "common.cuh"

#ifndef HEAD
#define HEAD 128
#endif

// LANES threads share a row and have ROWS rows: those of a warp are of one head and follow each other in t, so that what it writes
// lies together.
KERNEL attention_delta(const scalar* dy, const scalar* out, float* delta, int batch, int time, int heads, int width) {
  griddep_sync();
  constexpr int LANES = HEAD / 8, GROUPS = 32 / LANES, STRIP = ROWS * GROUPS;
  const int lane = threadIdx.x & 31, part = lane % LANES, group = lane / LANES, strips = (time + STRIP - 1) / STRIP;
  const u32 unit = global_thread() >> 5;
  const int head = unit % heads, start = unit / heads % strips * STRIP;
  const i64 sequence = unit / heads / strips;
  if (sequence >= batch) return;
  Packed d[ROWS] = {}, o[ROWS] = {};
  float sum[ROWS] = {};
#pragma unroll
  for (int j = 0; j < ROWS; j++) {
    const int t = start + j * GROUPS + group;
    const i64 row = ((sequence * time + t) * heads + head) * width;
    if (t >= time) continue;
    if ((width & 7) != 0) {
      for (int i = part; i < width; i += LANES) sum[j] += to_float(dy[row + i]) * to_float(out[row + i]);
    } else if (part * 8 < width) {
      d[j] = *(const Packed*)(dy + row + part * 8);
      o[j] = *(const Packed*)(out + row + part * 8);
    }
  }
  float own = 0.0f;
#pragma unroll
  for (int j = 0; j < ROWS; j++) {
#pragma unroll
    for (int i = 0; i < 8; i++) sum[j] += value_of(d[j], i) * value_of(o[j], i);
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset >>= 1) sum[j] += __shfl_xor_sync(0xffffffffu, sum[j], offset);
    if (part == j) own = sum[j];
  }
  const int t = start + part * GROUPS + group;
  if (part < ROWS && t < time) delta[(sequence * heads + head) * time + t] = own;
}
