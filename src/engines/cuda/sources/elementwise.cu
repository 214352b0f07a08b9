// Element-wise kernels of the standard tfjs operations, with broadcasting.
#include "common.cuh"

// Comparisons and not fmaxf, which hides a NaN.
DEVICE float at_least(float x, float least) { return x < least ? least : x; }
DEVICE float at_most(float x, float most) { return x > most ? most : x; }
DEVICE float relu(float x) { return at_least(x, 0.0f); }
DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
DEVICE float softplus(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }
DEVICE float sign(float x) { return (x > 0.0f) - (x < 0.0f); }

// y = expression of x; 16 bytes a thread where the addresses allow it (tensors are 512-byte aligned).
#define UNARY(name, expression)                                                          \
  KERNEL unary_##name(const scalar* in, scalar* out, i64 size, float a, float b) {       \
    const i64 wide = size / WIDTH;                                                       \
    for (i64 i = global_thread(); i < wide; i += global_threads()) {                     \
      Wide p = ((const Wide*)in)[i];                                                     \
      _Pragma("unroll") for (int j = 0; j < WIDTH; j++) {                                \
        const float x = to_float(p.v[j]);                                                \
        p.v[j] = from_float(expression);                                                 \
      }                                                                                  \
      ((Wide*)out)[i] = p;                                                               \
    }                                                                                    \
    for (i64 i = wide * WIDTH + global_thread(); i < size; i += global_threads()) {      \
      const float x = to_float(in[i]);                                                   \
      out[i] = from_float(expression);                                                   \
    }                                                                                    \
  }
UNARY(Abs, fabsf(x))
UNARY(Ceil, ceilf(x))
UNARY(ClipByValue, at_most(at_least(x, a), b))
UNARY(Cos, cosf(x))
UNARY(Elu, x >= 0.0f ? x : expm1f(x))
UNARY(Erf, erff(x))
UNARY(Exp, expf(x))
UNARY(Expm1, expm1f(x))
UNARY(Floor, floorf(x))
UNARY(LeakyRelu, x >= 0.0f ? x : a * x)
UNARY(Log, logf(x))
UNARY(Log1p, log1pf(x))
UNARY(Neg, -x)
UNARY(Reciprocal, 1.0f / x)
UNARY(Relu, relu(x))
UNARY(Round, rintf(x))
UNARY(Rsqrt, 1.0f / sqrtf(x))
UNARY(Sigmoid, sigmoid(x))
UNARY(Sign, sign(x))
UNARY(Sin, sinf(x))
UNARY(Softplus, softplus(x))
UNARY(Sqrt, sqrtf(x))
UNARY(Square, x* x)
UNARY(Step, x > 0.0f ? 1.0f : a)
UNARY(Tanh, tanhf(x))
// The scalar operand of a binary operation, `a` on the right or on the left.
UNARY(AddScalar, x + a)
UNARY(MultiplyScalar, x* a)
UNARY(SubtractFrom, a - x)
UNARY(DivideInto, a / x)
UNARY(MaximumScalar, at_least(x, a))
UNARY(MinimumScalar, at_most(x, a))

#define UNARY_INT(name, expression)                                                   \
  KERNEL unary_int_##name(const int* in, int* out, i64 size, float a, float b) {      \
    for (i64 i = global_thread(); i < size; i += global_threads()) {                  \
      const int x = in[i];                                                            \
      out[i] = (expression);                                                          \
    }                                                                                 \
  }
UNARY_INT(Neg, -x)
UNARY_INT(Abs, x < 0 ? -x : x)
UNARY_INT(Square, x* x)
UNARY_INT(ClipByValue, min(max(x, (int)a), (int)b))

KERNEL unary_LogicalNot(const u8* in, u8* out, i64 size) {
  for (i64 i = global_thread(); i < size; i += global_threads()) out[i] = !in[i];
}

// Output shape, and for each operand the stride of every output axis (0 where it is broadcast).
struct Broadcast {
  i64 shape[RANK];
  i64 a[RANK];
  i64 b[RANK];
};

template <typename A, typename R, typename Operation>
DEVICE void binary(const A* a, const A* b, R* out, i64 size, int rank, const Broadcast& where, Operation operation) {
  i64 done = 0;
  if (rank == 0) {  // plain arrays: eight elements at a time
    const i64 packs = size / 8;
    for (i64 i = global_thread(); i < packs; i += global_threads()) {
      const Pack<A, 8> p = ((const Pack<A, 8>*)a)[i], q = ((const Pack<A, 8>*)b)[i];
      Pack<R, 8> r;
#pragma unroll
      for (int j = 0; j < 8; j++) r.v[j] = operation(p.v[j], q.v[j]);
      ((Pack<R, 8>*)out)[i] = r;
    }
    done = packs * 8;
  }
  for (i64 i = done + global_thread(); i < size; i += global_threads()) {
    i64 ia = i, ib = i;
    if (rank > 0) {
      ia = ib = 0;
      i64 rest = i;
      for (int axis = rank - 1; axis >= 0; axis--) {
        const i64 extent = where.shape[axis];
        const i64 at = rest % extent;
        rest /= extent;
        ia += at * where.a[axis];
        ib += at * where.b[axis];
      }
    }
    out[i] = operation(a[ia], b[ib]);
  }
}

#define BINARY_AS(name, suffix, A, R, expression)                                                                \
  KERNEL binary_##name##suffix(const A* a, const A* b, R* out, i64 size, int rank, const Broadcast where) {      \
    binary(a, b, out, size, rank, where, [](A p, A q) -> R { expression });                                      \
  }
#define BINARY_FLOAT(name, expression)                                    \
  BINARY_AS(name, _float32, scalar, scalar, const float x = to_float(p); \
            const float y = to_float(q); return from_float(expression);)
#define BINARY_INT(name, expression) \
  BINARY_AS(name, _int32, int, int, const int x = p; const int y = q; return (expression);)
#define ARITHMETIC(name, expression) BINARY_FLOAT(name, expression) BINARY_INT(name, expression)
#define COMPARISON(name, expression)                                                                    \
  BINARY_AS(name, _float32, scalar, u8, const float x = to_float(p); const float y = to_float(q);       \
            return (expression);)                                                                       \
  BINARY_AS(name, _int32, int, u8, const int x = p; const int y = q; return (expression);)              \
  BINARY_AS(name, _bool, u8, u8, const u8 x = p; const u8 y = q; return (expression);)

DEVICE int floor_divide(int x, int y) { return x / y - (x % y != 0 && (x < 0) != (y < 0)); }
DEVICE float power(float x, float y) { return y == 2.0f ? x * x : powf(x, y); }

ARITHMETIC(Add, x + y)
ARITHMETIC(Sub, x - y)
ARITHMETIC(Multiply, x* y)
ARITHMETIC(Maximum, x > y || x != x ? x : y)
ARITHMETIC(Minimum, x < y || x != x ? x : y)
ARITHMETIC(SquaredDifference, (x - y) * (x - y))
BINARY_FLOAT(RealDiv, x / y)
BINARY_FLOAT(Pow, power(x, y))
BINARY_FLOAT(Mod, x - y * floorf(x / y))
BINARY_FLOAT(Atan2, atan2f(x, y))
BINARY_FLOAT(Prelu, x < 0.0f ? x * y : x)
BINARY_FLOAT(SigmoidGrad, y* x*(1.0f - x))
BINARY_INT(FloorDiv, floor_divide(x, y))
BINARY_INT(Mod, x - y * floor_divide(x, y))
COMPARISON(Equal, x == y)
COMPARISON(NotEqual, x != y)
COMPARISON(Greater, x > y)
COMPARISON(GreaterEqual, x >= y)
COMPARISON(Less, x < y)
COMPARISON(LessEqual, x <= y)
BINARY_AS(LogicalAnd, _bool, u8, u8, return p && q;)
BINARY_AS(LogicalOr, _bool, u8, u8, return p || q;)

// out = condition ? a : b; the condition is per element, or per row of `inner` elements.
#define SELECT(suffix, T)                                                                                 \
  KERNEL select##suffix(const u8* condition, const T* a, const T* b, T* out, i64 size, i64 inner) {       \
    for (i64 i = global_thread(); i < size; i += global_threads())                                        \
      out[i] = condition[i / inner] ? a[i] : b[i];                                                        \
  }
SELECT(_float32, scalar)
SELECT(_int32, int)
SELECT(_bool, u8)

#define FILL(suffix, T, convert)                                                           \
  KERNEL fill##suffix(T* out, i64 size, float value, float step) {                         \
    for (i64 i = global_thread(); i < size; i += global_threads())                         \
      out[i] = convert(value + step * (float)i);                                           \
  }
DEVICE int as_int(float x) { return (int)x; }
DEVICE u8 as_bool(float x) { return x != 0.0f; }
FILL(_float32, scalar, from_float)
FILL(_int32, int, as_int)
FILL(_bool, u8, as_bool)

// Conversions between the logical types and between storage and plain float32 (`raw`).
DEVICE float raw(float x) { return x; }
#define CAST(name, A, R, convert)                                                                        \
  KERNEL cast_##name(const A* in, R* out, i64 size) {                                                    \
    for (i64 i = global_thread(); i < size; i += global_threads()) out[i] = convert(to_float(in[i]));    \
  }
#define CAST_EXACT(name, A, R)                                                                           \
  KERNEL cast_##name(const A* in, R* out, i64 size) {                                                    \
    for (i64 i = global_thread(); i < size; i += global_threads()) out[i] = (R)in[i];                    \
  }
CAST(float32_int32, scalar, int, as_int)
CAST(float32_bool, scalar, u8, as_bool)
CAST(int32_float32, int, scalar, from_float)
CAST(bool_float32, u8, scalar, from_float)
CAST(float32_raw, scalar, float, raw)
CAST_EXACT(bool_int32, u8, int)
KERNEL cast_int32_bool(const int* in, u8* out, i64 size) {
  for (i64 i = global_thread(); i < size; i += global_threads()) out[i] = in[i] != 0;
}
KERNEL cast_raw_float32(const float* in, scalar* out, i64 size) {
  i64 done = 0;
  if (((u64)in | (u64)out) % 16 == 0) {  // eight elements at a time
    done = size / 8 * 8;
    for (i64 i = global_thread(); i < size / 8; i += global_threads()) {
      const Pack<float, 4> p = ((const Pack<float, 4>*)in)[2 * i], q = ((const Pack<float, 4>*)in)[2 * i + 1];
      Pack<scalar, 8> y;
#pragma unroll
      for (int j = 0; j < 8; j++) y.v[j] = from_float(j < 4 ? p.v[j] : q.v[j - 4]);
      ((Pack<scalar, 8>*)out)[i] = y;
    }
  }
  for (i64 i = done + global_thread(); i < size; i += global_threads()) out[i] = from_float(in[i]);
}
