// The kernels of a decoding step beside attention and norms, on the emulator against plain float64: random shapes.
#include "compare.h"

#define HEAD 64
namespace step64 {
#include "retention_step.cu"
}
#undef HEAD
#define HEAD 256
namespace step256 {
#include "retention_step.cu"
}
namespace rope {
#include "rotary.cu"
}
namespace pages {
#include "page.cu"
}
namespace few {
#include "gemv.cu"
}
namespace fused {
#include "fused.cu"
}

// In place: as in a recorded step, whose position comes from memory; q, k, v and the gate come from the kernel before.
// With `space` the state-space layer of Mamba-2, whose two heads share queries and keys.
static void retention(int time, int keys, int values, bool inPlace, Turn turn = NOT, bool space = false) {
  const int heads = 2, group = space ? 2 : 1, position = between(0, 5000), place = position + 7;
  const float normalizer = 3;
  const size_t rows = (size_t)time * heads, size = (size_t)heads * keys * values;
  auto q = random_scalars(rows / group * keys), k = random_scalars(rows / group * keys), v = random_scalars(rows * values),
       gate = random_scalars(rows, 3);
  gate[0] = from_float(-1e4);  // a decay of 0
  const float bias[] = {-1.5, 0.25}, aLog[] = {0.5, -2}, skip[] = {0.75, -3};
  std::vector<float> decay(rows), step(rows, 1 / std::sqrt((float)keys));
  for (size_t i = 0; i < rows; i++) {
    decay[i] = -std::log1p(std::exp(-as_double(gate[i]))) / normalizer;
    if (!space) continue;
    step[i] = std::log1p(std::exp(as_double(gate[i]) + bias[i % heads]));
    decay[i] = -step[i] * std::exp(aLog[i % heads]);
  }
  Output<float> state(size), other(size);
  for (size_t i = 0; i < size; i++) state.values[i] = normal();
  Values expected(rows * values), last(state.values.begin(), state.values.begin() + size);
  for (int t = 0; t < time; t++)
    for (int head = 0; head < heads; head++) {
      const size_t row = (size_t)t * heads + head;
      const auto turned = [&](const scalar* x) {
        return turn ? rotated(x, keys, position + t, turn == HALVES) : as_doubles(x, keys);
      };
      const Values query = turned(&q[row / group * keys]), key = turned(&k[row / group * keys]);
      for (int i = 0; i < keys * values; i++) {
        double& x = last[(size_t)head * keys * values + i];
        x = std::exp((double)decay[row]) * x + key[i / values] * as_double(v[row * values + i % values]) * step[row];
        expected[row * values + i % values] += query[i / values] * x;
      }
      for (int i = 0; space && i < values; i++) expected[row * values + i] += skip[head] * as_double(v[row * values + i]);
    }
  Output<scalar> out(rows * values);
  Output<float>& end = inPlace ? state : other;
  const std::vector<double> frequencies = frequencies_of(keys);
  const auto run = [&](auto shape, auto kernel) {
    launch({(values + 31) / 32, heads, 1}, 256, [&] {
      const bool gated = turn || space;
      kernel(q.data(), k.data(), v.data(), gated ? nullptr : decay.data(), gated ? gate.data() : nullptr, state.data(),
             out.data(), end.data(), shape, turn ? frequencies.data() : nullptr, inPlace ? &place : nullptr,
             inPlace ? -7 : position, turn == HALVES, space ? bias : nullptr, space ? aLog : nullptr,
             space ? skip : nullptr, inPlace);
    });
  };
  if (inPlace) wait_for({{q.data(), q}, {k.data(), k}, {v.data(), v}, {gate.data(), gate}});
  const float scale = space ? 1 : 1 / std::sqrt((float)keys);
  if (keys <= 64) run(step64::Shape{time, heads, keys, values, group, scale, 1 / normalizer}, step64::retention_step);
  else run(step256::Shape{time, heads, keys, values, group, scale, 1 / normalizer}, step256::retention_step);
  previous = nullptr;
  compare(space ? "state space" : turn ? "retention: rotated" : "retention", out, expected);
  compare("retention: state", end, last);
}

// Queries and keys: the second tensor has one head less, or is absent. A thread takes `each` heads.
enum Places { FOLLOWING, RECORDED, GIVEN };
static void rotary(int batches, int time, int heads, int width, int position, bool half, Places places, int each) {
  const int place = position + 3, tensors = heads > 1 ? 2 : 1;
  const std::vector<double> frequencies = frequencies_of(width);
  std::vector<int> positions(batches * time);
  for (int row = 0; row < batches * time; row++)
    positions[row] = places == GIVEN ? between(0, 5000) : position + row % time;
  std::vector<std::vector<scalar>> xs;
  std::vector<Output<scalar>> outs;
  std::vector<Values> expected;
  std::vector<Late> late;
  rope::Turned turned = {};
  for (int tensor = 0; tensor < tensors; tensor++) {
    const int count = heads - tensor;
    xs.push_back(random_scalars((size_t)batches * time * count * width));
    Values values(xs[tensor].size());
    for (int row = 0; row < batches * time; row++)
      for (int head = 0; head < count; head++) {
        const size_t at = ((size_t)row * count + head) * width;
        const Values turned = rotated(&xs[tensor][at], width, positions[row], half);
        std::copy(turned.begin(), turned.end(), values.begin() + at);
      }
    outs.emplace_back(xs[tensor].size());
    expected.push_back(values);
    turned.heads[tensor] = count;
  }
  for (int tensor = 0; tensor < tensors; tensor++) {
    turned.x[tensor] = xs[tensor].data();
    turned.y[tensor] = outs[tensor].data();
    late.push_back({xs[tensor].data(), xs[tensor]});
  }
  const bool wide = width / 2 % (half ? 8 : 4) == 0;
  const bool narrow = half && (width == 16 || width == 32 || width == 64);
  const int rows = places == GIVEN ? batches * time : time, sequences = batches * time / rows;
  const int threads = rows * (narrow ? width / 8 : wide ? width / 2 / (half ? 8 : 4) : width / 2);
  const auto kernel = half ? (narrow ? rope::rotary_half_narrow : wide ? rope::rotary_half : rope::rotary_half_any)
                           : (wide ? rope::rotary_interleaved : rope::rotary_interleaved_any);
  if (places == RECORDED) wait_for(late);
  launch({(threads + 255) / 256, (sequences * heads + each - 1) / each, tensors}, 256, [&] {
    kernel(turned, frequencies.data(), places == GIVEN ? positions.data() : nullptr, places == RECORDED ? &place : nullptr,
           places == RECORDED ? -3 : position, rows, sequences, width, each, 1);
  });
  previous = nullptr;
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
         [&] { few::gemv(x.data(), group, residual ? added.data() : nullptr, rows, inner, total); });
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

static void gemv_swiglu(int rows, int inner, int width) {
  const double scale = 1 / std::sqrt((double)inner);
  const auto x = random_scalars((size_t)rows * inner), activated = random_scalars((size_t)width * inner, scale),
             gate = random_scalars((size_t)width * inner, scale);
  Output<scalar> y((size_t)rows * width);
  launch({(width + 1) / 2, 1, 1}, 128,
         [&] { few::gemv_swiglu(x.data(), activated.data(), gate.data(), y.data(), rows, inner, width); });
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

// Ids outside the vocabulary give zeros.
static void embedding(int rows, int width, int blocks) {
  const int vocabulary = 9;
  const float scale = 1.5;
  const auto weight = random_scalars((size_t)vocabulary * width);
  std::vector<int> ids(rows);
  Values expected((size_t)rows * width);
  for (int row = 0; row < rows; row++) {
    const int id = ids[row] = row == 1 ? -1 : row == 2 ? vocabulary : between(0, vocabulary - 1);
    for (int i = 0; i < width && id >= 0 && id < vocabulary; i++)
      expected[(size_t)row * width + i] = scale * as_double(weight[(size_t)id * width + i]);
  }
  Output<scalar> out(expected.size());
  const bool wide = width % 8 == 0;
  const i64 size = expected.size() / (wide ? 8 : 1);
  launch({blocks, 1, 1}, 256, [&] {
    (wide ? fused::embedding : fused::embedding_any)(weight.data(), ids.data(), out.data(), size, vocabulary,
                                                      wide ? width / 8 : width, scale);
  });
  compare("embedding", out, expected);
}

int main() {
  for (const int width : {1, 7, 24, 264, 768}) {
    embedding(3, width, 1);
    embedding(129, width, 2);
  }
  for (const bool inPlace : {false, true}) {
    for (const Turn turn : {NOT, NEIGHBOURS, HALVES}) {
      retention(1, 256, 40, inPlace, turn);
      retention(between(2, 4), 2 * between(65, 127), 33, inPlace, turn);
      retention(1, 24, 8, inPlace, turn);
    }
    retention(3, 129, 7, inPlace);
    retention(1, 128, 40, inPlace, NOT, true);
    retention(5, 33, 8, inPlace, NOT, true);
  }
  for (const bool half : {false, true})
    for (const int width : {2, 10, 16, 24, 32, 48, 64, 128}) {
      for (const Places places : {FOLLOWING, GIVEN})
        rotary(between(2, 5), between(1, 40), between(1, 5), width, between(0, 4000), half, places, between(1, 8));
      rotary(1, 1, 20, width, 1000003, half, RECORDED, between(1, 2));
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
  for (int rows = 1; rows <= 4; rows++) gemv_swiglu(rows, 8 * between(1, 200), between(1, 30));
  report();
}
