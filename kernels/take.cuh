/*
Rows of a column, by their numbers or by a stride, one after the other; and whether texts are what the host is to read.
*/
#pragma once

#include "arithmetic.cuh"

struct alignas(16) GdWide {
    gd_u64 low, high;
};

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
        return gd_take_words(source, rows, stride, count, (GdWide*)target);
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
