/*
Cycles of a multiprocessor that a warp instruction takes: shared loads and atomics by how many lanes meet in a bank or in
an address, and the conversions of the counting kernels. device_wavefronts.py launches these and does the division.

    lanes     uint32[32]: byte offset of each lane within the part of its warp; they make the conflicts
    part      bytes of shared memory of a warp's own; warps that find no room share
    rounds    of 16 instructions of each thread, in WF_STREAMS independent chains where one needs the one before
    told      uint64[3] of each block: its multiprocessor, and clock64 before and after
    sink      somewhere to write what nobody needs, so that nothing is left out

Blocks fill a multiprocessor, so it always has another warp to issue and latencies hide; what is left is throughput. Loads
are volatile, so each is made; the results of atomics are unused, as in kernels/count.cu: of a literal 1 the compiler makes
ATOMS.POPC.INC, of a variable ATOMS.ADD. Each conversion feeds one LOP3, which runs beside it on another pipe.
*/
typedef unsigned int wf_u32;
typedef unsigned long long wf_u64;

#define WF_STREAMS 8
#define WF_UNROLLED 16
#define WF_KERNEL(NAME)                                                                                                \
    extern "C" __global__ void __launch_bounds__(512, 2)                                                               \
        NAME(const wf_u32* lanes, int part, int parts, int rounds, wf_u32 one, wf_u64* told, wf_u32* sink)

struct WfClock {
    wf_u64 start;
    __device__ __forceinline__ WfClock()
    {
        __syncthreads();
        start = clock64();
    }
    __device__ __forceinline__ void stop(wf_u64* told)
    {
        __syncthreads();
        const wf_u64 end = clock64();
        if (threadIdx.x == 0) {
            wf_u32 place;
            asm volatile("mov.u32 %0, %%smid;" : "=r"(place));
            told[3 * blockIdx.x] = place;
            told[3 * blockIdx.x + 1] = start;
            told[3 * blockIdx.x + 2] = end;
        }
    }
};

static __device__ __forceinline__ wf_u32 wf_place(const wf_u32* lanes, int part, int parts)
{
    extern __shared__ __align__(16) unsigned char memory[];
    for (int at = threadIdx.x; at < part * parts / 4; at += blockDim.x) ((wf_u32*)memory)[at] = at;
    const wf_u32 first = (wf_u32)__cvta_generic_to_shared(memory);
    return first + (threadIdx.x / 32) % parts * part + lanes[threadIdx.x % 32];
}

WF_KERNEL(wf_load32)
{
    const wf_u32 place = wf_place(lanes, part, parts);
    wf_u32 found[WF_UNROLLED], all = 0;
    WfClock clock;
    for (int round = 0; round < rounds; round++) {
#pragma unroll
        for (int at = 0; at < WF_UNROLLED; at++)
            asm volatile("ld.volatile.shared.u32 %0, [%1];" : "=r"(found[at]) : "r"(place));
#pragma unroll
        for (int at = 0; at < WF_UNROLLED; at++) all ^= found[at];
    }
    clock.stop(told);
    if (all == one) *sink = all;
}

WF_KERNEL(wf_load64)
{
    const wf_u32 place = wf_place(lanes, part, parts);
    wf_u32 low[WF_UNROLLED], high[WF_UNROLLED], all = 0;
    WfClock clock;
    for (int round = 0; round < rounds; round++) {
#pragma unroll
        for (int at = 0; at < WF_UNROLLED; at++)
            asm volatile("ld.volatile.shared.v2.u32 {%0, %1}, [%2];" : "=r"(low[at]), "=r"(high[at]) : "r"(place));
#pragma unroll
        for (int at = 0; at < WF_UNROLLED; at++) all ^= low[at] ^ high[at];
    }
    clock.stop(told);
    if (all == one) *sink = all;
}

WF_KERNEL(wf_atomic_literal)
{
    wf_u32* const place = (wf_u32*)__cvta_shared_to_generic(wf_place(lanes, part, parts));
    WfClock clock;
    for (int round = 0; round < rounds; round++) {
#pragma unroll
        for (int at = 0; at < WF_UNROLLED; at++) atomicAdd(place, 1u);
    }
    clock.stop(told);
    if (*(volatile wf_u32*)place == one) *sink = one;
}

WF_KERNEL(wf_atomic_variable)
{
    wf_u32* const place = (wf_u32*)__cvta_shared_to_generic(wf_place(lanes, part, parts));
    const wf_u32 added = one + threadIdx.x;
    WfClock clock;
    for (int round = 0; round < rounds; round++) {
#pragma unroll
        for (int at = 0; at < WF_UNROLLED; at++) atomicAdd(place, added);
    }
    clock.stop(told);
    if (*(volatile wf_u32*)place == one) *sink = one;
}

/* Chains that depend on themselves: LINE makes the next `x` of type TYPE of the one before, with one instruction that counts. */
#define WF_CHAINS(NAME, TYPE, FIRST, LINE, LAST)                                                                       \
    WF_KERNEL(NAME)                                                                                                    \
    {                                                                                                                  \
        TYPE chain[WF_STREAMS];                                                                                        \
        for (int at = 0; at < WF_STREAMS; at++) {                                                                      \
            const wf_u32 seed = one + 32 * at + threadIdx.x;                                                           \
            chain[at] = FIRST;                                                                                         \
        }                                                                                                              \
        wf_u32 all = 0;                                                                                                \
        WfClock clock;                                                                                                 \
        for (int round = 0; round < rounds; round++) {                                                                 \
            _Pragma("unroll") for (int at = 0; at < WF_UNROLLED; at++)                                                 \
            {                                                                                                          \
                TYPE& x = chain[at % WF_STREAMS];                                                                      \
                LINE;                                                                                                  \
            }                                                                                                          \
        }                                                                                                              \
        clock.stop(told);                                                                                              \
        for (int at = 0; at < WF_STREAMS; at++) {                                                                      \
            const TYPE x = chain[at];                                                                                  \
            all ^= LAST;                                                                                               \
        }                                                                                                              \
        if (all == one) *sink = all;                                                                                   \
    }

static __device__ __forceinline__ wf_u32 wf_high(double x) { return (wf_u32)__double2hiint(x); }
static __device__ __forceinline__ wf_u32 wf_low(double x) { return (wf_u32)__double2loint(x); }

/* Not (double)x: CuPy compiles with -ftz=true, which puts a multiplication before that. */
static __device__ __forceinline__ double wf_wide(float x)
{
    double wide;
    asm volatile("cvt.f64.f32 %0, %1;" : "=d"(wide) : "f"(x));
    return wide;
}

/* A float in [1, 2) out of the words of the double that it was. */
WF_CHAINS(wf_float_to_double, float, __uint_as_float(0x3f800000 | (seed & 0x7fffff)),
          const double wide = wf_wide(x); x = __uint_as_float((wf_high(wide) & 0x7fffff) | 0x3f800000 | wf_low(wide)),
          __float_as_uint(x))
/* A double in [1, 2) out of the bits of the float that it was. */
WF_CHAINS(wf_double_to_float, double, __hiloint2double(0x3ff00000 | (seed & 0xfffff), seed),
          const wf_u32 bits = __float_as_uint((float)x);
          x = __hiloint2double((bits & 0xfffff) | 0x3ff00000, bits), wf_low(x))
/* A double in [2^20, 2^21) out of the integer that it was. */
WF_CHAINS(wf_double_to_unsigned, double, __hiloint2double(0x41300000 | (seed & 0xfffff), seed),
          const wf_u32 whole = __double2uint_rz(x);
          x = __hiloint2double((whole & 0xfffff) | 0x41300000, whole), wf_low(x))
WF_CHAINS(wf_fma_double, double, __hiloint2double(0x3ff00000 | (seed & 0xfffff), seed), x = fma(x, 0.5, 0.75), wf_low(x))
