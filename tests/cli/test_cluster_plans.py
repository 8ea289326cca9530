"""How far a command on a cluster is, and what it would take: progress never goes back, dry runs count nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import LocalCluster, SchedulerPlugin
from support.blocked import indented, on_workers
from support.command import DONE, IN_WEEKS, USAGE, fails, in_terminal, run

import gpudrift as gd
from gpudrift.api import engine
from gpudrift.cli import saying
from gpudrift.execution import cuts, settings

# --- progress ---------------------------------------------------------------------------------------------

MANY_TASKS = """
import sys
from gpudrift.cli import main as cli, saying
from gpudrift.execution import cuts
cuts.BYTES_PER_SLOT = cuts.CLUSTER_TASK = cuts.SMALLEST_BLOCK = 1
saying.PATIENCE = 0.1
cli.main(sys.argv[1:])
"""


@pytest.fixture
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut small tables as large ones are cut."""
    for name in ("BYTES_PER_SLOT", "CLUSTER_TASK", "SMALLEST_BLOCK"):
        monkeypatch.setattr(cuts, name, 1)


def test_a_terminal_sees_rows_bytes_and_columns(cluster, client, folder):
    arguments = "compare", folder / "base.profile", folder / "b.parquet", "--json", "-"
    words = [sys.executable, "-c", MANY_TASKS, *arguments, "--scheduler", cluster.scheduler_address]
    with on_workers(client, "execution.cluster.work.count_parts", indented("time.sleep(0.1)")):
        status, out, seen = in_terminal(words)
    assert status == DONE
    assert json.loads(out)["summary"]["judged"] == 3
    for part in (b"counting", b" values, 0.0 GB; columns ", b"/3: ", b" of 3,000 rows"):
        assert part in seen, seen


def test_what_progress_says_of_a_cluster():
    now = settings.Progress(1_234_567, 10**7, 2_500_000_000, 3, 40, 5_000, 1_000_000)
    assert saying.how_far(now) == "1,234,567 values, 2.5 GB; columns 4/40: 5,000 of 1,000,000 rows"
    unknown = settings.Progress(1_234, None, 10**8, 0, 1, 617, None)
    assert saying.how_far(unknown) == "1,234 values, 0.1 GB; columns 1/1: 617 rows"
    assert saying.how_far(settings.Progress(1_234, 10**7)) == "1,234 values"


@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize("data", ["a.parquet", "t.csv"])
@pytest.mark.parametrize("like", [True, False])
def test_progress_never_goes_back_and_ends_at_the_total(client, folder, data, like):
    told: list[settings.Progress] = []
    schema = folder / "base.profile" if like else None
    counted = gd.profile(folder / data, schema=schema, client=client, progress=told.append)
    check_progress(told, counted)
    assert told[-1].bytes == counted.provenance["cluster"]["bytes_counted"]


def check_progress(told: list[settings.Progress], counted: gd.Profile) -> None:
    values, sizes = [now.values for now in told], [now.bytes for now in told]
    assert len(told) > 1
    assert values == sorted(values)
    assert sizes == sorted(sizes)
    assert values[-1] == counted.rows * len(counted)
    assert {now.total for now in told} <= {None, values[-1]}
    assert all(now.block < now.blocks for now in told)
    assert all(now.all_rows is None or now.rows <= now.all_rows for now in told)


@pytest.mark.usefixtures("many_tasks")
def test_what_is_counted_again_is_not_told_again(cluster, client, folder, tmp_path):
    """A worker dies with what it had counted, five tasks, and had told of them."""
    told: list[settings.Progress] = []
    die = f"""
time.sleep(0.03)
changed.calls = getattr(changed, "calls", 0) + 1
if changed.calls == 6:
    try:
        os.mkdir({str(tmp_path / "died")!r})
    except FileExistsError:
        pass
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""
    before = set(cluster.scheduler.get_events())
    with on_workers(client, "execution.cluster.work.count_parts", indented(die)):
        schema = folder / "base.profile"
        counted = gd.profile(folder / "a.parquet", schema=schema, client=client, progress=told.append)
        client.wait_for_workers(2, timeout=30)
        # The worker that took its place has nothing to undo.
        client.run(
            exec,
            "from gpudrift.execution.cluster import work\nvars(work.count_parts).setdefault('real', work.count_parts)",
            {},
        )
    assert (tmp_path / "died").exists()
    told_now = [events for name, events in cluster.scheduler.get_events().items() if name not in before]
    places = [event[0] for events in told_now for _, event in events if isinstance(event, tuple | list)]
    assert len(places) > len(set(places)), "nothing was counted again"
    check_progress(told, counted)
    assert (
        told[-1].bytes
        == gd.profile(folder / "a.parquet", schema=schema, client=client).provenance["cluster"]["bytes_counted"]
    )
    assert counted.digest == gd.profile(folder / "a.parquet", schema=schema).digest


# --- plans ------------------------------------------------------------------------------------------------


class Keys(SchedulerPlugin):
    """Every task that a scheduler hears of."""

    name = "keys"

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def transition(self, key: Any, start: str, finish: str, *given: Any, **named: Any) -> None:
        self.seen.add(str(key))

    @property
    def ours(self) -> set[str]:
        return {key for key in self.seen if key.startswith("gpudrift-")}


@pytest.fixture
def keys(cluster: LocalCluster) -> Iterator[Keys]:
    plugin = Keys()
    cluster.scheduler.add_plugin(plugin)
    yield plugin
    cluster.scheduler.remove_plugin("keys")


PLANNED = [
    ("compare", "a.parquet", "b.parquet"),
    ("compare", "base.profile", "b.parquet"),
    ("compare", "t.csv", "a.parquet"),
    ("profile", "a.parquet", "-o", "{out}"),
    ("profile", "b.parquet", "-o", "{out}", "--like", "base.profile"),
    ("profile", "t.csv", "-o", "{out}"),
    ("profile", "weeks.parquet", "-o", "{out}", *IN_WEEKS),
    ("monitor", "weeks.parquet", "weeks.parquet", *IN_WEEKS),
    ("monitor", "weeks.profile", "weeks.parquet"),
]


COUNTING = ("fit", "sample", "edges", "count", "add", "again", "piece", "schema")


@pytest.mark.parametrize("where", ["threads", "cluster"])
@pytest.mark.parametrize("words", PLANNED, ids=" ".join)
def test_a_dry_run_counts_nothing_and_writes_nothing(cluster, keys, folder, tmp_path, monkeypatch, where, words):
    arguments = [tmp_path / "out" if word == "{out}" else folder / word if "." in word else word for word in words]
    more = ["--scheduler", cluster.scheduler_address] if where == "cluster" else []
    if where == "threads":
        for name in ("profile_source", "count_source", "fit_source"):
            monkeypatch.setattr(engine, name, None)
    if words[0] != "profile":
        more += ["--json", tmp_path / "out"]
    outcome = run(*arguments, *more, "--dry-run")
    assert outcome.status == DONE
    assert list(tmp_path.iterdir()) == []
    assert not [key for key in keys.seen for word in COUNTING if f"-{word}-" in key]
    assert bool(keys.ours) == (where == "cluster")
    lines = outcome.out.splitlines()
    assert "\\n" not in outcome.out
    tables = [str(path) for path in arguments[1:3] if str(path).endswith(("parquet", "csv"))]
    for table in tables:
        assert any(line.startswith(f"{table}: ") for line in lines), lines
    for word in ("where", "network", "memory", "time"):
        assert len([line for line in lines if line.startswith(f"{word} ")]) == 1
    assert ("cluster tcp://" if where == "cluster" else "threads of this process") in outcome.out


def test_a_dry_run_on_local_workers(folder, tmp_path):
    arguments = "compare", folder / "a.parquet", folder / "b.parquet", "--json", tmp_path / "out"
    outcome = run(*arguments, "--dry-run", "--scheduler", "local", "--workers", "1")
    assert (outcome.status, outcome.err) == (DONE, "")
    assert "cluster tcp://127.0.0.1" in outcome.out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_fails_as_the_run_would(cluster, folder):
    for more in ([], ["--scheduler", cluster.scheduler_address]):
        arguments = "compare", folder / "a.parquet", folder / "missing.parquet", *more
        assert fails(*arguments, "--dry-run").startswith(fails(*arguments)[:60])
        arguments = "compare", folder / "a.parquet", folder / "b.parquet", "--columns", "nothing", *more
        assert fails(*arguments, "--dry-run", status=USAGE) == fails(*arguments, status=USAGE)


@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_a_dry_run_plans_the_windows(cluster, client, folder, tmp_path, where):
    """What :func:`gpudrift.plan` says; that so many tasks run is tested with the cluster's costs."""
    path, saved = folder / "weeks.parquet", folder / "weeks.profile"
    more = ["--scheduler", cluster.scheduler_address] if where == "cluster" else []
    divided = {"time": "when", "every": "1w", "by": "country"}
    how = {"client": client if where == "cluster" else None}
    cases = [
        (("profile", path, "-o", tmp_path / "out", *IN_WEEKS), gd.plan(path, **divided, **how)),
        (("profile", path, "-o", tmp_path / "out", "--like", saved), gd.plan(path, like=saved, **how)),
        (("monitor", path, path, *IN_WEEKS), gd.plan(path, path, **divided, **how)),
        (("monitor", saved, path), gd.plan(saved, path, **how)),
    ]
    for words, plan in cases:
        assert run(*words, *more, "--dry-run").out == f"{plan}\n"
    assert str(gd.plan(path, **divided, **how)) != str(gd.plan(path, **how))
