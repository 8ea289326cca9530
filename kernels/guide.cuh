/*
Guides: what finds the bins of a column, built on the device, with the very gd_cell() that the counting kernels use.
*/
#pragma once

#include "memory.cuh"
#include "slots.cuh"

/* What finds the bins of a column for values of one rank, built from its edges by one block. */
struct GdGuide {
    const void* edges;  // bins + 1 of double or int64; the last one is no beginning of a bin
    gd_u32* guide;      // 2 half + 1
    gd_u16* scales;     // bins
    GdMapping mapping;
    int bins;
    int rank;           // 0 double, 1 float, 2 int64, 3 int
};

template <class Number, class Rank>
__device__ __forceinline__ void gd_build_guide(const GdGuide& column)
{
    const Number* edges = gd_global((const Number*)column.edges);
    gd_u32* guide = gd_global(column.guide);
    const int bins = column.bins, cells = 2 * column.mapping.half + 1;
    const auto cell_of = [&](int bin) {
        return gd_cell(gd_limit(Rank(), edges[bin]), column.mapping) + column.mapping.half;
    };
    // Cells after the one of the edge before, up to that of this edge, have `bin` - 1 inner edges in lower cells. The
    // last of them is the edge's own and is written here for all edges in it: for the next ones there are no such
    // cells. An edge that no value reaches is in no cell.
    for (int bin = 1 + threadIdx.x; bin <= bins; bin += blockDim.x) {
        const bool last = bin == bins || gd_beyond(Rank(), edges[bin]);
        if (last && bin > 1 && gd_beyond(Rank(), edges[bin - 1]))
            continue;
        const int from = bin == 1 ? 0 : cell_of(bin - 1) + 1;
        const int to = last ? cells - 1 : cell_of(bin);
        const gd_u32 scale = gd_scale(edges[bin - 1], edges[bin], bin == bins) << GD_SCALE_BIT;
        for (int cell = from; cell <= to; ++cell) {
            gd_u32 within = 0;
            while (!last && cell == to && bin + (int)within < bins && within < GD_MANY &&
                   !gd_beyond(Rank(), edges[bin + within]) && cell_of(bin + within) == cell)
                ++within;
            guide[cell] = (gd_u32)(bin - 1) | within * GD_EDGE | scale;
        }
    }
    for (int bin = threadIdx.x; bin < bins; bin += blockDim.x)
        gd_global(column.scales)[bin] = (gd_u16)gd_scale(edges[bin], edges[bin + 1], bin == bins - 1);
}

extern "C" __global__ void __launch_bounds__(512) gd_build_guides(const GdGuide* columns)
{
    const GdGuide column = columns[blockIdx.x];
    if (column.rank == 0)
        gd_build_guide<double, double>(column);
    else if (column.rank == 1)
        gd_build_guide<double, float>(column);
    else if (column.rank == 2)
        gd_build_guide<gd_i64, gd_i64>(column);
    else
        gd_build_guide<gd_i64, int>(column);
}
