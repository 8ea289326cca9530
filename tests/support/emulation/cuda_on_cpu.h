/*
CUDA on a CPU, as far as the kernels of gpudrift need it: the same .cu files, compiled by g++ with this header in front.

A thread of a block is a fiber. Fibers run one at a time and switch only at __syncthreads and warp collectives, in an
order that is asked for (forward, reverse, shuffled anew each round): code that lacks a barrier reads what the others
have not written yet in at least one of them. Blocks run one after the other, so atomics are plain additions. Shared
memory is allocated for each block, to the byte (the address sanitizer sees what lies beyond), and poisoned.

With GD_FLUSH a float is what it is where CuPy compiles (-ftz=true): subnormals are zero to all that C++ does with it.

What this cannot show: speed, races within a stretch between barriers that need true interleaving, memory ordering
between blocks, limits of the hardware (registers, shared memory): those are asked of nvcc.
*/
#pragma once

#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulated {

struct Index {
    unsigned x = 0, y = 0, z = 0;
};

enum Order { FORWARD, REVERSE, SHUFFLED };
enum State { READY, AT_BARRIER, IN_WARP, DONE };

struct Fiber {
#if defined(__x86_64__)
    void* context = nullptr;
#else
    ucontext_t context;
#endif
    char* stack = nullptr;
    Index thread;
    State state = READY;
    int line = 0;  // where it waits
    uint64_t offered[2] = {0, 0};
    int turn = 0;
};

const size_t STACK = 64 << 10;

inline std::vector<Fiber> fibers;
inline std::vector<char*> stacks;  // kept from one launch to the next: they take longer to get than to use
inline Fiber* current = nullptr;
inline Fiber scheduler;
inline Index block_index, block_size, grid_size;
inline unsigned char* shared_memory = nullptr;
inline void (*entry)(void*) = nullptr;
inline void* entry_arguments = nullptr;

#if defined(__x86_64__)
extern "C" void emulated_switch(void** save, void* load);
asm(R"(
.text
.type emulated_switch,@function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

inline void leave() { emulated_switch(&current->context, scheduler.context); }
inline void run(Fiber& fiber)
{
    current = &fiber;
    emulated_switch(&scheduler.context, fiber.context);
}
#else
inline void leave() { swapcontext(&current->context, &scheduler.context); }
inline void run(Fiber& fiber)
{
    current = &fiber;
    swapcontext(&scheduler.context, &fiber.context);
}
#endif

[[noreturn]] inline void body()
{
    entry(entry_arguments);
    current->state = DONE;
    leave();
    std::abort();  // a fiber that is done is not run again
}

inline void prepare(Fiber& fiber)
{
    fiber.state = READY;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fiber.stack, STACK);
#endif
#if defined(__x86_64__)
    void** top = reinterpret_cast<void**>(fiber.stack + STACK);  // of 16 bytes' alignment, as malloc's blocks are
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(&body);
    for (int saved = 0; saved < 6; ++saved)
        *--top = nullptr;
    fiber.context = top;
#else
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, reinterpret_cast<void (*)()>(&body), 0);
#endif
}

inline void wait(State state, int line)
{
    current->state = state;
    current->line = line;
    leave();
}

/* All lanes of a warp offer a value and all read another's. They offer in two places by turns: who is one shuffle ahead
   of the others cannot go on before they come, so nothing is overwritten that somebody has yet to read. */
template <class T>
T shuffle_xor(unsigned mask, T value, int distance, int line)
{
    if (mask != 0xFFFFFFFFu) {
        std::fprintf(stderr, "line %d: only whole warps are emulated\n", line);
        std::abort();
    }
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves 8 bytes at most");
    const int turn = current->turn ^= 1;
    std::memcpy(&current->offered[turn], &value, sizeof(T));
    wait(IN_WARP, line);
    const size_t self = current - fibers.data(), partner = (self & ~size_t(31)) | ((self ^ distance) & 31);
    if (partner < fibers.size())
        std::memcpy(&value, &fibers[partner].offered[turn], sizeof(T));
    return value;
}

/* Release whoever waits for nobody any more; false where nobody can go on. */
inline bool release()
{
    const size_t threads = fibers.size();
    bool any = false, barrier = true;
    for (size_t start = 0; start < threads; start += 32) {
        const size_t stop = std::min(start + 32, threads);
        bool together = true;
        for (size_t at = start; at < stop; ++at) {
            together &= fibers[at].state == IN_WARP && fibers[at].line == fibers[start].line;
            barrier &= fibers[at].state == AT_BARRIER && fibers[at].line == fibers[0].line;
        }
        for (size_t at = start; together && at < stop; ++at)
            fibers[at].state = READY;
        any |= together;
    }
    for (size_t at = 0; barrier && at < threads; ++at)
        fibers[at].state = READY;
    return any || barrier;
}

inline std::string waiting()
{
    std::string told = "threads wait for each other in different places:";
    int named = 0;
    for (size_t at = 0; at < fibers.size(); ++at)
        if ((at == 0 || fibers[at].line != fibers[at - 1].line || fibers[at].state != fibers[at - 1].state) &&
            ++named <= 8)
            told += " thread " + std::to_string(at) +
                    (fibers[at].state == DONE ? " is done" : " at line " + std::to_string(std::abs(fibers[at].line)));
    return told;
}

/* Run one block; an error in words, or an empty string. */
inline std::string run_block(Order order, std::mt19937& random)
{
    std::vector<size_t> turns(fibers.size());
    for (size_t at = 0; at < turns.size(); ++at)
        turns[at] = order == REVERSE ? turns.size() - 1 - at : at;
    for (Fiber& fiber : fibers)
        prepare(fiber);
    while (true) {
        if (order == SHUFFLED)
            std::shuffle(turns.begin(), turns.end(), random);
        bool done = true;
        for (size_t at : turns) {
            if (fibers[at].state == READY)
                run(fibers[at]);
            done &= fibers[at].state == DONE;
        }
        if (done)
            return "";
        if (!release())
            return waiting();
    }
}

/* Launch a kernel; an error in words, or an empty string. */
inline std::string launch(
    void (*kernel)(void*), void* arguments, Index grid, unsigned threads, size_t shared, Order order, unsigned seed)
{
    std::mt19937 random(seed);
    entry = kernel;
    entry_arguments = arguments;
    grid_size = grid;
    block_size = {threads, 1, 1};
    fibers.assign(threads, Fiber());
    while (stacks.size() < threads)
        stacks.push_back(static_cast<char*>(std::aligned_alloc(16, STACK)));
    for (unsigned at = 0; at < threads; ++at) {
        fibers[at].thread = {at, 0, 0};
        fibers[at].stack = stacks[at];
    }
    std::string error;
    const size_t blocks = size_t(grid.x) * grid.y * grid.z;
    for (size_t number = 0; number < blocks && error.empty(); ++number) {
        const size_t at = order == REVERSE ? blocks - 1 - number : number;
        block_index = {
            unsigned(at % grid.x), unsigned(at / grid.x % grid.y), unsigned(at / grid.x / grid.y)};
        // malloc's alignment is 16; exactly as large as asked for, so that one byte beyond is seen.
        shared_memory = static_cast<unsigned char*>(std::malloc(shared ? shared : 1));
        std::memset(shared_memory, 0xCD, shared);
        error = run_block(order, random);
        std::free(shared_memory);
    }
    return error;
}

}  // namespace emulated

#define GD_EMULATED
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define GD_SHARED(NAME) const unsigned char* NAME = emulated::shared_memory
#define threadIdx (emulated::current->thread)
#define blockIdx (emulated::block_index)
#define blockDim (emulated::block_size)
#define gridDim (emulated::grid_size)
#define __syncthreads() emulated::wait(emulated::AT_BARRIER, __LINE__)
#define __shfl_xor_sync(MASK, VALUE, DISTANCE) emulated::shuffle_xor(MASK, VALUE, DISTANCE, __LINE__)

namespace emulated {

template <class To, class From>
inline To bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "bits of another size");
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
}

/* A float as NVRTC makes it of C++ under -ftz=true, which CuPy asks for: whatever is done with it takes subnormals for
   zero, and makes zero of them; only its bits can be moved. PTX without .ftz is what the functions named gd_… are. */
struct Single {
    float number;
    Single() = default;
    Single(float given) : number(given) {}
    Single(double given) : number(flushed(static_cast<float>(given))) {}
    Single(int given) : number(static_cast<float>(given)) {}
    Single(unsigned given) : number(static_cast<float>(given)) {}
    Single(long long given) : number(static_cast<float>(given)) {}
    static float flushed(float given) { return std::fabs(given) < 1.17549435e-38f ? std::copysign(0.0f, given) : given; }
    float read() const { return flushed(number); }
    explicit operator double() const { return read(); }
    explicit operator int() const { return static_cast<int>(read()); }
    Single operator-() const { return -read(); }
    friend Single operator+(Single a, Single b) { return flushed(a.read() + b.read()); }
    friend Single operator-(Single a, Single b) { return flushed(a.read() - b.read()); }
    friend Single operator*(Single a, Single b) { return flushed(a.read() * b.read()); }
    friend bool operator<(Single a, Single b) { return a.read() < b.read(); }
    friend bool operator<=(Single a, Single b) { return a.read() <= b.read(); }
    friend bool operator>(Single a, Single b) { return a.read() > b.read(); }
    friend bool operator>=(Single a, Single b) { return a.read() >= b.read(); }
    friend bool operator==(Single a, Single b) { return a.read() == b.read(); }
    friend bool operator!=(Single a, Single b) { return a.read() != b.read(); }
};
inline float raw(float a) { return a; }
inline float raw(Single a) { return a.number; }

}  // namespace emulated

inline emulated::Single fabsf(emulated::Single a) { return std::fabs(a.read()); }

#ifdef GD_FLUSH
#define float emulated::Single
#endif

// Compiled with -ffp-contract=off: each of these rounds once.
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rd(double a, double b, double c)
{
    const int before = std::fegetround();
    std::fesetround(FE_DOWNWARD);
    volatile double factor = a;  // read between the two
    volatile double found = std::fma(factor, b, c);
    std::fesetround(before);
    return found;
}
inline unsigned __double2uint_rz(double a)  // saturates; NaN is 0
{
    return !(a > 0) ? 0u : a >= 4294967296.0 ? 0xFFFFFFFFu : static_cast<unsigned>(a);
}
inline double __ll2double_rn(long long a) { return static_cast<double>(a); }
inline float __int2float_rn(int a) { return a; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __double2float_rn(double a) { return static_cast<float>(a); }
inline long long __double_as_longlong(double a) { return emulated::bits<long long>(a); }
inline double __longlong_as_double(long long a) { return emulated::bits<double>(a); }
inline unsigned __float_as_uint(float a) { return emulated::bits<unsigned>(emulated::raw(a)); }
inline float __uint_as_float(unsigned a) { return emulated::bits<float>(a); }
#undef float

// arithmetic.cuh
inline float gd_from_half(unsigned short bits)
{
    const int exponent = bits >> 10 & 31, fraction = bits & 0x3FF;
    const float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                                      : std::ldexp(static_cast<float>(fraction + (exponent ? 1024 : 0)),
                                                   (exponent ? exponent : 1) - 25);
    return bits & 0x8000 ? -size : size;
}
inline float gd_nearest(double a) { return static_cast<float>(a); }
inline float gd_rounded_up(double a)
{
    const float nearest = static_cast<float>(a);
    return nearest < a ? std::nextafter(nearest, INFINITY) : nearest;
}
#ifdef GD_FLUSH
#define float emulated::Single
#endif
inline float gd_add(float a, float b) { return emulated::raw(a) + emulated::raw(b); }
inline float gd_absolute(float a) { return std::fabs(emulated::raw(a)); }
inline float gd_smaller(float a, float b) { return std::fmin(emulated::raw(a), emulated::raw(b)); }
inline float gd_larger(float a, float b) { return std::fmax(emulated::raw(a), emulated::raw(b)); }
inline bool gd_reaches(float a, float b) { return emulated::raw(a) >= emulated::raw(b); }
inline double gd_widened(float a) { return emulated::raw(a); }
inline int __clzll(long long a) { return a ? __builtin_clzll(static_cast<unsigned long long>(a)) : 64; }

// memory.cuh: addresses of shared memory count from its beginning
template <class Value>
inline Value* gd_global(Value* pointer)
{
    return pointer;
}
inline unsigned gd_kept(unsigned number) { return number; }
inline unsigned gd_shared_address(const unsigned char*) { return 0; }
template <class Word>
inline void gd_load(Word& word, unsigned address)
{
    word = *reinterpret_cast<Word*>(emulated::shared_memory + address);
}
template <class Word>
inline void gd_load_if(bool wanted, Word& word, unsigned address)
{
    if (wanted)
        gd_load(word, address);
}
template <class Word>
inline void gd_store(Word word, unsigned address)
{
    *reinterpret_cast<Word*>(emulated::shared_memory + address) = word;
}
inline void gd_add_to(unsigned address, unsigned more)
{
    *reinterpret_cast<unsigned*>(emulated::shared_memory + address) += more;
}
inline void gd_add_one_to(unsigned address) { gd_add_to(address, 1); }

template <class T>
inline T min(T a, T b)
{
    return b < a ? b : a;
}
template <class T>
inline T max(T a, T b)
{
    return a < b ? b : a;
}
template <class T>
inline T atomicAdd(T* where, T more)
{
    const T before = *where;
    *where = before + more;
    return before;
}
template <class T>
inline T atomicMin(T* where, T other)
{
    const T before = *where;
    *where = min(before, other);
    return before;
}
template <class T>
inline T atomicMax(T* where, T other)
{
    const T before = *where;
    *where = max(before, other);
    return before;
}
