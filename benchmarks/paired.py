"""Is this checkout slower than another one? The same work is done by both, in turn: A B A B …, five pairs by default.

    git worktree add ../before COMMIT
    python benchmarks/paired.py ../before narrow windows cluster --folder /tmp/tables

Each run is a process of its own, which says how long its work took once it was warm; a warm-up of each comes first. For
every case the ratios of neighbours (this one over the other) are printed: their median, the smallest and the largest.
Of five pairs the last two hold the median ratio with a probability of 15/16, whatever its distribution. Seconds of the
processor stand beside those of the clock, since machines are shared.

Cases
-----
narrow, long, wide      ``gpudrift compare`` of two files: 1e6 and 4e6 rows x 55 columns, 1e5 rows x 5,000
windows, shuffled       windows and segments of 4e6 rows x 14 columns in memory, rows in time order and in none: fitted
                        and counted, then counted
verdicts                two profiles of 5,000 columns of mixed shapes and 4,000 rows: compared and judged
cluster, cluster-wide   two workers of one thread: fitted and counted, then counted; 4e6 rows x 55 columns in 8 files,
                        2e5 rows x 2,000
cluster-windows         the same as cluster, with windows and segments
store-windows           windows and segments of 2e6 rows x 55 columns in 4 files, from a server that speaks S3 and lets
                        each request wait for 50 ms: two threads, fitted and counted, then counted
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
STRINGS = ("10", "100", "1000", "10000", "5")

WHOLE_PROCESS = """
import subprocess, sys, time
command = [sys.executable, "-m", "gpudrift", "compare", *sys.argv[1:], "--quiet"]
start = time.perf_counter()
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
"""

WINDOWS = """
import sys, time
import numpy as np, pyarrow as pa
import gpudrift as gd
rng, rows = np.random.default_rng(0), 4_000_000
table = {"t": pa.array(np.arange(rows) * 8 * 10**6, pa.timestamp("us"))}
table["by"] = pa.array(rng.integers(0, 10, rows).astype(str))
table |= {f"x{at}": rng.normal(size=rows) if at % 2 else rng.lognormal(0, 2, rows) for at in range(12)}
table = pa.table(table)
if "shuffled" in sys.argv:
    table = table.take(pa.array(rng.permutation(rows)))
asked = {"time": "t", "every": "1d", "by": "by"}
like = gd.profile(table.slice(0, 100_000), **asked)
start = time.perf_counter()
own = gd.profile(table, **asked)
gd.profile(table, schema=own)
"""

VERDICTS = """
import sys, time
import numpy as np, pyarrow as pa
import gpudrift as gd
rng, rows = np.random.default_rng(0), 4_000
draws = [rng.normal, lambda size: rng.lognormal(0, 2, size), lambda size: rng.poisson(3, size),
         lambda size: np.where(rng.random(size) < 0.8, 0.0, rng.gamma(2, 2, size)),
         lambda size: np.array([f"v{at}" for at in rng.zipf(1.7, size) % 300])]
tables = [pa.table({f"c{at}": draws[at % 5](size=rows) for at in range(5_000)}) for _ in range(2)]
kinds = {f"c{at}": "categorical" for at in range(4, 5_000, 5)}
own = gd.profile(tables[0], kinds=kinds)
other = gd.profile(tables[1], schema=own)
gd.compare(own, other)
own, other = own + gd.Profile.empty(own.schema), other + gd.Profile.empty(own.schema)  # nothing is remembered
start = time.perf_counter()
gd.compare(own, other)
"""

CLUSTER = """
import logging, sys, time
from distributed import Client, LocalCluster
import gpudrift as gd
def main():
    global start
    asked = {"time": "t", "every": "1d", "by": "s0"} if "windows" in sys.argv else {}
    paths = [path for path in sys.argv[1:] if path.endswith(".parquet")]
    options = {"dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    with LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster, Client(cluster) as client:
        gd.profile(paths[0], client=client)  # imports, and compiled loops
        start = time.perf_counter()
        own = gd.profile(paths, client=client, **asked)
        gd.profile(paths, schema=own, client=client)
        print(json.dumps(measured()), flush=True)
if __name__ == "__main__":
    main()
"""

STORE = """
import http.server, multiprocessing, os, re, sys, time
class Store(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_HEAD(self):
        self.answer(b"", os.path.getsize(self.file), 200)
    def do_GET(self):
        first, last = map(int, re.fullmatch("bytes=([0-9]+)-([0-9]+)", self.headers["Range"]).groups())
        with open(self.file, "rb") as opened:
            opened.seek(first)
            data = opened.read(last + 1 - first)
        self.answer(data, len(data), 206)
    @property
    def file(self):
        return self.path.removeprefix("/tables")
    def answer(self, data, size, status):
        time.sleep(0.05)
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.send_header("Last-Modified", "Mon, 23 Nov 2026 10:00:00 GMT")
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *given):
        pass
def serve(pipe):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
    pipe.send(server.server_address[1])
    server.serve_forever()
def main():
    global start
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"}
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(there,), daemon=True)
    process.start()
    address = f"?scheme=http&endpoint_override=127.0.0.1:{here.recv()}&region=x"
    import gpudrift as gd
    local = [path for path in sys.argv[1:] if path.endswith(".parquet")]
    paths = ["s3://tables" + path + address for path in local]
    asked = {"time": "t", "every": "1d", "by": "s0"}
    gd.profile(local[0], threads=2)
    start = time.perf_counter()
    own = gd.profile(paths, threads=2, **asked)
    gd.profile(paths, schema=own, threads=2)
    print(json.dumps(measured()), flush=True)
if __name__ == "__main__":
    main()
"""

MEASURE = """
import json, resource, time
def measured():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return [time.perf_counter() - start, sum(one.ru_utime + one.ru_stime for one in used)]
"""

SAY = "\nprint(json.dumps(measured()))\n"


@dataclass(frozen=True)
class Case:
    """What a run does, and the files that it is given: rows, floats and strings of each."""

    code: str
    files: tuple[tuple[int, int, tuple[str, ...], bool], ...] = ()
    words: tuple[str, ...] = ()
    timed: bool = False


CASES = {
    "narrow": Case(WHOLE_PROCESS + SAY, ((1_000_000, 50, STRINGS, False), (1_000_000, 50, STRINGS, True))),
    "long": Case(WHOLE_PROCESS + SAY, ((4_000_000, 50, STRINGS, False), (4_000_000, 50, STRINGS, True))),
    "wide": Case(WHOLE_PROCESS + SAY, ((100_000, 5_000, (), False), (100_000, 5_000, (), True))),
    "windows": Case(WINDOWS + SAY),
    "shuffled": Case(WINDOWS + SAY, words=("shuffled",)),
    "verdicts": Case(VERDICTS + SAY),
    "cluster": Case(CLUSTER, tuple((500_000, 50, STRINGS, bool(at % 2)) for at in range(8))),
    "cluster-wide": Case(CLUSTER, tuple((50_000, 2_000, (), bool(at % 2)) for at in range(4))),
    "cluster-windows": Case(
        CLUSTER, tuple((500_000, 50, STRINGS, bool(at % 2)) for at in range(8)), ("windows",), timed=True
    ),
    "store-windows": Case(STORE, tuple((500_000, 50, STRINGS, bool(at % 2)) for at in range(4)), timed=True),
}

TIMED = """
import sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
source, path, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
table = pq.read_table(source)
start = (number * table.num_rows + np.arange(table.num_rows)) * 8 * 10**6
pq.write_table(table.append_column("t", pa.array(start, pa.timestamp("us"))), path, row_group_size=250_000)
"""


def prepare(case: Case, folder: Path) -> list[str]:
    """Paths of the files of a case, written unless they are there."""
    paths = []
    for number, (rows, floats, strings, drift) in enumerate(case.files):
        path = folder / f"{rows}x{floats}x{len(strings)}{'-drift' if drift else ''}-{number}.parquet"
        if not path.exists():
            print(f"writing {path.name}", file=sys.stderr)
            asked = [str(path), "--rows", str(rows), "--floats", str(floats)]
            asked += ["--strings", *strings] * bool(strings) + ["--drift"] * drift
            subprocess.run([sys.executable, str(HERE / "generate.py"), *asked], check=True)
        if case.timed:
            timed = path.with_stem(f"{path.stem}-timed")
            if not timed.exists():
                subprocess.run([sys.executable, "-c", TIMED, str(path), str(timed), str(number)], check=True)
            path = timed
        paths.append(str(path))
    return paths


def run(case: Case, tree: Path, arguments: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds of the clock and of the processor that the work takes with the package of a tree."""
    script = folder / "paired_run.py"  # workers that are spawned import it
    script.write_text(MEASURE + case.code)
    command = [sys.executable, str(script), *arguments, *case.words]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(tree)}, check=True, stdout=subprocess.PIPE, text=True
    )
    clock, processor = json.loads(done.stdout.splitlines()[-1])
    return clock, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("cases", nargs="+", choices=list(CASES), metavar="CASE", help="of " + ", ".join(CASES))
    parser.add_argument("--folder", type=Path, required=True, help="where the tables lie or are put, and stay")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all seconds to a file")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    trees = HERE.parent, given.other.resolve()
    found: dict[str, list[list[tuple[float, float]]]] = {}
    print(f"{'case':16} {'this':>8} {'other':>8} {'clock: median':>14} {'low':>6} {'high':>6} {'cpu: median':>12}")
    for name in given.cases:
        case = CASES[name]
        paths = prepare(case, given.folder)
        for tree in trees:
            run(case, tree, paths, given.folder)
        pairs = [[run(case, tree, paths, given.folder) for tree in trees] for _ in range(given.pairs)]
        found[name] = pairs
        clock, cpu = ([one[0][at] / one[1][at] for one in pairs] for at in (0, 1))
        mine, others = (median(one[at][0] for one in pairs) for at in (0, 1))
        ratios = f"{median(clock):14.3f} {min(clock):6.3f} {max(clock):6.3f} {median(cpu):12.3f}"
        print(f"{name:16} {mine:7.2f}s {others:7.2f}s {ratios}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
