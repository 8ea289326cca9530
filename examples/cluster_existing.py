"""A nightly job on a Dask cluster that is already running.

    python cluster_existing.py SCHEDULER REFERENCE CURRENT REPORT.json

SCHEDULER is an address (tcp://host:8786) or a scheduler file (*.json). Exit status 0: nothing has drifted; 1:
something has; 2: wrong usage; 3: the job itself failed. The same from the shell:

    gpudrift compare REFERENCE CURRENT --scheduler tcp://host:8786 --json REPORT.json --fail-on drift

Scheduler, workers and this script need the same versions of Python, gpudrift and Dask. The workers read the data
themselves, so give absolute paths on a file system that all of them mount, or URIs (s3://bucket/folder). A saved
profile as REFERENCE is read here. A cluster to try it with, on one machine:

    dask scheduler --host 127.0.0.1 --scheduler-file /tmp/scheduler.json &
    dask worker --scheduler-file /tmp/scheduler.json &

Whoever can reach a scheduler can run code on its workers: on a network that others use, set up TLS in Dask's
configuration (distributed.comm.tls, in files or DASK_DISTRIBUTED__COMM__TLS__… variables); the address is tls:// then.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dask.distributed import Client

import gpudrift as gd


def connect(scheduler: str) -> Client:
    """A client of the scheduler at an address or in a scheduler file, once there is a worker."""
    if scheduler.endswith(".json"):
        client = Client(scheduler_file=str(Path(scheduler).resolve(strict=True)))  # Dask waits for a missing file
    else:
        client = Client(scheduler, timeout=30)
    try:
        client.wait_for_workers(1, timeout=300)
    except BaseException:
        client.close()
        raise
    return client


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("scheduler", "reference", "current", "report"):
        parser.add_argument(name)
    given = parser.parse_args()

    with connect(given.scheduler) as client:
        report = gd.compare(given.reference, given.current, client=client)
    report.to_json(given.report)
    print(f"{len(report.drifted)} of {report.judged} judged columns drifted: {', '.join(report.drifted[:5])}")
    return 1 if report.drifted else 0


if __name__ == "__main__":  # needed: a worker process that Dask spawns may import the script again
    try:
        sys.exit(main())
    except Exception as error:  # Python itself would end with 1, as if something had drifted
        print(f"cluster_existing: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(3)
