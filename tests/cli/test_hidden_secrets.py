"""No URL shows a password, wherever it was given or came from; and any width prints."""

from __future__ import annotations

import io
import os
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.command import DONE, FAILED, USAGE, fails, process, run

from gpudrift.cli.saying import say_error, say_traceback, say_warning
from gpudrift.hiding import hidden, shown_address, uri_secrets
from gpudrift.report.terminal import WIDEST, console_of, terminal_width
from gpudrift.sources.finding import is_uri

WORD = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$*+,;=%", min_size=4, max_size=12)
SCHEMES = st.sampled_from(["https", "s3", "tcp", "tls", "ftp", "hdfs", "http", "socks5", "postgresql+psycopg", "az"])
CHAINS = st.sampled_from(["", "simplecache::", "filecache::", "zip://*.csv::simplecache::", "cached://x::blockcache::"])


@given(SCHEMES, CHAINS, WORD, WORD, st.sampled_from(["", "no such file: ", "(Caused by ProxyError('", '{"url": "']))
def test_no_password_is_shown_of_any_url_in_any_text(scheme, chain, user, password, before):
    secret = f"Zq{password}qZ"
    url = f"{chain}{scheme}://{user}:{secret}@host:8786/folder/x.parquet"
    assert secret not in hidden(before + url + "')")
    assert hidden(url).endswith("host:8786/folder/x.parquet")
    assert secret in uri_secrets(url)
    assert secret not in shown_address(url)
    assert secret not in shown_address(f"{user}:{secret}@host:8786")
    assert hidden(hidden(url)) == hidden(url)


@given(st.text(max_size=40))
def test_a_text_without_urls_is_left_as_it_is(text):
    assert hidden(text) == text or "://" in text or "=" in text


def test_chained_urls_are_urls():
    assert is_uri("simplecache::https://host/x")
    assert is_uri("zip://a.csv::s3://b/x.zip")
    assert not is_uri("a::b")
    assert not is_uri("folder/x::y.parquet")


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "simplecache::https://user:SECRET@localhost:9/x.parquet", "b.parquet"),
        ("compare", "zip://*.csv::simplecache::ftp://user:SECRET@localhost:9/x.zip", "b.parquet"),
        ("compare", "a.parquet", "b.parquet", "--scheduler", "tcp://user:SECRET@127.0.0.1:9"),
        ("compare", "a.parquet", "b.parquet", "--scheduler", "user:SECRET@127.0.0.1:9"),
        ("compare", "a.parquet", "b.parquet", "--scheduler", "nonsense://user:SECRET@127.0.0.1:9"),
        ("profile", "https://user:SECRET@localhost:9/x.parquet", "-o", "x"),
        pytest.param(("info", "s3://KEY:SECRET@bucket/x"), marks=pytest.mark.slow),  # which asks the network
        ("store", "info", "s3://KEY:SECRET@bucket/x"),
    ],
)
def test_no_command_shows_a_password(arguments):
    outcome = run(*arguments)
    assert outcome.status in (FAILED, USAGE)
    assert "SECRET" not in outcome.out + outcome.err
    assert "***" in outcome.err or "no such" in outcome.err.lower() or outcome.status == USAGE


def test_workers_of_an_address_with_a_password():
    told = fails("compare", "a", "b", "--scheduler", "tcp://u:SECRET@host:1", "--workers", "2", status=USAGE)
    assert told.startswith("--workers requires --scheduler local, got 'tcp://***@host:1'")


def test_what_slips_through_is_hidden_where_it_is_printed(capsys):
    for say in (say_error, say_warning):
        say("proxy http://me:SECRET@proxy:3128 refused; https://h/x?X-Amz-Signature=SECRET&a=1")
    try:
        raise ValueError("http://me:SECRET@proxy:3128")
    except ValueError:
        say_traceback()
    assert "SECRET" not in capsys.readouterr().err


# --- widths ----------------------------------------------------------------------------------------------------------


MORE_WIDTHS = ["", "0", "00", "-5", "1", "7", "abc", "²", "100000", "80.5"]


@pytest.mark.parametrize(
    "columns",
    ["99999999999999999999", *(pytest.param(one, marks=pytest.mark.slow) for one in MORE_WIDTHS)],
)
def test_any_width_prints(monkeypatch, folder, columns):
    environment = os.environ | {"COLUMNS": columns, "LINES": columns}
    done = process("compare", folder / "a.parquet", folder / "b.parquet", env=environment)
    assert done.returncode == DONE, done.stderr
    assert "age" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= WIDEST


@given(st.text(max_size=12))
def test_every_text_gives_a_width_that_can_be_printed_on(columns):
    safe = columns.encode("utf-8", "ignore").decode().replace("\0", "")
    with mock.patch.dict(os.environ, {"COLUMNS": safe}):
        width = terminal_width()
        assert 20 <= width <= WIDEST
        file = io.StringIO()
        console_of(file).print("x")
        assert file.getvalue() == "x\n"


def test_a_width_that_is_asked_for_is_taken(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert terminal_width() == 120
    monkeypatch.delenv("COLUMNS")
    assert console_of(io.StringIO(), 33).width == 33
