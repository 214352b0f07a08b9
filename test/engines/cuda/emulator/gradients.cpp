// Gradients of norms, and what that of attention takes off its rows, on the emulator against plain float64: random values.
#include "compare.h"

namespace norm {
#include "norm_grad.cu"
}
namespace rows {
#include "embedding_grad.cu"
}
#define HEAD 64
namespace head64 {
#include "attention_delta.cu"
}
#undef HEAD
#define HEAD 256
namespace head256 {
#include "attention_delta.cu"
}

static void rms_norm(int rows, int width, bool weighted, int blocks, bool residual) {
  const size_t size = (size_t)rows * width;
  const auto x = random_scalars(size), dy = random_scalars(size), weight = random_scalars(width), other = random_scalars(size);
  const float eps = 1e-5f;
  Values expected(size), gains(width);
  for (int row = 0; row < rows; row++) {
    const auto at = [&](const std::vector<scalar>& values, int i) { return as_double(values[(size_t)row * width + i]); };
    const auto scale = [&](int i) { return weighted ? as_double(weight[i]) : 1; };
    double square = 0, along = 0;
    for (int i = 0; i < width; i++) {
      square += at(x, i) * at(x, i);
      along += at(x, i) * at(dy, i) * scale(i);
    }
    const double factor = 1 / std::sqrt(square / width + eps);
    for (int i = 0; i < width; i++) {
      expected[(size_t)row * width + i] =
          factor * (at(dy, i) * scale(i) - at(x, i) * factor * factor * along / width) + (residual ? at(other, i) : 0);
      gains[i] += at(dy, i) * at(x, i) * factor;
    }
  }
  const int packs = width / 8;
  int lanes = 1;
  while (3 * lanes < packs || (lanes < 32 && lanes < packs)) lanes *= 2;
  const int held = (packs + lanes - 1) / lanes;
  const bool any = width % 8 != 0 || packs > 768;
  const auto kernel = any         ? norm::rms_norm_grad_any
                      : held == 1 ? norm::rms_norm_grad_1
                      : held == 2 ? norm::rms_norm_grad_2
                                  : norm::rms_norm_grad_3;
  Output<scalar> dx(size), gain(width);
  Output<float> partial((size_t)blocks * width);
  launch({blocks, 1, 1}, 256, [&] {
    kernel(dy.data(), x.data(), weighted ? weight.data() : nullptr, residual ? other.data() : nullptr, dx.data(),
           weighted ? partial.data() : nullptr, rows, any ? width : packs, any ? 0 : lanes, eps);
  });
  compare(any ? "norm: any width" : width <= 256 ? "norm: narrow" : "norm: wide", dx, expected);
  if (!weighted) return;
  launch({(width + 31) / 32, 1, 1}, 1024, [&] { norm::rms_norm_gain(partial.data(), gain.data(), blocks, width); });
  note("norm: shares", partial.is_guarded() ? 0 : NAN);
  compare("norm: gain", gain, gains);
}

template <int LARGEST, typename Kernel>
static void delta(Kernel kernel, int batches, int time, int heads, int width) {
  const size_t size = (size_t)batches * time * heads * width;
  const auto dy = random_scalars(size), out = random_scalars(size);
  Values expected((size_t)batches * heads * time);
  for (int batch = 0; batch < batches; batch++)
    for (int t = 0; t < time; t++)
      for (int head = 0; head < heads; head++)
        for (int i = 0; i < width; i++) {
          const size_t at = (((size_t)batch * time + t) * heads + head) * width + i;
          expected[((size_t)batch * heads + head) * time + t] += as_double(dy[at]) * as_double(out[at]);
        }
  Output<float> found(expected.size());
  const int of_warp = 4 * 32 / (LARGEST / 8), warps = batches * heads * ((time + of_warp - 1) / of_warp);
  launch({(warps + 7) / 8, 1, 1}, 256, [&] { kernel(dy.data(), out.data(), found.data(), batches, time, heads, width); });
  compare("attention: delta", found, expected);
}

// A quarter of the tokens are of the first id, and some of none.
static void embedding(int tokens, int vocabulary, int width) {
  const int chunk = 32, chunks = 2 * tokens / chunk;
  const auto dy = random_scalars((size_t)tokens * width);
  std::vector<int> ids(tokens);
  for (int& id : ids) id = between(0, 3) == 0 ? 0 : between(-1, vocabulary);
  Values expected((size_t)vocabulary * width);
  for (int token = 0; token < tokens; token++)
    for (int i = 0; i < width && ids[token] >= 0 && ids[token] < vocabulary; i++)
      expected[(size_t)ids[token] * width + i] += 0.5 * as_double(dy[(size_t)token * width + i]);
  std::vector<int> counts(vocabulary), starts(vocabulary), ordinals(tokens), used(2);
  Output<int> order(3 * tokens), owners(chunks);
  std::vector<u64> sums((size_t)chunks * width);
  Output<scalar> out(expected.size());
  const rows::Sorted sorted = {ids.data(),      counts.data(),       used.data(),          starts.data(),
                               ordinals.data(), order.values.data(), owners.values.data(), tokens,
                               vocabulary};
  const auto over = [](int threads, const std::function<void()>& kernel) { launch({(threads + 255) / 256, 1, 1}, 256, kernel); };
  over(tokens, [&] { rows::embedding_count(sorted); });
  over(vocabulary, [&] { rows::embedding_place(sorted); });
  over(tokens, [&] { rows::embedding_order(sorted); });
  const bool wide = width % 8 == 0;
  const int packs = wide ? width / 8 : width;
  over((vocabulary + chunks) * packs, [&] {
    (wide ? rows::embedding_grad : rows::embedding_grad_any)(sorted, dy.data(), out.data(), sums.data(), packs, 0.5f);
  });
  over(chunks * packs, [&] {
    (wide ? rows::embedding_grad_finish : rows::embedding_grad_finish_any)(sorted, sums.data(), out.data(), packs, 0.5f);
  });
  compare("embedding", out, expected);
  note("embedding", order.is_guarded() && owners.is_guarded() ? 0 : NAN);
}

int main() {
  for (const int tokens : {1, 40, 300, 1500})
    for (const int vocabulary : {1, 7, 300})
      for (const int width : {5, 24}) embedding(tokens, vocabulary, width);
  // In one block, in more than one round of several, and with blocks that have no rows.
  for (const int width : {1, 7, 8, 24, 64, 128, 256, 264, 520, 768, 1032, 2048, 3072, 6144, 6152})
    for (const bool weighted : {true, false}) {
      rms_norm(3, width, weighted, 1, weighted);
      for (const bool residual : {true, false}) rms_norm(width < 1000 ? 129 : 11, width, weighted, 3, residual);
      if (width == 64 || width == 768) rms_norm(1, width, weighted, 2, weighted);
    }
  for (const int time : {1, 3, 33, 70}) {
    delta<64>(head64::attention_delta, 2, time, 3, 64);
    delta<64>(head64::attention_delta, 1, time, 2, 40);
    delta<64>(head64::attention_delta, 3, time, 1, 33);
    delta<256>(head256::attention_delta, 2, time, 2, 256);
    delta<256>(head256::attention_delta, 1, time, 5, 136);
  }
  report();
}
