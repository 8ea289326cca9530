"""What goes wrong on a cluster: each is one clear error that names what it is about, and leaves nothing behind.

Workers are real processes. What they are to do wrong is told them by a few lines of code (``client.run``), a preload
script, or another ``PYTHONPATH``.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster
from support import fake_stores
from support.bad_files import bad_files
from support.blocked import QUIET, assert_idle, indented, on_workers
from support.clusters import wait_until
from support.command import fails, people

import gpudrift as gd
from gpudrift.api import engine
from gpudrift.execution import cuts as planning
from gpudrift.execution.cluster import agreement
from gpudrift.execution.cluster.dask import DaskCluster
from gpudrift.sources import open_source

PACKAGE = Path(gd.__file__).parent


@pytest.fixture(autouse=True, scope="module")
def _logs_as_they_were() -> Iterator[None]:
    """The command silences Dask's logs for its process; that is this one."""
    logger = logging.getLogger("distributed")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.fixture
def cluster(running: Client) -> LocalCluster:
    return running.cluster


@pytest.fixture
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut small tables as large ones are cut."""
    for name in ("BYTES_PER_SLOT", "CLUSTER_TASK", "SMALLEST_BLOCK"):
        monkeypatch.setattr(planning, name, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tables")
    pq.write_table(people(4000, seed=1), place / "a.parquet", row_group_size=250)
    pq.write_table(people(3000, shift=1.0, seed=3), place / "b.parquet", row_group_size=250)
    gd.profile(place / "a.parquet").save(place / "base.profile")
    return place


# --- files ------------------------------------------------------------------------------------------------


def gone(path: Path) -> None:
    path.unlink()


def longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replaced(path: Path) -> None:
    pq.write_table(people(4000, seed=9), path.with_suffix(".new"), row_group_size=250)
    path.with_suffix(".new").replace(path)


CHANGES = {gone: "is gone", longer: "changed while it was read", replaced: "changed while it was read"}


@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("like", [True, False])
def test_a_file_that_changes_in_the_middle_is_named(client, folder, tmp_path, change, like):
    """The first task counts, is told of, and the file changes; only then may the others begin."""
    path, gate = tmp_path / "data.parquet", tmp_path / "gate"
    shutil.copy(folder / "a.parquet", path)
    told = []

    def progress(now: Any) -> None:
        told.append(now)
        if len(told) == 1:
            change(path)
            gate.touch()

    wait = f"""
try:
    os.mkdir({str(tmp_path / "first")!r})
except FileExistsError:
    deadline = time.monotonic() + 20
    while not Path({str(gate)!r}).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
"""
    schema = folder / "base.profile" if like else None
    function = "count_parts" if like else "fit_and_count"
    with (
        on_workers(client, f"execution.cluster.work.{function}", indented(wait)),
        pytest.raises(gd.SourceChangedError, match=CHANGES[change]) as caught,
    ):
        gd.profile(path, schema=schema, client=client, progress=progress)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("which", ["current", "held", "sampled"])
def test_files_that_are_others_when_they_are_opened_again(client, folder, tmp_path, monkeypatch, which):
    """With its worker what was opened is lost, and a file may have been added since: here it is other than was told."""
    shutil.copy(folder / "a.parquet", tmp_path / "0.parquet")
    shutil.copy(folder / "a.parquet", tmp_path / "1.parquet")
    real = engine.open_files
    before = open_source(tmp_path / "0.parquet")
    monkeypatch.setattr(engine, "open_files", lambda *given: replace(real(*given), source=before))
    if which == "sampled":
        monkeypatch.setattr(DaskCluster, "budget", 1)
    schema = folder / "base.profile" if which == "current" else None
    with pytest.raises(gd.SourceChangedError, match="files were added, removed or changed after the run began"):
        gd.profile(tmp_path, schema=schema, client=client)


@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize(("command", "old"), [("compare", None), ("profile", b"what was here before")])
def test_after_a_change_nothing_is_half_written(client, folder, tmp_path, command, old):
    """On a worker, before the second task: the file grows."""
    path, out = tmp_path / "data.parquet", tmp_path / "out"
    shutil.copy(folder / "a.parquet", path)
    if old is not None:
        out.write_bytes(old)
    grow = f"""
start, _ = given[2]
if start > 0:
    with open({str(path)!r}, "ab") as file:
        file.write(b"more")
"""
    base = folder / "base.profile"
    words = {"compare": [base, path, "--json", out], "profile": [path, "--like", base, "-o", out, "--force"]}[command]
    with on_workers(client, "execution.cluster.work.count_parts", indented(grow)):
        message = fails(command, *words, "--scheduler", client.scheduler.address)
        assert_idle(client.cluster)
    assert message.startswith(f"'{path}' changed while it was read: ")
    assert (out.read_bytes() if out.exists() else None) == old
    assert {entry.name for entry in tmp_path.iterdir()} <= {"data.parquet", "out"}


def test_files_that_cannot_be_read_say_the_same_as_on_threads(client, folder, tmp_path):
    address = client.scheduler.address
    for number, (name, (path, error, words)) in enumerate(bad_files(tmp_path).items()):
        with pytest.raises(error) as here:
            gd.profile(path)
        with pytest.raises(error) as there:
            gd.profile(path, client=client)
        where = re.escape(str(here.value)) + (
            " on worker tcp://.*" if isinstance(here.value, FileNotFoundError) else ""
        )
        assert re.fullmatch(where, str(there.value)), name
        assert type(there.value) is type(here.value), name
        if number % 5 == 0:
            message = fails("compare", folder / "a.parquet", path, "--scheduler", address)
            assert str(path) in message
            assert words in message


def test_a_saved_profile_among_the_data_is_refused_by_name(client, folder, tmp_path):
    shutil.copy(folder / "a.parquet", tmp_path / "a.parquet")
    shutil.copy(folder / "base.profile", tmp_path / "saved.parquet")
    with pytest.raises(ValueError, match=r"saved\.parquet") as here:
        gd.profile(str(tmp_path / "*.parquet"))
    with pytest.raises(ValueError, match=r"saved\.parquet") as there:
        gd.profile(str(tmp_path / "*.parquet"), client=client)
    assert str(here.value) == str(there.value)


def test_relative_paths_are_those_of_the_client(client, folder, monkeypatch):
    assert set(client.run(os.getcwd).values()) != {str(folder)}
    monkeypatch.chdir(folder)
    assert gd.profile("a.parquet", client=client).digest == gd.profile("a.parquet").digest
    with pytest.raises(FileNotFoundError, match=re.escape(f"{folder}/nothing.parquet")):
        gd.profile("nothing.parquet", client=client)


def test_a_file_that_only_the_client_sees_is_missing_on_the_workers(client, folder):
    with (
        on_workers(
            client, "sources.find_files", indented("given = ([f'/elsewhere{path}' for path in given[0]], given[1])")
        ),
        pytest.raises(FileNotFoundError, match=r"no such file.*/elsewhere.*a\.parquet' on worker"),
    ):
        gd.profile(folder / "a.parquet", client=client)


def test_files_of_different_types_are_the_findings_they_are_on_threads(client, tmp_path):
    random = np.random.default_rng(0)
    shared = random.normal(size=600)
    kinds: list[Any] = [
        pa.array(range(600)),
        pa.array(random.normal(size=600)),
        pa.array([f"text {i % 7}" for i in range(600)]),
        pa.array(range(600), pa.timestamp("us")),
    ]
    for number, kind in enumerate(kinds):
        pq.write_table(pa.table({"mixed": kind, "same": shared}), tmp_path / f"{number}.parquet")
    pq.write_table(pa.table({"same": shared}), tmp_path / "4.parquet")
    for reference in ("0.parquet", "2.parquet"):
        pair = tmp_path / reference, str(tmp_path / "*.parquet")
        here, there = gd.compare(*pair), gd.compare(*pair, client=client)
        assert here.comparison.schema_changes
        assert there.comparison.schema_changes == here.comparison.schema_changes
        assert there.comparison.current.digest == here.comparison.current.digest
        for pairs in (pair, pair[::-1]):
            assert outcome_of(lambda given=pairs: gd.compare(*given)) == outcome_of(
                lambda given=pairs: gd.compare(*given, client=client)
            )


def outcome_of(call: Any) -> Any:
    try:
        return call().comparison.current.digest
    except ValueError as error:
        return type(error), str(error)


def partition(columns: dict[str, Any]) -> Any:
    return dask.delayed(pd.DataFrame)(columns)


GOOD = {"number": np.arange(50.0), "word": ["a", "b"] * 25}
WRONG = {
    "lacks": ({"number": GOOD["number"]}, "partition 1 of the Dask DataFrame lacks 'word'"),
    "more": (GOOD | {"extra": range(50)}, "partition 1 of the Dask DataFrame also has 'extra'"),
    "other": (
        {"number": GOOD["number"], "x": range(50)},
        "partition 1 of the Dask DataFrame lacks 'word' and also has",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_partitions_with_other_columns_are_named(client, case):
    columns, words = WRONG[case]
    meta = pd.DataFrame(GOOD).iloc[:0]
    frame = dd.from_delayed([partition(GOOD), partition(columns), partition(GOOD)], meta=meta, verify_meta=False)
    reference = gd.profile(pd.DataFrame(GOOD))
    for schema in (None, reference):
        with pytest.raises(ValueError, match=re.escape(words)) as caught:
            gd.profile(frame, schema=schema, client=client)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:results are .* partitions of the Dask DataFrame are small")
def test_partitions_of_other_types_are_a_finding(client):
    wrong = {"number": [f"{i} apples" for i in range(50)], "word": GOOD["word"]}
    meta = pd.DataFrame(GOOD).iloc[:0]
    frame = dd.from_delayed([partition(GOOD), partition(wrong)], meta=meta, verify_meta=False)
    reference = gd.profile(pd.DataFrame(GOOD))
    counted = gd.profile(frame, schema=reference, client=client)
    assert counted.findings == {"number": "type changed"}
    assert "string" in counted.skipped["number"]
    assert counted.rows == 100
    assert dict(counted.skipped).keys() == {"number"}


def test_a_partition_that_fails_raises_its_own_error(client):
    def broken() -> pd.DataFrame:
        raise ZeroDivisionError("in the partition")

    meta = pd.DataFrame(GOOD).iloc[:0]
    frame = dd.from_delayed([partition(GOOD), dask.delayed(broken)()], meta=meta, verify_meta=False)
    with pytest.raises(ZeroDivisionError, match="in the partition"):
        gd.profile(frame, client=client)


def test_an_interruption_from_progress_leaves_no_tasks(client, folder, monkeypatch, tmp_path):
    for name in ("BYTES_PER_SLOT", "CLUSTER_TASK", "SMALLEST_BLOCK"):
        monkeypatch.setattr(planning, name, 1)

    def stop(now: Any) -> None:
        raise KeyboardInterrupt

    for data in (folder / "a.parquet", dd.from_pandas(people(4000).to_pandas(), npartitions=8)):
        with (
            on_workers(client, "execution.cluster.work.count_parts", indented("time.sleep(0.05)")),
            pytest.raises(KeyboardInterrupt),
        ):
            gd.profile(data, schema=folder / "base.profile", client=client, progress=stop)
        assert_idle(client.cluster)
    # The client still works.
    assert gd.profile(folder / "a.parquet", client=client).digest == gd.profile(folder / "a.parquet").digest


# --- memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["fit_and_count", "count_parts"])
def test_a_task_without_memory_names_what_it_was_to_do(client, folder, function):
    """Arrow's own exception is a MemoryError and one of reading; it must not pass for an unreadable column."""
    schema = [folder / "base.profile"] if function == "count_parts" else []
    for error in ("MemoryError()", "__import__('pyarrow').ArrowMemoryError('malloc of size 64 failed')"):
        with on_workers(client, f"execution.cluster.work.{function}", indented(f"raise {error}")):
            with pytest.raises(MemoryError, match="has no memory left to") as caught:
                gd.profile(folder / "a.parquet", schema=(schema or [None])[0], client=client)
            assert_says_what(str(caught.value), folder / "a.parquet")
            pair = [*schema, folder / "a.parquet", folder / "b.parquet"][:2]
            message = fails("compare", *pair, "--scheduler", client.scheduler.address)
            assert message.startswith("out of memory: worker tcp://")
            assert_says_what(message, folder / "a.parquet")


def assert_says_what(message: str, path: Path) -> None:
    assert "\n" not in message
    assert repr(str(path)) in message
    assert "'age'" in message
    assert "(4,000 rows)" in message
    assert "give workers more memory or fewer threads each" in message
    assert "smaller row groups" in message


def test_memory_that_ends_while_columns_are_read_is_no_unreadable_column(client, folder):
    """Arrow's exception is a MemoryError and one of those that unreadable columns raise."""
    body = """
import pyarrow
def made(*of, **named):
    state = real(*given)(*of, **named)
    def add(*batch):
        raise pyarrow.ArrowMemoryError("malloc of size 64 failed")
    state.add = add
    return state
return made
"""
    with (
        on_workers(client, "execution.tasks.load_state", indented(body)),
        pytest.raises(MemoryError, match="has no memory left to"),
    ):
        gd.profile(folder / "a.parquet", schema=folder / "base.profile", client=client)


@pytest.mark.parametrize("like", [True, False])
def test_memory_that_ends_whenever_columns_are_read(client, folder, like):
    """Also when each is read on its own, to see which of them cannot be read."""
    code = """
import pyarrow, pyarrow.parquet
def full(*given, **named):
    raise pyarrow.ArrowMemoryError("malloc of size 64 failed")
full.real = pyarrow.parquet.ParquetFile.iter_batches, pyarrow.parquet.ParquetFile.read_row_group
pyarrow.parquet.ParquetFile.iter_batches = pyarrow.parquet.ParquetFile.read_row_group = full
"""
    undo = """
from pyarrow.parquet import ParquetFile
ParquetFile.iter_batches, ParquetFile.read_row_group = ParquetFile.iter_batches.real
"""
    client.run(exec, code, {})
    try:
        with pytest.raises(MemoryError, match="has no memory left to") as caught:
            gd.profile(folder / "a.parquet", schema=folder / "base.profile" if like else None, client=client)
        assert_says_what(str(caught.value), folder / "a.parquet")
    finally:
        client.run(exec, undo, {})


@pytest.fixture(scope="module")
def small() -> Iterator[LocalCluster]:
    """One worker with little memory, and no second try for what it dies of."""
    with (
        dask.config.set(
            {"distributed.scheduler.allowed-failures": 0, "distributed.worker.memory.monitor-interval": "20ms"}
        ),
        LocalCluster(n_workers=1, threads_per_worker=1, memory_limit="350MB", **QUIET) as made,
    ):
        yield made


@pytest.mark.slow
def test_a_worker_that_is_killed_for_its_memory(small, tmp_path):
    """One row group of texts that take 400 MB in memory and few on the disk."""
    path, out = tmp_path / "large.parquet", tmp_path / "out.json"
    texts = pa.array([str(number) * 1_000_000 for number in range(100, 233)])
    pq.write_table(pa.table({"text": texts, "number": range(133)}), path, compression="zstd", use_dictionary=False)
    del texts
    with Client(small) as client:
        with pytest.raises(MemoryError, match="died") as caught:
            gd.profile(path, columns=["text"], client=client)
        client.wait_for_workers(1, timeout=60)
        words = "compare", path, path, "--columns", "text", "--json", out
        told = fails(*words, "--scheduler", small.scheduler_address)
        for message in (str(caught.value), told.removeprefix("out of memory: ")):
            assert "\n" not in message
            assert "tcp://127.0.0.1:" in message
            assert repr(str(path)) in message
            assert "'text'" in message
            assert "give workers more memory or fewer threads each" in message
        assert not out.exists()
        assert_idle(small)


def test_a_worker_that_dies_of_something_else(small, folder):
    with Client(small) as client:
        client.wait_for_workers(1, timeout=60)
        dead = set(small.scheduler.workers)
        with on_workers(client, "execution.cluster.work.count_parts", indented("os.kill(os.getpid(), signal.SIGKILL)")):
            with pytest.raises(MemoryError, match="died") as caught:
                gd.profile(folder / "a.parquet", schema=folder / "base.profile", client=client)
            assert_says_what(str(caught.value), folder / "a.parquet")
            assert_idle(small)
            # The worker that took its place has nothing to undo; until it is there, the dead one may still be known.
            wait_until(lambda: small.scheduler.workers and not set(small.scheduler.workers) & dead, "another worker")
            client.run(
                exec, "from gpudrift.execution.cluster import work\nwork.count_parts.real = work.count_parts", {}
            )


# --- secrets ----------------------------------------------------------------------------------------------


@pytest.fixture
def vault(client: Client) -> Iterator[None]:
    register = """
import fsspec
from support import fake_stores
fsspec.register_implementation('vault', fake_stores.Vault, clobber=True)
"""
    client.run(exec, register, {})
    fsspec.register_implementation("vault", fake_stores.Vault, clobber=True)
    yield
    fake_stores.Vault.clear_instance_cache()


def test_arguments_of_tasks_show_no_secret():
    """Versions of Dask differ in whether they log them."""
    shown = repr(agreement.Where([f"s3://me:{fake_stores.SECRET}@place"], {"secret": fake_stores.SECRET}))
    assert shown == "<1 paths>"


FAILING = {
    "refused": ("sources.find_files", "given = (given[0], {'secret': given[1]['secret'] + ' no'})"),
    "opening": ("sources.find_files", "raise RuntimeError('opening failed')"),
    "counting": ("execution.cluster.work.fit_and_count", "raise RuntimeError('counting failed')"),
    "nothing": ("execution.cluster.work.fit_and_count", "pass"),
}


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize("case", FAILING)
def test_secrets_are_in_no_log_no_error_and_no_report(cluster, client, folder, case):
    secret, options = fake_stores.SECRET, {"secret": fake_stores.SECRET}
    data, said = f"vault://{folder}/a.parquet", []
    function, body = FAILING[case]
    # Nothing above DEBUG may be filtered out on the way to what Dask keeps of its logs.
    client.run(exec, "import logging\nlogging.getLogger('distributed').setLevel(logging.DEBUG)", {})
    logging.getLogger("distributed").setLevel(logging.DEBUG)
    with on_workers(client, function, indented(body)):
        try:
            counted = gd.profile(data, client=client, storage_options=options)
            said += [repr(counted), str(dict(counted.provenance))]
            report = gd.compare(data, data, client=client, storage_options=options)
            said += [repr(report), report.to_json(), str(gd.plan(data, client=client, storage_options=options))]
            assert case == "nothing"
        except (RuntimeError, OSError, ValueError) as error:
            assert case != "nothing"
            chain: BaseException | None = error
            while chain is not None:
                said += [str(chain), repr(chain), *map(str, getattr(chain, "__notes__", ()))]
                chain = chain.__cause__ or chain.__context__
    said += map(str, client.get_worker_logs().values())
    assert case == "nothing" or "Compute Failed" in str(said)
    said.append(str(client.get_scheduler_logs()))
    said += [str(topic) + str(events) for topic, events in cluster.scheduler.get_events().items()]
    assert case == "nothing" or "failed" in str(said) or "wrong" in str(said)
    for word in (secret, fake_stores.QUOTED):
        assert not [text[max(0, text.index(word) - 300) : text.index(word) + 40] for text in said if word in text]
