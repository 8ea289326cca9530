"""Workers as pods, through the Dask Kubernetes operator.

    python cluster_kubernetes.py REFERENCE CURRENT REPORT.json --image IMAGE --workers 8 --secret bucket-keys
    python cluster_kubernetes.py --image IMAGE --print-manifest | kubectl apply -f -    # ... and then yourself:
    kubectl port-forward service/gpudrift-scheduler 8786 & python cluster_existing.py tcp://localhost:8786 ...

Exit status 0: nothing has drifted; 1: something has; 2: wrong usage; 3: the comparison failed. It needs the operator
in the cluster (helm install --repo https://helm.dask.org --generate-name dask-kubernetes-operator), here
gpudrift and dask-kubernetes, and an image with the Python, gpudrift and Dask of this environment, such as

    FROM python:3.12-slim
    COPY . /src
    RUN pip install --no-cache-dir /src dask==2026.8.0 distributed==2026.8.0

The data are URIs such as s3://bucket/folder. Keys to them belong into a secret, which becomes the workers' environment
(kubectl create secret generic bucket-keys --from-env-file keys.env), never into a script, an image or a manifest.
"""

from __future__ import annotations

import argparse
import json
import sys

import yaml
from dask.distributed import Client
from dask_kubernetes.operator import KubeCluster, make_cluster_spec
from dask_kubernetes.operator.kubecluster.kubecluster import CreateMode

import gpudrift as gd


def make_spec(name: str, image: str, workers: int = 4, cpus: int = 4, memory: str = "16Gi", secret: str = "") -> dict:
    """The manifest of a DaskCluster; a pod is one worker process with a thread for each CPU."""
    size = {"cpu": str(cpus), "memory": memory}  # requests = limits: a pod is not the first to be evicted
    env = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "60s"}  # open settings only
    options = {"resources": {"requests": size, "limits": size}, "env": env, "idle_timeout": 1800}
    spec = make_cluster_spec(name, image, workers, worker_command="dask worker", **options)
    worker, scheduler = (spec["spec"][role]["spec"]["containers"][0] for role in ("worker", "scheduler"))
    scheduler["args"] = ["dask", "scheduler", "--host", "0.0.0.0"]  # dask-scheduler is gone since Dask 2026.6
    scheduler["resources"] = {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "4Gi"}}
    worker["envFrom"] = [{"secretRef": {"name": secret}}] if secret else []
    return json.loads(json.dumps(spec))  # nothing shared, so no anchors in the YAML


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="*", metavar="PATH", help="REFERENCE CURRENT REPORT.json")
    parser.add_argument("--image", required=True)
    for name, default in {"name": "gpudrift", "workers": 4, "cpus": 4, "memory": "16Gi", "secret": ""}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help="default: %(default)s")
    parser.add_argument("--print-manifest", action="store_true", help="print the manifest and create nothing")
    given = parser.parse_args()
    if not given.print_manifest and len(given.paths) != 3:
        parser.error("needed: REFERENCE CURRENT REPORT.json")
    spec = make_spec(given.name, given.image, given.workers, given.cpus, given.memory, given.secret)
    if given.print_manifest:
        print(yaml.safe_dump(spec, sort_keys=False), end="")
        return 0

    new = CreateMode.CREATE_ONLY  # by default it takes a cluster of that name that somebody else started
    with KubeCluster(custom_cluster_spec=spec, create_mode=new) as cluster, Client(cluster) as client:
        client.wait_for_workers(1)  # pods that start later join in
        report = gd.compare(given.paths[0], given.paths[1], client=client)
    report.to_json(given.paths[2])
    print(f"{len(report.drifted)} of {report.judged} judged columns drifted: {', '.join(report.drifted[:5])}")
    return 1 if report.drifted else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:  # Python itself would end with 1, as if something had drifted
        print(f"cluster_kubernetes: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(3)
