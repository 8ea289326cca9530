"""A store in an object store: s3fs, and an S3 endpoint that is reached over HTTP."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from support.grouped_tables import baseline, counted
from support.store_writers import add_some

import gpudrift as gd
from gpudrift.counts.groups import GroupedProfile
from gpudrift.store.storage import open_storage
from gpudrift.store.store import Store

pytestmark = pytest.mark.slow

SPAWN = multiprocessing.get_context("spawn")
BUCKET = "s3://bucket"


@pytest.fixture(scope="module")
def options() -> Iterator[dict[str, Any]]:
    """Storage options of an endpoint with an empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        reached = {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"}
        secrets = {"aws_access_key_id": "testing", "aws_secret_access_key": "topsecretword"}
        boto3.client("s3", **reached, **secrets).create_bucket(Bucket="bucket")
        yield {"key": "testing", "secret": "topsecretword", "client_kwargs": reached}
    finally:
        server.stop()


def test_only_one_creates_a_name(options):
    storage = open_storage(f"{BUCKET}/place", options)
    assert storage.create("some/name", b"first")
    assert not storage.create("some/name", b"second")
    assert storage.read("some/name") == b"first"
    assert storage.tree("") == {"some": ("name",)}


def test_several_writers_lose_nothing_while_another_compacts(options):
    uri = f"{BUCKET}/watch"
    store = Store.create(uri, baseline(), storage_options=options)
    writers = [SPAWN.Process(target=add_some, args=(uri, number, 3, options)) for number in range(2)]
    for one in writers:
        one.start()
    compacted = 0
    while any(one.is_alive() for one in writers):
        compacted += len(store.compact())
    for one in writers:
        one.join()
    assert [one.exitcode for one in writers] == [0, 0]
    assert compacted > 0
    expected = GroupedProfile.sum([counted(100 * number + at, 20) for number in range(2) for at in range(3)])
    assert store.read() == expected
    assert len(store.batches()) == 6
    assert store.check() == ()


def test_a_table_is_watched_from_there(options):
    uri = f"{BUCKET}/nightly"
    for night in range(2):
        gd.monitor(baseline(), counted(night, 30), store=uri, batch=f"night {night}", storage_options=options)
    judged = gd.monitor(baseline(), store=uri, storage_options=options)
    assert judged.current == counted(0, 30) + counted(1, 30)
    assert "topsecretword" not in judged.to_json() + repr(Store.open(uri, options).storage)
