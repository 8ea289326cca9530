"""The cluster benchmark and the model of clusters that are larger, at toy size."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import pytest
from support.scripts import made_up_costs, run

pytestmark = pytest.mark.slow

CLUSTER_CASES = ("workers", "wide", "rows", "graph", "overhead")


@pytest.fixture(scope="module")
def cluster_results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cluster")
    quick = ("--quick", "--pairs", 1, "--folder", folder / "data", "--output", folder / "results")
    run("cluster.py", *CLUSTER_CASES, *quick, "--rates", folder / "rates.json")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are read from /proc")
@pytest.mark.parametrize("case", CLUSTER_CASES)
def test_cluster(cluster_results, case):
    document = json.loads((cluster_results / "results" / f"cluster-{case}.json").read_text())
    assert document["format"] == "gpudrift/cluster/1"
    assert document["quick"]
    assert document["case"] == case
    assert all(document["machine"][key] for key in ("cpu", "cores", "memory_bytes", "system"))
    assert {"gpudrift", "numpy", "pyarrow", "dask", "distributed"} <= set(document["versions"])
    for entry in runs_in(document["result"]):
        assert entry["seconds"] > 0
        assert 10e6 < entry["worker_peak_bytes"] < 2e9
        assert 10e6 < entry["client_peak_bytes"] < 2e9
        assert entry["network_bytes"] > 0


def runs_in(entry):
    """Every measured run of a result."""
    if isinstance(entry, dict):
        if "worker_peak_bytes" in entry:
            yield entry
        for one in entry.values():
            yield from runs_in(one)


def test_cluster_compares_with_reading_the_same(cluster_results):
    results = {case: cluster_result(cluster_results, case) for case in CLUSTER_CASES}
    for name in ("profile", "read_profile", "count", "read_count"):
        assert results["workers"][name]["ratio"]["median"] > 0
    assert results["workers"]["arithmetic"]["ratio"]["median"] > 0
    assert results["workers"]["processes"]["ratio"]["median"] > 0
    assert results["wide"]["count"]["bytes_counted"] == results["wide"]["read_count"]["bytes_read"]
    assert results["wide"]["fits_into_memory"]
    sizes = results["rows"]["sizes"]
    assert [one["table"]["rows"] for one in sizes.values()] == [5_000, 20_000]
    assert [one["table"]["files"] for one in sizes.values()] == [1, 4]
    assert results["rows"]["profile_memory_ratio"] == pytest.approx(1, abs=0.5)
    assert results["graph"]["tasks"] > results["graph"]["table"]["row_groups"] * 5
    assert 0 < results["graph"]["seconds"] == results["graph"]["all_seconds"][0]
    assert all(value >= 0 for value in results["overhead"]["costs"].values())
    assert results["overhead"]["tiny"]["many_tasks"] > results["overhead"]["tiny"]["few_tasks"]


def test_rates_are_those_that_plans_take(cluster_results):
    from gpudrift.execution.forecast import Rates

    rates = Rates(**json.loads((cluster_results / "rates.json").read_text()))
    assert rates.bytes_per_second > 0
    assert rates.process_bytes > 10e6
    assert rates.made_on


def cluster_result(folder: Path, case: str) -> dict:
    return json.loads((folder / "results" / f"cluster-{case}.json").read_text())["result"]


def test_cluster_refuses_what_makes_no_sense():
    assert "invalid choice" in run("cluster.py", "narrow", status=2)
    assert "at least 1" in run("cluster.py", "rows", "--pairs", 0, status=2)


def test_scale_model_runs(cluster_results, tmp_path):
    output = tmp_path / "model.json"
    printed = run("scale_model.py", "--results", cluster_results / "results", "--output", output)
    document = json.loads(output.read_text())
    assert document["format"] == "gpudrift/scale-model/1"
    assert {"rows 2e4 profile", "rows 2e4 count", "workers count", "wide profile"} <= set(document["checks"])
    assert set(document["predictions"]) == {"1e9 x 1,000", "1e12 x 5,000"}
    for name, entry in document["predictions"].items():
        assert name in printed
        assert set(entry["on"]) == {"1", "10", "100", "1000"}
        assert all(one["seconds"]["all"] > 0 for one in entry["on"].values())
    assert {(one["table"], one["gpus"]) for one in document["gpus"]["on"]} == {
        (table, gpus) for table in document["predictions"] for gpus in (8, 64)
    }
    assert printed.count("not measured; assumed: ") == 4
    largest = document["predictions"]["1e12 x 5,000"]
    assert largest["bytes"] == 8 * 10**12 * 5_000
    assert largest["on"]["1000"]["counting_tasks"] <= 20_000
    assert largest["limits"]


def test_scale_model_says_what_is_missing(cluster_results, tmp_path):
    assert "cluster.py overhead" in run("scale_model.py", "--results", tmp_path, status=1)
    overhead = cluster_results / "results" / "cluster-overhead.json"
    (tmp_path / overhead.name).write_text(overhead.read_text())
    printed = run("scale_model.py", "--results", tmp_path)
    assert all(f"cluster.py {case}" in printed for case in ("rows", "workers", "wide"))


def test_scale_model_by_hand(scale_model):
    # 256,000,000 rows in one column of 2.048 GB, more than a task may hold: 16 tasks for two threads, eight for each.
    table = scale_model.Table(256_000_000, 1, files=4, parts=256)
    costs = made_up_costs(scale_model, bytes_per_second=1e6)
    found = scale_model.predict(table, costs, 2, 1, fits=False)
    assert found["counting_tasks"] == 16
    assert found["task_bytes"] == 128e6
    assert found["waves"] == 8
    assert found["seconds"]["all"] == pytest.approx(8 * 128)
    # A third thread takes 24 tasks in eight waves; as many tasks as threads, and one wave.
    assert scale_model.predict(table, costs, 3, 1, fits=False)["seconds"]["all"] == pytest.approx(2048 / 3, rel=0.01)
    # Reading for the sample: of 256 parts of a million rows all hold some of the 977 blocks of 2**18 rows.
    costs = made_up_costs(scale_model, bytes_per_second=1e6, read_bytes_per_second=2e6)
    assert scale_model.predict(table, costs, 2, 1, fits=True)["seconds"]["all"] == pytest.approx(1024 + 512)


def test_scale_model_adds_up_opening_and_the_scheduler(scale_model):
    table = scale_model.Table(256_000_000, 1, files=4, parts=256)
    alone = {"fixed_seconds": 1.0, "join_file_seconds": 10.0, "join_part_seconds": 0.5}
    spread = {"footer_file_seconds": 3.0, "footer_part_seconds": 0.25, "footer_chunk_seconds": 0.125}
    costs = made_up_costs(scale_model, **alone, **spread)
    found = scale_model.predict(table, costs, 2, 1, fits=False)
    assert found["seconds"]["all"] == pytest.approx(1 + (40 + 128) + (12 + 64 + 32))
    # 64 files are read by two tasks, side by side; their sources are put together by one.
    table = dataclasses.replace(table, files=64)
    found = scale_model.predict(table, costs, 2, 1, fits=False)
    assert found["seconds"]["all"] == pytest.approx(1 + (640 + 128) + (192 + 64 + 32) / 2)
    table = dataclasses.replace(table, files=4)
    costs = made_up_costs(scale_model, task_seconds=1.0, start_seconds=7.0)
    found = scale_model.predict(table, costs, 2, 1, fits=False)
    # 16 counts, 2 and 1 that add them, the schema of the block; one that finds, one that reads footers, one that opens.
    assert found["tasks"] == 16 + 3 + 1 + 3
    assert found["scheduler_load"] == 1
    assert found["seconds"]["all"] == pytest.approx(7 + found["tasks"])
    assert scale_model.predict(table, costs, 2, 1, fits=False, warm=True)["seconds"]["start"] == 0


def test_scale_model_weighs_traffic(scale_model):
    table = scale_model.Table(256_000_000, 1, files=4, parts=256)
    rows = table.rows / 16
    costs = made_up_costs(scale_model, packet_rows=rows, packet_slot_bytes=3.0, source_part_bytes=10.0)
    traffic = scale_model.predict(table, costs, 2, 1, fits=False)["traffic"]
    # 2,048 slots guessed; 16 packets, two sums of eight of them (three bits longer), one of everything (a fourth).
    assert traffic["packets"] == pytest.approx(2_048 * (16 * 3 + 2 * 3.75 + 4))
    assert traffic["source"] == 3 * 256 * 10
    assert traffic["samples"] == 0
    assert traffic["all"] == traffic["packets"] + traffic["edges"] + traffic["source"]
    assert scale_model.packet_bytes(costs, rows * 2**80) == scale_model.LARGEST_SLOT


def test_scale_model_counts_machines_for_an_hour(scale_model):
    table = scale_model.Table(10**9, 1_000, files=1_000, parts=10_000)
    seconds = 8 * 10**12 / 1e9
    costs = made_up_costs(scale_model, bytes_per_second=1e9)
    machines = scale_model.machines_for(table, costs, 1, seconds / 10, fits=False)
    assert machines == pytest.approx(10, abs=1)
    never = made_up_costs(scale_model, join_file_seconds=1e6)
    assert scale_model.machines_for(table, never, 1, 3600, fits=False) is None


def test_cluster_is_shown(update_readme, cluster_results, tmp_path):
    shown = update_readme.cluster()
    assert shown.count("not measured") == 5
    for path in (cluster_results / "results").glob("*.json"):
        document = json.loads(path.read_text()) | {"quick": False}
        (tmp_path / path.name).write_text(json.dumps(document))
    run("scale_model.py", "--results", tmp_path)
    shown = update_readme.cluster()
    assert "not measured" not in shown
    assert "20,000 rows × 6 float64 + 2 string columns" in shown
    assert "4,000 rows × 120 float64 columns" in shown
    assert "5,000 rows" in shown
    assert "scale model: 1e12 x 5,000 on machines of 16 threads" in shown
    assert re.search(r"distributed \S+", shown)
