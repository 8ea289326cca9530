/*
The slot rule as device code: which bin a number is in, and what it leaves there.

Everything in here must agree to the bit with gpudrift/columns/schema.py and with both CPU backends, so nothing may be
contracted, reassociated or flushed (arithmetic.cuh), and no conversion to an integer is made of a number that does not
fit.

A bin is decided by comparing with edges. The guide says with which: a cell never decreases with x, so all edges in
lower cells are at most x and all in higher cells are above it. What is left are the edges in x's own cell, of which
most cells have none or one. It is built on the device (gd_build_guides) with the very gd_cell() that the counting
kernels use; on the host it would take one rounding that differs to put a value below an edge that it has reached.

    limits[bin]    what a value must reach to be in that bin or a later one. Of values of 64 bits the edge itself. Of
                   float32 the edge rounded up: no float32 lies between them, so x >= edge is x >= limit. Of integers of
                   up to 32 bits the edge, or 2^31 - 1 where it is beyond; see gd_limit.
    guide[cell]    bits 0 to 11: inner edges in lower cells, which is the bin of a value below all that are in this one;
                   12 to 18: inner edges in this cell; 20 to 30: that bin's scale
    scales[bin]    real: biased exponent of 2^s, 0 where there is none; integer: t

    real     bin of x: e[i] <= x < e[i+1] in float64, the last one closed
             residual: min(floor((x - e[i]) * 2^s), 65535), s = 16 - frexp(e[i+1] - e[i]); 0 where 2^s is no float64
    integer  the same in int64
             residual: (x - e[i]) >> t, t the smallest shift for which that is below 65536 in all of the bin

Point bins hold one value, their lower edge (zero's also subnormals, and is too narrow for a sum): their residual is 0
by the same formulas.

NVRTC compiles this: no headers.
*/
#pragma once

#include "arithmetic.cuh"

// Slots after the bins, in the order of gpudrift.columns.schema.SPECIAL_SLOTS.
enum GdSpecial { GD_NEGATIVE_INFINITY, GD_POSITIVE_INFINITY, GD_NAN, GD_NULL, GD_ABSENT, GD_SPECIALS };

static const double GD_LARGEST = 1.7976931348623157e308;
static const gd_i64 GD_LARGEST_INTEGER = 0x7FFFFFFFFFFFFFFFLL;
static const gd_i64 GD_SMALLEST_INTEGER = -0x7FFFFFFFFFFFFFFFLL - 1;
static const int GD_RESIDUAL_BITS = 16;
static const gd_u32 GD_LARGEST_RESIDUAL = 65535;
static const gd_u32 GD_BIN_MASK = 0xFFF, GD_MANY = 127, GD_EDGE = 1 << 12, GD_EDGES_MASK = GD_MANY * GD_EDGE;
static const int GD_SCALE_BIT = 20;

/* Where a value lies, coarsely: linear within `spread` of the centre, logarithmic beyond. */
struct GdMapping {
    double less_centre;        // 0 - centre: added, x = -0.0 gives the cell of 0.0
    float less_centre_single;  // the nearest float32
    float spread;              // a normal float above 0
    int shift;                 // 23 - bits: 2^bits cells an octave
    int base;                  // bits of spread >> shift
    int half;                  // cells on each side of the centre
};

/* The cell of a distance from the centre, counted from the centre: -half to half - 1. */
__device__ __forceinline__ int gd_cell_at(float distance, const GdMapping& mapping)
{
    const gd_u32 beyond = __float_as_uint(gd_add(gd_absolute(distance), mapping.spread));
    const int cell = min((int)(beyond >> mapping.shift) - mapping.base, mapping.half - 1);
    return cell ^ ((int)__float_as_uint(distance) >> 31);
}

// Every step rounds or cuts, and none reverses: monotone in x, for edges and values alike. NaN and infinities have
// cells, too.
__device__ __forceinline__ int gd_cell(float x, const GdMapping& mapping)
{
    return gd_cell_at(gd_add(x, mapping.less_centre_single), mapping);
}
__device__ __forceinline__ int gd_cell(double x, const GdMapping& mapping)
{
    return gd_cell_at(gd_nearest(__dadd_rn(x, mapping.less_centre)), mapping);
}
__device__ __forceinline__ int gd_cell(int x, const GdMapping& mapping)
{
    return gd_cell_at(gd_add(__int2float_rn(x), mapping.less_centre_single), mapping);
}
__device__ __forceinline__ int gd_cell(gd_i64 x, const GdMapping& mapping)
{
    return gd_cell(__ll2double_rn(x), mapping);
}

/* What a value of the type of the first argument must reach to be in the bin of an edge, or in a later one. */
__device__ __forceinline__ double gd_limit(double, double edge) { return edge; }
__device__ __forceinline__ float gd_limit(float, double edge) { return gd_rounded_up(edge); }
__device__ __forceinline__ gd_i64 gd_limit(gd_i64, gd_i64 edge) { return edge; }
__device__ __forceinline__ int gd_limit(int, gd_i64 edge)
{
    return (int)min(max(edge, (gd_i64)-0x80000000LL), (gd_i64)0x7FFFFFFF);
}

/* Whether no value of that type reaches an edge: what gd_limit cannot say. */
__device__ __forceinline__ bool gd_beyond(int, gd_i64 edge) { return edge > 0x7FFFFFFF; }
template <class Rank, class Number>
__device__ __forceinline__ bool gd_beyond(Rank, Number)
{
    return false;
}

/* Of a bin, as the guide has it: in bits 20 to 30. */
__device__ __forceinline__ gd_u32 gd_scale(double edge, double next, bool)
{
    const int exponent = (int)(((gd_u64)__double_as_longlong(__dsub_rn(next, edge)) >> 52) & 0x7FF);
    // frexp's exponent is exponent - 1022, so 2^s has the biased exponent 1023 + 16 - (exponent - 1022).
    const int scale = 1023 + GD_RESIDUAL_BITS + 1022 - exponent;
    return scale <= 2046 ? scale : 0;
}

__device__ __forceinline__ gd_u32 gd_scale(gd_i64 edge, gd_i64 next, bool closed)
{
    const gd_u64 largest = (gd_u64)next - (gd_u64)edge - (closed ? 0 : 1);
    return max(64 - __clzll((gd_i64)largest) - GD_RESIDUAL_BITS, 0);
}

__device__ __forceinline__ double gd_power(gd_u32 scale)
{
    return __longlong_as_double((gd_i64)((gd_u64)(scale & 0x7FF00000) << 32));  // of exponent 0 it is 0.0
}

/* `scale` as the guide has it. */
__device__ __forceinline__ gd_u32 gd_residual(float x, double edge, gd_u32 scale)
{
    // 2^52 and more are whole numbers: rounded down, the sum has floor((x - edge) * 2^s) in its lower word, which is
    // one instruction instead of a product and a conversion (16 a clock). The product is exact or below 1, at most
    // 65536, and no float32 is so far from an edge that their difference is infinite.
    const double whole = __fma_rd(__dsub_rn(gd_widened(x), edge), gd_power(scale), 4503599627370496.0);
    return min((gd_u32)__double_as_longlong(whole), GD_LARGEST_RESIDUAL);
}
__device__ __forceinline__ gd_u32 gd_residual(double x, double edge, gd_u32 scale)
{
    // The difference may be infinite: converted, that is the largest integer.
    return min(__double2uint_rz(__dmul_rn(__dsub_rn(x, edge), gd_power(scale))), GD_LARGEST_RESIDUAL);
}
__device__ __forceinline__ gd_u32 gd_residual(gd_i64 x, gd_i64 edge, gd_u32 scale)
{
    return (gd_u32)(((gd_u64)x - (gd_u64)edge) >> (scale >> GD_SCALE_BIT));
}
__device__ __forceinline__ gd_u32 gd_residual(int x, gd_i64 edge, gd_u32 scale)
{
    return gd_residual((gd_i64)x, edge, scale);
}

__device__ __forceinline__ bool gd_finite(float x) { return gd_reaches(3.402823466e38f, gd_absolute(x)); }
__device__ __forceinline__ bool gd_finite(double x) { return fabs(x) <= GD_LARGEST; }
__device__ __forceinline__ bool gd_finite(int) { return true; }
__device__ __forceinline__ bool gd_finite(gd_i64) { return true; }

/* The special slot of a number that is not finite. */
__device__ __forceinline__ int gd_special(double x, bool nan_is_null)
{
    return x < 0 ? GD_NEGATIVE_INFINITY : x > 0 ? GD_POSITIVE_INFINITY : nan_is_null ? GD_NULL : GD_NAN;
}
__device__ __forceinline__ int gd_special(float x, bool nan_is_null) { return gd_special(gd_widened(x), nan_is_null); }
__device__ __forceinline__ int gd_special(int, bool) { return GD_NULL; }
__device__ __forceinline__ int gd_special(gd_i64, bool) { return GD_NULL; }

/* Keys that order like the values: gpudrift.counts.profiles.float_to_key. -0.0 is 0.0. */
__device__ __forceinline__ gd_i64 gd_key(double x)
{
    const gd_i64 bits = __double_as_longlong(__dadd_rn(x, 0.0));
    return bits ^ ((bits >> 63) & GD_LARGEST_INTEGER);
}
__device__ __forceinline__ gd_i64 gd_key(float x) { return gd_key(gd_widened(x)); }
__device__ __forceinline__ gd_i64 gd_key(int x) { return x; }
__device__ __forceinline__ gd_i64 gd_key(gd_i64 x) { return x; }
