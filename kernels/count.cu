/*
Counting kernels: columns in, slots out.

    columns    GdColumn[gridDim.y], any number of rows, each of the type of the kernel (a launch takes columns of one)
    groups     int64[gridDim.z + 1]: the first row of each group (window, segment) and the end of the last one; null
               where all rows are one. Rows are in the order of their groups.
    counts     uint64[bins + 5] of a column in global memory, again for each group: added to
    sums       uint64[bins], again for each group: added to
    bounds     int64[2]: keys of the smallest and largest finite value, lowered and raised; again for each group

gridDim = (blocks of the longest group, columns, groups from `first_group` on); a block takes `rows_of_a_block`
consecutive rows of a group and keeps private 32-bit counters in shared memory, so that the row loop touches global
memory only to read values and validity:

    edges     8 (bins + 1)                             counts    4 (bins + 5)
    limits    4 (bins + 1), of values of 32 bits       sums      4 bins copies
    guide     4 (2 half + 1)                           scales    4 bins, where GD_SCALES

backends/cuda/layout.py chooses `half` and `copies`, so that two blocks fit a multiprocessor.

What the hardware does with the odd line:

- `red.shared.add 1`, a literal, result unused: ATOMS.POPC.INC from sm_80 on, which merges the lanes of a warp that meet
  in a slot. A variable would be ATOMS.ADD, one after the other: constant columns would be 32 times slower.
- Residuals differ, so the hardware cannot merge them. A bin has `copies` sums side by side, and a lane adds to the one
  of its number modulo that: 32 lanes that meet in a bin queue in fours where there are eight copies, and random lanes
  meet in a bank less often. Where few copies fit (GD_RUNS), a thread adds up the residuals of consecutive rows of one
  bin in a register, so that a column that has drifted into a single bin makes hardly any atomics.
- 64-bit atomics on shared memory are compare-and-swap loops. So sums are 32 bits and are emptied into global memory in
  time: 65,537 residuals of 65,535 are 2^32 - 1, and not one more fits. One copy is emptied every 65,536 rows. One of
  several gets the rows of blockDim / copies threads: their share of the packs, one more pack (up to 16 rows) for each
  thread, and two rows before and behind. Of 49,152 rows times copies that is at most 49,152 + 9 blockDim, which is
  below 65,536 up to 1,024 threads.
- Global totals are 64 bits: RED.E.ADD.64, native.
- The next 16 bytes are asked for before the ones at hand are counted: two blocks of 512 threads on a multiprocessor
  have 16 KiB on their way then, and the 1.5 TB/s that are counted, at 700 ns, want 8 KiB of each of 132.
- float32 is touched by PTX alone (arithmetic.cuh), because CuPy compiles with -ftz=true.

A model, for an H200 (benchmarks/kernel_model.py; no device was at hand, benchmarks/device.py measures): cycles of a
multiprocessor for the 32 values of a warp, of a normal column with 1,024 quantile bins (1,620 in all) and sums.

                                                              float32    float64
    issue, 4 a cycle    52 and 60 instructions a value           13.1       15.0
    loads of shared memory                                       12.5       13.6
        cell            a word of the guide                         3.5        3.5
        compare         a limit, where the cell has an edge         1.7        2.8
        edge            a word of 64 bits                           6.1        6.1
        scale           where the bin is not the guide's            1.2        1.2
    atomics on it, each of 1 to 2 cycles                          6.4        6.4
        counts          3.5 lanes that do not merge meet in a bank
        sums            2.9, with eight copies
    conversions and float64, 16 and 64 lanes a cycle              3.5        5.5
    memory, at the rate of a copy                                 6.9       13.8

Shared memory decides: 18.9 to 25.3 cycles for float32 and 20.0 to 26.4 for float64 are 292 to 391 and 280 to 370
thousand million values a second, 27 to 36 and 52 to 69 percent of the bandwidth of a copy (4.3 TB/s). Uniform columns
take 3 percent more. Of those that have drifted into a bin or hold one value it is issue that decides: 13 to 17 cycles.

What each step was worth there, float32, from 33.3 cycles (issue) and 28.5 to 35.5 (shared memory):

    limits of 32 bits, one branch, addresses added up once      83 to 98 instructions a value became 52: issue 13.1
    cells where the sample lies, twelve times as fine           85 of 100 values had an edge in their cell, 27 have: the
                                                                search is gone, and the words compared, 8.6, are 1.7
    the scale in the guide                                      3.4 became 1.2
    eight copies of the sums, side by side                      3.5 became 2.9; of a drifted column 29 became 4
*/
#include "guide.cuh"
#include "memory.cuh"
#include "slots.cuh"
#include "take.cuh"

static const gd_i64 GD_ROWS_OF_A_COPY = 65536, GD_ROWS_OF_COPIES = 49152;

/* What is worth its place depends on the shared memory of the device; backends/cuda/layout.py says which are which.
   GD_RUNS      a thread adds up the residuals of consecutive rows of one bin in a register: few copies of the sums fit
   GD_SCALES    blocks have a table of scales; without it they are made of the edges */
#if !defined(GD_RUNS) || !defined(GD_SCALES)
#error "compile with -DGD_RUNS=0 or 1 and -DGD_SCALES=0 or 1"
#endif

/* One column of one batch. Built on the host as a structured array of the same layout (backends/cuda/launch.py). */
struct GdColumn {
    const void* values;     // of row 0
    const gd_u8* validity;  // Arrow's bitmap, least significant bit first; null: all valid
    gd_i64 validity_bit;    // of row 0
    gd_i64 rows;
    const void* edges;      // bins + 1 of double or int64
    const gd_u32* guide;    // 2 half + 1
    const gd_u16* scales;   // bins
    gd_u64* counts;
    gd_u64* sums;
    gd_i64* bounds;
    GdMapping mapping;
    int bins;
    int nan_is_null;
};

/* What a stored value is: how many bytes, the number that is counted, and what that is ranked by: compared with edges,
   and kept as smallest and largest. */
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
    static __device__ __forceinline__ Rank rank(Stored x) { return gd_from_half(x); }
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

/* Where the tables and counters of a block are in shared memory, and what else is the same for all its rows. */
template <class Type>
struct GdBlock {
    typedef typename Type::Number Number;
    typedef typename Type::Rank Rank;
    gd_u32 edges;   // Number[bins + 1]
    gd_u32 limits;  // Rank[bins + 1]; of values of 64 bits these are the edges
    gd_u32 guide;   // gd_u32[2 half + 1]
    gd_u32 scales;  // gd_u32[bins], as the guide has them, or none
    gd_u32 counts;  // gd_u32[bins + GD_SPECIALS]
    gd_u32 sums;    // gd_u32[bins][copies]
    gd_u32 centre;  // of the guide
    gd_u32 own;     // of the sums of the first bin, the copy of this thread
    gd_u32 stride;  // from bin to bin
    int bins, copies;
    bool nan_is_null;
    GdMapping mapping;

    __device__ __forceinline__ GdBlock(const unsigned char* shared, const GdColumn& column, int copies_)
    {
        bins = column.bins, copies = copies_, nan_is_null = column.nan_is_null, mapping = column.mapping;
        const bool narrow = sizeof(Rank) < sizeof(Number);
        edges = gd_kept(gd_shared_address(shared));
        limits = gd_kept(narrow ? edges + (bins + 1) * (gd_u32)sizeof(Number) : edges);
        guide = limits + (bins + 1) * (gd_u32)sizeof(Rank);
        scales = gd_kept(guide + 4 * (2 * mapping.half + 1));
        counts = gd_kept(scales + (GD_SCALES ? 4 * bins : 0));
        sums = counts + 4 * (bins + GD_SPECIALS);
        centre = gd_kept(guide + 4 * mapping.half);
        own = gd_kept(sums + 4 * (threadIdx.x & (copies - 1)));
        stride = gd_kept(4 * copies);
    }
};

/* What a thread keeps in registers: the smallest and largest finite value so far (low is above high where there is
   none), and, where runs are kept, the residuals of its last rows, which all were in one bin. */
template <class Rank>
struct GdSeen {
    Rank low, high;
#if GD_RUNS
    int bin;
    gd_u32 residuals;
#endif
};

template <class Rank>
__device__ __forceinline__ GdSeen<Rank> gd_seen(Rank low, Rank high)
{
    GdSeen<Rank> seen;
    seen.low = low, seen.high = high;
#if GD_RUNS
    seen.bin = 0, seen.residuals = 0;
#endif
    return seen;
}
__device__ __forceinline__ GdSeen<double> gd_nothing(double)
{
    return gd_seen(__longlong_as_double(0x7FF0000000000000LL), __longlong_as_double(0xFFF0000000000000LL));
}
__device__ __forceinline__ GdSeen<float> gd_nothing(float)
{
    return gd_seen(__uint_as_float(0x7F800000u), __uint_as_float(0xFF800000u));
}
__device__ __forceinline__ GdSeen<int> gd_nothing(int) { return gd_seen(0x7FFFFFFF, -0x7FFFFFFF - 1); }
__device__ __forceinline__ GdSeen<gd_i64> gd_nothing(gd_i64)
{
    return gd_seen(GD_LARGEST_INTEGER, GD_SMALLEST_INTEGER);
}

template <class Type>
__device__ __forceinline__ void gd_end_run(const GdBlock<Type>& block, GdSeen<typename Type::Rank>& seen)
{
#if GD_RUNS
    if (seen.residuals)
        gd_add_to(block.own + seen.bin * block.stride, seen.residuals);
    seen.residuals = 0;
#endif
}

/* The bin of a value whose cell has more edges than those that it has reached: `bin` or a later one. */
template <class Type>
__device__ __forceinline__ int gd_search(
    typename Type::Rank rank, int cell, gd_u32 entry, int bin, const GdBlock<Type>& block)
{
    const int named = entry & GD_BIN_MASK, within = (entry & GD_EDGES_MASK) / GD_EDGE;
    int high = named + within;
    if (within == (int)GD_MANY) {
        gd_u32 after;
        gd_load(after, block.centre + 4 * (cell + 1));
        high = after & GD_BIN_MASK;
    }
    while (bin < high) {
        const int middle = (bin + high + 1) >> 1;
        typename Type::Rank limit;
        gd_load(limit, block.limits + (gd_u32)sizeof(limit) * middle);
        if (gd_reaches(rank, limit))
            bin = middle;
        else
            high = middle - 1;
    }
    return bin;
}

/* Count a value. The usual way has one branch, past values that are rare; what is not to be done is done by no lane. */
template <class Type, bool MASKED>
__device__ __forceinline__ void gd_count_one(
    typename Type::Rank rank, bool valid, const GdBlock<Type>& block, GdSeen<typename Type::Rank>& seen)
{
    const bool counted = (!MASKED || valid) && gd_finite(rank);
    const int cell = gd_cell(rank, block.mapping);  // NaN has one, too
    gd_u32 entry = 0;
    gd_load_if(!MASKED || counted, entry, block.centre + 4 * cell);
    const int named = entry & GD_BIN_MASK;
    // Random lanes of a warp meet in a bank of shared memory 3.5 times for each word: those without an edge in their
    // cell, and that are three of four, do not load one.
    const bool near = (entry & GD_EDGES_MASK) != 0;
    typename Type::Rank limit = rank;
    gd_load_if(near, limit, block.limits + (gd_u32)sizeof(limit) * (named + 1));
    const bool reached = near && gd_reaches(rank, limit);
    // A value that repeats has a bin of its own, of two edges: so those who reached one look for a second.
    const bool nearer = reached && (entry & (GD_EDGES_MASK - GD_EDGE)) != 0;
    gd_load_if(nearer, limit, block.limits + (gd_u32)sizeof(limit) * (named + 2));
    const bool passed = nearer && gd_reaches(rank, limit);
    int bin = passed ? named + 2 : reached ? named + 1 : named, slot = bin;
    if ((passed && (entry & GD_EDGES_MASK) > 2 * GD_EDGE) || !counted) {
        if (counted)
            slot = bin = gd_search<Type>(rank, cell, entry, bin, block);
        else
            slot = block.bins + (MASKED && !valid ? (int)GD_NULL : gd_special(rank, block.nan_is_null));
    }
    // Of the bin that it names the guide has the scale as well.
    gd_u32 scale = entry;
    typename Type::Number edge;
    gd_load(edge, block.edges + (gd_u32)sizeof(edge) * bin);
#if GD_SCALES
    gd_load_if(bin != named, scale, block.scales + 4 * bin);
#else
    if (bin != named) {
        typename Type::Number next;
        gd_load(next, block.edges + (gd_u32)sizeof(next) * (bin + 1));
        scale = gd_scale(edge, next, bin == block.bins - 1) << GD_SCALE_BIT;
    }
#endif
    const gd_u32 left = gd_kept(gd_residual(rank, edge, scale)), residual = counted ? left : 0;
    if (counted) {
        seen.low = gd_smaller(seen.low, rank);
        seen.high = gd_larger(seen.high, rank);
    }
#if GD_RUNS
    if (counted) {
        if (bin != seen.bin)
            gd_end_run(block, seen);
        seen.bin = bin;
        seen.residuals += residual;
    }
#else
    gd_add_to(block.own + bin * block.stride, residual);
#endif
    gd_add_one_to(block.counts + 4 * slot);
}

/* Validity of a pack's rows, the first one in the lowest bit; whole bytes that no row is in are not read. */
template <int SIZE>
__device__ __forceinline__ gd_u32 gd_valid_rows(const gd_u8* validity, gd_i64 bit)
{
    const gd_u8* octet = validity + (bit >> 3);
    const int skipped = (int)(bit & 7);
    gd_u32 bits = octet[0];
    if (skipped + SIZE > 8)
        bits |= (gd_u32)octet[1] << 8;
    if (SIZE > 8 && skipped + SIZE > 16)
        bits |= (gd_u32)octet[2] << 16;
    return bits >> skipped;
}

/* Rows first to last - 1: 16 bytes at a time between the first and the last boundary of that, the rest one by one. */
template <class Type, bool MASKED>
__device__ __forceinline__ void gd_count_rows(
    const GdColumn& column, gd_i64 first, gd_i64 last, const GdBlock<Type>& block, GdSeen<typename Type::Rank>& seen)
{
    typedef typename Type::Stored Stored;
    typedef GdPack<Stored> Pack;
    const Stored* values = gd_global((const Stored*)column.values);
    const gd_u8* validity = MASKED ? gd_global(column.validity) : nullptr;
    const gd_i64 validity_bit = MASKED ? column.validity_bit : 0;
    const gd_i64 misplaced = (gd_i64)((gd_u64)(values + first) / sizeof(Stored)) & (Pack::SIZE - 1);
    const gd_i64 head = min(first + ((Pack::SIZE - misplaced) & (Pack::SIZE - 1)), last);
    const int packs = (int)((last - head) / Pack::SIZE);
    const Pack* packed = (const Pack*)(values + head);
    Pack next = {};
    if ((int)threadIdx.x < packs)
        next = packed[threadIdx.x];
    for (int at = threadIdx.x; at < packs; at += blockDim.x) {
        const Pack pack = next;
        if (at + (int)blockDim.x < packs)
            next = packed[at + blockDim.x];
        gd_u32 valid = ~0u;
        if (MASKED)
            valid = gd_valid_rows<Pack::SIZE>(validity, validity_bit + head + (gd_i64)at * Pack::SIZE);
#pragma unroll
        for (int lane = 0; lane < Pack::SIZE; ++lane)
            gd_count_one<Type, MASKED>(Type::rank(pack.values[lane]), valid >> lane & 1, block, seen);
    }
    // At most one less than a pack before the first of them, and as many behind the last.
    const gd_i64 tail = head + (gd_i64)packs * Pack::SIZE;
    const int before = (int)(head - first), rest = before + (int)(last - tail);
    for (int at = threadIdx.x; at < rest; at += blockDim.x) {
        const gd_i64 row = at < before ? first + at : tail + (at - before);
        const bool valid = !MASKED || (gd_valid_rows<1>(validity, validity_bit + row) & 1);
        gd_count_one<Type, MASKED>(Type::rank(values[row]), valid, block, seen);
    }
    gd_end_run(block, seen);
}

/* Smallest and largest of a warp, then of the column. */
template <class Rank>
__device__ __forceinline__ void gd_keep_bounds(const GdSeen<Rank>& seen, gd_i64* bounds)
{
    const bool any = gd_reaches(seen.high, seen.low);
    gd_i64 low = any ? gd_key(seen.low) : GD_LARGEST_INTEGER;
    gd_i64 high = any ? gd_key(seen.high) : GD_SMALLEST_INTEGER;
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
    gd_i64 first_group, gd_i64 rows_of_a_block, int copies)
{
    typedef typename Type::Number Number;
    typedef typename Type::Rank Rank;
    GD_SHARED(shared);
    const GdColumn& column = gd_global(columns)[blockIdx.y];  // what is needed at the end is read at the end
    const gd_i64 begin = (groups ? groups[blockIdx.z] : 0) + blockIdx.x * rows_of_a_block;
    const gd_i64 end = min(begin + rows_of_a_block, groups ? groups[blockIdx.z + 1] : column.rows);
    if (begin >= end)
        return;  // all threads of the block alike
    const GdBlock<Type> block(shared, column, copies);
    const Number* all_edges = gd_global((const Number*)column.edges);
    const gd_u32* whole_guide = gd_global(column.guide);
    const gd_u16* all_scales = gd_global(column.scales);
    const int bins = block.bins, cells = 2 * block.mapping.half + 1;
    for (int at = threadIdx.x; at <= bins; at += blockDim.x) {
        const Number edge = all_edges[at];
        gd_store(edge, block.edges + (gd_u32)sizeof(edge) * at);
        if (sizeof(Rank) < sizeof(Number))
            gd_store(gd_limit(Rank(), edge), block.limits + (gd_u32)sizeof(Rank) * at);
    }
    for (int at = threadIdx.x; at < cells; at += blockDim.x)
        gd_store(whole_guide[at], block.guide + 4 * at);
    for (int at = threadIdx.x; at < bins && GD_SCALES; at += blockDim.x)
        gd_store((gd_u32)all_scales[at] << GD_SCALE_BIT, block.scales + 4 * at);
    for (int at = threadIdx.x; at < bins + GD_SPECIALS; at += blockDim.x)
        gd_store(0u, block.counts + 4 * at);
    for (int at = threadIdx.x; at < bins * copies; at += blockDim.x)
        gd_store(0u, block.sums + 4 * at);
    __syncthreads();  // counters are zero

    const gd_i64 group = first_group + blockIdx.z;
    const gd_i64 step = copies == 1 ? GD_ROWS_OF_A_COPY : copies * GD_ROWS_OF_COPIES;
    GdSeen<Rank> seen = gd_nothing(Rank());
    for (gd_i64 first = begin; first < end; first += step) {
        const gd_i64 last = min(first + step, end);
        if (column.validity)
            gd_count_rows<Type, true>(column, first, last, block, seen);
        else
            gd_count_rows<Type, false>(column, first, last, block, seen);
        __syncthreads();  // rows are counted
        for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) {
            gd_u64 sum = 0;
            for (int copy = 0; copy < copies; ++copy) {
                const gd_u32 address = block.sums + 4 * (bin * copies + copy);
                gd_u32 own;
                gd_load(own, address);
                gd_store(0u, address);
                sum += own;
            }
            if (sum)
                atomicAdd(gd_global(column.sums) + group * slots_of_a_group + bin, sum);
        }
        __syncthreads();  // sums have room
    }

    for (int at = threadIdx.x; at < bins + GD_SPECIALS; at += blockDim.x) {
        gd_u32 count;
        gd_load(count, block.counts + 4 * at);
        if (count)
            atomicAdd(gd_global(column.counts) + group * slots_of_a_group + at, (gd_u64)count);
    }
    gd_keep_bounds(seen, gd_global(column.bounds) + group * bounds_of_a_group);
}

#define GD_KERNEL(NAME, ...)                                                                              \
    extern "C" __global__ void __launch_bounds__(512, 2) gd_count_##NAME(                                 \
        const GdColumn* columns, const gd_i64* groups, gd_i64 slots_of_a_group, gd_i64 bounds_of_a_group, \
        gd_i64 first_group, gd_i64 rows_of_a_block, int copies)                                           \
    {                                                                                                     \
        gd_count<__VA_ARGS__>(                                                                            \
            columns, groups, slots_of_a_group, bounds_of_a_group, first_group, rows_of_a_block, copies);  \
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
