"""Workers as Slurm jobs, through dask-jobqueue; run it on a login node or in a small job of its own.

    python cluster_slurm.py REFERENCE CURRENT REPORT.json --queue cpu --jobs 8 --cores 16 --memory 64GB
    python cluster_slurm.py --queue cpu --cores 16 --memory 64GB --print-script    # what sbatch would get

Exit status 0: nothing has drifted; 1: something has; 2: wrong usage; 3: the comparison failed.

It needs gpudrift and dask-jobqueue in an environment on a file system that the nodes share: a job starts
the same Python. The data are absolute paths on such a file system, or URIs. dask_jobqueue has PBS, LSF and others too.

A job is one worker process with a thread for each core: gpudrift counts without the interpreter lock, and the threads
share what is read once. So --memory is for the process and for the job alike, and grows with --cores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dask.distributed import Client
from dask_jobqueue import SLURMCluster

import gpudrift as gd


def make_cluster(
    queue: str | None, cores: int, memory: str, walltime: str = "01:00:00", extra: Sequence[str] = (), **more: Any
) -> SLURMCluster:
    """A cluster that has no jobs yet; `extra` are further #SBATCH lines, such as "--exclusive"."""
    options = {"job_extra_directives": list(extra), "scheduler_options": {"dashboard_address": ":0"}, **more}
    return SLURMCluster(queue=queue, cores=cores, processes=1, memory=memory, walltime=walltime, **options)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="*", metavar="PATH")
    parser.add_argument("--queue", help="the partition, where not the default one")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--cores", type=int, required=True, help="of a job")
    parser.add_argument("--memory", required=True, help="of a job, such as 64GB")
    parser.add_argument("--walltime", default="01:00:00")
    parser.add_argument("--extra", action="append", default=[], metavar="--OPTION", help="--extra=--account=physics")
    parser.add_argument("--interface", help="the network that the nodes share, such as ib0")
    parser.add_argument("--tls", action="store_true", help="encrypt; keys for this run, which nobody else may read")
    parser.add_argument("--print-script", action="store_true", help="print a job's script and submit nothing")
    given = parser.parse_args()
    if not given.print_script and len(given.paths) != 3:
        parser.error("needed: REFERENCE CURRENT REPORT.json")
    more: dict[str, Any] = {"interface": given.interface}
    if given.tls:  # the nodes read the keys from this folder; they are deleted at the end
        more |= {"security": True, "shared_temp_directory": str(Path.cwd())}

    with make_cluster(given.queue, given.cores, given.memory, given.walltime, given.extra, **more) as cluster:
        if given.print_script:
            print(cluster.job_script())
            return 0
        reference, current, output = given.paths
        cluster.scale(jobs=given.jobs)  # in a long session rather cluster.adapt(minimum_jobs=1, maximum_jobs=8)
        with Client(cluster) as client:
            client.wait_for_workers(1)  # for as long as the queue takes; jobs that start later join in
            report = gd.compare(reference, current, client=client)
    report.to_json(output)
    print(f"{len(report.drifted)} of {report.judged} judged columns drifted: {', '.join(report.drifted[:5])}")
    return 1 if report.drifted else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:  # Python itself would end with 1, as if something had drifted
        print(f"cluster_slurm: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(3)
