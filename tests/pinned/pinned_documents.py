"""JSON that is kept: read, written, and compared to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy

DOCUMENTS = Path(__file__).with_name("documents")
HERE = f"(this is NumPy {np.__version__}, SciPy {scipy.__version__}, pyarrow {pa.__version__})"


def pinned(name: str) -> Any:
    return json.loads((DOCUMENTS / name).read_text("utf-8"))


def assert_same(found: Any, kept: Any) -> None:
    """Assert that two documents are the same to the bit and in the order of their entries, or say where they differ."""
    if json.dumps(found) != json.dumps(kept):
        differences = list(_differences(found, kept, ""))
        more = f"\n… and {len(differences) - 10} more" if len(differences) > 10 else ""
        pytest.fail(
            "\n".join(["found, instead of what is pinned:", *differences[:10]]) + f"{more}\n{HERE}", pytrace=False
        )


def _differences(found: Any, kept: Any, where: str) -> Any:
    if isinstance(found, dict) and isinstance(kept, dict):
        if list(found) != list(kept):
            yield f"{where}: entries {list(found)} instead of {list(kept)}"
        for name in [name for name in kept if name in found]:
            yield from _differences(found[name], kept[name], f"{where}.{name}")
    elif isinstance(found, list) and isinstance(kept, list) and len(found) == len(kept):
        for place, (one, other) in enumerate(zip(found, kept, strict=True)):
            yield from _differences(one, other, f"{where}[{place}]")
    elif json.dumps(found) != json.dumps(kept):
        yield f"{where}: {found!r:.200} instead of {kept!r:.200}"
