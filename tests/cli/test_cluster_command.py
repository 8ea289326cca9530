"""The command on a cluster: the same reports and statuses as on threads, and no word too many.

Clusters are real ones: of this test, which the command connects to, or of the command (``--scheduler local``).
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from distributed import LocalCluster, Security
from support.blocked import BLOCKED, QUIET, assert_idle, indented, on_workers
from support.command import DONE, FAILED, FOUND, IN_WEEKS, USAGE, Outcome, checked, fails, process, run

from gpudrift.api.saved import load_saved
from gpudrift.execution.cluster import scheduler as dask_scheduler

pytestmark = pytest.mark.usefixtures("logs_as_they_were")

WITHIN = 25
"""Seconds that a command may take which gives up, or is interrupted; those of Dask itself wait for 30.

Mostly it is 3 to 9, the start of the process included, but a busy machine takes its time.
"""


@pytest.fixture(scope="module")
def scheduler_file(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scheduler") / "scheduler.json"
    path.write_text(json.dumps(cluster.scheduler.identity()), "utf-8")
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "gpudrift", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """Without the configuration of Dask of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DASK_")} | more


# --- schedulers that cannot be reached --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("case", ["closed port", "says nothing", "no such host"])
def test_a_scheduler_that_does_not_answer_is_3_in_time(folder, tmp_path, monkeypatch, case):
    """A process has to end, too, with Dask's threads in it: one of them is one."""
    out = tmp_path / "out.json"
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(5)
        address = {
            "closed port": "tcp://127.0.0.1:1",
            "says nothing": f"tcp://127.0.0.1:{silent.getsockname()[1]}",
            "no such host": "tcp://no-such-host.invalid:8786",
        }[case]
        words = "compare", folder / "a.parquet", folder / "b.parquet", "--scheduler", address, "--json", out
        begun = time.monotonic()
        if case == "says nothing":
            done = process(*words, env=environment())
            outcome = checked(Outcome(done.returncode, done.stdout, done.stderr))
        else:
            monkeypatch.setattr(dask_scheduler, "CONNECT_SECONDS", 2)
            outcome = run(*words)
        assert time.monotonic() - begun < WITHIN
    assert (outcome.status, outcome.out) == (FAILED, "")
    assert repr(address) in outcome.err
    assert "cannot be reached" in outcome.err
    assert "0x" not in outcome.err
    assert not out.exists()


def nonsense(folder: Path) -> dict[str, str]:
    (folder / "none.json").write_text("tcp://127.0.0.1:1", "utf-8")
    (folder / "lacks.json").write_text('{"id": "Scheduler"}', "utf-8")
    (folder / "list.json").write_text("[1]", "utf-8")
    (folder / "null.json").write_text('{"address": null}', "utf-8")
    (folder / "wrong.json").write_text('{"address": "foo://127.0.0.1:1"}', "utf-8")
    (folder / "bytes.json").write_bytes(b"\xff\xfe\x00")
    return {
        str(folder / "missing.json"): "no such file; expected threads, local, an address",
        str(folder): "no such file; expected threads, local, an address",
        "nonsense": "no such file; expected threads, local, an address",
        "": "no such file; expected threads, local, an address",
        str(folder / "none.json"): "not a scheduler file (JSON with an address)",
        str(folder / "lacks.json"): "not a scheduler file (JSON with an address)",
        str(folder / "list.json"): "not a scheduler file (JSON with an address)",
        str(folder / "null.json"): "not a scheduler file (JSON with an address)",
        str(folder / "bytes.json"): "not a scheduler file (JSON with an address)",
        str(folder / "wrong.json"): "cannot be reached",
        "foo://127.0.0.1:1": "cannot be reached",
        "tcp://": "cannot be reached",
        "tcp://127.0.0.1:port": "cannot be reached",
        "inproc://1/2": "cannot be reached",
    }


def test_what_names_no_scheduler_is_3_at_once(folder, tmp_path):
    out = tmp_path / "out.json"
    arguments = "compare", folder / "a.parquet", folder / "b.parquet", "--json", out, "--scheduler"
    begun = time.monotonic()
    for word, words in nonsense(tmp_path).items():
        message = fails(*arguments, word)
        assert message.startswith("scheduler ")
        assert words in message, word
        assert ("foo://127.0.0.1:1" if word.endswith("wrong.json") else word) in message
        assert not out.exists()
    # Of all of them: each that waits for an answer takes 7 s.
    assert time.monotonic() - begun < WITHIN


def test_workers_without_local_is_wrong_usage(folder, cluster):
    for scheduler in ([], ["--scheduler", "threads"], ["--scheduler", cluster.scheduler_address]):
        pair = folder / "a.parquet", folder / "b.parquet"
        message = fails("compare", *pair, "--workers", "2", *scheduler, status=USAGE)
        assert "--workers requires --scheduler local" in message


# --- without Dask -----------------------------------------------------------------------------------------


def test_without_dask_the_line_says_what_to_install(folder, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCKED.format(names={"dask", "distributed"}), "utf-8")
    without = environment(PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    pair = folder / "a.parquet", folder / "b.parquet"
    for scheduler in ("local", "tcp://127.0.0.1:1"):
        done = process("compare", *pair, "--scheduler", scheduler, "--json", tmp_path / "out.json", env=without)
        assert done.returncode == FAILED
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert "Dask is not installed; pip install 'gpudrift[dask]'" in done.stderr
        assert f"scheduler {scheduler!r}" in done.stderr
        assert not (tmp_path / "out.json").exists()
    assert process("compare", *pair, "--fail-on", "drift", "--quiet", env=without).returncode == FOUND


def test_threads_import_no_dask(folder):
    code = """
import sys
from gpudrift.cli import main as cli
for more in ([], ["--scheduler", "threads", "--dry-run"]):
    try:
        cli.main([*sys.argv[1:], *more])
    except SystemExit as stop:
        assert stop.code == 0, stop.code
names = {name.partition(".")[0] for name in sys.modules}
assert "gpudrift" in names
print(sorted(names & {"dask", "distributed", "tornado", "dask_cuda"}))
"""
    words = [sys.executable, "-c", code, "compare", str(folder / "a.parquet"), str(folder / "b.parquet")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "[]"


# --- the same as on threads -------------------------------------------------------------------------------


def without_time(outcome: Outcome) -> dict[str, Any]:
    return {name: value for name, value in outcome.document.items() if name != "created"}


@pytest.mark.parametrize(
    ("pair", "gate", "status", "where"),
    [
        ("a b", "drift", FOUND, "address"),
        ("a same", "drift,schema", DONE, "file"),
        ("a other", "schema", FOUND, "address"),
        ("base.profile b", "drift", FOUND, "file"),
    ],
)
def test_reports_and_statuses_are_those_of_threads(cluster, scheduler_file, folder, where, pair, gate, status):
    scheduler = {"address": cluster.scheduler_address, "file": scheduler_file}[where]
    paths = [folder / (name if "." in name else f"{name}.parquet") for name in pair.split()]
    arguments = "compare", *paths, "--json", "-", "--fail-on", gate
    here = run(*arguments)
    there = run(*arguments, "--scheduler", scheduler)
    assert (here.status, there.status) == (status, status)
    assert without_time(there) == without_time(here)
    assert_idle(cluster)


def test_errors_are_those_of_threads(cluster, folder):
    for pair in (("a", "apart"), ("a", "missing"), ("missing", "a")):
        paths = [folder / f"{name}.parquet" for name in pair]
        here = fails("compare", *paths)
        there = fails("compare", *paths, "--scheduler", cluster.scheduler_address)
        assert there == here or there.startswith(f"{here} on worker tcp://127.0.0.1:")
    for more in (["--columns", "nothing"], ["--columns", "age,age,nothing"]):
        arguments = "compare", folder / "a.parquet", folder / "b.parquet", *more
        here = fails(*arguments, status=USAGE)
        assert fails(*arguments, "--scheduler", cluster.scheduler_address, status=USAGE) == here


@pytest.mark.slow
def test_a_process_of_its_own_says_nothing_but_its_report(cluster, folder, tmp_path):
    """Also where Dask finds that packages differ, which it says in a table."""
    (tmp_path / "toolz-0.0.1.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: toolz\nVersion: 0.0.1\n"
    (tmp_path / "toolz-0.0.1.dist-info" / "METADATA").write_text(metadata, "utf-8")
    differs = environment(PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    for path, status in (("b", FOUND), ("missing", FAILED)):
        arguments = "compare", folder / "a.parquet", folder / f"{path}.parquet", "--fail-on", "drift", "--quiet"
        done = process(*arguments, "--scheduler", cluster.scheduler_address, env=differs)
        assert done.returncode == status
        assert done.stdout == ""
        assert done.stderr.count("\n") == (status == FAILED)
        assert done.stderr == "" or done.stderr.startswith("gpudrift: error: no such file")


PROFILED = [("a.parquet",), ("b.parquet", "--like", "base.profile"), ("t.csv",), ("weeks.parquet", *IN_WEEKS)]


@pytest.mark.parametrize("words", PROFILED, ids=" ".join)
def test_profiles_are_equal(cluster, folder, tmp_path, words):
    given = [folder / word if "." in word else word for word in words]
    digests = []
    for more in ([], ["--scheduler", cluster.scheduler_address]):
        outcome = run("profile", *given, "-o", tmp_path / "out", *more)
        assert (outcome.status, outcome.err) == (DONE, "")
        assert "rows" in outcome.out
        digests.append(load_saved(tmp_path / "out").digest)
    assert digests[0] == digests[1]
    assert_idle(cluster)


@pytest.mark.slow
def test_local_workers_count_the_same_and_leave_nothing(folder, tmp_path):
    arguments = "compare", folder / "a.parquet", folder / "b.parquet", "--json", "-", "--fail-on", "drift"
    here = run(*arguments)
    done = process(*arguments, "--scheduler", "local", "--workers", "2", env=environment())
    assert (done.returncode, done.stderr) == (FOUND, "")
    assert without_time(Outcome(FOUND, done.stdout, "")) == without_time(here)


def test_an_error_of_local_workers_is_one_line(folder, tmp_path, capfd):
    """Workers write to the standard error that they inherit: what they do not say is not there."""
    (tmp_path / "cut.parquet").write_bytes((folder / "a.parquet").read_bytes()[:-100])
    out = tmp_path / "out.json"
    pair = folder / "a.parquet", tmp_path / "cut.parquet"
    message = fails("compare", *pair, "--scheduler", "local", "--workers", "1", "--json", out)
    assert message.startswith(f"cannot read '{tmp_path / 'cut.parquet'}'")
    assert capfd.readouterr() == ("", "")
    assert not out.exists()


# --- interruptions ----------------------------------------------------------------------------------------

CLOSING = """
import sys, distributed
real = distributed.Client.close
def close(self, *given, **named):
    print("closing", flush=True)
    return real(self, *given, **named)
distributed.Client.close = close
from gpudrift.cli import main as cli
cli.run()
"""

SLOW_WORKER = """
import time
from pathlib import Path
def dask_setup(worker):
    from gpudrift.execution.cluster import work
    real = work.fit_and_count
    def slow(*given):
        Path({flag!r}).touch()
        time.sleep(0.5)
        return real(*given)
    work.fit_and_count = slow
"""


@contextlib.contextmanager
def started(words: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the test, whatever happens."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as running:
        try:
            yield running
        finally:
            running.kill()


def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["starting", "working", "closing"])
def test_control_c_ends_local_workers_without_a_word_of_theirs(folder, tmp_path, when):
    """A terminal sends the signal to all processes of the command."""
    flag, out = tmp_path / "at work", tmp_path / "out.json"
    (tmp_path / "slow.py").write_text(SLOW_WORKER.format(flag=str(flag)), "utf-8")
    arguments = ["compare", folder / "a.parquet", folder / "b.parquet", "--json", out]
    words = [*map(str, arguments), "--scheduler", "local", "--workers", "2" if when == "starting" else "1"]
    with started(
        [sys.executable, "-c", CLOSING, *words],
        start_new_session=True,
        env=environment(DASK_DISTRIBUTED__WORKER__PRELOAD=str(tmp_path / "slow.py") if when == "working" else "[]"),
    ) as running:
        assert running.stdout is not None
        me = psutil.Process(running.pid)
        if when == "starting":
            until(lambda: len(me.children(recursive=True)) >= 3, "no workers")
        elif when == "working":
            until(flag.exists, "nobody works")
        else:
            assert running.stdout.readline() == "closing\n"
        children = me.children(recursive=True)
        begun = time.monotonic()
        os.killpg(running.pid, signal.SIGINT)
        _, err = running.communicate(timeout=60)
        seconds = time.monotonic() - begun
    assert err == "gpudrift: error: interrupted\n"
    assert running.returncode == FAILED
    assert not out.exists()
    assert seconds < WITHIN
    assert children
    _, left = psutil.wait_procs(children, timeout=30)
    assert not left


def test_control_c_takes_the_tasks_back_from_a_cluster(cluster, client, folder, tmp_path):
    flag, out = tmp_path / "at work", tmp_path / "out.json"
    arguments = "compare", folder / "a.parquet", folder / "b.parquet", "--json", out
    body = f"Path({str(flag)!r}).touch()\ntime.sleep(0.5)"
    with on_workers(client, "execution.cluster.work.fit_and_count", indented(body)):
        words = command(*arguments, "--scheduler", cluster.scheduler_address)
        with started(words) as running:
            until(flag.exists, "nobody works")
            begun = time.monotonic()
            running.send_signal(signal.SIGINT)
            out_text, err = running.communicate(timeout=60)
        seconds = time.monotonic() - begun
        assert (running.returncode, out_text, err) == (FAILED, "", "gpudrift: error: interrupted\n")
        assert seconds < WITHIN
        assert not out.exists()
        assert_idle(cluster)
    until(lambda: len(cluster.scheduler.clients) <= 2, "the client is still known")
    assert len(client.nthreads()) == 2


def test_a_cluster_without_workers_is_waited_for_and_said_in_one_line(folder):
    with LocalCluster(n_workers=0, **QUIET) as empty:
        pair = folder / "a.parquet", folder / "b.parquet"
        words = command("compare", *pair, "--scheduler", empty.scheduler_address)
        line = f"gpudrift: warning: {empty.scheduler_address} has no workers yet: the work waits for them\n"
        for more, said in (([], line), (["--quiet"], "")):
            with started([*words, *more]) as waiting:
                until(lambda: any(str(key).startswith("gpudrift-") for key in empty.scheduler.tasks), "no task")
                waiting.send_signal(signal.SIGINT)
                out, err = waiting.communicate(timeout=60)
            assert (waiting.returncode, out) == (FAILED, "")
            assert err == said + "gpudrift: error: interrupted\n"
            assert_idle(empty)


# --- TLS --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    place = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gpudrift test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (place / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (place / "key.pem").write_bytes(secret)
    return place / "certificate.pem", place / "key.pem"


@pytest.mark.slow
def test_tls_through_the_configuration_of_dask(folder, certificate):
    cert, key = map(str, certificate)
    roles = {
        f"tls_{role}_{what}": path
        for role in ("scheduler", "worker", "client")
        for what, path in (("cert", cert), ("key", key))
    }
    security = Security(tls_ca_file=cert, require_encryption=True, **roles)
    configured = environment(
        DASK_DISTRIBUTED__COMM__TLS__CA_FILE=cert,
        DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT=cert,
        DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY=key,
    )
    pair = folder / "a.parquet", folder / "b.parquet"
    with LocalCluster(n_workers=1, threads_per_worker=1, security=security, **QUIET) as safe:
        address = safe.scheduler_address
        assert address.startswith("tls://")
        done = process("compare", *pair, "--scheduler", address, "--json", "-", "--fail-on", "drift", env=configured)
        assert (done.returncode, done.stderr) == (FOUND, "")
        assert without_time(Outcome(FOUND, done.stdout, "")) == without_time(run("compare", *pair, "--json", "-"))
        # This process has no certificates.
        message = fails("compare", *pair, "--scheduler", address)
        assert f"scheduler {address!r} cannot be reached" in message
        assert "certificate" in message
        assert "distributed.comm.tls" in message
        plain, begun = address.replace("tls://", "tcp://"), time.monotonic()
        assert f"scheduler {plain!r} cannot be reached" in fails("compare", *pair, "--scheduler", plain)
        assert time.monotonic() - begun < WITHIN
