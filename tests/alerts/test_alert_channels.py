"""How alerts look in every channel, with names that want to be more than names."""

from __future__ import annotations

import base64
import dataclasses
import html
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.alert_servers import grouping_key, samples
from support.example_document import HOSTILE_NAMES

from gpudrift.alerts import channels
from gpudrift.alerts.channels import (
    Gauges,
    alert_lines,
    event_document,
    log_lines,
    prometheus_text,
    push_path,
    slack_document,
    title,
)
from gpudrift.alerts.events import AlertState, Window, advance
from gpudrift.judging.findings import Finding

EVIL = [
    *HOSTILE_NAMES,
    "<!channel> <!here|x> <@U012AB3CD> <https://evil.example|click>",
    "*bold* _it_ ~no~ `code` ```block``` >quote :fire: @everyone",
    '<script>alert("x")</script>',
    'a",x="1"} 9\ngpudrift_retrain{watch="w"} 1\n# EOF\n',
    'back\\slash\\n and \\" and \\',
    "carriage\rreturn\x0b\x0c\x1c\x85\u2028\u2029",
    "&amp;&lt;!channel&gt;",
    "{braces} %s $x \x00 \x7f",
    "😀" * 2000,
    "&" * 5000,
]
WHEN = "2026-11-23"
names = st.sampled_from(EVIL) | st.text(max_size=60)


def finding(column, value=0.3, segment=None, severity="moderate", rule="psi", reason="psi 0.3 ≥ 0.1"):
    return Finding("drift", rule, column, severity, reason, value, limit=0.1, segment=segment)


def opened(*findings):
    [event], state = advance(AlertState(), [Window(WHEN, findings)])
    return event, state


evil_events = st.lists(
    st.builds(finding, column=st.none() | names, segment=st.none() | names, reason=names, rule=names),
    min_size=1,
    max_size=6,
).map(lambda found: opened(*found))


def slack_texts(document):
    return [document["text"], *(block["text"]["text"] for block in document["blocks"])]


@settings(max_examples=200, deadline=None)
@given(evil_events, names)
def test_slack_reads_no_markup_in_any_name(made, watch):
    event, _ = made
    document = slack_document(event, watch, lost=2)
    text = json.dumps(document)
    assert text.isascii()
    assert len(document["blocks"]) == 3
    for block, limit in zip(document["blocks"], (150, 3000, 3000), strict=True):
        assert block["text"]["type"] == "plain_text"
        assert block["text"]["emoji"] is False
        assert 0 < len(block["text"]["text"].encode("utf-16-le")) // 2 <= limit
    assert document["mrkdwn"] is False
    for one in slack_texts(document):
        assert "<" not in one
        assert ">" not in one
        bare = one.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
        assert "&" not in bare, "an escape that was cut in two"
        assert all(c.isprintable() or c == "\n" for c in one)


@pytest.mark.parametrize("text", ["&" * 99, "<a>" * 33, "😀" * 99, "ab😀&" * 25])
def test_a_cut_for_slack_is_never_too_long_and_never_in_an_escape(text):
    for limit in range(2, 120):
        cut = channels._for_slack(text, limit)
        assert len(cut.encode("utf-16-le")) // 2 <= limit
        assert text.startswith(html.unescape(cut.removesuffix("…")))
    assert html.unescape(channels._for_slack(text, 1000)) == text


def test_slack_shows_names_as_they_are():
    event, _ = opened(finding("<!channel> & *co*", segment="country=<AT>"))
    document = slack_document(event, "R&D")
    header, section, rest = (html.unescape(block["text"]["text"]) for block in document["blocks"])
    assert header == "R&D: new: <!channel> & *co* (moderate, window 2026-11-23)"
    assert section == "• <!channel> & *co* [country=<AT>]: psi 0.3 ≥ 0.1 (moderate)"
    assert rest == "segments: country=<AT>"


def test_slack_counts_what_it_leaves_out_and_what_was_lost():
    event, _ = opened(*(finding(f"column {number}", 0.3 + number) for number in range(5000)))
    header, section, rest = (b["text"]["text"] for b in slack_document(event, "w", lost=7)["blocks"])
    assert header.startswith("w: new: column 4999, column 4998 and 4,998 more columns")
    assert section.count("\n") == 19
    assert rest.splitlines() == [
        "and 4,980 more findings",
        "7 earlier messages were dropped: too many were waiting for this address",
    ]
    event, _ = opened(*(finding("&" * 200 + str(number), reason="&" * 300) for number in range(30)))
    _, section, rest = (b["text"]["text"] for b in slack_document(event, "w")["blocks"])
    assert section.endswith("…")
    assert rest == "and 10 more findings", "however long the names are"


@settings(max_examples=200, deadline=None)
@given(evil_events, names)
def test_the_webhook_has_every_name_unchanged_in_ascii(made, watch):
    event, _ = made
    text = json.dumps(event_document(event, watch), allow_nan=False)
    assert text.isascii()
    assert text.isprintable()
    document = json.loads(text)
    assert document["watch"] == watch
    given_names = [(a.finding.column, a.finding.segment, a.finding.rule, a.finding.reason) for a in event.alerts]
    assert [(f["column"], f["segment"], f["rule"], f["reason"]) for f in document["findings"]] == given_names
    assert document["title"].isprintable()


def test_the_webhook_says_what_since_when_how_much_where_and_what_moved_together():
    drift = (finding("age", 0.5, "country=AT", "major"), finding("city", 0.2))
    events, state = advance(AlertState(), [Window("2026-11-21", drift)])
    [event], _ = advance(state, [Window(WHEN, (dataclasses.replace(drift[0], value=0.9), drift[1]))])
    document = event_document(event, "churn")
    assert document == {
        "format": "gpudrift/alert/1",
        "id": event.id,
        "watch": "churn",
        "event": "grew",
        "title": "churn: increased: age (major, window 2026-11-23)",
        "window": WHEN,
        "since": "2026-11-21",
        "severity": "major",
        "columns": ["age"],
        "segments": ["country=AT"],
        "findings": [
            {
                "kind": "drift",
                "rule": "psi",
                "column": "age",
                "segment": "country=AT",
                "severity": "major",
                "reason": "psi 0.3 ≥ 0.1",
                "value": 0.9,
                "low": None,
                "high": None,
                "limit": 0.1,
                "told": 0.5,
                "since": "2026-11-21",
            }
        ],
        "left_out": 0,
        "lost": 0,
    }
    assert events[0].columns == ("age", "city")


def test_the_webhook_is_bounded():
    event, _ = opened(*(finding(f"column {number}") for number in range(3000)))
    document = event_document(event, "w")
    assert len(document["findings"]) == len(document["columns"]) == channels.MOST_FINDINGS
    assert document["left_out"] == 2000


@settings(max_examples=200, deadline=None)
@given(evil_events, names)
def test_the_log_has_one_line_of_json_a_finding(made, watch):
    event, _ = made
    lines = log_lines(event, watch, "2026-11-23T16:00:00+00:00")
    assert len(lines) == len(event.alerts)
    for line, alert in zip(lines, event.alerts, strict=True):
        assert line.isascii()
        assert line.isprintable()
        entry = json.loads(line)
        assert entry["column"] == alert.finding.column
        assert entry["event"] == "opened"
        assert entry["since"] == WHEN


@settings(max_examples=200, deadline=None)
@given(evil_events, names)
def test_lines_for_people_hold_nothing_that_a_terminal_obeys(made, watch):
    event, _ = made
    for line in [title(event, watch), *alert_lines(event)]:
        assert line.isprintable()
        assert len(line) < 1500


# --- Prometheus ------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(names, st.none() | names, st.sampled_from([None, 0.0, 0.25, 1e-300, 1e300])), max_size=8))
@example(
    [('a",x="1"} 9\nb 1', None, 0.1), ("a\\", "\n", 0.2), ("a\x1b", None, 0.1), ("a\\x1b", None, 0.1), ("", "", 1.0)]
)
def test_prometheus_reads_every_name_back(found):
    watch = 'w "\\\n'
    _, state = advance(AlertState(), [Window(WHEN, tuple(finding(c, v, s) for c, s, v in found))])
    text = prometheus_text(state, watch, Gauges(1.5e9, 4, {"log": 0, "webhook x": 2}))
    read = samples(text)
    severities = {
        dict(labels)["column"]: v for (name, labels), v in read.items() if name == "gpudrift_finding_severity"
    }
    short = {a.finding.column for a in state.alerts.values() if len(a.finding.column) <= 200}
    sound = {name.encode("utf-8", "backslashreplace").decode() or '""' for name in short}
    assert sound <= set(severities)
    assert set(severities.values()) <= {1.0, 2.0}
    wanted = [a.finding.value for a in state.alerts.values() if a.finding.value is not None]
    assert sorted(v for (name, _), v in read.items() if name == "gpudrift_finding_value") == sorted(wanted)
    assert {dict(labels)["watch"] for _, labels in read} == {watch}
    own = frozenset({("watch", watch)})
    assert read["gpudrift_drifted_columns", own] == len({a.finding.column for a in state.alerts.values()})
    assert read["gpudrift_judged_columns", own] == 4
    assert read["gpudrift_retrain", own] == 0
    assert read["gpudrift_unsent_messages", own | {("channel", "webhook x")}] == 2
    assert text.endswith("\n")


def test_series_are_bounded_and_the_largest_stay():
    found = tuple(finding(f"column {number}", 0.2 + number) for number in range(50))
    _, state = advance(AlertState(), [Window(WHEN, found)])
    read = samples(prometheus_text(state, "w", Gauges(0.0), 7))
    values = sorted(v for (name, _), v in read.items() if name == "gpudrift_finding_value")
    assert values == [0.2 + number for number in range(43, 50)]
    own = frozenset({("watch", "w")})
    assert read["gpudrift_findings_left_out", own] == 43
    assert read["gpudrift_findings", own | {("kind", "drift"), ("severity", "moderate")}] == 50


@pytest.mark.parametrize("pair", [("", '""'), ("\ud800", "\\ud800")])
def test_names_that_look_the_same_are_one_series_and_counted(pair):
    _, state = advance(AlertState(), [Window(WHEN, tuple(map(finding, pair)))])
    read = samples(prometheus_text(state, "w", Gauges(0.0)))  # it fails on a series that stands there twice
    [labels] = [dict(labels) for name, labels in read if name == "gpudrift_finding_value"]
    assert set(labels) == {"watch", "kind", "rule", "column", "segment"}
    assert labels["column"] == pair[1]
    assert read["gpudrift_findings_left_out", frozenset({("watch", "w")})] == 1


def test_long_names_that_begin_alike_are_two_series():
    _, state = advance(AlertState(), [Window(WHEN, (finding("x" * 300 + "a"), finding("x" * 300 + "b")))])
    read = samples(prometheus_text(state, "w", Gauges(0.0)))
    assert sum(name == "gpudrift_finding_value" for name, _ in read) == 2
    assert all(len(value) < 250 for _, labels in read for _, value in labels)


@given(names.filter(bool), names.filter(bool))
def test_a_push_goes_to_its_own_group(job, watch):
    path = push_path(job, watch)
    assert path.isascii()
    assert path.isprintable()
    sound = [text.encode("utf-8", "backslashreplace").decode() for text in (job, watch)]
    assert grouping_key(path) == dict(zip(("job", "watch"), sound, strict=True))


def test_plain_names_of_groups_stay_readable():
    assert push_path("gpudrift", "churn") == "/metrics/job/gpudrift/watch/churn"
    assert push_path("a/b", "churn").startswith(f"/metrics/job@base64/{base64.urlsafe_b64encode(b'a/b').decode()}/")


@pytest.mark.parametrize("change", ["opened", "grew", "shrank", "ended", "retrain"])
def test_every_change_has_words(change):
    event, _ = opened(finding("a"), finding("b"), finding("c"), finding("d"), finding(None))
    text = title(dataclasses.replace(event, change=change), "w")
    assert text.startswith("w: ")
    assert len(set(text)) > 5
