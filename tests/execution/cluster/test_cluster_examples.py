"""The cluster examples: against real local clusters, a stand-in for Slurm, and the Kubernetes operator's own schema."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import re
import signal
import sys
import time
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import jsonschema
import psutil
import pytest
import yaml
from dask.distributed import LocalCluster, Security
from support.examples import EXAMPLES, ROOT, call, run

import gpudrift as gd

pytestmark = pytest.mark.slow

BEFORE, AFTER = (ROOT / "gpudrift" / "data" / f"hotel_bookings_{year}.parquet" for year in (2015, 2016))
LOCAL = {"host": "127.0.0.1", "dashboard_address": ":0"}  # None would open port 8787, and warn where it is taken


def load(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(script.removesuffix(".py"), EXAMPLES / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def here() -> dict:
    """What a comparison in this process says."""
    return json.loads(gd.compare(BEFORE, AFTER).to_json())


def check_report(path: Path, here: dict) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["summary"] == here["summary"]
    assert found["columns"] == here["columns"]  # every number, to the last bit
    assert found["reference"]["fingerprint"] == here["reference"]["fingerprint"]
    assert found["current"]["fingerprint"] == here["current"]["fingerprint"]


@pytest.mark.parametrize(
    ("script", "options"),
    [("existing", ["tcp://127.0.0.1:1"]), ("slurm", ["--cores=1", "--memory=1GB"]), ("kubernetes", ["--image=one"])],
)
def test_wrong_usage(script, options, tmp_path):
    done = call(f"cluster_{script}.py", tmp_path, *options, BEFORE)
    assert done.returncode == 2
    assert "current" in done.stderr.lower()


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("cluster_*.py")))
def test_no_example_runs_again_in_a_worker_process(script):
    text = (EXAMPLES / script).read_text(encoding="utf-8")
    assert '\nif __name__ == "__main__":' in text or "LocalCluster(processes=False" in text


# --- an existing scheduler


@pytest.fixture(scope="module")
def scheduler_file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cluster") / "scheduler.json"


@pytest.fixture(scope="module")
def cluster(scheduler_file):
    own = {"scheduler_file": str(scheduler_file)}  # what `dask scheduler --scheduler-file` does
    with LocalCluster(n_workers=2, threads_per_worker=1, scheduler_kwargs=own, **LOCAL) as running:
        yield running


@pytest.mark.parametrize("how", ["address", "file"])
def test_existing_scheduler(cluster, scheduler_file, how, here, tmp_path):
    if how == "address":
        done = run("cluster_existing.py", tmp_path, cluster.scheduler_address, BEFORE, AFTER, "report.json")
    else:
        done = call("cluster_existing.py", tmp_path, scheduler_file, BEFORE, AFTER, "report.json")
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("17 of 32 judged columns drifted: arrival_date_year, ")
    check_report(tmp_path / "report.json", here)
    assert len(cluster.workers) == 2  # it is left as it was


def test_existing_scheduler_without_drift_and_from_a_saved_profile(cluster, tmp_path):
    baseline, report = tmp_path / "baseline.parquet", tmp_path / "report.json"
    gd.profile(BEFORE).save(baseline)
    done = call("cluster_existing.py", tmp_path, cluster.scheduler_address, baseline, BEFORE, report)
    assert done.returncode == 0
    assert done.stdout.startswith("0 of ")
    assert json.loads(report.read_text())["summary"]["drifted"] == 0


def test_existing_scheduler_with_errors(cluster, tmp_path):
    for arguments, word in (
        (("no-scheduler.json", BEFORE, AFTER), "no-scheduler.json"),
        ((cluster.scheduler_address, BEFORE, tmp_path / "nothing-here.parquet"), "nothing-here.parquet"),
    ):
        done = call("cluster_existing.py", tmp_path, *arguments, "report.json")
        assert done.returncode == 3, done.stderr
        assert word in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "report.json").exists()


def test_existing_scheduler_with_tls_from_the_configuration(here, tmp_path):
    security = Security.temporary()
    role = security.get_tls_config_for_role("client")
    paths = {name: tmp_path / f"{name}.pem" for name in ("ca_file", "cert", "key")}
    for name, path in paths.items():
        path.write_text(role[name])
    variables = {"CA_FILE": paths["ca_file"], "CLIENT__CERT": paths["cert"], "CLIENT__KEY": paths["key"]}
    environment = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(path) for name, path in variables.items()}
    options = {"processes": False, "n_workers": 1, "threads_per_worker": 2, "protocol": "tls://"}
    with LocalCluster(security=security, **options, **LOCAL) as encrypted:
        assert encrypted.scheduler_address.startswith("tls://")
        arguments = (encrypted.scheduler_address, BEFORE, AFTER, "report.json")
        refused = call("cluster_existing.py", tmp_path, *arguments)  # this process has no certificates
        assert refused.returncode == 3
        assert not (tmp_path / "report.json").exists()
        done = run("cluster_existing.py", tmp_path, *arguments, **environment)
    assert done.returncode == 1, done.stderr
    check_report(tmp_path / "report.json", here)


# --- Slurm

SLURM = ("--queue", "cpu", "--cores", 16, "--memory", "64GB", "--walltime", "00:45:00")


def test_slurm_job_script():
    make_cluster = load("cluster_slurm.py").make_cluster
    options = {"scheduler_options": {"host": "127.0.0.1", "dashboard_address": ":0"}}
    extra = ["--account=physics", "--exclusive"]
    with make_cluster("cpu", 16, "64GB", "00:45:00", extra, **options) as cluster:
        script, address = cluster.job_script(), cluster.scheduler_address
        assert len(cluster.workers) == 0
    lines = script.splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    directives = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
    assert directives[1:] == ["-p cpu", "-n 1", "--cpus-per-task=16", "--mem=60G", "-t 00:45:00", *extra]
    (command,) = (line for line in lines if line and not line.startswith("#"))
    assert command.startswith(f"{sys.executable} -m distributed.cli.dask_worker {address} ")
    assert " --nthreads 16 --memory-limit 59.60GiB --nanny " in command  # 64e9 bytes; Slurm's G are 2**30, rounded up
    assert "--nworkers" not in command


# dask-jobqueue refuses in its constructor, and what then remains of the cluster complains when it is collected
@pytest.mark.filterwarnings("ignore:unclosed cluster with a broken __repr__:ResourceWarning")
def test_slurm_arguments_are_checked_before_anything_is_submitted():
    make_cluster = load("cluster_slurm.py").make_cluster
    with pytest.raises(ValueError, match="how much cores and memory"):
        make_cluster("cpu", None, "64GB")
    with pytest.raises(ValueError, match="how much cores and memory"):
        make_cluster("cpu", 16, None)
    with pytest.raises(ValueError, match="unexpected keyword argument 'gpus'"):
        make_cluster("cpu", 16, "64GB", gpus=1)
    gc.collect()


def test_slurm_script_is_printed_and_nothing_submitted(tmp_path):
    done = call("cluster_slurm.py", tmp_path, *SLURM, "--extra=--account=physics", "--print-script", PATH="/nowhere")
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --account=physics\n" in done.stdout
    assert "tcp://" in done.stdout
    sealed = call("cluster_slurm.py", tmp_path, *SLURM, "--tls", "--interface", "lo", "--print-script")
    assert sealed.returncode == 0, sealed.stderr
    assert re.search(
        r"tls://127\.0\.0\.1:\d+ .*--protocol tls:// .*--tls-key \S+/\.dask-jobqueue\.worker\.key", sealed.stdout
    )
    assert "PRIVATE KEY" not in sealed.stdout
    assert not list(tmp_path.glob(".dask-jobqueue*"))  # the keys went with the cluster


SBATCH = """#!/bin/sh
cp "$1" "{folder}/job.sh"
setsid bash "{folder}/job.sh" > "{folder}/job.log" 2>&1 &
echo $! >> "{folder}/submitted"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
echo "$1" >> "{folder}/cancelled"
kill -TERM -- "-$1"
"""


def alive(group: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_slurm_jobs_are_submitted_compare_and_are_cancelled(here, tmp_path):
    """`sbatch` starts the script as a process group here, `scancel` ends it: the rest is what it is on a cluster."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    options = ("--cores", 2, "--memory", "2GB", "--jobs", 1, "--interface", "lo", "--tls")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    try:
        done = run("cluster_slurm.py", tmp_path, BEFORE, AFTER, "report.json", *options, PATH=path)
        logs = "".join(log.read_text() for log in tmp_path.glob("job.log"))
        assert done.returncode == 1, done.stderr + logs
        check_report(tmp_path / "report.json", here)
        submitted = (tmp_path / "submitted").read_text().split()
        assert len(submitted) == 1
        assert (tmp_path / "cancelled").read_text().split() == submitted
        end = time.monotonic() + 60
        while alive(int(submitted[0])) and time.monotonic() < end:
            time.sleep(0.1)
        assert not alive(int(submitted[0]))
    finally:
        for group in (tmp_path / "submitted").read_text().split() if (tmp_path / "submitted").exists() else ():
            for process in alive(int(group)):
                process.send_signal(signal.SIGKILL)


# --- Kubernetes


def closed(schema: object) -> object:
    """The schema with every field that it does not know forbidden, as `kubectl apply` has it."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(one) for name, one in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


@pytest.fixture(scope="module")
def schema() -> object:
    """The operator's own definition of a DaskCluster, with Kubernetes' definition of a pod in it."""
    path = files("dask_kubernetes") / "operator/deployment/helm/dask-kubernetes-operator/crds/daskcluster.yaml"
    definition = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    assert definition["spec"]["group"] == "kubernetes.dask.org"
    (version,) = definition["spec"]["versions"]
    assert version["name"] == "v1"
    return closed(version["schema"]["openAPIV3Schema"]["properties"]["spec"])


@pytest.mark.parametrize("secret", ["", "bucket-keys"])
def test_kubernetes_manifest(schema, secret):
    spec = load("cluster_kubernetes.py").make_spec("nightly", "registry/gpudrift:1", 8, 6, "24Gi", secret)
    assert spec["apiVersion"] == "kubernetes.dask.org/v1"
    assert spec["kind"] == "DaskCluster"
    assert spec["metadata"] == {"name": "nightly"}
    jsonschema.validate(spec["spec"], schema, jsonschema.Draft4Validator)
    assert spec["spec"]["worker"]["replicas"] == 8
    assert spec["spec"]["idleTimeout"] > 0  # it goes away if whoever started it dies
    (worker,), (scheduler,) = (spec["spec"][role]["spec"]["containers"] for role in ("worker", "scheduler"))
    assert worker["image"] == scheduler["image"] == "registry/gpudrift:1"
    assert worker["resources"]["limits"] == worker["resources"]["requests"] == {"cpu": "6", "memory": "24Gi"}
    assert worker["envFrom"] == ([{"secretRef": {"name": secret}}] if secret else [])
    assert worker["env"] == [{"name": "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "value": "60s"}]
    assert "envFrom" not in scheduler  # it reads no data


def test_the_schema_would_find_a_mistake(schema):
    spec = load("cluster_kubernetes.py").make_spec("nightly", "image")["spec"]
    spec["worker"]["spec"]["containers"][0]["envfrom"] = []
    with pytest.raises(jsonschema.ValidationError, match="envfrom"):
        jsonschema.validate(spec, schema, jsonschema.Draft4Validator)


@pytest.mark.parametrize("role", ["worker", "scheduler"])
def test_the_pods_commands_are_there_in_this_dask(role):
    spec = load("cluster_kubernetes.py").make_spec("nightly", "image")["spec"]
    script, command, *arguments = spec[role]["spec"]["containers"][0]["args"]
    assert len(entry_points(group="console_scripts", name=script)) == 1
    assert command == role
    (found,) = entry_points(group="dask_cli", name=command)
    with found.load().make_context(command, arguments):  # it fails on options that are not there
        pass


def test_kubernetes_manifest_is_printed(tmp_path):
    arguments = ("--image", "registry/gpudrift:1", "--secret", "bucket-keys")
    done = call("cluster_kubernetes.py", tmp_path, *arguments, "--print-manifest", KUBECONFIG="/nowhere")
    assert done.returncode == 0, done.stderr
    spec = load("cluster_kubernetes.py").make_spec("gpudrift", "registry/gpudrift:1", secret="bucket-keys")
    assert yaml.safe_load(done.stdout) == spec
    assert not re.search(r"[&*]id\d", done.stdout)


def test_kubernetes_compares_and_gives_the_cluster_back(here, tmp_path, monkeypatch):
    """All but the pods, for which a cluster of threads stands in."""
    make_spec, started = load("cluster_kubernetes.py").make_spec, []

    def stand_in(*, custom_cluster_spec, create_mode):
        assert custom_cluster_spec == make_spec("gpudrift", "image", workers=2)
        assert create_mode.name == "CREATE_ONLY"
        started.append(LocalCluster(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0"))
        return started[0]

    monkeypatch.setattr("dask_kubernetes.operator.KubeCluster", stand_in)
    arguments = (BEFORE, AFTER, tmp_path / "report.json", "--image", "image", "--workers", 2)
    done = call("cluster_kubernetes.py", tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stdout.startswith("17 of 32 judged columns drifted")
    check_report(tmp_path / "report.json", here)
    assert started[0].status.name == "closed"


# --- the notebook


def test_notebook(tmp_path):
    first = run("cluster_notebook.py", tmp_path)
    assert first.returncode == 0, first.stderr
    # On a busy machine Dask may say while it closes that nobody took up a time-out of its own.
    assert "gpudrift" not in first.stderr
    assert "17 of 32 judged columns drifted\n" in first.stdout
    assert re.search(r"^country +PSI 0\.383", first.stdout, re.MULTILINE)
    assert re.search(r"^0 +arrival_date_year +major +18\.4", first.stdout, re.MULTILINE)
    saved = (tmp_path / "notebook-baseline.parquet").read_bytes()
    second = call("cluster_notebook.py", tmp_path)
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[1:] == first.stdout.splitlines()[1:]  # the first line has an address in it
    assert (tmp_path / "notebook-baseline.parquet").read_bytes() == saved
    cells = (EXAMPLES / "cluster_notebook.py").read_text(encoding="utf-8").split("\n# %% ")
    assert len(cells) == 8
