/*
The slot rule as device code: which bin a number is in, and what it leaves there.

Everything in here must agree to the bit with gpudrift/columns/schema.py and with both CPU backends, so nothing may be
contracted or reassociated: differences and products are written as intrinsics that round once (__dsub_rn, __dmul_rn),
and no conversion to an integer is made of a number that does not fit.

A bin is decided by comparing with edges. The guide says with which: cell(x) never decreases with x, so all edges in
lower cells are at most x and all in higher cells are above it. What is left are the edges in x's own cell, of which
most cells have none or one. It is built on the device (gd_build_guides) with the very cell() that the counting kernels
use; on the host it would take one rounding that differs to put a value below an edge that it has reached.

    guide[cell]    low 12 bits: edges in lower cells; high 4 bits: edges in this one, 15 for more
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

typedef unsigned char gd_u8;
typedef unsigned short gd_u16;
typedef unsigned int gd_u32;
typedef unsigned long long gd_u64;
typedef long long gd_i64;

// Slots after the bins, in the order of gpudrift.schema.SPECIAL_SLOTS.
enum GdSpecial { GD_NEGATIVE_INFINITY, GD_POSITIVE_INFINITY, GD_NAN, GD_NULL, GD_ABSENT, GD_SPECIALS };

static const double GD_LARGEST = 1.7976931348623157e308;
static const gd_i64 GD_LARGEST_INTEGER = 0x7FFFFFFFFFFFFFFFLL;
static const gd_i64 GD_SMALLEST_INTEGER = -0x7FFFFFFFFFFFFFFFLL - 1;
static const int GD_RESIDUAL_BITS = 16;
static const gd_u32 GD_LARGEST_RESIDUAL = 65535;
static const int GD_BIN_BITS = 12, GD_BIN_MASK = (1 << GD_BIN_BITS) - 1, GD_MANY = 15;

/* Where a value lies, coarsely: linear within `spread` of `centre`, logarithmic beyond (10 octaves). */
struct GdMapping {
    double centre;
    float spread;  // a normal float above 0
    int shift;     // 23 - bits: 2^bits cells an octave
    int base;      // bits of spread >> shift
    int half;      // cells on each side of the centre; 2 * half + 1 in all, the last one empty
};

// Every step rounds or cuts, and none reverses: monotone in x, for edges and values alike.
__device__ __forceinline__ int gd_cell(double x, const GdMapping& mapping)
{
    const float distance = __double2float_rn(__dsub_rn(x, mapping.centre));
    const float beyond = __fadd_rn(fabsf(distance), mapping.spread);
    const int cell = min((int)(__float_as_uint(beyond) >> mapping.shift) - mapping.base, mapping.half - 1);
    return distance >= 0.0f ? mapping.half + cell : mapping.half - 1 - cell;
}

/* The bin of a finite value. `edges` has bins + 1 entries; edges[0] is at most any value, and no value is beyond the
   last. Random lanes of a warp meet in a bank of shared memory about 3.5 times for each word, so each load that is not
   made counts: no comparison in a cell without edges, one in a cell with one; crowded cells are searched. */
template <class Number>
__device__ __forceinline__ int gd_bin(Number x, const Number* edges, const gd_u16* guide, int cell)
{
    const int entry = guide[cell], within = entry >> GD_BIN_BITS;
    int after = entry & GD_BIN_MASK;
    if (within == 1) {
        after += x >= edges[after];
    } else if (within) {
        int high = within < GD_MANY ? after + within : guide[cell + 1] & GD_BIN_MASK;
        while (after < high) {
            const int middle = (after + high) >> 1;
            if (x >= edges[middle])
                after = middle + 1;
            else
                high = middle;
        }
    }
    return after - 1;
}

__device__ __forceinline__ int gd_scale(double edge, double next, bool)
{
    const int exponent = (int)(((gd_u64)__double_as_longlong(__dsub_rn(next, edge)) >> 52) & 0x7FF);
    // frexp's exponent is exponent - 1022, so 2^s has the biased exponent 1023 + 16 - (exponent - 1022).
    const int scale = 1023 + GD_RESIDUAL_BITS + 1022 - exponent;
    return scale <= 2046 ? scale : 0;
}

__device__ __forceinline__ int gd_scale(gd_i64 edge, gd_i64 next, bool closed)
{
    const gd_u64 largest = (gd_u64)next - (gd_u64)edge - (closed ? 0 : 1);
    return max(64 - __clzll((gd_i64)largest) - GD_RESIDUAL_BITS, 0);
}

__device__ __forceinline__ gd_u32 gd_residual(double x, double edge, int scale)
{
    // 2^s of exponent 0 is 0.0: no residual. Else 0 to 65536, which fits.
    const double power = __longlong_as_double((gd_i64)scale << 52);
    return min((gd_u32)__dmul_rn(__dsub_rn(x, edge), power), GD_LARGEST_RESIDUAL);
}

__device__ __forceinline__ gd_u32 gd_residual(gd_i64 x, gd_i64 edge, int scale)
{
    return (gd_u32)(((gd_u64)x - (gd_u64)edge) >> scale);
}

/* Keys that order like the values: gpudrift.profiles.float_to_key. -0.0 is 0.0. */
__device__ __forceinline__ gd_i64 gd_key(double x)
{
    const gd_i64 bits = __double_as_longlong(__dadd_rn(x, 0.0));
    return bits ^ ((bits >> 63) & GD_LARGEST_INTEGER);
}

__device__ __forceinline__ gd_i64 gd_key(gd_i64 x) { return x; }
