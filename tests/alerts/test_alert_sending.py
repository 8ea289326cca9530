"""Whole runs that send to real servers on this machine, and their configuration; no secret in anything said."""

from __future__ import annotations

import json
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from unittest import mock
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.alert_servers import (
    SECRET,
    grouping_key,
    samples,
    sent,
    serving,
    unused_port,
)

from gpudrift.alerts import memory as kept
from gpudrift.alerts.events import AlertState, Window, advance
from gpudrift.alerts.memory import Memory
from gpudrift.alerts.running import run_alerts
from gpudrift.alerts.sending import SendingError
from gpudrift.alerts.settings import Address, Settings, Webhook, read_settings
from gpudrift.judging.findings import Finding

DAYS = [f"2026-11-{day:02}" for day in range(1, 29)]


def drift(column="age", value=0.3):
    return Finding("drift", "psi", column, "moderate", f"psi {value}", value, limit=0.1)


# --- whole runs ------------------------------------------------------------------------------------------------------


def configured(url="", form="json", **more):
    webhooks = {"ops": {"url": url, "form": form, "retries": 0, "timeout": 2}} if url else {}
    return read_settings({"name": "churn", "webhook": webhooks, **more})


def test_a_run_sends_once_and_a_repeated_run_nothing(server, tmp_path):
    settings, state = configured(server.url), tmp_path / "state"
    for _ in range(3):
        outcome = run_alerts([Window(DAYS[0], (drift("age"), drift("city", 0.5)))], settings, state)
        assert not outcome.failures
    [document] = server.documents
    assert document["columns"] == ["city", "age"]
    assert server.requests[0].headers["Idempotency-Key"] == document["id"]
    run_alerts([Window(DAYS[1])], settings, state)
    assert [d["event"] for d in server.documents] == ["opened", "ended"]


def test_slack_gets_its_form(server, tmp_path):
    run_alerts([Window(DAYS[0], (drift("<!channel>"),))], configured(server.url, "slack"), tmp_path / "state")
    [document] = server.documents
    assert set(document) == {"text", "mrkdwn", "blocks"}
    assert "<" not in json.dumps(document)


def test_what_could_not_be_sent_is_sent_by_the_next_run(tmp_path):
    state, port = tmp_path / "state", unused_port()
    down = configured(f"http://127.0.0.1:{port}/{SECRET}", log={"to": str(tmp_path / "log")})
    for day in DAYS[:3]:
        outcome = run_alerts([Window(day, (drift(f"of {day}"),))], down, state)
        assert list(outcome.failures) == ["webhook ops"]
        assert outcome.failures["webhook ops"] == f"http://127.0.0.1:{port}/***: Connection refused"
    assert outcome.unsent == {"webhook ops": 5}
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["opened", "opened", "ended", "opened", "ended"], "the run went on"
    with serving() as server:
        outcome = run_alerts([Window(DAYS[2], (drift(f"of {DAYS[2]}"),))], configured(server.url), state)
        assert not outcome.events
        assert not outcome.failures
        assert outcome.unsent == {}
        assert [(d["event"], d["window"]) for d in server.documents] == [
            ("opened", DAYS[0]),
            *((change, day) for day in DAYS[1:3] for change in ("opened", "ended")),
        ]


def test_a_message_that_is_refused_does_not_stop_the_others(server, tmp_path):
    state = tmp_path / "state"
    server.answers += [400, 200]
    outcome = run_alerts(
        [Window(DAYS[0], (drift("a"),)), Window(DAYS[1], (drift("b"),))], configured(server.url), state
    )
    assert outcome.failures == {"webhook ops": f"{server.url}/***: HTTP 400 Bad Request"}
    assert [(e.change, e.window) for e in outcome.memory.waiting["webhook ops"]] == [("opened", DAYS[0])]
    outcome = run_alerts([Window(DAYS[1], (drift("b"),))], configured(server.url), state)
    assert outcome.unsent == {}
    assert len({d["id"] for d in server.documents}) == 3


def test_a_killed_run_loses_nothing(tmp_path):
    """Killed at the first message: it was on the disk before, and is the same one when it is sent again."""
    state, settings = tmp_path / "state", configured("http://127.0.0.1:9/x")
    seen = []

    def killed(_address, body, _headers, **_):
        seen.append(json.loads(body))
        raise KeyboardInterrupt

    def fine(_address, body, _headers, **_):
        seen.append(json.loads(body))

    with pytest.raises(KeyboardInterrupt):
        run_alerts([Window(DAYS[0], (drift(),))], settings, state, send=killed)
    run_alerts([Window(DAYS[1], (drift(),))], settings, state, send=fine)
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_runs_at_the_same_time_send_once(tmp_path):
    arrived = []

    def slow(_address, body, _headers, **_):
        time.sleep(0.05)
        arrived.append(json.loads(body)["id"])

    def one(_):
        where = configured("http://127.0.0.1:9/x"), tmp_path / "state"
        return run_alerts([Window(DAYS[0], (drift(),))], *where, send=slow)

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(one, range(4)))
    assert len(arrived) == 1
    assert sum(len(outcome.events) for outcome in outcomes) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=2), min_size=1, max_size=6),
    st.lists(st.sampled_from(["arrives", "fails", "is lost on the way back", "is refused"]), max_size=30),
)
def test_nothing_is_lost_however_sending_fails(tmp_path_factory, history, pattern):
    """Every event arrives, each for the first time in order unless single ones were refused."""
    state = tmp_path_factory.mktemp("runs") / "state"
    windows = [Window(day, tuple(map(drift, names))) for day, names in zip(DAYS, history, strict=False)]
    settings, arrived, left = configured("http://127.0.0.1:9/x"), [], list(pattern)

    def send(_address, body, _headers, **_):
        fate = left.pop(0) if left else "arrives"
        if fate in ("arrives", "is lost on the way back"):
            arrived.append(json.loads(body)["id"])
        if fate != "arrives":
            raise SendingError("down", of_the_message=fate == "is refused")

    for window in windows:
        run_alerts([window], settings, state, send=send)
    left.clear()
    last = run_alerts(windows[-1:], settings, state, send=send)
    wanted = [event.id for event in advance(AlertState(), windows, settings.rules)[0]]
    first = list(dict.fromkeys(arrived))
    assert sorted(first) == sorted(wanted)
    if "is refused" not in pattern:
        assert first == wanted
    assert last.unsent == {}
    assert len(arrived) - len(first) <= pattern.count("is lost on the way back")


def test_only_what_is_left_at_the_end_of_a_run_is_bounded(tmp_path, monkeypatch):
    """Many windows at once are all told where the channel is up; where it is down, the lost are counted and told."""
    monkeypatch.setattr(kept, "MOST_WAITING", 4)
    windows = [Window(day, (drift(f"of {day}"),)) for day in DAYS[:6]]
    config = {"webhook": {"a": {"url": "http://127.0.0.1:9/", "retries": 0}}, "log": {"to": str(tmp_path / "log")}}
    arrived, up = [], [True]

    def send(_address, body, _headers, **_):
        if not up[0]:
            raise SendingError("down")
        arrived.append(json.loads(body))

    outcome = run_alerts(windows, read_settings(config), tmp_path / "state", send=send)
    assert len(arrived) == len(outcome.events) == 11
    assert [document["lost"] for document in arrived] == [0] * 11
    assert len((tmp_path / "log").read_text().splitlines()) == 11
    up[0] = False
    more = [Window(day, (drift(f"of {day}"),)) for day in DAYS[6:9]]
    outcome = run_alerts(more, read_settings(config), tmp_path / "state", send=send)
    assert outcome.unsent == {"webhook a": 4}
    assert outcome.memory.lost == {"webhook a": 2}
    up[0] = True
    outcome = run_alerts(more[-1:], read_settings(config), tmp_path / "state", send=send)
    assert [document["lost"] for document in arrived[11:]] == [2, 0, 0, 0]
    assert outcome.memory.lost == {}


def test_a_log_that_cannot_be_written_is_kept_too(tmp_path):
    state = tmp_path / "state"
    bad = configured(log={"to": str(tmp_path / "none" / "log")})
    outcome = run_alerts([Window(DAYS[0], (drift(),))], bad, state)
    assert outcome.failures == {"log": f"{tmp_path}/none/log: No such file or directory"}
    good = configured(log={"to": str(tmp_path / "log")})
    run_alerts([Window(DAYS[0], (drift(),))], good, state)
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_a_full_disk_leaves_no_half_line(tmp_path):
    import os

    write, calls = os.write, []

    def full(handle, data):
        calls.append(len(data))
        if len(calls) == 1:
            return write(handle, bytes(data)[:10])
        raise OSError(28, "No space left on device")

    (tmp_path / "log").write_text("before\n")
    log = configured(log={"to": str(tmp_path / "log")})
    with mock.patch("gpudrift.alerts.running.os.write", full):
        outcome = run_alerts([Window(DAYS[0], (drift(),))], log, tmp_path / "state")
    assert outcome.failures == {"log": f"{tmp_path}/log: No space left on device"}
    assert (tmp_path / "log").read_text() == "before\n"


def test_gauges_are_written_whole_and_pushed(server, tmp_path):
    place = tmp_path / "gpudrift.prom"
    table = {"prometheus": {"file": str(place), "push": f"{server.url}/base/", "job": "nightly/job", "retries": 0}}
    window = Window(DAYS[0], (drift('a"\n<script>'),), frozenset({"a", "b"}))
    outcome = run_alerts([window], read_settings({"name": "churn", **table}), tmp_path / "state", clock=lambda: 2e9)
    assert not outcome.failures
    [request] = server.requests
    assert request.method == "PUT"
    assert grouping_key(request.path.removeprefix("/base")) == {"job": "nightly/job", "watch": "churn"}
    assert request.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert request.body == place.read_bytes()
    read = samples(request.body.decode())
    assert read["gpudrift_last_run_seconds", frozenset({("watch", "churn")})] == 2e9
    assert [dict(k[1])["column"] for k in read if k[0] == "gpudrift_finding_value"] == ['a"\n<script>']
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gpudrift.prom", "state", "state.lock"]


def test_a_gateway_that_is_down_is_an_error_and_the_next_push_has_everything(tmp_path):
    port = unused_port()
    table = {"prometheus": {"push": f"http://127.0.0.1:{port}", "retries": 0}}
    outcome = run_alerts([Window(DAYS[0], (drift(),))], read_settings(table), tmp_path / "state")
    assert outcome.failures == {"prometheus push": f"http://127.0.0.1:{port}/***: Connection refused"}
    with serving() as server:
        table["prometheus"]["push"] = server.url
        run_alerts([Window(DAYS[0], (drift(),))], read_settings(table), tmp_path / "state")
        read = samples(server.requests[0].body.decode())
    assert sum(name == "gpudrift_finding_value" for name, _ in read) == 1


def test_no_secret_is_in_anything_that_is_said(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HOOK", f"{server.url}/{SECRET}")
    monkeypatch.setenv("TOKEN", SECRET)
    port = unused_port()
    table = {
        "webhook": {
            "env": {"url": "env:HOOK", "headers": {"X-Token": "env:TOKEN"}, "retries": 0},
            "plain": {
                "url": f"http://u:{quote(SECRET, safe='')}@127.0.0.1:{port}/{SECRET}?token={SECRET}",
                "headers": {"X-Token": SECRET},
                "retries": 0,
            },
        },
        "prometheus": {"push": f"http://127.0.0.1:{port}/{SECRET}", "retries": 0},
    }
    settings = read_settings(table)
    server.headers["X-Echo"] = SECRET
    server.answers += [(500, SECRET)]
    outcome = run_alerts([Window(DAYS[0], (drift(),))], settings, tmp_path / "state")
    assert set(outcome.failures) == {"webhook env", "webhook plain", "prometheus push"}
    said = [repr(settings), repr(outcome), repr(outcome.failures), json.dumps(outcome.document("w"))]
    said += [(tmp_path / "state").read_text()]
    assert SECRET in server.requests[0].headers["X-Token"]
    for wrong in ("http://[::1", "ftp://" + SECRET, "http://a b/" + SECRET, "http://x:99999/" + SECRET, SECRET):
        for url in (wrong, "env:HOOK"):
            monkeypatch.setenv("HOOK", wrong)
            try:
                run_alerts([], read_settings({"webhook": {"a": {"url": url}}}), tmp_path / "state")
            except ValueError:
                said.append(traceback.format_exc())
            else:
                raise AssertionError(url)
    try:
        sent(f"http://127.0.0.1:{port}/{SECRET}")
    except SendingError as error:
        said += [repr(error), str(error), *traceback.format_exception(error, chain=True)]
    for text in said:
        # The lines of code in a traceback say SECRET, never what it is.
        assert SECRET not in text
        assert "s3cr3t" not in text


# --- configuration ---------------------------------------------------------------------------------------------------


def test_every_mistake_is_named_with_its_place():
    table = {
        "nmae": "x",
        "name": 3,
        "factor": 1,
        "retrain": {"windows": -1, "share": "all"},
        "log": {},
        "prometheus": {"file": "x.txt", "job": ""},
        "webhook": {
            "a": {"url": "example.org/" + SECRET, "form": "teams"},
            "b": {"retries": 1.5, "timeout": 0},
            "c": {"url": "env:1X", "headers": {"Host": "x", "A": "a\nb", "B b": "c", "D": 1}, "tmieout": 1},
            "d": "https://example.org/" + SECRET,
            "e\nf": {"x\ny": 1},
        },
    }
    with pytest.raises(ValueError, match=r"drift\.toml") as failure:
        read_settings(table, "drift.toml: alerts")
    text = str(failure.value)
    assert SECRET not in text
    assert "\n" not in text
    for place in [
        "nmae", "name", "factor", "retrain.windows", "retrain.share", "log.to", "prometheus.file", "prometheus.job",
        "webhook.a.url", "webhook.a.form", "webhook.b.url", "webhook.b.retries", "webhook.b.timeout", "webhook.c.url",
        "webhook.c.headers.Host", "webhook.c.headers.A", "webhook.c.headers", "webhook.c.headers.D",
        "webhook.c.tmieout", "webhook.d", r"webhook.'e\nf'.url", r"webhook.'e\nf'.'x\ny'",
    ]:  # fmt: skip
        assert f"drift.toml: alerts.{place}: " in text, place


def test_missing_secrets_are_all_named_before_anything_happens(tmp_path, monkeypatch):
    monkeypatch.delenv("HOOK", raising=False)
    monkeypatch.setenv("OTHER", "nonsense " + SECRET)
    table = {"a": {"url": "env:HOOK"}, "b": {"url": "env:OTHER"}}
    with pytest.raises(
        ValueError, match="webhook a: environment variable HOOK is not set; alerts: webhook b: url"
    ) as failure:
        run_alerts([Window(DAYS[0], (drift(),))], read_settings({"webhook": table}), tmp_path / "state")
    assert SECRET not in str(failure.value)
    assert not list(tmp_path.iterdir())


def test_the_defaults_are_those_that_are_documented():
    assert read_settings({}) == Settings()
    hook = read_settings({"webhook": {"a": {"url": "https://example.org"}}}).webhooks["a"]
    assert hook == Webhook(Address("https://example.org"))
    assert (hook.timeout, hook.retries, hook.form) == (10.0, 3, "json")


def test_a_run_that_cannot_remember_sends_nothing(server, tmp_path):
    with pytest.raises(OSError, match="No such file"):
        run_alerts([Window(DAYS[0], (drift(),))], configured(server.url), tmp_path / "none" / "state")
    (tmp_path / "state").write_text("{}")
    with pytest.raises(ValueError, match="not a readable alert state"):
        run_alerts([Window(DAYS[0], (drift(),))], configured(server.url), tmp_path / "state")
    assert not server.requests


def test_a_channel_that_left_the_configuration_keeps_its_messages(tmp_path):
    events, state = advance(AlertState(), [Window(DAYS[0], (drift(),))])
    kept.save(tmp_path / "state", kept.queued(Memory(state), events, ["webhook gone"]))
    outcome = run_alerts([Window(DAYS[1], (drift(),))], Settings(), tmp_path / "state")
    assert outcome.unsent == {"webhook gone": 1}
