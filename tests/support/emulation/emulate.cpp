/* The kernels behind one C function that ctypes can call: the arguments as cuLaunchKernel takes them. */
#include <algorithm>
#include <tuple>
#include <utility>

#include "cuda_on_cpu.h"

#include "count.cu"

namespace {

template <auto Kernel, class... Arguments, size_t... At>
void call(void** given, void (*)(Arguments...), std::index_sequence<At...>)
{
    Kernel(*static_cast<Arguments*>(given[At])...);
}

template <auto Kernel, class... Arguments>
void unpack(void** given, void (*kernel)(Arguments...))
{
    call<Kernel>(given, kernel, std::index_sequence_for<Arguments...>());
}

template <auto Kernel>
void run(void* given)
{
    unpack<Kernel>(static_cast<void**>(given), Kernel);
}

struct Named {
    const char* name;
    void (*run)(void*);
};

#define NAMED(NAME) {#NAME, &run<&NAME>}
#define NAMED_AS(NAME) NAMED(NAME)  // of a macro, its value
const Named kernels[] = {
#ifdef ONLY
    NAMED_AS(ONLY), NAMED(gd_build_guides), NAMED(gd_take), NAMED(gd_take_bits),
#else
    NAMED(gd_count_float16), NAMED(gd_count_float32), NAMED(gd_count_float64), NAMED(gd_count_int8),
    NAMED(gd_count_int16),   NAMED(gd_count_int32),   NAMED(gd_count_int64),   NAMED(gd_count_uint8),
    NAMED(gd_count_uint16),  NAMED(gd_count_uint32),  NAMED(gd_count_uint64),  NAMED(gd_count_decimal128),
    NAMED(gd_build_guides),  NAMED(gd_take),          NAMED(gd_take_bits),
    NAMED(gd_check_texts),
#endif
};

}  // namespace

extern "C" int emulated_launch(
    const char* name, const unsigned* grid, unsigned threads, size_t shared, int order, unsigned seed, void** arguments,
    char* told, size_t size)
{
    std::string error = std::string("no kernel ") + name;
    for (const Named& kernel : kernels)
        if (std::strcmp(kernel.name, name) == 0)
            error = emulated::launch(
                kernel.run, arguments, {grid[0], grid[1], grid[2]}, threads, shared, emulated::Order(order), seed);
    std::snprintf(told, size, "%s", error.c_str());
    return error.empty() ? 0 : 1;
}
