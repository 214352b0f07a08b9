// Attention of a few queries on the emulator against plain float64: random shapes, keys and values in pages, as computed and
// as recorded.
#include "compare.h"

#define HEAD 32
namespace decode32 {
#include "attention_decode.cu"
}
#undef HEAD
#define HEAD 64
namespace decode64 {
#include "attention_decode.cu"
}

// One case of attention: keys in pages, the last one poisoned behind the last key.
struct Attention {
  int width;
  std::function<void(const scalar* q, const std::vector<const scalar*>& pages, i64 batch, i64 head, int pageSize,
                     float* partial, int tq, const int* origin, int length, int heads, int kvHeads, int window, float scale,
                     int most, const double* frequencies, int start, int half)>
      split;
  std::function<void(const float*, scalar*, float*, int, int, int, int)> join;
};
#define ATTENTION(space, head)                                                                                            \
  {                                                                                                                       \
    head,                                                                                                                 \
        [](const scalar* q, const std::vector<const scalar*>& pages, i64 batch, i64 position, int pageSize,               \
           float* partial, int tq, const int* origin, int length, int heads, int kvHeads, int window, float scale,        \
           int most, const double* frequencies, int start, int half) {                                                    \
          const space::Cache cache = {pages.data(),  pages.data() + pages.size() / 2, batch, head, position,              \
                                      (i64)pageSize};                                                                     \
          space::attention_split(q, cache, partial, tq, origin, length, heads, kvHeads, window, scale, most, frequencies, \
                                 origin, start, half);                                                                    \
        },                                                                                                                \
        space::attention_join                                                                                             \
  }

static void attention(const Attention& on, int batches, int kvHeads, int group, int tq, int tk, int pageSize, int window,
                      int most, Turn turn = NOT) {
  const int heads = kvHeads * group, width = on.width, rows = group * tq;
  const float scale = 1 / std::sqrt((float)width);
  const std::vector<double> frequencies = frequencies_of(width);
  std::vector<scalar> q = random_scalars((size_t)batches * tq * heads * width);
  Pages pages(batches, kvHeads, width, pageSize, tk);
  Values expected(q.size()), expectedSums((size_t)batches * heads * tq);
  for (int batch = 0; batch < batches; batch++)
    for (int query = 0; query < tq; query++)
      for (int head = 0; head < heads; head++) {
        const size_t row = (((size_t)batch * tq + query) * heads + head) * width;
        const int last = tk - tq + query, first = window ? max(0, last - window + 1) : 0;
        const Values turned = turn ? rotated(&q[row], width, last, turn == HALVES) : as_doubles(&q[row], width);
        double total = 0;
        for (int position = first; position <= last; position++) {
          const scalar *key = pages.row(0, batch, head / group, position), *value = pages.row(1, batch, head / group, position);
          double score = 0;
          for (int i = 0; i < width; i++) score += turned[i] * as_double(key[i]);
          const double weight = std::exp(score * scale);
          total += weight;
          for (int i = 0; i < width; i++) expected[row + i] += weight * as_double(value[i]);
        }
        for (int i = 0; i < width; i++) expected[row + i] /= total;
        expectedSums[((size_t)batch * heads + head) * tq + query] = std::log(total);
      }
  // As computed, and as recorded at another position: with room for more splits, and the length read from memory. Then queries,
  // and the keys and values of the step's positions, come from the kernel before.
  const int perSplit = max(256, ((tk + most - 1) / most + 15) / 16 * 16), needed = (tk + perSplit - 1) / perSplit;
  const int place = tk - tq;
  std::vector<scalar> computed;
  for (const bool recorded : {false, true}) {
    const int splits = recorded ? most : needed;
    Output<float> partial((size_t)batches * kvHeads * splits * rows * (width + 2)), sums(expectedSums.size());
    Output<scalar> out(expected.size());
    std::vector<Late> late = {{q.data(), q}};
    for (int kind = 0; kind < 2; kind++)
      for (int batch = 0; batch < batches; batch++)
        for (int head = 0; head < kvHeads; head++)
          for (int position = place; position < tk; position++) {
            scalar* row = pages.row(kind, batch, head, position);
            late.push_back({row, std::vector<scalar>(row, row + width)});
          }
    if (recorded) wait_for(late);
    launch({splits, kvHeads, batches}, 128, [&] {
      on.split(q.data(), pages.table, (i64)kvHeads * pageSize * width, (i64)pageSize * width, pageSize, partial.data(), tq,
               recorded ? &place : nullptr, recorded ? tq : tk, heads, kvHeads, window, scale, most,
               turn ? frequencies.data() : nullptr, recorded ? 0 : place, turn == HALVES);
    });
    previous = nullptr;
    launch({heads, tq, batches}, 8 * width,
           [&] { on.join(partial.data(), out.data(), sums.data(), tq, heads, kvHeads, splits); });
    compare(turn ? "attention: rotated" : "attention", out, expected);
    compare("attention: sums", sums, expectedSums);
    if (!partial.is_guarded()) note("attention", NAN);
    if (!recorded) computed = out.values;
    else note("attention: recorded", memcmp(computed.data(), out.data(), computed.size() * 2) == 0 ? 0 : 1);
  }
}

int main() {
  const Attention on[] = {ATTENTION(decode32, 32), ATTENTION(decode64, 64)};
  for (const int length : {1, 63, 64, 65, 255, 256, 257}) attention(on[0], 1, 1, between(1, 3), 1, length, 64, 0, 4);
  for (int group = 1; group <= 3; group++) attention(on[group % 2], 1, 1, group, 1, between(257, 600), 128, 0, 3);
  attention(on[0], 2, 2, 2, 3, 40, 16, 0, 2);                  // several sequences, heads and queries; pages below a step
  attention(on[0], 1, 1, 1, 2, 330, 4096, between(3, 60), 2);  // a window that leaves the first split nothing
  for (const Turn turn : {NEIGHBOURS, HALVES}) {
    attention(on[0], 2, 2, 2, between(1, 4), between(260, 400), 64, 0, 3, turn);
    attention(on[1], 1, 2, 3, 1, between(5, 1000), 256, 0, 4, turn);
    attention(on[1], 1, 1, 1, 2, 330, 4096, between(3, 60), 2, turn);
  }
  report();
}
