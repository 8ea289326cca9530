/*
Counting kernels: columns in, slots out.

    columns    GdColumn[gridDim.y], any number of rows, each of the type of the kernel (a launch takes columns of one)
    groups     int64[gridDim.z + 1]: the first row of each group (window, segment) and the end of the last one; null
               where all rows are one. Rows are in the order of their groups.
    counts     uint64[bins + 5] of a column in global memory, again for each group: added to
    sums       uint64[bins], again for each group: added to
    bounds     int64[2]: keys of the smallest and largest finite value, lowered and raised; again for each group

gridDim = (blocks of the longest group, columns, groups from `first_group` on); a block takes `rows_of_a_block` consecutive rows of a group and
keeps private 32-bit counters in shared memory, so that the row loop touches global memory only to read values and
validity:

    edges    8 (bins + 1)          guide    2 (2 half + 1)          counts    4 (bins + 5)
    carried  4 bins, or none       scales   2 bins                  sums      4 bins copies

What the hardware does with the odd line:

- `atomicAdd(&counts[slot], 1u)`, literal 1, result unused: ATOMS.POPC.INC from sm_80 on, which merges the lanes of a
  warp that meet in a slot. A variable would be ATOMS.ADD, one after the other: constant columns would be 32 times slower.
- Residuals differ, so the hardware cannot merge them; where most rows are in one bin lanes would queue. A thread adds up
  the residuals of consecutive rows of one bin in a register: a column that has drifted into a single bin makes no
  atomics at all, one with 90 % there a fifth. `copies` of the sums (1, 2, 4 …), one for each lane modulo that, divide
  the queue that is left.
- 64-bit atomics on shared memory are compare-and-swap loops. So sums are 32 bits and are emptied every 65,536 rows:
  65,536 residuals of at most 65,535, added to at most 65,535 that stay, are at most 2^32 - 1, and not one more. They
  are emptied into `carried`, or into global memory where 64 KiB (sm_75) do not hold that as well.
- Global totals are 64 bits: RED.E.ADD.64, native.
- The next 16 bytes are asked for before the ones at hand are counted: two blocks of 512 threads on a multiprocessor
  have 32 KiB on their way then, and memory of 4 TB/s and 700 ns wants 23 KiB of each of 132.

Expected, not measured (no device was at hand; `python benchmarks/device.py` measures): shared memory is the limit, not
global memory. A value takes a word of the guide, 1.2 to 1.7 edges of two words, a scale, and two atomics; 32 random lanes
meet in a bank 3.5 times a word, so a warp's values take about 22 cycles: on 132 multiprocessors at 1.75 GHz 340 thousand
million values a second, two thirds of the copy bandwidth of an H200 for float64 and one third for float32.
*/
#include "slots.cuh"

#ifndef GD_SHARED  // the emulation has its own
#define GD_SHARED(NAME) extern __shared__ __align__(16) unsigned char NAME[]
#endif

static const int GD_ROWS_OF_A_FLUSH = 65536;

/* One column of one batch. Built on the host as a structured array of the same layout (backends/cuda/launch.py). */
struct GdColumn {
    const void* values;     // of row 0
    const gd_u8* validity;  // Arrow's bitmap, least significant bit first; null: all valid
    gd_i64 validity_bit;    // of row 0
    gd_i64 rows;
    const void* edges;      // bins + 1 of double or int64
    const gd_u16* guide;    // 2 half + 1
    const gd_u16* scales;   // bins
    gd_u64* counts;
    gd_u64* sums;
    gd_i64* bounds;
    GdMapping mapping;
    int bins;
    int nan_is_null;
};

/* What a stored value is: how many bytes, what it is ranked by (cheap to compare), and the number that is counted. */
struct GdFloat64 {
    typedef double Stored, Rank, Number;
    static __device__ __forceinline__ Rank rank(Stored x) { return x; }
};
struct GdFloat32 {
    typedef float Stored, Rank;
    typedef double Number;
    static __device__ __forceinline__ Rank rank(Stored x) { return x; }
};
struct GdFloat16 {
    typedef gd_u16 Stored;
    typedef float Rank;
    typedef double Number;
    // Without cuda_fp16.h, which the emulation does not have. Exact: subnormals are multiples of 2^-24.
    static __device__ __forceinline__ Rank rank(Stored x)
    {
        const gd_u32 sign = (gd_u32)(x & 0x8000) << 16, exponent = (x >> 10) & 31, fraction = x & 0x3FF;
        if (exponent == 0) {
            const float small = __fmul_rn((float)fraction, 5.9604644775390625e-8f);
            return sign ? -small : small;
        }
        const gd_u32 biased = exponent == 31 ? 255 : exponent + 112;
        return __uint_as_float(sign | biased << 23 | fraction << 13);
    }
};
template <class Integer, class Wide>
struct GdInteger {
    typedef Integer Stored;
    typedef Wide Rank;
    typedef gd_i64 Number;
    static __device__ __forceinline__ Rank rank(Stored x) { return (Rank)x; }
};
struct GdUint64 {
    typedef gd_u64 Stored;
    typedef gd_i64 Rank, Number;
    // Beyond 2^63 - 1 the closed last bin takes the value; the report says so.
    static __device__ __forceinline__ Rank rank(Stored x)
    {
        return x > (gd_u64)GD_LARGEST_INTEGER ? GD_LARGEST_INTEGER : (gd_i64)x;
    }
};
/* Decimals of up to 18 digits: the lower word of 128 bits holds all of them. */
struct GdDecimal128 {
    struct alignas(16) Stored {
        gd_i64 low, high;
    };
    typedef gd_i64 Rank, Number;
    static __device__ __forceinline__ Rank rank(const Stored& x) { return x.low; }
};

template <class Stored>
struct alignas(16) GdPack {
    static const int SIZE = 16 / sizeof(Stored);
    Stored values[SIZE];
};

/* The private counters of a block. */
template <class Number>
struct GdBlock {
    const Number* edges;
    const gd_u16* guide;
    const gd_u16* scales;
    gd_u32* counts;
    gd_u32* sums;
    int copies;
};

/* What a thread keeps in registers: the smallest and largest finite value so far (low is above high where there is none),
   and the residuals of its last rows, which all were in one bin. */
template <class Rank>
struct GdSeen {
    Rank low, high;
    int slot;
    gd_u32 residuals;
};

template <class Number, class Rank>
__device__ __forceinline__ void gd_end_run(int bins, const GdBlock<Number>& block, GdSeen<Rank>& seen)
{
    if (seen.residuals)
        atomicAdd(&block.sums[seen.slot + bins * (threadIdx.x & (block.copies - 1))], seen.residuals);
    seen.residuals = 0;
}

__device__ __forceinline__ GdSeen<double> gd_nothing(double)
{
    return {__longlong_as_double(0x7FF0000000000000LL), -__longlong_as_double(0x7FF0000000000000LL), -1, 0};
}
__device__ __forceinline__ GdSeen<float> gd_nothing(float)
{
    return {__uint_as_float(0x7F800000u), -__uint_as_float(0x7F800000u), -1, 0};
}
__device__ __forceinline__ GdSeen<int> gd_nothing(int) { return {0x7FFFFFFF, -0x7FFFFFFF - 1, -1, 0}; }
__device__ __forceinline__ GdSeen<gd_i64> gd_nothing(gd_i64) { return {GD_LARGEST_INTEGER, GD_SMALLEST_INTEGER, -1, 0}; }

__device__ __forceinline__ int gd_special(double x)
{
    return fabs(x) <= GD_LARGEST ? -1 : x != x ? GD_NAN : x < 0 ? GD_NEGATIVE_INFINITY : GD_POSITIVE_INFINITY;
}
__device__ __forceinline__ int gd_special(float x)
{
    return fabsf(x) <= 3.402823466e38f ? -1 : x != x ? GD_NAN : x < 0 ? GD_NEGATIVE_INFINITY : GD_POSITIVE_INFINITY;
}
__device__ __forceinline__ int gd_special(gd_i64) { return -1; }
__device__ __forceinline__ int gd_special(int) { return -1; }

template <class Number, class Rank>
__device__ __forceinline__ void gd_count_one(
    Rank rank, bool valid, const GdColumn& column, const GdBlock<Number>& block, GdSeen<Rank>& seen)
{
    const int special = valid ? gd_special(rank) : (int)GD_NULL;
    int slot;
    if (special >= 0) {
        slot = column.bins + (special == GD_NAN && column.nan_is_null ? (int)GD_NULL : special);
    } else {
        const Number x = (Number)rank;
        slot = gd_bin(x, block.edges, block.guide, gd_cell((double)rank, column.mapping));
        seen.low = min(seen.low, rank);
        seen.high = max(seen.high, rank);
        if (slot != seen.slot)
            gd_end_run(column.bins, block, seen);
        seen.slot = slot;
        seen.residuals += gd_residual(x, block.edges[slot], block.scales[slot]);
    }
    atomicAdd(&block.counts[slot], 1u);
}

/* Rows first to last - 1: 16 bytes at a time between the first and the last boundary of 16 bytes, the rest one by one. */
template <class Type>
__device__ __forceinline__ void gd_count_rows(
    const GdColumn& column, gd_i64 first, gd_i64 last, const GdBlock<typename Type::Number>& block,
    GdSeen<typename Type::Rank>& seen)
{
    typedef typename Type::Stored Stored;
    typedef GdPack<Stored> Pack;
    const Stored* values = (const Stored*)column.values;
    const auto valid = [&](gd_i64 row) {
        const gd_i64 bit = column.validity_bit + row;
        return column.validity == nullptr || (column.validity[bit >> 3] >> (bit & 7) & 1) != 0;
    };
    const gd_i64 misplaced = (gd_i64)((gd_u64)(values + first) / sizeof(Stored)) & (Pack::SIZE - 1);
    const gd_i64 head = min(first + ((Pack::SIZE - misplaced) & (Pack::SIZE - 1)), last);
    const gd_i64 packs = (last - head) / Pack::SIZE, tail = head + packs * Pack::SIZE;
    for (gd_i64 row = first + threadIdx.x; row < head; row += blockDim.x)
        gd_count_one(Type::rank(values[row]), valid(row), column, block, seen);
    const Pack* packed = (const Pack*)(values + head);
    Pack next = {};
    if (threadIdx.x < packs)
        next = packed[threadIdx.x];
    for (gd_i64 at = threadIdx.x; at < packs; at += blockDim.x) {
        const Pack pack = next;
        if (at + blockDim.x < packs)
            next = packed[at + blockDim.x];
#pragma unroll
        for (int lane = 0; lane < Pack::SIZE; ++lane)
            gd_count_one(Type::rank(pack.values[lane]), valid(head + at * Pack::SIZE + lane), column, block, seen);
    }
    for (gd_i64 row = tail + threadIdx.x; row < last; row += blockDim.x)
        gd_count_one(Type::rank(values[row]), valid(row), column, block, seen);
    gd_end_run(column.bins, block, seen);
}

/* Smallest and largest of a warp, then of the column. */
template <class Type>
__device__ __forceinline__ void gd_keep_bounds(const GdSeen<typename Type::Rank>& seen, gd_i64* bounds)
{
    typedef typename Type::Number Number;
    gd_i64 low = seen.low <= seen.high ? gd_key((Number)seen.low) : GD_LARGEST_INTEGER;
    gd_i64 high = seen.low <= seen.high ? gd_key((Number)seen.high) : GD_SMALLEST_INTEGER;
    for (int distance = 16; distance; distance >>= 1) {
        low = min(low, __shfl_xor_sync(0xFFFFFFFFu, low, distance));
        high = max(high, __shfl_xor_sync(0xFFFFFFFFu, high, distance));
    }
    if ((threadIdx.x & 31) == 0) {
        if (low < GD_LARGEST_INTEGER)
            atomicMin(&bounds[0], low);
        if (high > GD_SMALLEST_INTEGER)
            atomicMax(&bounds[1], high);
    }
}

template <class Type>
__device__ __forceinline__ void gd_count(
    const GdColumn* columns, const gd_i64* groups, gd_i64 slots_of_a_group, gd_i64 bounds_of_a_group,
    gd_i64 first_group, gd_i64 rows_of_a_block, int copies, int carries)
{
    typedef typename Type::Number Number;
    GD_SHARED(shared);
    const GdColumn column = columns[blockIdx.y];
    const gd_i64 begin = (groups ? groups[blockIdx.z] : 0) + blockIdx.x * rows_of_a_block;
    const gd_i64 end = min(begin + rows_of_a_block, groups ? groups[blockIdx.z + 1] : column.rows);
    if (begin >= end)
        return;  // all threads of the block alike
    const int bins = column.bins, cells = 2 * column.mapping.half + 1;
    Number* edges = (Number*)shared;
    gd_u32* counts = (gd_u32*)(edges + bins + 1);
    gd_u32* carried = counts + bins + GD_SPECIALS;
    gd_u32* sums = carried + (carries ? bins : 0);
    gd_u16* guide = (gd_u16*)(sums + bins * copies);
    gd_u16* scales = guide + cells;
    for (int at = threadIdx.x; at <= bins; at += blockDim.x)
        edges[at] = ((const Number*)column.edges)[at];
    for (int at = threadIdx.x; at < cells; at += blockDim.x)
        guide[at] = column.guide[at];
    for (int at = threadIdx.x; at < bins; at += blockDim.x)
        scales[at] = column.scales[at];
    for (int at = threadIdx.x; at < bins + GD_SPECIALS; at += blockDim.x)
        counts[at] = 0;
    for (int at = threadIdx.x; at < bins && carries; at += blockDim.x)
        carried[at] = 0;
    for (int at = threadIdx.x; at < bins * copies; at += blockDim.x)
        sums[at] = 0;
    __syncthreads();  // counters are zero

    const GdBlock<Number> block = {edges, guide, scales, counts, sums, copies};
    gd_u64* all_counts = column.counts + (first_group + blockIdx.z) * slots_of_a_group;
    gd_u64* all_sums = column.sums + (first_group + blockIdx.z) * slots_of_a_group;
    GdSeen<typename Type::Rank> seen = gd_nothing(typename Type::Rank());
    for (gd_i64 first = begin; first < end; first += GD_ROWS_OF_A_FLUSH) {
        gd_count_rows<Type>(column, first, min(first + GD_ROWS_OF_A_FLUSH, end), block, seen);
        __syncthreads();  // rows are counted
        for (int bin = threadIdx.x; bin < bins; bin += blockDim.x)
            for (int copy = 0; copy < copies; ++copy) {
                const int at = bin + bins * copy;
                if (carries)
                    carried[bin] += sums[at] >> 16;
                else if (sums[at] >> 16)
                    atomicAdd(&all_sums[bin], (gd_u64)(sums[at] & 0xFFFF0000u));
                sums[at] &= 0xFFFF;
            }
        __syncthreads();  // sums have room
    }

    for (int at = threadIdx.x; at < bins + GD_SPECIALS; at += blockDim.x)
        if (counts[at])
            atomicAdd(&all_counts[at], (gd_u64)counts[at]);
    for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) {
        gd_u64 sum = carries ? (gd_u64)carried[bin] << 16 : 0;
        for (int copy = 0; copy < copies; ++copy)
            sum += sums[bin + bins * copy];
        if (sum)
            atomicAdd(&all_sums[bin], sum);
    }
    gd_keep_bounds<Type>(seen, column.bounds + (first_group + blockIdx.z) * bounds_of_a_group);
}

#define GD_KERNEL(NAME, ...)                                                                                        \
    extern "C" __global__ void __launch_bounds__(512, 2) gd_count_##NAME(                                           \
        const GdColumn* columns, const gd_i64* groups, gd_i64 slots_of_a_group, gd_i64 bounds_of_a_group,           \
        gd_i64 first_group, gd_i64 rows_of_a_block, int copies, int carries)                                        \
    {                                                                                                               \
        gd_count<__VA_ARGS__>(                                                                                      \
            columns, groups, slots_of_a_group, bounds_of_a_group, first_group, rows_of_a_block, copies, carries);   \
    }

GD_KERNEL(float16, GdFloat16)
GD_KERNEL(float32, GdFloat32)
GD_KERNEL(float64, GdFloat64)
GD_KERNEL(int8, GdInteger<signed char, int>)
GD_KERNEL(int16, GdInteger<short, int>)
GD_KERNEL(int32, GdInteger<int, int>)
GD_KERNEL(int64, GdInteger<gd_i64, gd_i64>)
GD_KERNEL(uint8, GdInteger<gd_u8, int>)
GD_KERNEL(uint16, GdInteger<gd_u16, int>)
GD_KERNEL(uint32, GdInteger<gd_u32, gd_i64>)
GD_KERNEL(uint64, GdUint64)
GD_KERNEL(decimal128, GdDecimal128)

/* What finds the bins of a column, built from its edges by one block. */
struct GdGuide {
    const void* edges;  // bins + 1 of double or int64; the last one is no beginning of a bin
    gd_u16* guide;      // 2 half + 1
    gd_u16* scales;     // bins
    GdMapping mapping;
    int bins;
    int integer;
};

template <class Number>
__device__ __forceinline__ void gd_build_guide(const GdGuide& column)
{
    const Number* edges = (const Number*)column.edges;
    const int bins = column.bins, cells = 2 * column.mapping.half + 1;
    // Cells after the one of the edge before, up to that of this edge, have `bin` edges in lower cells. The last of them
    // is the edge's own and is written here for all edges in it: for the next ones there are no such cells.
    for (int bin = threadIdx.x; bin <= bins; bin += blockDim.x) {
        const int from = bin == 0 ? 0 : gd_cell((double)edges[bin - 1], column.mapping) + 1;
        const int to = bin == bins ? cells - 1 : gd_cell((double)edges[bin], column.mapping);
        for (int cell = from; cell <= to; ++cell) {
            int within = 0;
            while (cell == to && bin + within < bins && within < GD_MANY &&
                   gd_cell((double)edges[bin + within], column.mapping) == cell)
                ++within;
            column.guide[cell] = (gd_u16)(bin | within << GD_BIN_BITS);
        }
    }
    for (int bin = threadIdx.x; bin < bins; bin += blockDim.x)
        column.scales[bin] = (gd_u16)gd_scale(edges[bin], edges[bin + 1], bin == bins - 1);
}

extern "C" __global__ void __launch_bounds__(512) gd_build_guides(const GdGuide* columns)
{
    const GdGuide column = columns[blockIdx.x];
    if (column.integer)
        gd_build_guide<gd_i64>(column);
    else
        gd_build_guide<double>(column);
}

template <class Word>
__device__ __forceinline__ void gd_take_words(
    const gd_u8* source, const gd_i64* rows, gd_i64 stride, gd_i64 count, Word* target)
{
    for (gd_i64 at = blockIdx.x * (gd_i64)blockDim.x + threadIdx.x; at < count; at += gridDim.x * (gd_i64)blockDim.x)
        target[at] = *(const Word*)(source + (rows ? rows[at] : at) * stride);
}

/* Rows of `size` bytes that lie `stride` bytes apart, those of `rows` or the first `count`, one after the other. */
extern "C" __global__ void __launch_bounds__(512) gd_take(
    const gd_u8* source, const gd_i64* rows, gd_i64 stride, int size, gd_i64 count, gd_u8* target)
{
    // A word of the very size, where all of them are aligned: else each byte would be a load and a store.
    const bool aligned = (((gd_u64)source | (gd_u64)stride | (gd_u64)target) & (gd_u64)(size - 1)) == 0;
    if (aligned && size == 8)
        return gd_take_words(source, rows, stride, count, (gd_u64*)target);
    if (aligned && size == 4)
        return gd_take_words(source, rows, stride, count, (gd_u32*)target);
    if (aligned && size == 16)
        return gd_take_words(source, rows, stride, count, (GdDecimal128::Stored*)target);
    if (aligned && size == 2)
        return gd_take_words(source, rows, stride, count, (gd_u16*)target);
    for (gd_i64 at = blockIdx.x * (gd_i64)blockDim.x + threadIdx.x; at < count; at += gridDim.x * (gd_i64)blockDim.x)
        for (int byte = 0; byte < size; ++byte)
            target[at * size + byte] = source[(rows ? rows[at] : at) * stride + byte];
}

/* Bits of a bitmap, least significant first, whose first one is `first`: those of `rows`, one after the other; the last
 * byte is filled up with zeros. One thread an octet. */
extern "C" __global__ void __launch_bounds__(512) gd_take_bits(
    const gd_u8* source, const gd_i64* rows, gd_i64 first, gd_i64 count, gd_u8* target)
{
    const gd_i64 octets = (count + 7) / 8;
    for (gd_i64 at = blockIdx.x * (gd_i64)blockDim.x + threadIdx.x; at < octets; at += gridDim.x * (gd_i64)blockDim.x) {
        const int here = (int)min(count - 8 * at, (gd_i64)8);
        unsigned octet = 0;
        for (int bit = 0; bit < here; ++bit) {
            const gd_i64 from = first + rows[8 * at + bit];
            octet |= (source[from >> 3] >> (from & 7) & 1u) << bit;
        }
        target[at] = (gd_u8)octet;
    }
}

/* Whether texts are UTF-8 (the well-formed sequences of Unicode's table 3-7): one thread a text; `bad` becomes 1 where
 * one is not. `starts` are count + 1 offsets into `bytes`, of 64 bits where `wide`. A text that is cut inside a
 * character is bad even where the next one begins with the rest of it. */
extern "C" __global__ void __launch_bounds__(512) gd_check_texts(
    const gd_u8* bytes, const void* starts, int wide, gd_i64 count, int* bad)
{
    for (gd_i64 at = blockIdx.x * (gd_i64)blockDim.x + threadIdx.x; at < count; at += gridDim.x * (gd_i64)blockDim.x) {
        gd_i64 here = wide ? ((const gd_i64*)starts)[at] : (gd_i64)((const int*)starts)[at];
        gd_i64 end = wide ? ((const gd_i64*)starts)[at + 1] : (gd_i64)((const int*)starts)[at + 1];
        bool good = true;
        while (good && here < end) {
            unsigned lead = bytes[here];
            int more = lead < 0x80 ? 0 : lead < 0xC2 ? -1 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : lead < 0xF5 ? 3 : -1;
            good = more >= 0 && here + more < end;
            for (int next = 1; good && next <= more; ++next) {
                unsigned byte = bytes[here + next];
                /* No longer form than needed, no half of a surrogate pair, nothing beyond U+10FFFF. */
                unsigned low = next > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
                unsigned high = next > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
                good = low <= byte && byte <= high;
            }
            here += more + 1;
        }
        if (!good) *bad = 1;
    }
}
