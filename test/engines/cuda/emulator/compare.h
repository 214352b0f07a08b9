// What programs on the emulator share that hold kernels to plain float64: random operands, outputs filled with NaNs beforehand with
// guards behind them, the largest relative error of each name, and rotations.
#include "common.cuh"

#include <map>
#include <random>
#include <string>

typedef std::vector<double> Values;
typedef std::vector<float> Floats;
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

// Random keys, then values, in pages [B, Hkv, P, D]. Behind the last position are NaNs.
struct Pages {
  int kvHeads, width, pageSize, count;
  std::vector<std::vector<scalar>> pages;
  std::vector<const scalar*> table;
  Pages(int batches, int kvHeads, int width, int pageSize, int positions)
      : kvHeads(kvHeads), width(width), pageSize(pageSize), count((positions + pageSize - 1) / pageSize),
        pages(2 * count, std::vector<scalar>((size_t)batches * kvHeads * pageSize * width, {0xffff})) {
    for (int kind = 0; kind < 2; kind++)
      for (int batch = 0; batch < batches; batch++)
        for (int head = 0; head < kvHeads; head++)
          for (int position = 0; position < positions; position++)
            for (int i = 0; i < width; i++) row(kind, batch, head, position)[i] = from_float(normal());
    for (const auto& page : pages) table.push_back(page.data());
  }
  // A key (kind 0) or a value (1).
  scalar* row(int kind, int batch, int head, int position) {
    const size_t at = (((size_t)batch * kvHeads + head) * pageSize + position % pageSize) * width;
    return &pages[kind * count + position / pageSize][at];
  }
};

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

// Prints a line a name, with its error.
static void report() {
  for (const auto& [name, error] : worst) printf("%s\t%g\n", name.c_str(), error);
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
