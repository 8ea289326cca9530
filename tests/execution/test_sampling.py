"""The sample of a table that is read in parts is the one of the whole table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpudrift.execution.sampling import sample_parts
from gpudrift.fitting.samples import sample_blocks
from gpudrift.sources import open_source

ROWS = 300_000


@pytest.mark.parametrize("ends", [[], [1], [3, 4, 20]], ids=["one run", "two runs", "four runs"])
def test_the_sample_of_parts_is_that_of_the_table(tmp_path, ends):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"row": np.arange(ROWS), "other": np.arange(ROWS) % 7}), path, 9_000)
    source = open_source(path)
    sample = sample_blocks(ROWS, 2)
    positions = sample.positions(0, ROWS)
    assert 0 < positions.size < ROWS
    found = []
    for start, stop in zip([0, *ends], [*ends, len(source.parts)], strict=True):
        sampled, broken = sample_parts(source, source.parts[start:stop], ["row"], sample)
        assert broken == {}
        found += [chunk for chunk, _ in sampled["row"]]
    assert np.array_equal(pa.chunked_array(found).to_numpy(), positions)
