"""Sources that travel: pickled to other processes, of files that change meanwhile, behind credentials."""

from __future__ import annotations

import sys
import traceback

import numpy as np
import pandas as pd
import pytest
from support.fake_stores import KEY, QUOTED, SECRET, FakeS3, Vault
from support.stored_sources import TABLE, again, appended, deleted, in_a_child, one_line, rows_of, sizes_of, write

from gpudrift.counts.sealed import write_sealed
from gpudrift.errors import SourceChangedError
from gpudrift.places import trouble
from gpudrift.sources import is_saved_profile, is_uri, open_source

# ----------------------------------------------------------------------------------------------- credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://KEY:SECRET@bucket/a@b/c", "s3://***@bucket/a@b/c"),
        ("s3://KEY:SEC/RET@bucket/a@b", "s3://***@bucket/a@b"),
        ("s3://KEY:S@T@bucket/a", "s3://***@bucket/a"),
        ("s3://KEY@bucket/a", "s3://***@bucket/a"),
        ("s3://bucket/a@b/c", "s3://bucket/a@b/c"),
        ("http://host:80/a@b/c", "http://host:80/a@b/c"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
        ("abfs://container:pass@account.dfs.core.windows.net/x", "abfs://***@account.dfs.core.windows.net/x"),
        ("s3://b/x?a=1&Session_Token=x&b=2&sig=y", "s3://b/x?a=1&Session_Token=***&b=2&sig=***"),
        ("https://h/x?X-Amz-Signature=1&X-Amz-Credential=2", "https://h/x?X-Amz-Signature=***&X-Amz-Credential=***"),
        ("https://h/x?sec%72et=1", "https://h/x?sec%72et=***"),
        ("Cannot parse 's3://K:S@b/x y'", "Cannot parse 's3://***@b/x y'"),
        ("no URI: a@b", "no URI: a@b"),
    ],
)
def test_what_is_hidden(text, shown):
    assert trouble.hidden(text) == shown
    assert trouble.hidden(shown) == shown


def test_secrets_that_are_looked_for():
    assert trouble.uri_secrets("s3://mykey:my%2Fsecret@b/x?token=to%20ken&region=there&key=abc") == (
        "my%2Fsecret", "my/secret", "to%20ken", "to ken", "mykey",
    )  # fmt: skip
    assert trouble.uri_secrets("abfs://container@account/x") == ()
    options = {"key": "12345", "anon": False, "deep": {"list": [b"abcd", ("efgh",)], "port": 80}, "short": "abc"}
    assert trouble.option_secrets(options) == ("12345", "abcd", "efgh")


def test_messages_of_a_whole_chain_are_scrubbed():
    uri = "s3://key:{}@bucket".format("word")

    def fail():
        try:
            raise KeyError("the secret abcdef")
        except KeyError as error:
            raise OSError(5, "abcdef is wrong", uri) from error

    with pytest.raises(OSError, match=r"cannot read 'x': .*\*\*\* is wrong") as error, trouble.named("x", ("abcdef",)):
        fail()
    printed = "".join(traceback.format_exception(error.value))
    assert "the secret ***" in printed
    assert "s3://***@bucket" in printed
    assert uri not in printed


def secretless(*shown):
    """No text shows the key or the secret, nor an error with all it came from."""
    for text in shown:
        if isinstance(text, BaseException):
            assert "\n" not in str(text)
            text = "".join(traceback.format_exception(text))  # noqa: PLW2901
        for secret in (KEY, SECRET, QUOTED, "fakesecret"):
            assert secret not in text, text


@pytest.fixture
def s3(tmp_path):
    server = FakeS3(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


def test_credentials_in_a_uri_are_used_and_not_shown(tmp_path, s3):
    for number in range(2):
        write(tmp_path / f"bucket/data/k={number}/{number}.parquet", TABLE.slice(number, 1001))
    given = s3.uri("bucket/data/")
    source = open_source(given)
    assert source.label == f"s3://***@bucket/data/?{given.partition('?')[2]}"
    assert source.files == tuple(f"s3://***@bucket/data/k={number}/{number}.parquet" for number in range(2))
    expected = rows_of(open_source(tmp_path / "bucket/data"))
    assert rows_of(source) == expected
    assert s3.authorizations
    assert all(f"Credential={KEY}/" in line for line in s3.authorizations)
    s3.authorizations.clear()
    rows, sizes, shown, fingerprint, _ = in_a_child(source)
    assert rows == expected
    assert sizes == sizes_of(source)
    assert fingerprint == source.fingerprint
    assert s3.authorizations
    assert all(f"Credential={KEY}/" in line for line in s3.authorizations)
    secretless(source.label, repr(source), repr(source.parts), repr(source.origins), *source.files, shown)
    secretless(repr(again(source)), repr(again(source).origins))
    one = open_source(s3.uri("bucket/data/k=0/0.parquet"))
    assert rows_of(one) == [
        [{name: got for name, got in batch.items() if name != "k"} for batch in part] for part in expected[:2]
    ]
    both = open_source([s3.uri("bucket/data/k=*/*.parquet")])
    assert both.fingerprint == source.fingerprint, "listing and asking for one file tell the same time"
    listed = open_source([s3.uri(f"bucket/data/k={at}/{at}.parquet") for at in (0, 1)])
    assert listed.origins[0].filesystem is listed.origins[1].filesystem, "and its connections, and its pickle"


def test_errors_of_a_store_show_no_credentials(tmp_path, s3):
    path = write(tmp_path / "bucket/data/a.parquet")
    write(tmp_path / "bucket/data/b.parquet")
    for given, kind, words in (
        (s3.uri("bucket/nope"), FileNotFoundError, ["no such file", "s3://***@bucket/nope?endpoint"]),
        (s3.uri("bucket/*.csv"), FileNotFoundError, ["no file matches", "s3://***@bucket/*.csv"]),
        (s3.uri("forbidden/x"), PermissionError, ["ACCESS_DENIED", "s3://***@forbidden/x"]),
        (s3.uri("bucket/data") + "&token=" + SECRET, ValueError, ["cannot read", "&token=***", "'token'"]),
        (f"s3://{KEY}:{SECRET}@bucket/data", ValueError, ["cannot read 's3://***@bucket/data'"]),
        (f"s3://{KEY}:{QUOTED}@bucket/da ta", ValueError, ["cannot read 's3://***@bucket/da ta'"]),
        ([s3.uri("bucket/data/a.parquet"), s3.uri("bucket/data")], ValueError, ["count twice"]),
    ):
        with pytest.raises(kind) as error:
            open_source(given)
        one_line(error, *words)
        secretless(error.value)
        assert not isinstance(given, str) or not is_saved_profile(given)
    for source in (open_source(s3.uri("bucket/data")), again(open_source(s3.uri("bucket/data")))):
        appended(path)
        with pytest.raises(SourceChangedError) as error:
            rows_of(source)
        one_line(error, "'s3://***@bucket/data/a.parquet' changed while it was read")
        secretless(error.value)
        write(path)
    source = open_source(s3.uri("bucket/data"))
    path.unlink()
    with pytest.raises(SourceChangedError, match="is gone") as error:
        rows_of(source)
    secretless(error.value)


# ---------------------------------------------------------------------------------------------------- fsspec


OPTIONS = {"secret": SECRET}


@pytest.mark.parametrize("name", ["parquet", "arrow", "csv"])
def test_uris_with_options_go_through_fsspec(tmp_path, name):
    for number in range(2):
        write(tmp_path / f"k={number}/{number}.{name}", TABLE.slice(number, 500))
    write(tmp_path / f"_hidden/x.{name}")
    expected = rows_of(open_source(tmp_path))
    uri = f"vault://{tmp_path}"
    for given in (uri, f"{uri}/k=*/*.{name}", [f"{uri}/k=1", f"{uri}/k=0/0.{name}"], f"{uri}/**/*.{name}"):
        source = open_source(given, OPTIONS)
        assert source.files == tuple(f"{uri}/k={number}/{number}.{name}" for number in range(2))
        shown = (source.label, repr(source), repr(source.parts), repr(again(source)), repr(source.origins))
        secretless(*shown, repr(source.origins[0].filesystem), repr(source.origins[0].filesystem.handler))
        if isinstance(given, str):
            assert source.label == given
            assert rows_of(source) == rows_of(again(source)) == expected
    source = open_source(uri, OPTIONS)
    rows, sizes, shown, fingerprint, _ = in_a_child(source)
    assert (rows, sizes, fingerprint) == (expected, sizes_of(source), source.fingerprint)
    secretless(shown)
    assert source.origins[0].modified % 10**9 == 0
    assert source.origins[0].modified > 10**18
    assert again(source).origins[0].filesystem.handler.fs.storage_options == OPTIONS
    for change in (appended, deleted):
        change(tmp_path / f"k=1/1.{name}")
        with pytest.raises(SourceChangedError) as error:
            rows_of(source)
        one_line(error, f"'{uri}/k=1/1.{name}' ")


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"secret": "denied at once"}, PermissionError, ["no permission to read 'vault://"]),
        ({"secret": "invalid at once"}, ValueError, ["cannot read 'vault://", "the secret '***' is wrong"]),
        ({"secret": "refused later"}, ValueError, ["cannot read 'vault://", "the secret '***' is wrong"]),
        ({}, ValueError, ["cannot read 'vault://", "argument: 'secret'"]),
        ({"secret": SECRET, "nonsense\n": 1}, ValueError, ["no such file"]),
    ],
)
def test_options_that_are_not_taken(tmp_path, options, kind, words):
    uri = f"vault://{tmp_path}/nope.parquet"
    expected = FileNotFoundError if "no such file" in words else kind
    with pytest.raises(expected) as error:
        open_source(uri, options)
    one_line(error, *words)
    printed = "".join(traceback.format_exception(error.value))
    assert str(options.get("secret", SECRET)) not in printed
    assert not is_saved_profile(uri, options)


def test_options_that_are_refused_later(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet")
    source = again(open_source(f"vault://{path}", OPTIONS))
    monkeypatch.setattr(Vault, "expired", True)
    with pytest.raises(ValueError, match=r"cannot read 'vault://.*the secret '\*\*\*' is wrong") as error:
        rows_of(source)
    one_line(error)
    secretless(error.value)


def test_options_are_for_uris(tmp_path):
    path = write(tmp_path / "a.parquet")
    for given in (path, str(path), [path, f"vault://{path}"], f"{tmp_path}/*"):
        for options in (OPTIONS, {}):
            with pytest.raises(ValueError, match=r"storage_options are for URIs .* is a local path") as error:
                open_source(given, options)
            one_line(error, repr(str(tmp_path))[1:-1])
    for data in (TABLE, pd.DataFrame({"x": [1]}), {"x": np.arange(2)}, TABLE.to_reader()):
        with pytest.raises(ValueError, match="storage_options are for URIs"):
            open_source(data, OPTIONS)
    assert rows_of(open_source(f"file://{path}", {})) == rows_of(open_source(path))
    assert is_uri("s3://x")
    assert not is_uri(path)
    assert not is_uri("s3:/x")


def test_saved_profiles_behind_options(tmp_path):
    write_sealed(str(tmp_path / "base.parquet"), TABLE, {})
    write(tmp_path / "a.parquet")
    assert is_saved_profile(f"vault://{tmp_path}/base.parquet", OPTIONS)
    assert not is_saved_profile(f"vault://{tmp_path}/a.parquet", OPTIONS)
    assert is_saved_profile(str(tmp_path / "base.parquet"), OPTIONS), "a local one needs none"
    with pytest.raises(ValueError, match="saved profile, not data") as error:
        open_source(f"vault://{tmp_path}", OPTIONS)
    one_line(error, "base.parquet")


def test_packages_that_are_missing(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="cannot read 'nosuch://x': Protocol not known"):
        open_source("nosuch://x", {})
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ModuleNotFoundError, match="cannot open 's3://\\*\\*\\*@bucket/x': Install s3fs") as error:
        open_source(f"s3://{KEY}:{QUOTED}@bucket/x", OPTIONS)
    secretless(error.value)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(
        ModuleNotFoundError, match="storage_options need the library fsspec: pip install fsspec"
    ) as error:
        open_source("s3://bucket/x", OPTIONS)
    one_line(error, "s3fs")


def test_listings_that_a_library_keeps_hide_no_change(tmp_path):
    path = write(tmp_path / "a.parquet")
    source = open_source(f"vault://{tmp_path}", OPTIONS)
    handler = source.origins[0].filesystem.handler
    calls = []
    handler.fs.invalidate_cache = calls.append
    try:
        rows_of(source)
        assert set(calls) == {str(path)}
        assert len(calls) == len(source.parts)  # a store is asked once a part, when it was read
    finally:
        del handler.fs.invalidate_cache


def test_names_of_the_modification_time():
    from datetime import UTC, datetime

    from gpudrift.places.remote import _Handler

    time = datetime(2026, 11, 23, tzinfo=UTC)
    for described in ({"LastModified": time}, {"last_modified": time}, {"mtime": time.timestamp()}, {"updated": time}):
        info = _Handler._create_file_info("x", {"size": 5, "type": "file", **described})
        assert info.mtime_ns == int(time.timestamp()) * 10**9
    assert _Handler._create_file_info("x", {"size": 5, "type": "file", "mtime": "noon"}).mtime_ns is None
