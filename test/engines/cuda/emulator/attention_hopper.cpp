// Causal attention and its gradients on the emulated Hopper against plain float64, as `kernels/attention-forward.ts` and
// `kernels/attention-gradient.ts` launch them.
#include "compare.h"
#include "hopper.cuh"

#define HEAD 64
namespace narrow {
namespace forward {
#include "attention_hopper.cu"
}
namespace backward {
#include "attention_hopper_grad.cu"
}
}  // namespace narrow
#undef HEAD
#define HEAD 128
namespace wide {
namespace forward {
#include "attention_hopper.cu"
}
namespace backward {
#include "attention_hopper_grad.cu"
}
}  // namespace wide

struct Sizes {
  int batches, queries, keys, kvHeads, group, window;
  int grid;      // blocks of threads that take pairs of row blocks, or 0: one for each of those
  int pageSize;  // of keys and values of the forward pass
};

// Of [batches, positions, heads, width].
static TensorMap rows(const scalar* at, const Sizes& on, int positions, int heads, int width, int box) {
  return tensor_map({at, {width, positions, heads, on.batches}, {1, heads * width, width, (i64)positions * heads * width}, box});
}

struct Inputs {
  std::vector<scalar> q, k, v, dy;
};
struct Expected {
  Values out, sums, dq, dk, dv;
};
static Expected differentiate(const Inputs& x, const Sizes& on, int width, double scale) {
  const int heads = on.kvHeads * on.group;
  Expected e = {Values(x.q.size()), Values(x.q.size() / width), Values(x.q.size()), Values(x.k.size()), Values(x.k.size())};
  const auto dot = [&](const scalar* a, const scalar* b) {
    double sum = 0;
    for (int i = 0; i < width; i++) sum += as_double(a[i]) * as_double(b[i]);
    return sum;
  };
  for (int batch = 0; batch < on.batches; batch++)
    for (int head = 0; head < heads; head++)
      for (int query = 0; query < on.queries; query++) {
        const size_t row = (((size_t)batch * on.queries + query) * heads + head) * width;
        const int last = on.keys - on.queries + query, first = on.window ? std::max(0, last - on.window + 1) : 0;
        const auto at = [&](int key) { return (((size_t)batch * on.keys + key) * on.kvHeads + head / on.group) * width; };
        Values weights(last + 1), slopes(last + 1);
        double total = 0, delta = 0;
        for (int key = first; key <= last; key++) total += weights[key] = std::exp(dot(&x.q[row], &x.k[at(key)]) * scale);
        for (int key = first; key <= last; key++) {
          weights[key] /= total;
          slopes[key] = dot(&x.dy[row], &x.v[at(key)]);
          delta += weights[key] * slopes[key];
          for (int i = 0; i < width; i++) {
            e.out[row + i] += weights[key] * as_double(x.v[at(key) + i]);
            e.dv[at(key) + i] += weights[key] * as_double(x.dy[row + i]);
          }
        }
        e.sums[((size_t)batch * heads + head) * on.queries + query] = std::log(total);
        for (int key = first; key <= last; key++) {
          const double slope = weights[key] * (slopes[key] - delta) * scale;
          for (int i = 0; i < width; i++) {
            e.dq[row + i] += slope * as_double(x.k[at(key) + i]);
            e.dk[at(key) + i] += slope * as_double(x.q[row + i]);
          }
        }
      }
  return e;
}

// Pages of [batches, positions, heads, width], and behind the last position NaNs, which the map keeps out.
struct Paged {
  std::vector<std::vector<scalar>> pages;
  std::vector<TensorMap> maps;
  Paged(const std::vector<scalar>& x, const Sizes& on, int width) {
    const size_t row = (size_t)on.kvHeads * width;
    for (int first = 0; first < on.keys; first += on.pageSize) {
      const int positions = std::min(on.pageSize, on.keys - first);
      std::vector<scalar> page(on.batches * on.pageSize * row, {0xffff});
      for (int batch = 0; batch < on.batches; batch++)
        std::copy_n(&x[((size_t)batch * on.keys + first) * row], positions * row, &page[batch * on.pageSize * row]);
      pages.push_back(page);
      maps.push_back(tensor_map({pages.back().data(), {width, positions, on.kvHeads, on.batches},
                                 {1, (i64)row, width, (i64)(on.pageSize * row)}, 128}));
    }
  }
};

template <int COLUMNS, typename Forward, typename Backward, typename Sums, typename Kernels>
static void attention(const Kernels& kernels, const Sizes& on) {
  const int heads = on.kvHeads * on.group, tq = on.queries, tk = on.keys, paired = on.grid > 0;
  const int consumers = COLUMNS == 64 ? CONSUMERS_64 : CONSUMERS_128;
  const int queryConsumers = COLUMNS == 64 ? QUERY_CONSUMERS_64 : QUERY_CONSUMERS_128;
  const float scale = 1 / std::sqrt((float)COLUMNS);
  const size_t ofQ = (size_t)on.batches * tq * heads * COLUMNS, ofK = (size_t)on.batches * tk * on.kvHeads * COLUMNS;
  const Inputs x = {random_scalars(ofQ, 1.5), random_scalars(ofK), random_scalars(ofK), random_scalars(ofQ)};
  const Expected expected = differentiate(x, on, COLUMNS, scale);
  const auto run = [&](int rows, int groups, int ofHeads, const std::function<void()>& kernel) {
    const int blocks = (rows + 64 * groups - 1) / (64 * groups) * ofHeads * on.batches;
    launch({on.grid ? on.grid : blocks, 1, 1}, 128 * (1 + groups), kernel);
  };

  Output<scalar> out(ofQ), dq(ofQ), dk(ofK), dv(ofK);
  Output<float> logSumExp(ofQ / COLUMNS);
  const TensorMap q = rows(x.q.data(), on, tq, heads, COLUMNS, 64), dy = rows(x.dy.data(), on, tq, heads, COLUMNS, 64);
  const TensorMap k = rows(x.k.data(), on, tk, on.kvHeads, COLUMNS, 64), v = rows(x.v.data(), on, tk, on.kvHeads, COLUMNS, 64);
  const Paged keys(x.k, on, COLUMNS), values(x.v, on, COLUMNS);
  const Forward forward = {tq, tk, heads, on.kvHeads, on.window, tk - tq, on.pageSize, on.batches, paired, scale * LOG2_E};
  run(tq, consumers, heads, [&] {
    kernels.forward(q, keys.maps.data(), values.maps.data(), out.data(), logSumExp.data(), forward);
  });

  const int padded = on.batches * heads * ((tq + 63) / 64) * 64, threads = 256;
  Output<Sums> sums(padded / 64);
  const Backward backward = {tq, tk, heads, on.kvHeads, on.window, on.batches, paired, scale};
  launch({(padded * COLUMNS / 8 + threads - 1) / threads, 1, 1}, threads, [&] {
    kernels.sums(x.dy.data(), out.data(), logSumExp.data(), sums.data(), tq, heads, padded);
  });
  run(tq, queryConsumers, heads, [&] { kernels.query(q, k, v, dy, sums.data(), dq.data(), backward); });
  run(tk, 2, on.kvHeads, [&] { kernels.key(q, k, v, dy, sums.data(), dk.data(), dv.data(), backward); });

  const std::string name = std::to_string(COLUMNS);
  compare(name + ": out", out, expected.out);
  compare(name + ": sums", logSumExp, expected.sums);
  compare(name + ": dq", dq, expected.dq);
  compare(name + ": dk", dk, expected.dk);
  compare(name + ": dv", dv, expected.dv);
  note(name + ": guards", sums.is_guarded() ? 0 : NAN);
}

#define KERNELS(SPACE)                                                                             \
  struct {                                                                                         \
    decltype(&SPACE::forward::attention_forward) forward = SPACE::forward::attention_forward;      \
    decltype(&SPACE::backward::attention_hopper_sums) sums = SPACE::backward::attention_hopper_sums; \
    decltype(&SPACE::backward::attention_hopper_grad_query) query = SPACE::backward::attention_hopper_grad_query; \
    decltype(&SPACE::backward::attention_hopper_grad_key) key = SPACE::backward::attention_hopper_grad_key; \
  }

int main() {
  const auto narrow = [](const Sizes& on) {
    const KERNELS(narrow) kernels;
    attention<64, narrow::forward::Problem, narrow::backward::Problem, narrow::backward::Sums>(kernels, on);
  };
  const auto wide = [](const Sizes& on) {
    const KERNELS(wide) kernels;
    attention<128, wide::forward::Problem, wide::backward::Problem, wide::backward::Sums>(kernels, on);
  };
  for (const bool early : {false, true}) {
    eager = early;
    // batches, queries, keys, K/V heads, query heads of each, window, grid, positions of a page
    narrow({1, 1, 65, 1, 1, 0, 0, 128});
    narrow({2, 65, 65, 1, 2, 0, 3, 128});
    narrow({1, 200, 200, 1, 1, 0, 0, 128});
    narrow({1, 130, 333, 1, 2, 0, 2, 256});
    narrow({1, 450, 450, 1, 1, 70, 1, 512});
    narrow({1, 210, 270, 1, 2, between(1, 300), 2, 128});
    wide({1, 1, 65, 1, 1, 0, 0, 128});
    wide({1, 130, 130, 2, 1, 0, 1, 128});
    wide({1, 200, 333, 1, 2, 0, 2, 128});
    wide({2, 65, 140, 1, 1, 66, 0, 128});
    wide({1, 330, 330, 1, 1, between(1, 300), 1, 256});
  }
  report();
}
