"""Which backend the workers of a cluster run, of what each of them has."""

from __future__ import annotations

import pytest

from gpudrift.backends import Gpu, choose_for_workers

HERE = "tcp://127.0.0.1:1", "tcp://127.0.0.1:2"
ONE, TWO = Gpu(name="NVIDIA H200"), Gpu(name="NVIDIA L4")
NONE = Gpu("CuPy is not installed: pip install it")


@pytest.mark.parametrize(
    ("asked", "workers", "chosen", "why"),
    [
        ("auto", [ONE, NONE], "cuda", "auto: 1 of 2 workers has a GPU (NVIDIA H200)"),
        ("cuda", [TWO, ONE], "cuda", "asked for: 2 of 2 workers have a GPU (NVIDIA H200, NVIDIA L4)"),
        ("cuda", [], "cuda", "asked for: there are no workers yet"),
        ("auto", [], "numba", "auto: the compiled CPU engine; there are no workers yet"),
        ("auto", [NONE, NONE], "numba", f"auto: the compiled CPU engine; no worker can use a GPU ({NONE.why_not})"),
        ("numba", [ONE, ONE], "numba", "asked for"),
        ("numpy", [ONE, NONE], "numpy", "asked for"),
    ],
)
def test_the_backend_is_chosen_of_what_workers_have(asked, workers, chosen, why):
    assert choose_for_workers(asked, dict(zip(HERE, workers, strict=False))) == (chosen, why)
