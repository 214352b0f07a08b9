// The kernels of a decoding step, and those of norms and losses, on the emulator against plain float64: random shapes, outputs
// filled with NaNs beforehand, guards behind them. Prints a line a kernel: its name and its largest relative error.
#include "device.h"
#include "fragments.h"

#include <map>
#include <random>
#include <string>

#define HEAD 32
namespace decode32 {
#include "attention_decode.h"
}
#undef HEAD
#undef PITCH
#undef STEPS
#undef THREADS
#undef INFINITE
#undef PARTS
#undef STEP
#undef KEYS
#define HEAD 64
namespace decode64 {
#include "attention_decode.h"
}
#undef HEAD
#undef PITCH
#undef STEPS
#undef THREADS
#undef INFINITE
#undef PARTS
#undef STEP
#undef KEYS
#undef STAGES
#define HEAD 64
namespace step64 {
#include "retention_step.h"
}
#undef HEAD
#undef PARTS
#undef THREADS
#define HEAD 256
namespace step256 {
#include "retention_step.h"
}
#undef HEAD
#undef PARTS
#undef THREADS
namespace norm {
#include "norm.h"
}
#undef KEPT
namespace rope {
#include "rotary.h"
}
namespace pages {
#include "page.h"
}
namespace loss {
#include "cross_entropy.h"
}
#undef AHEAD
#undef THREADS
namespace few {
#include "linear.h"
}

typedef std::vector<double> Values;
static std::mt19937 generator(7);
static int between(int least, int most) { return std::uniform_int_distribution<int>(least, most)(generator); }
static double normal() {
  static std::normal_distribution<double> bell;
  return bell(generator);
}
static std::vector<scalar> random_scalars(size_t size, double scale = 1) {
  std::vector<scalar> values(size);
  for (scalar& x : values) x = from_float(scale * normal());
  return values;
}
static std::vector<float> random_floats(size_t size, double scale = 1) {
  std::vector<float> values(size);
  for (float& x : values) x = scale * normal();
  return values;
}

// What a kernel writes to: poisoned, with a guard that must stay as it is.
static const int GUARD = 64;
template <typename T>
struct Output {
  std::vector<T> values;
  size_t size;
  explicit Output(size_t size) : values(size + GUARD), size(size) { memset(values.data(), 0xff, values.size() * sizeof(T)); }
  T* data() { return values.data(); }
  bool is_guarded() const {
    const u8* bytes = (const u8*)(values.data() + size);
    return std::all_of(bytes, bytes + GUARD * sizeof(T), [](u8 byte) { return byte == 0xff; });
  }
};
static double as_double(scalar x) { return to_float(x); }
static double as_double(float x) { return x; }
static Values as_doubles(const scalar* x, int size) {
  Values values(size);
  for (int i = 0; i < size; i++) values[i] = as_double(x[i]);
  return values;
}

static std::map<std::string, double> worst;
static void note(const std::string& name, double error) {
  double& before = worst[name];
  before = error <= before ? before : std::isnan(before) ? before : error;  // a NaN stays
}
template <typename T>
static void compare(const std::string& name, const Output<T>& found, const Values& expected) {
  double difference = 0, norm = 1e-30;
  for (size_t i = 0; i < expected.size(); i++) {
    difference += std::pow(as_double(found.values[i]) - expected[i], 2);
    norm += expected[i] * expected[i];
  }
  const bool fits = found.size == expected.size() && found.is_guarded();
  note(name, fits ? std::sqrt(difference / norm) : NAN);
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

// Radians per position of each pair of a head.
static std::vector<double> frequencies_of(int width) {
  std::vector<double> frequencies(width / 2);
  for (size_t i = 0; i < frequencies.size(); i++) frequencies[i] = std::pow(10000.0, -(double)i / frequencies.size());
  return frequencies;
}
// The head at `x`, rotated to `position`.
static Values rotated(const scalar* x, int width, int position, bool half) {
  const std::vector<double> frequencies = frequencies_of(width);
  Values y(width);
  for (int pair = 0; pair < width / 2; pair++) {
    const int a = half ? pair : 2 * pair, b = half ? pair + width / 2 : a + 1;
    const double c = std::cos(position * frequencies[pair]), s = std::sin(position * frequencies[pair]);
    y[a] = as_double(x[a]) * c - as_double(x[b]) * s;
    y[b] = as_double(x[b]) * c + as_double(x[a]) * s;
  }
  return y;
}
// What the kernel before writes: NaNs until it has ended.
struct Late {
  scalar* to;
  std::vector<scalar> values;
};
static void wait_for(std::vector<Late> late) {
  previous = [late](bool ended) {
    for (const Late& part : late)
      for (size_t i = 0; i < part.values.size(); i++) part.to[i] = ended ? part.values[i] : scalar{0xffff};
  };
}

enum Turn { NOT, NEIGHBOURS, HALVES };

static void attention(const Attention& on, int batches, int kvHeads, int group, int tq, int tk, int pageSize, int window,
                      int most, Turn turn = NOT) {
  const int heads = kvHeads * group, width = on.width, count = (tk + pageSize - 1) / pageSize, rows = group * tq;
  const float scale = 1 / std::sqrt((float)width);
  const std::vector<double> frequencies = frequencies_of(width);
  std::vector<scalar> q = random_scalars((size_t)batches * tq * heads * width);
  std::vector<std::vector<scalar>> pages(2 * count, std::vector<scalar>((size_t)batches * kvHeads * pageSize * width, {0xffff}));
  auto at = [&](int batch, int head, int position) {
    return (((size_t)batch * kvHeads + head) * pageSize + position % pageSize) * width;
  };
  for (int kind = 0; kind < 2; kind++)
    for (int batch = 0; batch < batches; batch++)
      for (int head = 0; head < kvHeads; head++)
        for (int position = 0; position < tk; position++)
          for (int i = 0; i < width; i++)
            pages[kind * count + position / pageSize][at(batch, head, position) + i] = from_float(normal());
  std::vector<const scalar*> table;
  for (const auto& page : pages) table.push_back(page.data());
  Values expected(q.size()), expectedSums((size_t)batches * heads * tq);
  for (int batch = 0; batch < batches; batch++)
    for (int query = 0; query < tq; query++)
      for (int head = 0; head < heads; head++) {
        const size_t row = (((size_t)batch * tq + query) * heads + head) * width;
        const int last = tk - tq + query, first = window ? max(0, last - window + 1) : 0;
        const Values turned = turn ? rotated(&q[row], width, last, turn == HALVES) : as_doubles(&q[row], width);
        double total = 0;
        for (int position = first; position <= last; position++) {
          const size_t key = at(batch, head / group, position);
          double score = 0;
          for (int i = 0; i < width; i++) score += turned[i] * as_double(pages[position / pageSize][key + i]);
          const double weight = std::exp(score * scale);
          total += weight;
          for (int i = 0; i < width; i++) expected[row + i] += weight * as_double(pages[count + position / pageSize][key + i]);
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
            scalar* row = &pages[kind * count + position / pageSize][at(batch, head, position)];
            late.push_back({row, std::vector<scalar>(row, row + width)});
          }
    if (recorded) wait_for(late);
    launch({splits, kvHeads, batches}, 128, [&] {
      on.split(q.data(), table, (i64)kvHeads * pageSize * width, (i64)pageSize * width, pageSize, partial.data(), tq,
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

// In place: as in a recorded step, whose position comes from memory; q, k, v and the gate come from the kernel before.
static void retention(int time, int keys, int values, bool inPlace, Turn turn = NOT) {
  const int heads = 2, position = between(0, 5000), place = position + 7;
  const float normalizer = 3;
  const size_t rows = (size_t)time * heads, size = (size_t)heads * keys * values;
  auto q = random_scalars(rows * keys), k = random_scalars(rows * keys), v = random_scalars(rows * values),
       gate = random_scalars(rows, 3);
  std::vector<float> decay(rows);
  for (size_t i = 0; i < rows; i++) decay[i] = -std::log1p(std::exp(-as_double(gate[i]))) / normalizer;
  Output<float> state(size), other(size);
  for (size_t i = 0; i < size; i++) state.values[i] = normal();
  Values expected(rows * values), last(state.values.begin(), state.values.begin() + size);
  for (int t = 0; t < time; t++)
    for (int head = 0; head < heads; head++) {
      const size_t row = (size_t)t * heads + head;
      const auto turned = [&](const scalar* x) {
        return turn ? rotated(x, keys, position + t, turn == HALVES) : as_doubles(x, keys);
      };
      const Values query = turned(&q[row * keys]), key = turned(&k[row * keys]);
      for (int i = 0; i < keys * values; i++) {
        double& x = last[(size_t)head * keys * values + i];
        x = std::exp((double)decay[row]) * x + key[i / values] * as_double(v[row * values + i % values]) / std::sqrt((double)keys);
        expected[row * values + i % values] += query[i / values] * x;
      }
    }
  Output<scalar> out(rows * values);
  Output<float>& end = inPlace ? state : other;
  const std::vector<double> frequencies = frequencies_of(keys);
  const auto run = [&](auto shape, auto kernel) {
    launch({(values + 31) / 32, heads, 1}, 256, [&] {
      kernel(q.data(), k.data(), v.data(), turn ? nullptr : decay.data(), turn ? gate.data() : nullptr, state.data(),
             out.data(), end.data(), shape, turn ? frequencies.data() : nullptr, inPlace ? &place : nullptr,
             inPlace ? -7 : position, turn == HALVES, inPlace);
    });
  };
  if (inPlace) wait_for({{q.data(), q}, {k.data(), k}, {v.data(), v}, {gate.data(), gate}});
  const float scale = 1 / std::sqrt((float)keys);
  if (keys <= 64) run(step64::Shape{time, heads, keys, values, scale, 1 / normalizer}, step64::retention_step);
  else run(step256::Shape{time, heads, keys, values, scale, 1 / normalizer}, step256::retention_step);
  previous = nullptr;
  compare(turn ? "retention: rotated" : "retention", out, expected);
  compare("retention: state", end, last);
}

static void rms_norm(int rows, int width, bool weighted, bool gated = false, int perThread = 4) {
  const size_t size = (size_t)rows * width;
  const auto x = random_scalars(size), weight = random_scalars(width), gate = random_scalars(size);
  const float eps = 1e-5f;
  Values expected(size);
  for (int row = 0; row < rows; row++) {
    double square = 0;
    for (int i = 0; i < width; i++) square += std::pow(as_double(x[(size_t)row * width + i]), 2);
    for (int i = 0; i < width; i++) {
      const size_t at = (size_t)row * width + i;
      const double g = as_double(gate[at]);
      expected[at] = as_double(x[at]) / std::sqrt(square / width + eps) * (weighted ? as_double(weight[i]) : 1) *
                     (gated ? g / (1 + std::exp(-g)) : 1);
    }
  }
  Output<scalar> out(size);
  const scalar *scales = weighted ? weight.data() : nullptr, *gates = gated ? gate.data() : nullptr;
  const int packs = width / 8;
  if (width % 8 != 0) {
    launch({rows, 1, 1}, 256, [&] { norm::rms_norm_any(x.data(), scales, gates, out.data(), rows, width, 0, eps); });
  } else if (packs <= 32) {
    int lanes = 1;
    while (4 * lanes < packs) lanes *= 2;
    launch({(rows * lanes + 255) / 256, 1, 1}, 256,
           [&] { norm::rms_norm_small(x.data(), scales, gates, out.data(), rows, packs, lanes, eps); });
  } else {
    launch({rows, 1, 1}, min(1024, ((packs + perThread - 1) / perThread + 31) / 32 * 32),
           [&] { norm::rms_norm(x.data(), scales, gates, out.data(), rows, packs, 0, eps); });
  }
  compare(gated ? "norm: gated" : width % 8 ? "norm: any width" : packs <= 32 ? "norm: narrow" : "norm: wide", out,
          expected);
}

template <typename T>
static void cross_entropy(const char* name, const std::vector<T>& logits, int rows, int extent,
                          void (*kernel)(const T*, const int*, float*, float*, i64)) {
  Values losses(rows), sums(rows);
  std::vector<int> targets(rows);
  for (int row = 0; row < rows; row++) {
    targets[row] = row == 1 ? -1 : between(0, extent - 1);
    double total = 0;
    for (int i = 0; i < extent; i++) total += std::exp(as_double(logits[(size_t)row * extent + i]));
    sums[row] = std::log(total);
    losses[row] = sums[row] - (row == 1 ? 0 : as_double(logits[(size_t)row * extent + targets[row]]));
  }
  Output<float> loss(rows), sum(rows);
  launch({rows, 1, 1}, 512, [&] { kernel(logits.data(), targets.data(), loss.data(), sum.data(), extent); });
  compare(name, loss, losses);
  compare(name, sum, sums);
}

// Queries and keys: the second tensor has one head less, or is absent.
static void rotary(int batches, int time, int heads, int width, int position, bool half, bool recorded) {
  const int place = position + 3, tensors = heads > 1 ? 2 : 1;
  const std::vector<double> frequencies = frequencies_of(width);
  std::vector<std::vector<scalar>> xs;
  std::vector<Output<scalar>> outs;
  std::vector<Values> expected;
  rope::Turned turned = {};
  for (int tensor = 0; tensor < tensors; tensor++) {
    const int count = heads - tensor;
    const auto x = random_scalars((size_t)batches * time * count * width);
    Values values(x.size());
    for (int row = 0; row < batches * time; row++)
      for (int head = 0; head < count; head++) {
        const size_t at = ((size_t)row * count + head) * width;
        const Values turned = rotated(&x[at], width, position + row % time, half);
        std::copy(turned.begin(), turned.end(), values.begin() + at);
      }
    xs.push_back(x);
    outs.emplace_back(x.size());
    expected.push_back(values);
    turned.heads[tensor] = count;
  }
  for (int tensor = 0; tensor < tensors; tensor++) {
    turned.x[tensor] = xs[tensor].data();
    turned.y[tensor] = outs[tensor].data();
  }
  const int threads = min(256, max(32, ((heads * width + 23) / 24 + 31) / 32 * 32));
  launch({batches * time, tensors, 1}, threads, [&] {
    (half ? rope::rotary_half : rope::rotary_interleaved)(turned, frequencies.data(), nullptr,
                                                          recorded ? &place : nullptr, recorded ? -3 : position, time,
                                                          width, 1);
  });
  for (int tensor = 0; tensor < tensors; tensor++)
    compare(half ? "rotary: halves" : "rotary: neighbours", outs[tensor], expected[tensor]);
}

// Recorded: at a position from memory, which goes round in the page, and keys and values come from the kernel before.
static void page_write(int batches, int heads, int width, int pageSize, int position, int count, bool recorded,
                       Turn turn = NOT) {
  const int time = count + 2, start = 1, place = 1000 + 3 * pageSize + position;
  const size_t size = (size_t)batches * time * heads * width;
  std::vector<scalar> rows[] = {random_scalars(size), random_scalars(size)};
  const std::vector<scalar> taken[] = {rows[0], rows[1]};
  const size_t extent = (size_t)batches * heads * pageSize * width;
  Output<scalar> pages[] = {Output<scalar>(extent), Output<scalar>(extent)};
  const std::vector<double> frequencies = frequencies_of(width);
  const bool wide = width % 8 == 0;
  const int columns = turn ? width / 2 : wide ? width / 8 : width;
  const i64 packs = (i64)batches * heads * count * columns;
  const int *origin = recorded ? &place : nullptr, offset = recorded ? -1000 : position, first = position + 70;
  const pages::Written<scalar> written = {{pages[0].data(), pages[1].data()}, {rows[0].data(), rows[1].data()}};
  pages::Written<Wide> writtenWide;
  memcpy(&writtenWide, &written, sizeof written);
  if (recorded) wait_for({{rows[0].data(), rows[0]}, {rows[1].data(), rows[1]}});
  launch({turn ? (int)(packs + 255) / 256 : 2, turn ? 1 : 2, 1}, 256, [&] {
    if (turn) {
      pages::page_write_rotated(written, packs, heads, columns, pageSize, time, origin, offset, start, count,
                                frequencies.data(), origin, recorded ? first - place : first, turn == HALVES);
    } else if (wide) {
      pages::page_write_wide(writtenWide, packs, heads, columns, pageSize, time, origin, offset, start, count);
    } else pages::page_write(written, packs, heads, columns, pageSize, time, origin, offset, start, count);
  });
  previous = nullptr;
  for (int kind = 0; kind < 2; kind++) {
    std::vector<scalar> expected = Output<scalar>(extent).values;
    for (int batch = 0; batch < batches; batch++)
      for (int head = 0; head < heads; head++)
        for (int t = 0; t < count; t++) {
          scalar* to = &expected[(((size_t)batch * heads + head) * pageSize + position + t) * width];
          const scalar* from = &taken[kind][(((size_t)batch * time + start + t) * heads + head) * width];
          memcpy(to, from, 2 * width);
          if (!turn || kind == 1) continue;
          const Values turned = rotated(from, width, first + start + t, turn == HALVES);
          for (int i = 0; i < width; i++) {
            scalar& found = pages[0].values[to - expected.data() + i];
            note("page: rotated", std::fabs(as_double(found) - turned[i]) / (1 + std::fabs(turned[i])));
            to[i] = found;
          }
        }
    note("page", memcmp(expected.data(), pages[kind].data(), expected.size() * 2) == 0 ? 0 : 1);
  }
}

static void linear(int rows, int inner, const std::vector<int>& widths, bool residual) {
  const auto x = random_scalars((size_t)rows * inner);
  std::vector<std::vector<scalar>> weights;
  std::vector<Output<scalar>> outs;
  few::Group group = {};
  int total = 0;
  for (const int width : widths) {
    weights.push_back(random_scalars((size_t)width * inner));
    outs.emplace_back((size_t)rows * width);
    total += width;
  }
  for (size_t i = 0; i < widths.size(); i++) {
    group.weights[i] = weights[i].data();
    group.outs[i] = outs[i].data();
    group.widths[i] = widths[i];
  }
  const auto added = random_scalars((size_t)rows * total);
  launch({(total + 3) / 4, 1, 1}, 128,
         [&] { few::linear_few(x.data(), group, residual ? added.data() : nullptr, rows, inner, total); });
  for (size_t member = 0; member < widths.size(); member++) {
    const int width = widths[member];
    Values expected((size_t)rows * width);
    for (int i = 0; i < rows * width; i++) {
      if (residual) expected[i] = as_double(added[i]);
      for (int j = 0; j < inner; j++)
        expected[i] += as_double(x[(size_t)(i / width) * inner + j]) * as_double(weights[member][(size_t)(i % width) * inner + j]);
    }
    compare("linear", outs[member], expected);
  }
}

static void linear_swiglu(int rows, int inner, int width) {
  const double scale = 1 / std::sqrt((double)inner);
  const auto x = random_scalars((size_t)rows * inner), activated = random_scalars((size_t)width * inner, scale),
             gate = random_scalars((size_t)width * inner, scale);
  Output<scalar> y((size_t)rows * width);
  launch({(width + 1) / 2, 1, 1}, 128,
         [&] { few::linear_swiglu(x.data(), activated.data(), gate.data(), y.data(), rows, inner, width); });
  Values expected((size_t)rows * width);
  for (int i = 0; i < rows * width; i++) {
    double a = 0, b = 0;
    for (int j = 0; j < inner; j++) {
      const double value = as_double(x[(size_t)(i / width) * inner + j]);
      a += value * as_double(activated[(size_t)(i % width) * inner + j]);
      b += value * as_double(gate[(size_t)(i % width) * inner + j]);
    }
    expected[i] = a / (1 + std::exp(-a)) * b;
  }
  compare("linear: SwiGLU", y, expected);
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
  for (const bool inPlace : {false, true}) {
    for (const Turn turn : {NOT, NEIGHBOURS, HALVES}) {
      retention(1, 256, 40, inPlace, turn);
      retention(between(2, 4), 2 * between(65, 127), 33, inPlace, turn);
      retention(1, 24, 8, inPlace, turn);
    }
    retention(3, 129, 7, inPlace);
  }
  for (const int width : {8, 40, 256, 264, 1032, 4104, 7, 301}) rms_norm(between(1, 5), width, width % 16 != 0);
  for (const int width : {264, 1032, 4104, 9000}) rms_norm(2, width, true, false, width > 8192 ? 2 : 1);  // few rows
  for (const int width : {8, 40, 301, 1032}) rms_norm(between(1, 5), width, width == 40, true);
  rms_norm(70, 64, true);  // rows that do not fill the last block
  for (const int extent : {1, 31, 512, 513, 4096, 4097, 9001}) {
    cross_entropy("loss", random_scalars(3 * extent, 3), 3, extent, loss::cross_entropy);
    cross_entropy("loss: float32", random_floats(3 * extent, 3), 3, extent, loss::cross_entropy_raw);
  }
  std::vector<float> broken = random_floats(500);  // one a thread
  broken[between(0, 499)] = NAN;
  Output<float> sums(1), losses(1);
  const int target = 0;
  launch({1, 1, 1}, 512, [&] { loss::cross_entropy_raw(broken.data(), &target, losses.data(), sums.data(), 500); });
  note("loss: a NaN shows", std::isnan(sums.values[0]) ? 0 : 1);
  for (const bool half : {false, true})
    for (const int width : {10, 16, 64, 128}) {
      rotary(2, between(1, 3), between(1, 3), width, between(0, 4000), half, false);
      rotary(1, 1, 20, width, 1000003, half, true);
    }
  for (const bool recorded : {false, true}) {
    for (const int width : {5, 64}) page_write(2, 3, width, 16, between(0, 12), between(1, 4), recorded);
    for (const Turn turn : {NEIGHBOURS, HALVES}) page_write(2, 3, 30, 16, between(0, 12), between(1, 4), recorded, turn);
  }
  for (int rows = 1; rows <= 4; rows++) {
    linear(rows, 8 * between(1, 5), {between(1, 20)}, true);
    linear(rows, 1024 + 8 * between(1, 200), {between(1, 9), between(1, 9), between(1, 9)}, false);
  }
  linear(1, 1024, {8}, false);
  for (int rows = 1; rows <= 4; rows++) linear_swiglu(rows, 8 * between(1, 200), between(1, 30));
  for (const auto& [name, error] : worst) printf("%s\t%g\n", name.c_str(), error);
}
