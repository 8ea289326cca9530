"""What scale_model.py prints of its checks and predictions."""

from __future__ import annotations

from typing import Any


def said(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds < 120
        else f"{seconds / 60:.1f} min"
        if seconds < 7200
        else f"{seconds / 3600:,.1f} h"
    )


def show_checks(found: dict[str, dict[str, float]]) -> None:
    print(
        f"{'run':<22} {'predicted':>10} {'measured':>10} {'error':>7} {'worker, MB':>14} {'error':>7} "
        f"{'network, MB':>14}"
    )
    for name, one in found.items():
        memory = f"{one['predicted_worker_bytes'] / 1e6:.0f} / {one['measured_worker_bytes'] / 1e6:.0f}"
        sent = f"{one['predicted_network_bytes'] / 1e6:.1f} / {one['measured_network_bytes'] / 1e6:.1f}"
        print(
            f"{name:<22} {one['predicted_seconds']:>8.2f} s {one['measured_seconds']:>8.2f} s "
            f"{one['error_of_seconds']:>+7.0%} {memory:>14} {one['error_of_worker_bytes']:>+7.0%} {sent:>14}"
        )


def show_prediction(name: str, entry: dict[str, Any]) -> None:
    table = entry["table"]
    print(
        f"\n{name}: {entry['bytes'] / 1e12:,.0f} TB in memory, {table['files']:,} files, {table['parts']:,} row groups"
    )
    head = f"{'machines':>9} {'time':>10} {'open':>10} {'tasks':>8} {'GB each':>9} {'traffic':>9} {'share':>8}"
    print(f"{head} {'worker':>9} {'scheduler':>9} {'reads, GB/s':>11}")
    for machines, one in entry["on"].items():
        seconds = one["seconds"]
        traffic = one["traffic"]
        print(
            f"{machines:>9} {said(seconds['all']):>10} {said(seconds['open']):>10} {one['counting_tasks']:>8,} "
            f"{one['task_bytes'] / 1e9:>9,.1f} {traffic['all'] / 1e9:>6,.1f} GB {traffic['share']:>8.3%} "
            f"{one['worker_bytes'] / 1e9:>6.1f} GB {one['scheduler_load']:>9.1%} "
            f"{one['bandwidth_per_worker'] / 1e9:>11.2f}"
        )
    machines = entry["machines_for_an_hour"]
    print("  in an hour: " + ("on no cluster" if machines is None else f"on {machines:,} machines"))
    print(f"  reading and counting alone are an hour of {entry['machines_of_work']:,} machines")
    for text in entry["limits"]:
        print(f"  - {text}")
