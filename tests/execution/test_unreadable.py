"""What cannot be read: a column is skipped with its reason and the others are right; what was lost is noticed."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.counting_source import Counting
from support.grouped import DAILY, TWO, coarse, count, cut_small, made, one_line

from gpudrift.errors import SourceChangedError
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import count_source
from gpudrift.sources import open_source
from gpudrift.windows.grouping import WHOLE

WHOLE_OR_DAILY = pytest.mark.parametrize("grouping", [WHOLE, DAILY], ids=["whole", "groups"])


def damaged(path, table, column) -> None:
    """Bytes in the middle of a compressed column of the last row group: its page does not decompress."""
    pq.write_table(table, path, compression="zstd", use_dictionary=False, row_group_size=table.num_rows // 2)
    chunk = pq.read_metadata(path).row_group(1).column(table.column_names.index(column))
    content = bytearray(path.read_bytes())
    for at in range(chunk.data_page_offset + 60, chunk.data_page_offset + chunk.total_compressed_size - 60, 20):
        content[at] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("column", ["real", "key"])
def test_a_column_that_cannot_be_read_is_skipped_and_the_others_are_right(tmp_path, small_runs, threads, column):
    table = made(6000)
    damaged(tmp_path / "t.parquet", table, column)
    schema = coarse(table)
    for grouping in (WHOLE, DAILY, TWO):
        found = count(tmp_path / "t.parquet", schema, grouping, threads=threads)
        assert set(found.skipped) == {column}
        assert found.skipped[column]
        assert "\n" not in found.skipped[column]
        assert found.findings == {column: "unreadable"}
        assert found == count(table, schema, grouping).skip(found.skipped, found.findings)


@WHOLE_OR_DAILY
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_of_a_part_that_failed_are_not_counted_twice(tmp_path, small_runs, threads, grouping):
    """The other columns of the piece had batches of the part before the bad one failed; two columns fail in turn."""
    table = made(5000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1000)

    class Broken(Counting):
        def batches(self, part, columns):
            for at, batch in enumerate(self.source.batches(part, columns)):
                if part.index == 3 and "count" in columns:
                    yield batch[: batch.num_rows // 2]
                    raise OSError("Corrupt page\nsecond line")
                if part.index == 4 and "flag" in columns:
                    raise pa.ArrowInvalid("Corrupt too")
                yield batch
                assert at < 100

    schema = coarse(table)
    for piece in (1, 20_000, 16 << 20):
        with pytest.MonkeyPatch.context() as patch:
            cut_small(patch, 700, piece)
            source = Broken(open_source(tmp_path / "t.parquet"))
            found = count_source(source, schema, grouping, None, Settings(threads=threads))
        assert found.skipped == {"count": "Corrupt page", "flag": "Corrupt too"}
        assert found == count(table, schema, grouping).skip(found.skipped, {})


def test_a_column_of_the_grouping_that_cannot_be_read_ends_the_run(tmp_path, small_runs):
    table = made(5000)
    damaged(tmp_path / "t.parquet", table, "t")
    for threads in (1, 3):
        with pytest.raises((OSError, ValueError), match=r"t\.parquet"):
            count(tmp_path / "t.parquet", coarse(table), DAILY, threads=threads)


def test_files_that_change_and_rows_that_are_lost_are_noticed(tmp_path, small_runs):
    table = made(3000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=700)
    schema = coarse(table)

    class Changed(Counting):
        def batches(self, part, columns):
            if "real" in columns and part.index == 2:
                raise SourceChangedError("t.parquet was changed")
            return self.source.batches(part, columns)

    class Losing(Counting):
        def batches(self, part, columns):
            return (batch.slice(1) for batch in self.source.batches(part, columns))

    class LosingLater(Counting):
        def batches(self, part, columns):
            return (batch.slice(int("real" in columns)) for batch in self.source.batches(part, columns))

    for kind, words in (
        (Changed, "was changed"),
        (Losing, "rows were counted, its files hold"),
        (LosingLater, "rows read, "),
    ):
        for threads in (1, 3):
            with pytest.raises(ValueError, match=words) as error:
                count_source(kind(open_source(tmp_path / "t.parquet")), schema, DAILY, None, Settings(threads=threads))
            one_line(error, "t.parquet")


@WHOLE_OR_DAILY
def test_columns_that_changed_their_type_and_names_that_occur_twice_are_skipped(grouping):
    table = made(500)
    schema = coarse(table)
    twice = pa.table([*table.columns, table["flag"]], names=[*table.column_names, "flag"])
    found = count(twice, schema, grouping)
    assert found.findings == {"flag": "unreadable"}
    changed = table.set_column(0, "real", table["kind"]).set_column(3, "kind", table["real"])
    found = count(changed, schema, grouping)
    assert found.findings == {"real": "type changed", "kind": "type changed"}
    assert found == count(table, schema, grouping).skip(found.skipped, {})
    assert found.seen["real"] == "string"
