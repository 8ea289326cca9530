/*
Memory as the kernels reach it, where C++ says too little: which kind a pointer points to, and what a lane is to leave
alone without a branch. The emulation has functions of the same names.
*/
#pragma once

#include "arithmetic.cuh"

#ifndef GD_EMULATED
#define GD_SHARED(NAME) extern __shared__ __align__(16) unsigned char NAME[]

/* The compiler does not know where a pointer points that it has loaded, and would ask anew at each access. */
template <class Value>
__device__ __forceinline__ Value* gd_global(Value* pointer)
{
    __builtin_assume(__isGlobal(pointer));
    return pointer;
}

/* A number that is in a register from here on, by every way: the compiler would rather add it up anew for each use, or
   branch around what it is made of. */
__device__ __forceinline__ gd_u32 gd_kept(gd_u32 number)
{
    asm volatile("" : "+r"(number));
    return number;
}

/* Shared memory is reached by addresses of 32 bits. */
__device__ __forceinline__ gd_u32 gd_shared_address(const unsigned char* shared)
{
    return (gd_u32)__cvta_generic_to_shared(shared);
}

#define GD_WORD(WORD, SUFFIX, CONSTRAINT)                                                                         \
    __device__ __forceinline__ void gd_load(WORD& word, gd_u32 address)                                           \
    {                                                                                                             \
        asm volatile("ld.shared." SUFFIX " %0, [%1];" : "=" CONSTRAINT(word) : "r"(address));                     \
    }                                                                                                             \
    /* The same where a lane wants it; else its word stays as it is, and it loads nothing. No branch. */          \
    __device__ __forceinline__ void gd_load_if(bool wanted, WORD& word, gd_u32 address)                           \
    {                                                                                                             \
        asm volatile("{ .reg .pred p; setp.ne.s32 p, %1, 0; @p ld.shared." SUFFIX " %0, [%2]; }"                  \
                     : "+" CONSTRAINT(word)                                                                       \
                     : "r"((int)wanted), "r"(address));                                                           \
    }                                                                                                             \
    __device__ __forceinline__ void gd_store(WORD word, gd_u32 address)                                           \
    {                                                                                                             \
        asm volatile("st.shared." SUFFIX " [%1], %0;" : : CONSTRAINT(word), "r"(address) : "memory");             \
    }
GD_WORD(float, "f32", "f")
GD_WORD(double, "f64", "d")
GD_WORD(int, "s32", "r")
GD_WORD(gd_i64, "s64", "l")
GD_WORD(gd_u32, "u32", "r")

__device__ __forceinline__ void gd_add_to(gd_u32 address, gd_u32 more)
{
    asm volatile("red.shared.add.u32 [%0], %1;" : : "r"(address), "r"(more) : "memory");
}
/* A literal, and no result: lanes of a warp that meet in a word are counted together (ATOMS.POPC.INC). */
__device__ __forceinline__ void gd_add_one_to(gd_u32 address)
{
    asm volatile("red.shared.add.u32 [%0], 1;" : : "r"(address) : "memory");
}
#endif
