"""Tables have the digests that they had, on every engine; of all shared tables check.py says so."""

from __future__ import annotations

import pinned_digests
import pytest
from pinned_documents import HERE, assert_same
from pinned_tables import REAL, SHARED, ZOO, Real, zoo_together

import gpudrift as gd

KEPT = pinned_digests.kept_digests()
SEVERAL = pytest.mark.parametrize("backend", ["numba", "numpy"])


def test_every_shape_and_every_shared_table_is_pinned():
    assert set(KEPT["zoo"]) == set(ZOO)
    assert set(KEPT["real"]) == {real.path for real in REAL}


@SEVERAL
@pytest.mark.parametrize("name", ZOO)
def test_shapes_of_the_zoo(name, backend):
    found = pinned_digests.zoo_digests(name, backend=backend)
    assert found["values"] == KEPT["zoo"][name]["values"], f"the zoo draws other values than it did {HERE}"
    assert_same(found, KEPT["zoo"][name])


@SEVERAL
def test_columns_of_every_kind(backend):
    found = pinned_digests.together_digests(
        pinned_digests.kinds_pair(), pinned_digests.KIND_GROUPS, backend=backend, threads=3
    )
    assert_same(found, KEPT["every kind"])


@pytest.fixture(scope="module")
def client():
    with pinned_digests.dask_client() as client:
        yield client


@pytest.mark.parametrize(
    ("what", "pair", "grouped"),
    [
        ("zoo, together", zoo_together, pinned_digests.ZOO_GROUPS),
        ("every kind", pinned_digests.kinds_pair, pinned_digests.KIND_GROUPS),
    ],
)
def test_on_dask_and_from_files(what, pair, grouped, client):
    with pinned_digests.on_disk(pair()) as paths:
        assert_same(pinned_digests.together_digests(paths, grouped), KEPT[what])
        assert_same(pinned_digests.together_digests(paths, grouped, client=client), KEPT[what])


@pytest.mark.parametrize("real", [real for real in REAL if real.quick], ids=lambda real: real.path)
def test_shared_tables(real: Real, client):
    if not (SHARED / real.path).is_file():
        pytest.skip(f"the shared tables are not beside the project (or in GPUDRIFT_DATA): no {real.path}")
    kept = {name: KEPT["real"][real.path][name] for name in ("plain", "grouped")}
    assert_same(pinned_digests.real_digests(real), kept)
    assert_same(pinned_digests.real_digests(real, client=client), kept)


def test_the_table_of_every_kind_fills_a_sketch():
    counted = gd.profile(pinned_digests.kinds_pair()[0], columns=["many", "token", "city"])
    full = {name: len(counted.tails[counted.schema.index[name]].values) == 4096 for name in ("many", "token", "city")}
    assert full == {"many": True, "token": True, "city": False}
    assert counted["many"].column.kind == "categorical"
