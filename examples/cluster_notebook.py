"""A notebook's worth of cells: a Dask client, a baseline saved once, today's table, the columns that drifted.

    python cluster_notebook.py

Editors run the cells marked # %% one by one; `jupytext --to notebook` makes a notebook of them. It needs
gpudrift and dask[distributed], and pandas for one cell; it leaves notebook-baseline.parquet in the current
folder. The data are the hotel bookings that ship with gpudrift (see gpudrift/data/LICENSE-hotel-bookings.md).

The workers are threads of this process, which is enough for one machine, because gpudrift counts without the
interpreter lock. Worker *processes* import a script again: then all of it has to stand in `if __name__ == "__main__":`.
"""

from __future__ import annotations

# %% A client: of this machine, or of a cluster: Client("tcp://host:8786"), Client(scheduler_file="scheduler.json") ...
from importlib.resources import files
from pathlib import Path

from dask.distributed import Client, LocalCluster

import gpudrift as gd

DATA = Path(str(files("gpudrift") / "data"))
cluster = LocalCluster(processes=False, n_workers=1, threads_per_worker=4, dashboard_address=":0")
client = Client(cluster)
print(client)

# %% The reference is counted once; what is saved are the counts, a small file
BASELINE = Path("notebook-baseline.parquet")
if not BASELINE.exists():
    gd.profile(DATA / "hotel_bookings_2015.parquet", client=client).save(BASELINE)
print(f"{BASELINE}: {BASELINE.stat().st_size:,} bytes")

# %% Today's table
report = gd.compare(BASELINE, DATA / "hotel_bookings_2016.parquet", client=client)
print(f"{len(report.drifted)} of {report.judged} judged columns drifted")

# %% Which ones, and why
for column in report:
    if column.severity == "major":
        print(f"{column.name:<32} {column.reason}")

# %% The same as a table
try:
    frame = report.to_pandas()
except ImportError:
    print("no table: pandas is not installed")
else:
    print(frame.loc[frame["drifted"], ["column", "severity", "psi", "wasserstein_scaled"]].head().to_string())

# %% One column: what moved, and how certain that is
column = report["lead_time"]
before, after = column.summaries
print(f"lead_time: median {before['median']} then, {after['median']} now; PSI {column.psi.value:.3f}")
print(f"days moved on average: {column.wasserstein.value:.3f}, in any case {column.wasserstein.low:.6f} or more")

# %% Give the workers back
client.close()
cluster.close()
