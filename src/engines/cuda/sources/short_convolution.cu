// Causal depthwise convolution over a few positions, y_t = f(bias + Σ_j weight_j x_{t−K+1+j}), f the identity or silu, and its
// gradient. The inputs before the first are the state's, or zeros; weight [width, taps].
#include "common.cuh"

struct Shape {
  int batch, time, width, taps, silu;
};
struct Operands {
  const scalar *x, *weight, *bias, *state;  // bias and state may be null
};

// N channels of position t, which may be one of the state's.
template <int N>
DEVICE void load_input(float (&to)[N], const Operands& o, const Shape& s, int batch, int t, int channel) {
  const int ahead = s.taps - 1;
  const scalar* from = nullptr;
  if (t >= 0) from = o.x + ((i64)batch * s.time + t) * s.width + channel;
  else if (o.state) from = o.state + ((i64)batch * ahead + ahead + t) * s.width + channel;
  Pack<scalar, N> p = {};
  if (from) p = *(const Pack<scalar, N>*)from;
#pragma unroll
  for (int n = 0; n < N; n++) to[n] = to_float(p.v[n]);
}

// Where a thread's strip begins: channels run fastest, then strips of a sequence. The strip behind the last is the state's.
struct Place {
  int batch, strip, channel;
};
template <int N>
DEVICE bool find_place(Place& place, const Shape& s) {
  const int packs = s.width / N, strips = (s.time + STRIP - 1) / STRIP + 1;
  const i64 thread = global_thread();
  if (thread >= (i64)s.batch * strips * packs) return false;
  place.channel = (int)(thread % packs) * N;
  place.strip = (int)(thread / packs % strips);
  place.batch = (int)(thread / packs / strips);
  return true;
}

// The sums of a strip's positions, before f: `take(t, sums)` has each. TAPS: their number, or 0 for any.
template <int N, int TAPS, typename Take>
DEVICE void sum_strip(const Operands& o, const Shape& s, const Place& p, Take take) {
  constexpr int KEPT = TAPS > 0 ? TAPS : 1;
  const int first = p.strip * STRIP, end = min(s.time, first + STRIP);
  float bias[N], weights[KEPT][N], window[KEPT][N], sums[N];
#pragma unroll
  for (int n = 0; n < N; n++) bias[n] = o.bias ? to_float(o.bias[p.channel + n]) : 0.0f;
  if (TAPS > 0) {
#pragma unroll
    for (int j = 0; j < TAPS; j++) {
#pragma unroll
      for (int n = 0; n < N; n++) weights[j][n] = to_float(o.weight[(p.channel + n) * TAPS + j]);
      if (j < TAPS - 1) load_input<N>(window[j], o, s, p.batch, first - TAPS + 1 + j, p.channel);
    }
  }
  for (int t = first; t < end; t++) {
#pragma unroll
    for (int n = 0; n < N; n++) sums[n] = bias[n];
    if (TAPS > 0) {
      load_input<N>(window[KEPT - 1], o, s, p.batch, t, p.channel);
#pragma unroll
      for (int j = 0; j < KEPT; j++)
#pragma unroll
        for (int n = 0; n < N; n++) {
          sums[n] += weights[j][n] * window[j][n];
          if (j > 0) window[j - 1][n] = window[j][n];
        }
    } else {
      for (int j = 0; j < s.taps; j++) {
        float input[N];
        load_input<N>(input, o, s, p.batch, t - s.taps + 1 + j, p.channel);
#pragma unroll
        for (int n = 0; n < N; n++) sums[n] += to_float(o.weight[(p.channel + n) * s.taps + j]) * input[n];
      }
    }
    take(t, sums);
  }
}

// y of a strip; the strip behind the last copies the last inputs.
template <int N, int TAPS>
DEVICE void convolve(const Operands& o, scalar* y, scalar* last, const Shape& s) {
  Place p;
  if (!find_place<N>(p, s)) return;
  Pack<scalar, N> out;
  if (p.strip * STRIP >= s.time) {
    for (int i = 0; i < s.taps - 1; i++) {
      float input[N];
      load_input<N>(input, o, s, p.batch, s.time - s.taps + 1 + i, p.channel);
#pragma unroll
      for (int n = 0; n < N; n++) out.v[n] = from_float(input[n]);
      *(Pack<scalar, N>*)(last + ((i64)p.batch * (s.taps - 1) + i) * s.width + p.channel) = out;
    }
    return;
  }
  sum_strip<N, TAPS>(o, s, p, [&](int t, const float (&sums)[N]) {
#pragma unroll
    for (int n = 0; n < N; n++) out.v[n] = from_float(s.silu ? sums[n] * sigmoid_fast(sums[n]) : sums[n]);
    *(Pack<scalar, N>*)(y + ((i64)p.batch * s.time + t) * s.width + p.channel) = out;
  });
}
KERNEL short_convolution(const scalar* x, const scalar* weight, const scalar* bias, const scalar* state, scalar* y,
                         scalar* last, const Shape s) {
  griddep_sync();
  const Operands o = {x, weight, bias, state};
  const bool packed = s.width % WIDTH == 0;
  if (packed && s.taps == 4) convolve<WIDTH, 4>(o, y, last, s);
  else if (packed) convolve<WIDTH, 0>(o, y, last, s);
  else convolve<1, 0>(o, y, last, s);
}

// dSum = dOutput · f′(sum), float32 [batch, time, width], the sums computed again.
template <int N, int TAPS>
DEVICE void slope(const Operands& o, const scalar* dOutput, float* dSum, const Shape& s) {
  Place p;
  if (!find_place<N>(p, s) || p.strip * STRIP >= s.time) return;
  sum_strip<N, TAPS>(o, s, p, [&](int t, const float (&sums)[N]) {
    const i64 at = ((i64)p.batch * s.time + t) * s.width + p.channel;
    const Pack<scalar, N> d = *(const Pack<scalar, N>*)(dOutput + at);
#pragma unroll
    for (int n = 0; n < N; n++) {
      const float z = sums[n], slope = s.silu ? sigmoid_fast(z) * (1.0f + z * sigmoid_fast(-z)) : 1.0f;
      dSum[at + n] = to_float(d.v[n]) * slope;
    }
  });
}
KERNEL short_convolution_slope(const scalar* x, const scalar* weight, const scalar* bias, const scalar* state,
                               const scalar* dOutput, float* dSum, const Shape s) {
  const Operands o = {x, weight, bias, state};
  const bool packed = s.width % WIDTH == 0;
  if (packed && s.taps == 4) slope<WIDTH, 4>(o, dOutput, dSum, s);
  else if (packed) slope<WIDTH, 0>(o, dOutput, dSum, s);
  else slope<1, 0>(o, dOutput, dSum, s);
}

// Gradients of the state's inputs and then of x's: Σ_j weight_j dSum_{p−j} at place p of both together, and the gradient of
// the last state, which the last K − 1 of them are as well.
KERNEL short_convolution_grad_input(const float* dSum, const scalar* weight, const scalar* dState, scalar* dx,
                                    scalar* dFirst, const Shape s) {
  const int ahead = s.taps - 1;
  const i64 size = (i64)s.batch * (s.time + ahead) * s.width;
  for (i64 i = global_thread(); i < size; i += global_threads()) {
    const int channel = (int)(i % s.width), place = (int)(i / s.width % (s.time + ahead));
    const int batch = (int)(i / s.width / (s.time + ahead));
    float sum = place >= s.time ? to_float(dState[((i64)batch * ahead + place - s.time) * s.width + channel]) : 0.0f;
    for (int j = 0; j < s.taps; j++) {
      const int t = place - j;
      if (t >= 0 && t < s.time)
        sum += to_float(weight[channel * s.taps + j]) * dSum[((i64)batch * s.time + t) * s.width + channel];
    }
    if (place < ahead) dFirst[((i64)batch * ahead + place) * s.width + channel] = from_float(sum);
    else dx[((i64)batch * s.time + place - ahead) * s.width + channel] = from_float(sum);
  }
}

// Sums over a slab of rows: partial[slab] = [width · taps | width], the gradients of the taps and of the bias. A thread has one
// channel; grid (channels / threads, slabs).
KERNEL short_convolution_grad_taps(const float* dSum, const scalar* x, const scalar* state, float* partial,
                                   const Shape s, int slab) {
  const Operands o = {x, nullptr, nullptr, state};
  const int channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (channel >= s.width) return;
  const i64 rows = (i64)s.batch * s.time, first = (i64)blockIdx.y * slab;
  const i64 end = first + slab < rows ? first + slab : rows;
  float* to = partial + (i64)blockIdx.y * s.width * (s.taps + 1);
  for (int group = 0; group < s.taps; group += 4) {
    float sums[4] = {}, total = 0.0f;
    for (i64 row = first; row < end; row++) {
      const float d = dSum[row * s.width + channel];
      const int batch = (int)(row / s.time), t = (int)(row % s.time);
      total += d;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        if (group + j >= s.taps) continue;
        float input[1];
        load_input<1>(input, o, s, batch, t - s.taps + 1 + group + j, channel);
        sums[j] += d * input[0];
      }
    }
#pragma unroll
    for (int j = 0; j < 4; j++)
      if (group + j < s.taps) to[channel * s.taps + group + j] = sums[j];
    if (group == 0) to[s.width * s.taps + channel] = total;
  }
}
