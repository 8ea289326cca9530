/*
CUB's range histogram behind a C function, for `gpudrift bench` to measure; counting does not use it.

    scratch    null: `size` is set to the bytes it needs, and nothing is counted
    levels     float[count], rising; counts: uint32[count - 1]
*/
#include <cub/device/device_histogram.cuh>

extern "C" int gd_cub_range(
    void* scratch, size_t* size, const float* samples, const float* levels, unsigned* counts, long long rows, int count)
{
    size_t bytes = *size;
    const cudaError_t failed =
        cub::DeviceHistogram::HistogramRange(scratch, bytes, samples, counts, count, levels, rows);
    *size = bytes;
    return static_cast<int>(failed);
}
