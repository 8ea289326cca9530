"""The command on a cluster: the same reports and statuses as on threads, and no word too many.

Clusters are real ones: of this test, which the command connects to, or of the command (``--scheduler local``).
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import logging
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
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from distributed import Client, LocalCluster, SchedulerPlugin, Security
from support.blocked import BLOCKED, QUIET, assert_idle, indented, on_workers
from support.command import DONE, FAILED, FOUND, USAGE, Outcome, checked, fails, in_terminal, people, process, run
from support.layouts import weeks

import gpudrift as gd
from gpudrift.api import engine
from gpudrift.api.saved import load_saved
from gpudrift.cli import saying
from gpudrift.execution import cuts, settings
from gpudrift.execution.cluster import scheduler as dask_scheduler

WITHIN = 25
"""Seconds that a command may take which gives up, or is interrupted; those of Dask itself wait for 30.

Mostly it is 3 to 9, the start of the process included, but a busy machine takes its time.
"""


@pytest.fixture(autouse=True, scope="module")
def _logs_as_they_were() -> Iterator[None]:
    """The command silences Dask's logs for its process; that is this one."""
    logger = logging.getLogger("distributed")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as made:
        yield made


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    """For what tests do to workers, not for the work."""
    with Client(cluster) as made:
        yield made


@pytest.fixture(scope="module")
def scheduler_file(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scheduler") / "scheduler.json"
    path.write_text(json.dumps(cluster.scheduler.identity()), "utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a`` and ``same`` are alike, ``b`` has drifted, ``other`` has other columns; ``base`` is a profile of ``a``."""
    place = tmp_path_factory.mktemp("tables")
    pq.write_table(people(4000, seed=1), place / "a.parquet", row_group_size=250)
    pq.write_table(people(4000, seed=2), place / "same.parquet", row_group_size=250)
    drifted = people(3000, shift=1.0, seed=3)
    pq.write_table(drifted, place / "b.parquet", row_group_size=250)
    pq.write_table(drifted.drop(["score"]).append_column("new", pa.array(range(3000))), place / "other.parquet")
    pq.write_table(pa.table({"nothing": ["in", "common"]}), place / "apart.parquet")
    pa.csv.write_csv(people(500, seed=4), place / "t.csv")
    gd.profile(place / "a.parquet").save(place / "base.profile")
    pq.write_table(weeks(3000), place / "weeks.parquet", row_group_size=250)
    gd.profile(place / "weeks.parquet", time="when", every="1w", by="country").save(place / "weeks.profile")
    return place


IN_WEEKS = ("--time", "when", "--every", "1w", "--by", "country")


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "gpudrift", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """Without the configuration of Dask of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DASK_")} | more


# --- schedulers that cannot be reached --------------------------------------------------------------------


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
        str(folder / "none.json"): "no scheduler file (JSON with an address)",
        str(folder / "lacks.json"): "no scheduler file (JSON with an address)",
        str(folder / "list.json"): "no scheduler file (JSON with an address)",
        str(folder / "null.json"): "no scheduler file (JSON with an address)",
        str(folder / "bytes.json"): "no scheduler file (JSON with an address)",
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


@pytest.mark.parametrize("where", ["address", "file"])
@pytest.mark.parametrize(
    ("pair", "gate", "status"),
    [
        ("a b", "drift", FOUND),
        ("a same", "drift,schema", DONE),
        ("a other", "schema", FOUND),
        ("base.profile b", "drift", 1),
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


# --- progress ---------------------------------------------------------------------------------------------

MANY_TASKS = """
import sys
from gpudrift.cli import main as cli, saying
from gpudrift.execution import cuts
cuts.BYTES_PER_SLOT = cuts.CLUSTER_TASK = cuts.SMALLEST_BLOCK = 1
saying.PATIENCE = 0.1
cli.main(sys.argv[1:])
"""


@pytest.fixture
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut small tables as large ones are cut."""
    for name in ("BYTES_PER_SLOT", "CLUSTER_TASK", "SMALLEST_BLOCK"):
        monkeypatch.setattr(cuts, name, 1)


def test_a_terminal_sees_rows_bytes_and_columns(cluster, client, folder):
    arguments = "compare", folder / "base.profile", folder / "b.parquet", "--json", "-"
    words = [sys.executable, "-c", MANY_TASKS, *arguments, "--scheduler", cluster.scheduler_address]
    with on_workers(client, "execution.cluster.work.count_parts", indented("time.sleep(0.1)")):
        status, out, seen = in_terminal(words)
    assert status == DONE
    assert json.loads(out)["summary"]["judged"] == 3
    for part in (b"counting", b" values, 0.0 GB; columns ", b"/3: ", b" of 3,000 rows"):
        assert part in seen, seen


def test_what_progress_says_of_a_cluster():
    now = settings.Progress(1_234_567, 10**7, 2_500_000_000, 3, 40, 5_000, 1_000_000)
    assert saying.how_far(now) == "1,234,567 values, 2.5 GB; columns 4/40: 5,000 of 1,000,000 rows"
    unknown = settings.Progress(1_234, None, 10**8, 0, 1, 617, None)
    assert saying.how_far(unknown) == "1,234 values, 0.1 GB; columns 1/1: 617 rows"
    assert saying.how_far(settings.Progress(1_234, 10**7)) == "1,234 values"


@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize("data", ["a.parquet", "t.csv"])
@pytest.mark.parametrize("like", [True, False])
def test_progress_never_goes_back_and_ends_at_the_total(client, folder, data, like):
    told: list[settings.Progress] = []
    schema = folder / "base.profile" if like else None
    counted = gd.profile(folder / data, schema=schema, client=client, progress=told.append)
    check_progress(told, counted)
    assert told[-1].bytes == counted.provenance["cluster"]["bytes_counted"]


def check_progress(told: list[settings.Progress], counted: gd.Profile) -> None:
    values, sizes = [now.values for now in told], [now.bytes for now in told]
    assert len(told) > 1
    assert values == sorted(values)
    assert sizes == sorted(sizes)
    assert values[-1] == counted.rows * len(counted)
    assert {now.total for now in told} <= {None, values[-1]}
    assert all(now.block < now.blocks for now in told)
    assert all(now.all_rows is None or now.rows <= now.all_rows for now in told)


@pytest.mark.usefixtures("many_tasks")
def test_what_is_counted_again_is_not_told_again(cluster, client, folder, tmp_path):
    """A worker dies with what it had counted, five tasks, and had told of them."""
    told: list[settings.Progress] = []
    die = f"""
time.sleep(0.03)
changed.calls = getattr(changed, "calls", 0) + 1
if changed.calls == 6:
    try:
        os.mkdir({str(tmp_path / "died")!r})
    except FileExistsError:
        pass
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""
    before = set(cluster.scheduler.get_events())
    with on_workers(client, "execution.cluster.work.count_parts", indented(die)):
        schema = folder / "base.profile"
        counted = gd.profile(folder / "a.parquet", schema=schema, client=client, progress=told.append)
        client.wait_for_workers(2, timeout=30)
        # The worker that took its place has nothing to undo.
        client.run(
            exec,
            "from gpudrift.execution.cluster import work\nvars(work.count_parts).setdefault('real', work.count_parts)",
            {},
        )
    assert (tmp_path / "died").exists()
    told_now = [events for name, events in cluster.scheduler.get_events().items() if name not in before]
    places = [event[0] for events in told_now for _, event in events if isinstance(event, tuple | list)]
    assert len(places) > len(set(places)), "nothing was counted again"
    check_progress(told, counted)
    assert (
        told[-1].bytes
        == gd.profile(folder / "a.parquet", schema=schema, client=client).provenance["cluster"]["bytes_counted"]
    )
    assert counted.digest == gd.profile(folder / "a.parquet", schema=schema).digest


# --- plans ------------------------------------------------------------------------------------------------


class Keys(SchedulerPlugin):
    """Every task that a scheduler hears of."""

    name = "keys"

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def transition(self, key: Any, start: str, finish: str, *given: Any, **named: Any) -> None:
        self.seen.add(str(key))

    @property
    def ours(self) -> set[str]:
        return {key for key in self.seen if key.startswith("gpudrift-")}


@pytest.fixture
def keys(cluster: LocalCluster) -> Iterator[Keys]:
    plugin = Keys()
    cluster.scheduler.add_plugin(plugin)
    yield plugin
    cluster.scheduler.remove_plugin("keys")


PLANNED = [
    ("compare", "a.parquet", "b.parquet"),
    ("compare", "base.profile", "b.parquet"),
    ("compare", "t.csv", "a.parquet"),
    ("profile", "a.parquet", "-o", "{out}"),
    ("profile", "b.parquet", "-o", "{out}", "--like", "base.profile"),
    ("profile", "t.csv", "-o", "{out}"),
    ("profile", "weeks.parquet", "-o", "{out}", *IN_WEEKS),
    ("monitor", "weeks.parquet", "weeks.parquet", *IN_WEEKS),
    ("monitor", "weeks.profile", "weeks.parquet"),
]


COUNTING = ("fit", "sample", "edges", "count", "add", "again", "piece", "schema")


@pytest.mark.parametrize("where", ["threads", "cluster"])
@pytest.mark.parametrize("words", PLANNED, ids=" ".join)
def test_a_dry_run_counts_nothing_and_writes_nothing(cluster, keys, folder, tmp_path, monkeypatch, where, words):
    arguments = [tmp_path / "out" if word == "{out}" else folder / word if "." in word else word for word in words]
    more = ["--scheduler", cluster.scheduler_address] if where == "cluster" else []
    if where == "threads":
        for name in ("profile_source", "count_source", "fit_source"):
            monkeypatch.setattr(engine, name, None)
    if words[0] != "profile":
        more += ["--json", tmp_path / "out"]
    outcome = run(*arguments, *more, "--dry-run")
    assert outcome.status == DONE
    assert list(tmp_path.iterdir()) == []
    assert not [key for key in keys.seen for word in COUNTING if f"-{word}-" in key]
    assert bool(keys.ours) == (where == "cluster")
    lines = outcome.out.splitlines()
    assert "\\n" not in outcome.out
    tables = [str(path) for path in arguments[1:3] if str(path).endswith(("parquet", "csv"))]
    for table in tables:
        assert any(line.startswith(f"{table}: ") for line in lines), lines
    for word in ("where", "network", "memory", "time"):
        assert len([line for line in lines if line.startswith(f"{word} ")]) == 1
    assert ("cluster tcp://" if where == "cluster" else "threads of this process") in outcome.out


def test_a_dry_run_on_local_workers(folder, tmp_path):
    arguments = "compare", folder / "a.parquet", folder / "b.parquet", "--json", tmp_path / "out"
    outcome = run(*arguments, "--dry-run", "--scheduler", "local", "--workers", "1")
    assert (outcome.status, outcome.err) == (DONE, "")
    assert "cluster tcp://127.0.0.1" in outcome.out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_fails_as_the_run_would(cluster, folder):
    for more in ([], ["--scheduler", cluster.scheduler_address]):
        arguments = "compare", folder / "a.parquet", folder / "missing.parquet", *more
        assert fails(*arguments, "--dry-run").startswith(fails(*arguments)[:60])
        arguments = "compare", folder / "a.parquet", folder / "b.parquet", "--columns", "nothing", *more
        assert fails(*arguments, "--dry-run") == fails(*arguments)


@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_a_dry_run_plans_the_windows(cluster, client, folder, tmp_path, where):
    """What :func:`gpudrift.plan` says; that so many tasks run is tested with the cluster's costs."""
    path, saved = folder / "weeks.parquet", folder / "weeks.profile"
    more = ["--scheduler", cluster.scheduler_address] if where == "cluster" else []
    divided = {"time": "when", "every": "1w", "by": "country"}
    how = {"client": client if where == "cluster" else None}
    cases = [
        (("profile", path, "-o", tmp_path / "out", *IN_WEEKS), gd.plan(path, **divided, **how)),
        (("profile", path, "-o", tmp_path / "out", "--like", saved), gd.plan(path, like=saved, **how)),
        (("monitor", path, path, *IN_WEEKS), gd.plan(path, path, **divided, **how)),
        (("monitor", saved, path), gd.plan(saved, path, **how)),
    ]
    for words, plan in cases:
        assert run(*words, *more, "--dry-run").out == f"{plan}\n"
    assert str(gd.plan(path, **divided, **how)) != str(gd.plan(path, **how))
