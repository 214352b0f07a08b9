// The general attention kernel on the emulator against plain float64: keys and values in pages; queries that are the last, that see
// all keys, or that have positions of their own.
#include "compare.h"

#define SHORT 32  // of the gradients, which are not run
#define HEAD 32
namespace narrow {
#include "attention.cu"
}
#undef HEAD
#define HEAD 64
namespace wide {
#include "attention.cu"
}

enum Seen { CAUSAL, ALL, POSITIONS };
struct Sizes {
  int batches, queries, keys, kvHeads, group, width, pageSize, window;
};

static const char* const NAMES[] = {"causal", "all keys", "positions"};

template <typename Source, typename Shape, typename Kernel>
static void attention(Kernel kernel, const Sizes& on, Seen seen) {
  const auto [batches, tq, tk, kvHeads, group, width, pageSize, window] = on;
  const int heads = kvHeads * group;
  const float scale = 1 / std::sqrt((float)width);
  const std::vector<scalar> q = random_scalars((size_t)batches * tq * heads * width, 1.5);
  Pages pages(batches, kvHeads, width, pageSize, tk);
  std::vector<int> positions((size_t)batches * tq);
  for (int& position : positions) position = between(0, tk - 1);

  Values expected(q.size()), expectedSums((size_t)batches * heads * tq);
  for (int batch = 0; batch < batches; batch++)
    for (int query = 0; query < tq; query++)
      for (int head = 0; head < heads; head++) {
        const size_t row = (((size_t)batch * tq + query) * heads + head) * width;
        const int last = seen == ALL ? tk - 1 : seen == CAUSAL ? tk - tq + query : positions[(size_t)batch * tq + query];
        double total = 0;
        for (int position = window ? std::max(0, last - window + 1) : 0; position <= last; position++) {
          const scalar *key = pages.row(0, batch, head / group, position), *value = pages.row(1, batch, head / group, position);
          double score = 0;
          for (int i = 0; i < width; i++) score += as_double(q[row + i]) * as_double(key[i]);
          const double weight = std::exp(score * scale);
          total += weight;
          for (int i = 0; i < width; i++) expected[row + i] += weight * as_double(value[i]);
        }
        for (int i = 0; i < width; i++) expected[row + i] /= total;
        expectedSums[((size_t)batch * heads + head) * tq + query] = std::log(total);
      }

  const i64 rows = (i64)heads * width, page = (i64)pageSize * width;
  const Source queries = {q.data(), nullptr, tq * rows, rows, width, 1 << 30};
  const Source keys = {nullptr, pages.table.data(), kvHeads * page, width, page, pageSize};
  Source values = keys;
  values.pages = pages.table.data() + pages.count;
  const int offset = seen == ALL ? tk : tk - tq;
  const Shape shape = {tq, tk, heads, kvHeads, width, window, scale, offset, seen == POSITIONS ? positions.data() : nullptr};
  Output<scalar> out(expected.size());
  Output<float> sums(expectedSums.size());
  launch({(tq + 63) / 64, heads, batches}, 128, [&] { kernel(queries, keys, values, out.data(), sums.data(), shape); });
  compare(NAMES[seen], out, expected);
  compare(std::string(NAMES[seen]) + ": sums", sums, expectedSums);
}

int main() {
  for (const Seen seen : {CAUSAL, ALL, POSITIONS}) {
    const auto narrow = [&](const Sizes& on) { attention<narrow::Source, narrow::Shape>(narrow::attention_forward, on, seen); };
    const auto wide = [&](const Sizes& on) { attention<wide::Source, wide::Shape>(wide::attention_forward, on, seen); };
    // batches, queries, keys, K/V heads, query heads of each, width, positions of a page, window
    narrow({1, 1, 1, 1, 1, 32, 16, 0});
    narrow({2, 5, 61, 2, 2, 16, 16, 0});
    narrow({1, 70, between(100, 190), 1, 2, 24, 32, 0});
    wide({1, 66, between(130, 200), 1, 1, 64, 128, 0});
    wide({1, 3, 128, 1, 3, 40, 64, 0});
    if (seen != ALL) narrow({1, 70, 131, 1, 1, 32, 64, between(3, 60)});
  }
  report();
}
