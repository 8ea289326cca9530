"""What clusters of GPUs would do, on paper: by hand, and with what was measured."""

from __future__ import annotations

import json

import pytest
from support.scripts import made_up_costs


def gpu_rates(gpu_model, **given: float) -> dict:
    speeds = {"PCIe": 1e300, "decode": 1e300, "decode, files made for GPUs": 1e300, "count": 1e300} | given
    return {name: gpu_model.Rate(speed, False, "made up") for name, speed in speeds.items()}


def test_gpu_model_by_hand(scale_model):
    import gpu_model

    # 256,000,000 rows of float64: 2.048 GB in memory, a quarter of it on the disk. Cut for 8 x 8 threads.
    table = scale_model.Table(256_000_000, 1, files=4, parts=256)
    costs = made_up_costs(
        scale_model, stored_share=0.25, start_seconds=5.0, fixed_seconds=2.0, client_slot_seconds=0.001
    )
    cores = scale_model.predict(table, costs, 8, 8, fits=True)
    # Every part holds sampled rows, so all is read twice; each thread has as many tasks as any other.
    assert (cores["readings"], cores["busy_share"]) == (2, 1)
    around = 5 + 2 + 2.048
    slow = {"storage": 8e6, "PCIe": 0.5e6, "decode": 1e6, "count": 0.5e6}
    wanted = {"storage": 64, "PCIe": 128, "decode": 256, "count": 512}
    for name, speed in slow.items():
        rates = gpu_rates(gpu_model, **({} if name == "storage" else {name: speed}))
        storage = {"disk": speed if name == "storage" else 1e300}
        found = gpu_model.predictions({"t": table}, costs, rates, scale_model.predict, storage)["on"]
        one = next(one for one in found if (one["gpus"], one["decode"]) == (8, "decode"))
        again = 0 if name == "count" else wanted[name]  # rows are sampled without counting them
        assert one["scan"][name] == pytest.approx(wanted[name])
        assert one["bottleneck"] == name
        assert one["seconds"] == one["apart_seconds"] == pytest.approx(around + wanted[name] + again)
        # Eight times as many GPUs in eight nodes, but all together busy only as far as there are tasks.
        more = next(one for one in found if (one["gpus"], one["decode"]) == (64, "decode"))
        assert more["scan"][name] == pytest.approx(wanted[name] / 8)
    rates = gpu_rates(gpu_model, decode=1e6, PCIe=0.5e6, count=0.5e6)
    [one, *_] = gpu_model.predictions({"t": table}, costs, rates, scale_model.predict, {"disk": 8e6})["on"]
    assert one["seconds"] == pytest.approx(around + 512 + 256)
    assert one["apart_seconds"] == pytest.approx(around + 64 + 128 + 256 + 512 + 64 + 128 + 256)


def test_gpu_model_finds_other_bottlenecks(scale_model):
    import gpu_model

    table = scale_model.Table(256_000_000, 1, files=4, parts=256)
    for name, given in (("scheduler", {"task_seconds": 10.0}), ("opening files", {"join_file_seconds": 1e6})):
        costs = made_up_costs(scale_model, stored_share=0.25, **given)
        found = gpu_model.predictions({"t": table}, costs, gpu_rates(gpu_model), scale_model.predict)
        [one, *_] = found["on"]
        assert one["bottleneck"] == name
        assert one["seconds"] == pytest.approx(gpu_model.largest(one), rel=1e-3)
        told = gpu_model.lines(found, scale_model.said)
        assert ("tasks should be larger" in told[-1]) == (name == "scheduler")


def test_gpu_model_takes_what_was_measured(scale_model, tmp_path):
    import gpu_model

    rates = gpu_model.rates_of([])
    assert rates == gpu_model.ASSUMED
    assert not any(rate.measured for rate in rates.values())
    count = {"part": "shapes", "who": "gpudrift", "dtype": "float64", "shape": "normal", "bytes_per_second": 2e12}
    bare = {"what": "read", "table": "both", "who": "pylibcudf.read_parquet", "bytes_per_second": 3e10}
    case = {"library": "pylibcudf.read_parquet, at once", "measured": [bare], "tables": {"reference": {"columns": 50}}}
    wide = case | {"measured": [bare | {"bytes_per_second": 2e10}], "tables": {"reference": {"columns": 5_000}}}
    head = {"quick": False, "device": "a GPU"}
    (tmp_path / "device-a.json").write_text(
        json.dumps(head | {"date": "2026-01-02", "files": {"1e6": case, "wide": wide}})
    )
    (tmp_path / "device-b.json").write_text(json.dumps(head | {"date": "2026-01-01", "bench": {"measured": [count]}}))
    toy = {"files": {"1e6": case}, "date": "2026-01-03", "quick": True}
    (tmp_path / "device-c.json").write_text(json.dumps(head | toy))
    documents = scale_model.device_results(tmp_path)
    assert [one["date"] for one in documents] == ["2026-01-01", "2026-01-02"]
    rates = gpu_model.rates_of(documents)
    assert rates["count"] == gpu_model.Rate(2e12, True, "a GPU, 2026-01-01")
    assert rates["decode"] == gpu_model.Rate(2e10, True, "a GPU, 2026-01-02, from the page cache")
    assert {name for name, rate in rates.items() if not rate.measured} == {"PCIe", "decode, files made for GPUs"}
    costs = made_up_costs(scale_model, stored_share=0.5)
    table = scale_model.Table(10**9, 10, files=4, parts=256)
    found = gpu_model.predictions({"t": table}, costs, rates, scale_model.predict)
    told = "\n".join(gpu_model.lines(found, scale_model.said))
    assert told.count("not measured; assumed: ") == 2
    assert "measured: a GPU, 2026-01-01" in told


def test_storage_of_a_node_is_a_parameter(scale_model):
    import gpu_model

    assert gpu_model.checked_storages("disks=2.5, net=10") == {"disks": 2.5e9, "net": 10e9}
    for text in ("2.5", "disks=0", "disks=inf", "=3"):
        with pytest.raises(ValueError, match="expected NAME=GB/s"):
            gpu_model.checked_storages(text)
