// A compressed cache on the emulator: attention over what the kernels have coded, against plain float64 over what the codes mean,
// which is held to what was coded.
#include "compare.h"

#define HEAD 32
namespace w32 {
#include "attention_coded.cu"
}
namespace f32 {
#include "attention_coded_forward.cu"
}
namespace p32 {
#include "page_code.cu"
}
#undef HEAD
#define HEAD 64
namespace w64 {
#include "attention_coded.cu"
}
namespace f64 {
#include "attention_coded_forward.cu"
}
namespace p64 {
#include "page_code.cu"
}
namespace j64 {
#include "attention_decode.cu"
}
#undef HEAD
#define HEAD 32
namespace j32 {
#include "attention_decode.cu"
}

static float from_half(u32 half) { return half_to_float((u16)half); }

// Element (row, channel) of a group as its codes and scales mean it, at the same time how far it may be from what was coded.
struct Meaning {
  double value, error;
};
static Meaning meaning(const char* type, bool isKey, const u32* codes, const u32* scales, int row, int channel, int width) {
  const u16* halves = (const u16*)scales;
  if (type[0] == 'f') {
    const u32 code = ((const u8*)codes)[row * width + channel];
    float factor;
    memcpy(&factor, scales, 4);
    const double value = w32::float8_value(code) * factor;
    return {value, std::max(std::abs(value) / 16, factor * std::ldexp(1.0, -10)) * 1.001};
  }
  const int at = row * width + channel;
  const bool wide = type[3] == '8';
  const u32 code = wide ? ((const u8*)codes)[at] ^ 0x80 : (((const u8*)codes)[at / 2] >> (4 * (at & 1))) & 15;
  const double scale = from_half(halves[isKey ? channel : 2 * row]), minimum = from_half(halves[isKey ? width + channel : 2 * row + 1]);
  return {minimum + scale * code, scale / 2 * 1.001 + 1e-6};
}

struct Coded {
  const char* type;
  int width, bits;
  int keyScales, valueScales;  // words of a group
  std::function<void(const w32::CodePage&, const scalar*, const scalar*, int, int, int, int)> rows;
  std::function<void(const w32::CodePage&, scalar*, scalar*, const scalar*, const scalar*, const int*, int, int)> step;
  std::function<void(const scalar*, const w32::CodePage*, const scalar*, const scalar*, int, int, float*, int, int, int, int,
                     float, const int*, int, int)>
      split;
  std::function<void(const scalar*, const w32::CodePage*, const scalar*, const scalar*, int, int, scalar*, int, int, int, int,
                     float, int)>
      forward;
};
#define CODED(space, many, pages, name, width, bits, keyScales, valueScales)                                                               \
  {                                                                                                                          \
    #name, width, bits, keyScales, valueScales,                                                                              \
        [](const w32::CodePage& page, const scalar* k, const scalar* v, int time, int first, int group, int groups) {        \
          pages::code_rows_##name(*(const pages::CodePage*)&page, k, v, time, first, group, groups);                         \
        },                                                                                                                   \
        [](const w32::CodePage& page, scalar* rk, scalar* rv, const scalar* k, const scalar* v, const int* origin, int at,   \
           int groups) { pages::code_step_##name(*(const pages::CodePage*)&page, rk, rv, k, v, origin, at, groups); },       \
        [](const scalar* q, const w32::CodePage* table, const scalar* k, const scalar* v, int rows, int start,               \
           float* partial, int tq, int heads, int kvHeads, int pageSize, float scale, const int* origin, int length,         \
           int most) {                                                                                                       \
          (tq * heads > 8 * kvHeads ? space::split_wide_##name : space::split_##name)(                                       \
              q, (const space::CodePage*)table, {k, v, rows, start}, partial, {tq, heads, kvHeads, pageSize, scale}, origin, \
              length, most);                                                                                                 \
        },                                                                                                                   \
        [](const scalar* q, const w32::CodePage* table, const scalar* k, const scalar* v, int rows, int start, scalar* out,  \
           int tq, int heads, int kvHeads, int pageSize, float scale, int length) {                                          \
          many::forward_##name(q, (const many::CodePage*)table, {k, v, rows, start}, out,                                  \
                                {tq, heads, kvHeads, pageSize, scale}, length);                                              \
        },                                                                                                                   \
  }

static void attention(const Coded& on, int batches, int kvHeads, int group, int tq, int tk, int pageGroups, int most) {
  const int width = on.width, heads = kvHeads * group, words = width * on.bits / 32, sequences = batches * kvHeads;
  const int newest = (tk - 1) / 64, pageCount = (newest + pageGroups - 1) / pageGroups, ring = 128;
  const int rows = (newest + 1) * 64;  // of all keys as computed
  std::vector<scalar> k = random_scalars((size_t)sequences * rows * width), v = random_scalars(k.size());
  for (size_t i = 0; i < k.size(); i++) k[i] = from_float(to_float(k[i]) + (i % width == 3 ? 20 : 0));  // a channel apart
  std::vector<scalar> q = random_scalars((size_t)batches * tq * heads * width);
  struct Storage {
    std::vector<u32> kc, vc, ks, vs;
  };
  std::vector<Storage> storage(pageCount);
  std::vector<w32::CodePage> pages;
  for (Storage& s : storage) {
    s.kc.assign((size_t)sequences * pageGroups * 64 * words, 0xffffffffu);
    s.vc = s.kc;
    s.ks.assign((size_t)sequences * pageGroups * on.keyScales, 0x7bff7bffu);
    s.vs.assign((size_t)sequences * pageGroups * on.valueScales, 0x7bff7bffu);
    pages.push_back({s.kc.data(), s.vc.data(), s.ks.data(), s.vs.data()});
  }
  for (int g = 0; g < newest; g += pageGroups)
    launch({std::min(pageGroups, newest - g), sequences, 1}, 128,
           [&] { on.rows(pages[g / pageGroups], k.data(), v.data(), rows, g * 64, 0, pageGroups); });
  // What the codes mean, held to what was coded.
  const std::string name = on.type;
  Values meansK(k.size()), meansV(v.size());
  for (int s = 0; s < sequences; s++)
    for (int position = 0; position < newest * 64; position++)
      for (int i = 0; i < width; i++) {
        const int g = position / 64, at = s * pageGroups + g % pageGroups;
        const Storage& page = storage[g / pageGroups];
        const size_t index = ((size_t)s * rows + position) * width + i;
        const Meaning key = meaning(on.type, true, &page.kc[(size_t)at * 64 * words], &page.ks[at * on.keyScales], position % 64, i, width);
        const Meaning value = meaning(on.type, false, &page.vc[(size_t)at * 64 * words], &page.vs[at * on.valueScales], position % 64, i, width);
        meansK[index] = key.value, meansV[index] = value.value;
        if (!(std::abs(key.value - to_float(k[index])) <= key.error)) note(name + ": one query", 1);
        if (!(std::abs(value.value - to_float(v[index])) <= value.error)) note(name + ": one query", 2);
      }
  const float scale = 1 / std::sqrt((float)width);
  Values expected(q.size());
  for (int batch = 0; batch < batches; batch++)
    for (int query = 0; query < tq; query++)
      for (int head = 0; head < heads; head++) {
        const size_t row = (((size_t)batch * tq + query) * heads + head) * width;
        const int last = tk - tq + query, s = batch * kvHeads + head / group;
        double total = 0;
        for (int position = 0; position <= last; position++) {
          const size_t at = ((size_t)s * rows + position) * width;
          const bool coded = position < last / 64 * 64;
          double score = 0;
          for (int i = 0; i < width; i++) score += to_float(q[row + i]) * (coded ? meansK[at + i] : to_float(k[at + i]));
          const double weight = std::exp(score * scale);
          total += weight;
          for (int i = 0; i < width; i++) expected[row + i] += weight * (coded ? meansV[at + i] : to_float(v[at + i]));
        }
        for (int i = 0; i < width; i++) expected[row + i] /= total;
      }
  if (group * tq > 16) {
    Output<scalar> out(expected.size());
    const int groups = newest - (tk - tq) / 64 + 1;
    launch({groups, heads, batches}, 128,
           [&] { on.forward(q.data(), pages.data(), k.data(), v.data(), rows, 0, out.data(), tq, heads, kvHeads, pageGroups * 64, scale, tk); });
    compare(name + ": many queries", out, expected);
    return;
  }
  // One position, whose row a step writes into a ring of two groups; as recorded, from an earlier place. The step runs twice.
  std::vector<scalar> ringK((size_t)sequences * ring * width, {0}), ringV = ringK, rowK(sequences * width), rowV(sequences * width);
  for (int s = 0; s < sequences; s++)
    for (int i = 0; i < width; i++) {
      for (int position = std::max(0, (newest - 1) * 64); position < tk - 1; position++) {
        const size_t to = ((size_t)s * ring + position % ring) * width + i, from = ((size_t)s * rows + position) * width + i;
        ringK[to] = k[from], ringV[to] = v[from];
      }
      rowK[s * width + i] = k[((size_t)s * rows + tk - 1) * width + i];
      rowV[s * width + i] = v[((size_t)s * rows + tk - 1) * width + i];
    }
  const std::vector<Storage> before = storage;
  const bool begins = newest > 0 && (tk - 1) % 64 == 0;
  if (begins)  // the step has to code it
    for (int s = 0; s < sequences; s++) {
      const size_t at = (size_t)(s * pageGroups + (newest - 1) % pageGroups) * 64 * words;
      std::fill_n(storage.back().kc.begin() + at, 64 * words, 0u);
    }
  const int place = tk - 1;
  for (int run = 0; run < 2; run++)
    launch({sequences, 1, 1}, 128, [&] {
      on.step(pages.empty() ? w32::CodePage{} : pages.back(), ringK.data(), ringV.data(), rowK.data(), rowV.data(), run ? &place : nullptr,
              run ? 0 : place, pageGroups);
    });
  bool same = true;
  for (int p = 0; p < pageCount; p++)
    same = same && storage[p].kc == before[p].kc && storage[p].vc == before[p].vc && storage[p].ks == before[p].ks && storage[p].vs == before[p].vs;
  note(name + ": step", same ? 0 : 1);
  // As computed, with as many splits as get keys, and as recorded, with all: equal to the last bit.
  const int count = group * tq, perSplit = std::max(256 / 64, (newest + most - 1) / most);
  const auto attend = [&](int splits, const int* origin) {
    Output<float> partial((size_t)sequences * splits * count * (width + 2));
    launch({splits, kvHeads, batches}, 128, [&] {
      on.split(q.data(), pages.data(), ringK.data(), ringV.data(), ring, -1, partial.data(), tq, heads, kvHeads, pageGroups * 64, scale,
               origin, origin ? 1 : tk, most);
    });
    if (!partial.is_guarded()) note(name + ": one query", NAN);
    Output<scalar> out(expected.size());
    Output<float> sums(expected.size() / width);  // in float32, which shows another order of sums
    launch({heads, tq, batches}, width * 8, [&] {
      (width == 32 ? j32::attention_join : j64::attention_join)(partial.data(), out.data(), sums.data(), tq, heads, kvHeads, splits);
    });
    return std::make_pair(out, sums.values);
  };
  const auto [out, sums] = attend((newest + perSplit - 1) / perSplit + 1, nullptr);
  const auto recorded = attend(most + 1, &place);
  const bool equal = !memcmp(out.values.data(), recorded.first.values.data(), out.values.size() * sizeof(scalar));
  note(name + ": recorded", equal && !memcmp(sums.data(), recorded.second.data(), sums.size() * sizeof(float)) ? 0 : 1);
  compare(name + ": one query", out, expected);
}

int main() {
  const Coded on[] = {CODED(w32, f32, p32, float8, 32, 8, 1, 1),  CODED(w64, f64, p64, float8, 64, 8, 1, 1),  CODED(w32, f32, p32, int8, 32, 8, 32, 64),
                      CODED(w64, f64, p64, int8, 64, 8, 64, 64), CODED(w32, f32, p32, int4, 32, 4, 32, 64), CODED(w64, f64, p64, int4, 64, 4, 64, 64)};
  for (const Coded& coded : on) {
    attention(coded, 1, 1, 1, 1, between(1, 64), 2, 1);     // nothing is coded yet
    attention(coded, 2, 2, 2, 1, between(65, 700), 2, 2);   // several pages, splits and sequences
    attention(coded, 1, 1, 3, 1, 64 * between(1, 4) + 1, 4, 3);  // a step that codes a group
    attention(coded, 1, 2, 3, 1, between(1100, 1200), 8, 7);     // a recorded step has splits without keys
    attention(coded, 1, 1, 2, 4, 64 * between(4, 6) + 2, 4, 2);  // queries of two groups
    attention(coded, 2, 1, 3, 4, 64 * between(3, 5) + 1, 4, 1);  // of more rows
    attention(coded, 1, 2, 2, between(70, 150), between(200, 330), 2, 1);
    attention(coded, 1, 1, 17, 1, 130, 4, 1);
  }
  report();
}
