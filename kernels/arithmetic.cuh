/*
Arithmetic that no option of a compiler changes.

Whoever compiles these kernels may flush float32 subnormals to zero: CuPy appends -ftz=true behind all other options.
NVRTC then writes .ftz on every float32 instruction of the source, and a column of subnormals would be counted as zeros.
So float32 is touched by nothing but the functions below, which are PTX without .ftz; C++ only moves it. float64 has no
such option, but may be contracted: its sums and products are intrinsics that round once.

A test looks for .FTZ in the machine code of every kernel that counts, and the emulation, which has functions of the
same names, can flush whatever else is done with a float.
*/
#pragma once

typedef unsigned char gd_u8;
typedef unsigned short gd_u16;
typedef unsigned int gd_u32;
typedef unsigned long long gd_u64;
typedef long long gd_i64;

#ifndef GD_EMULATED
__device__ __forceinline__ float gd_add(float a, float b)
{
    float sum;
    asm("add.rn.f32 %0, %1, %2;" : "=f"(sum) : "f"(a), "f"(b));
    return sum;
}
__device__ __forceinline__ float gd_absolute(float a)
{
    float positive;
    asm("abs.f32 %0, %1;" : "=f"(positive) : "f"(a));
    return positive;
}
/* Of two numbers the smaller one; of a number and NaN the number. */
__device__ __forceinline__ float gd_smaller(float a, float b)
{
    float smaller;
    asm("min.f32 %0, %1, %2;" : "=f"(smaller) : "f"(a), "f"(b));
    return smaller;
}
__device__ __forceinline__ float gd_larger(float a, float b)
{
    float larger;
    asm("max.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
    return larger;
}
/* Whether a >= b. */
__device__ __forceinline__ bool gd_reaches(float a, float b)
{
    int reaches;
    asm("{ .reg .pred p; setp.ge.f32 p, %1, %2; selp.s32 %0, 1, 0, p; }" : "=r"(reaches) : "f"(a), "f"(b));
    return reaches;
}
__device__ __forceinline__ double gd_widened(float a)
{
    double same;
    asm("cvt.f64.f32 %0, %1;" : "=d"(same) : "f"(a));
    return same;
}
__device__ __forceinline__ float gd_nearest(double a)
{
    float nearest;
    asm("cvt.rn.f32.f64 %0, %1;" : "=f"(nearest) : "d"(a));
    return nearest;
}
/* The smallest float32 that is at least a. */
__device__ __forceinline__ float gd_rounded_up(double a)
{
    float above;
    asm("cvt.rp.f32.f64 %0, %1;" : "=f"(above) : "d"(a));
    return above;
}
/* A float16, by its bits; exact. */
__device__ __forceinline__ float gd_from_half(gd_u16 bits)
{
    float same;
    asm("cvt.f32.f16 %0, %1;" : "=f"(same) : "h"(bits));
    return same;
}
#endif

__device__ __forceinline__ double gd_smaller(double a, double b) { return a < b ? a : b; }
__device__ __forceinline__ double gd_larger(double a, double b) { return a > b ? a : b; }
__device__ __forceinline__ int gd_smaller(int a, int b) { return min(a, b); }
__device__ __forceinline__ int gd_larger(int a, int b) { return max(a, b); }
__device__ __forceinline__ gd_i64 gd_smaller(gd_i64 a, gd_i64 b) { return min(a, b); }
__device__ __forceinline__ gd_i64 gd_larger(gd_i64 a, gd_i64 b) { return max(a, b); }
__device__ __forceinline__ bool gd_reaches(double a, double b) { return a >= b; }
__device__ __forceinline__ bool gd_reaches(int a, int b) { return a >= b; }
__device__ __forceinline__ bool gd_reaches(gd_i64 a, gd_i64 b) { return a >= b; }
