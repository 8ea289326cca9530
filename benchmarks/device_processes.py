"""Processes of device.py that end with it, and under a time limit: a part, and what a part starts.

A process that is stopped takes along all that it has started, also what made a session of its own (Dask's workers in
tests do): this process asks the kernel to become the parent of orphans, and kills every descendant. And whatever is
started here dies when the process that started it dies, by ``kill -9`` too, so that nothing goes on writing figures or
holding the GPU: ``python device_processes.py PARENT COMMAND …`` sees to that and becomes the command. Both are Linux;
elsewhere the group of the process is killed and that is all.

Importing this also makes the package importable that lies beside it, installed or not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Ended", "adopt_orphans", "die_with_parent", "environment", "run_limited", "scratch"]

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
DIE_WITH_PARENT, ADOPT_ORPHANS = 1, 36
"""PR_SET_PDEATHSIG and PR_SET_CHILD_SUBREAPER."""
KEPT_LINES = 40
SCRATCH = "gpudrift-device-"
"""Folders of temporary files; the number of the process follows."""
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Called in a process that was just started."""
    if _LIBC is not None:
        _LIBC.prctl(DIE_WITH_PARENT, signal.SIGKILL)


def adopt_orphans() -> None:
    if _LIBC is not None:
        _LIBC.prctl(ADOPT_ORPHANS, 1)


def environment() -> dict[str, str]:
    """For processes that shall find the package and these scripts, installed or not, and say at once what they say."""
    given = [str(Path(one).resolve()) for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    paths = [str(ROOT), str(ROOT / "benchmarks"), *given]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Ended:
    """How a process ended: its status (None: stopped at its limit), seconds, the end of its output, and its limit."""

    status: int | None
    seconds: float
    end: str
    limit: float

    @property
    def why(self) -> str:
        """Nothing where it ended well."""
        if self.status is None:
            return f"stopped after {self.limit:.0f} s"
        if self.status < 0:
            return f"killed by {signal.Signals(-self.status).name} after {self.seconds:.0f} s"
        return f"exit status {self.status} after {self.seconds:.0f} s" if self.status else ""


def run_limited(
    command: Sequence[str], limit: float, *, tell: Callable[[str], None] = lambda line: None, **more: str
) -> Ended:
    """Run a command to its end, or stop it and all it started; ``tell`` gets each line, ``more`` is environment."""
    start = time.monotonic()
    running = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        cwd=ROOT,
        env=environment() | more,
        process_group=0,
    )
    kept: deque[str] = deque(maxlen=KEPT_LINES)

    def listen() -> None:
        assert running.stdout is not None
        for line in running.stdout:
            kept.append(line.rstrip()[:500])
            tell(line.rstrip())

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        status: int | None = running.wait(timeout=max(limit, 0.0))
    except subprocess.TimeoutExpired:
        status = None
    finally:
        end_all(running)
    # What it started may hold its output open where nobody adopts orphans.
    listener.join(timeout=5)
    return Ended(status, time.monotonic() - start, "\n".join(kept), limit)


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A folder for the temporary files of a process, which is gone when that is: tables take 24 GB and more.

    Folders of processes like this one that were killed are removed, too.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{SCRATCH}[0-9]*-*"):
        owner = path.name.removeprefix(SCRATCH).partition("-")[0]
        if owner.isdecimal() and not is_alive(int(owner)):
            shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}-", ignore_cleanup_errors=True) as folder:
        yield folder


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end_all(running: subprocess.Popen[str]) -> None:
    """Kill a process, its group, and whatever else this process has got from it, until nothing is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    for _ in range(100):
        left = descendants(os.getpid())
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.05)


def descendants(ancestor: int) -> list[int]:
    """Processes that a process has started, and those have, and so on."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name, in parentheses, may hold anything.
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, new = [], [ancestor]
    while new:
        new = [pid for pid, parent in parents.items() if parent in new]
        found += new
    return found


if __name__ == "__main__":
    die_with_parent()
    if os.getppid() == int(sys.argv[1]):
        os.execvp(sys.argv[2], sys.argv[2:])
