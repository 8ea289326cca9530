"""The cache of compiled loops: damage is named, set aside and healed, and no result depends on it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpudrift.backends import compiled as module


def doubled(values):
    total = 0
    for value in values:
        total += 2 * value
    return total


VALUES = np.arange(5)


def use(*, fresh: bool = True) -> tuple[list[str], bool]:
    """Compile and call as a new process would: what was told, and whether it came from the cache."""
    if fresh:
        module._told.clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made = module.compiled(doubled)
        assert made(VALUES) == 20
    return [str(one.message) for one in told], bool(made.stats.cache_hits)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "loops"))
    assert use() == ([], False)
    assert use() == ([], True)
    return tmp_path / "loops"


def file_of(cache: Path, ending: str) -> Path:
    [found] = cache.rglob(f"*.{ending}")
    return found


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content + b"x",
        lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
        lambda content: b"\0" * len(content),
        lambda content: b"no cache at all",
        lambda content: module.SEAL,
    ],
)
def test_a_damaged_file_is_named_set_aside_and_made_anew(cache, ending, damage):
    file = file_of(cache, ending)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    [told], hit = use()
    assert not hit
    assert told.startswith(f"{file}: a damaged file of the cache of compiled loops (")
    assert told.endswith(f"set aside as {file.name}.damaged and compiled again")
    assert file.with_name(f"{file.name}.damaged").read_bytes() == damage(whole)
    assert use() == ([], True)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ending=st.sampled_from(["nbi", "nbc"]), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_is_run(cache, ending, place, bit):
    file = file_of(cache, ending)
    whole = bytearray(file.read_bytes())
    whole[int(place * len(whole))] ^= 1 << bit  # a file that is compiled anew has some bytes more or less
    file.write_bytes(whole)
    told, hit = use()
    assert not hit
    assert len(told) == 1
    assert use() == ([], True)


def test_what_is_no_file_is_named_and_set_aside(cache):
    file = file_of(cache, "nbi")
    file.unlink()
    file.mkdir()
    [told], hit = use()
    assert (str(file) in told, hit) == (True, False)
    assert use() == ([], True)


def test_a_file_that_is_gone_is_made_anew_in_silence(cache):
    for ending in ("nbc", "nbi"):
        file_of(cache, ending).unlink()
        assert use() == ([], False)
        assert use() == ([], True)


def test_what_numba_wrote_itself_is_older_and_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert numba.njit(doubled, cache=True, nogil=True, error_model="numpy", boundscheck=False)(VALUES) == 20
    assert use() == ([], False)
    assert use() == ([], True)


def test_a_full_disk_is_named_once_and_ends_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module._SealedFiles, "_write", staticmethod(full))
    [told], _ = use()
    assert str(tmp_path) in told
    assert "No space left on device" in told
    assert use(fresh=False) == ([], False)


def test_half_a_file_is_never_left(cache, monkeypatch):
    def broken(handle):
        raise OSError(5, "Input/output error")

    before = sorted(path.name for path in cache.rglob("*.nb*"))
    file_of(cache, "nbi").unlink()
    monkeypatch.setattr(module.os, "fsync", broken)
    [told], _ = use()
    assert "Input/output error" in told
    assert sorted(path.name for path in cache.rglob("*.nb*")) == [name for name in before if name.endswith("nbc")]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    told, _ = use()
    assert str(tmp_path / "file") in told[0]
    assert "NUMBA_CACHE_DIR" in told[0]
    monkeypatch.setattr(module, "_Cache", lambda _: (_ for _ in ()).throw(RuntimeError("no locator available")))
    [told], hit = use()
    assert "every run compiles them: no locator available" in told
    assert not hit


def test_memory_that_ends_is_no_damage(cache, monkeypatch):
    def ended(path):
        raise MemoryError

    monkeypatch.setattr(module, "_unsealed", ended)
    module._told.clear()
    with pytest.raises(MemoryError):
        module.compiled(doubled)(VALUES)
    assert not list(cache.rglob("*.damaged"))
