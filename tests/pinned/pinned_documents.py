"""JSON and texts that are kept: read, written, and compared. Counts are equal; see :data:`ROUNDING` of the reals."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy

DOCUMENTS = Path(__file__).with_name("documents")
HERE = f"(this is NumPy {np.__version__}, SciPy {scipy.__version__}, pyarrow {pa.__version__})"

ROUNDING = 1e-12
"""Relative. NumPy adds in another order where the processor has wider registers: of one profile the standard deviations
made with AVX2 and with AVX-512 differed in the last bit. Whatever is counted is an integer and differs nowhere."""
REAL = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[-+]?\d+)?(?![\w.])")


def pinned(name: str) -> Any:
    return json.loads((DOCUMENTS / name).read_text("utf-8"))


def assert_same(found: Any, kept: Any) -> None:
    """Assert that two documents are the same, in the order of their entries too, or say where they differ."""
    # As files hold them: NaN is no JSON, and a tuple is a list.
    differences = list(_differences(json.loads(json.dumps(found)), kept, ""))
    if differences:
        more = f"\n… and {len(differences) - 10} more" if len(differences) > 10 else ""
        pytest.fail(
            "\n".join(["found, instead of what is pinned:", *differences[:10]]) + f"{more}\n{HERE}", pytrace=False
        )


def with_kept_reals(found: str, kept: str) -> str:
    """The text found, in which a line that differs from the kept one by rounding alone is the kept one."""
    lines, known = found.splitlines(), kept.splitlines()
    if len(lines) != len(known):
        return found
    return "\n".join(other if _same_line(one, other) else one for one, other in zip(lines, known, strict=True)) + "\n"


def _same_line(found: str, kept: str) -> bool:
    reals = [list(map(float, REAL.findall(line))) for line in (found, kept)]
    return REAL.sub("", found) == REAL.sub("", kept) and all(map(_same_real, *reals))


def _same_real(found: float, kept: float) -> bool:
    return math.isclose(found, kept, rel_tol=ROUNDING, abs_tol=0.0)


def _differences(found: Any, kept: Any, where: str) -> Any:
    if isinstance(found, dict) and isinstance(kept, dict):
        if list(found) != list(kept):
            yield f"{where}: entries {list(found)} instead of {list(kept)}"
        for name in [name for name in kept if name in found]:
            yield from _differences(found[name], kept[name], f"{where}.{name}")
    elif isinstance(found, list) and isinstance(kept, list) and len(found) == len(kept):
        for place, (one, other) in enumerate(zip(found, kept, strict=True)):
            yield from _differences(one, other, f"{where}[{place}]")
    elif isinstance(found, float) and isinstance(kept, float):
        if not _same_real(found, kept):
            yield f"{where}: {found!r} instead of {kept!r}"
    elif type(found) is not type(kept) or found != kept:
        yield f"{where}: {found!r:.200} instead of {kept!r:.200}"
