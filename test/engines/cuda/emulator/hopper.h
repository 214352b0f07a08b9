// Stands for hopper.cuh: tensor maps, boxes copied with the swizzle of 128 bytes, named barriers, and warpgroup products, done when they
// are waited for and no earlier. Shared memory has addresses of 32 bits, all near each other.
#pragma once
#include "device.h"

struct alignas(64) TensorMap {
  u64 words[16];
};
// Of [batch, position, head, width] or any other order: lengths and strides (in elements) of columns, positions, heads and batch.
struct Map {
  const scalar* address;
  i64 lengths[4], strides[4];
  int rows;
};
// Where element (column, position, head, batch) is, or null outside of the tensor.
static scalar* element_of(const Map& map, i64 column, i64 position, i64 head, i64 batch) {
  const i64 at[4] = {column, position, head, batch};
  i64 offset = 0;
  for (int i = 0; i < 4; i++) {
    if (at[i] < 0 || at[i] >= map.lengths[i]) return nullptr;
    offset += at[i] * map.strides[i];
  }
  return (scalar*)map.address + offset;
}
static TensorMap tensor_map(const Map& map) {
  static_assert(sizeof(Map) <= sizeof(TensorMap), "room");
  TensorMap packed = {};
  memcpy(&packed, &map, sizeof map);
  return packed;
}

static u8* at_address(u32 address) {
  static u8 near;
  return &near + (int)(address - (u32)(size_t)&near);
}
static u32 swizzled(u32 address) { return address ^ (address >> 7 & 7) << 4; }
static scalar& element_at(u32 address) { return *(scalar*)at_address(swizzled(address)); }

static void tma_load(u32 to, const TensorMap* packed, u32 barrier, int column, int position, int head, int batch) {
  Map map;
  memcpy(&map, packed, sizeof map);
  if (to % 1024 != 0) abort();
  copy_later(barrier, map.rows * 128, [=] {
    for (int row = 0; row < map.rows; row++)
      for (int c = 0; c < 64; c++) {
        const scalar* from = element_of(map, column + c, position + row, head, batch);
        element_at(to + row * 128 + c * 2) = from ? *from : scalar{0};
      }
  });
}

// Work of each thread that is done when it is waited for, and no earlier: groups, the last one open.
typedef std::vector<std::function<void()>> Group;
struct Groups {
  std::map<int, std::vector<Group>> ofThreads;
  std::vector<Group>& own() {
    auto& groups = ofThreads[threadIdx.x];
    if (groups.empty()) groups.emplace_back();
    return groups;
  }
  void add(const std::function<void()>& work) { own().back().push_back(work); }
  void commit() { own().emplace_back(); }
  void wait(int pending) {
    while ((int)own().size() - 1 > pending) {
      const Group group = own()[0];
      own().erase(own().begin());
      for (const auto& work : group) work();
    }
  }
};
static Groups stores, products;  // copies out of shared memory, warpgroup products

static void tma_store(const TensorMap* packed, u32 from, int column, int position, int head, int batch) {
  Map map;
  memcpy(&map, packed, sizeof map);
  if (from % 1024 != 0) abort();
  stores.add([=] {
    for (int row = 0; row < map.rows; row++)
      for (int c = 0; c < 64; c++) {
        scalar* to = element_of(map, column + c, position + row, head, batch);
        if (to) *to = element_at(from + row * 128 + c * 2);
      }
  });
}
static void tma_commit() { stores.commit(); }
template <int PENDING = 0>
static void tma_wait() {
  stores.wait(PENDING);
}
static void async_fence() {}
static void stmatrix(scalar* p, const u32 (&r)[4]) {
  addresses[warp()][lane()] = p;
  warp_wait();
  for (int i = 0; i < 4; i++)
    for (int c = 0; c < 2; c++)
      ((scalar*)addresses[warp()][i * 8 + lane() / 4])[lane() % 4 * 2 + c] = {(u16)(r[i] >> (16 * c))};
  warp_wait();
}

// The address, and 16 bytes as the unit of both distances.
static u64 matrix_descriptor(u32 address, int leadingBytes, int strideBytes) {
  return address | (u64)(leadingBytes >> 4) << 32 | (u64)(strideBytes >> 4) << 48;
}
// Row i and inner index k of an operand; TURNED: it lies in rows of the inner index, 64 columns at a time.
template <bool TURNED>
static float operand(u64 descriptor, int i, int k) {
  const u32 start = (u32)descriptor, leading = (descriptor >> 32 & 0xffff) << 4, stride = (descriptor >> 48) << 4;
  const u32 place = TURNED ? i / 64 * leading + k / 8 * stride + k % 8 * 128 + i % 64 * 2
                           : i / 8 * stride + i % 8 * 128 + k * 2;
  return to_float(element_at(start + place));
}
static u64 descriptor_at(u64 descriptor, int bytes) { return descriptor + bytes; }
static void tensormap_acquire(const TensorMap*) {}
static int uniform(int x) { return x; }
static void named_barrier_wait(int id, int threads) { named_barriers[id].wait(threads); }
static void named_barrier_arrive(int id, int threads) { named_barriers[id].arrive(threads); }

static void wgmma_fence() {}
static void wgmma_commit() { products.commit(); }
template <int PENDING>
static void wgmma_wait() {
  yield();  // whatever else there is to do comes first
  products.wait(PENDING);
}
template <int COUNT>
static void hold(const u32 (&)[COUNT][4], bool) {}
template <int COUNT>
static void keep_registers() {}
template <int COUNT>
static void take_registers() {}

// left[r][k]: of the two rows that a thread has.
template <int COUNT, bool TURNED>
static void add_products(float (&d)[COUNT], const float (&left)[2][16], u64 b) {
  for (int j = 0; j < COUNT / 4; j++)
    for (int c = 0; c < 2; c++) {
      const int column = j * 8 + lane() % 4 * 2 + c;
      for (int k = 0; k < 16; k++) {
        const float right = operand<TURNED>(b, column, k);
        for (int r = 0; r < 2; r++) d[4 * j + 2 * r + c] += left[r][k] * right;
      }
    }
}
static u32 operand_a[32][32][4];
// Operands in registers are read as late as those in shared memory.
template <int COUNT>
static void wgmma_rs(float (&d)[COUNT], const u32 (&a)[4], u64 b) {
  products.add([&d, &a, b] {
    for (int i = 0; i < 4; i++) operand_a[warp()][lane()][i] = a[i];
    warp_wait();
    float left[2][16];
    for (int r = 0; r < 2; r++)
      for (int k = 0; k < 16; k++)
        left[r][k] = half_of(operand_a[warp()][lane() / 4 * 4 + k % 8 / 2][r + 2 * (k >= 8)], k % 2);
    add_products<COUNT, true>(d, left, b);
    warp_wait();
  });
}
template <bool TURNED, int COUNT>
static void wgmma_shared(float (&d)[COUNT], u64 a, u64 b, int accumulate) {
  products.add([&d, a, b, accumulate] {
    float left[2][16];
    for (int r = 0; r < 2; r++)
      for (int k = 0; k < 16; k++) left[r][k] = operand<false>(a, warp() % 4 * 16 + lane() / 4 + 8 * r, k);
    if (!accumulate)
      for (float& x : d) x = 0;
    add_products<COUNT, TURNED>(d, left, b);
  });
}
