"""A document as one file for a browser: the script, its styles and the contents, and a policy that allows no more.

Laws: the page asks nothing of any network, and evaluates nothing (its policy says so to the browser); the same document
gives the same page, byte for byte; text from the data is shown as text, whatever it holds.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gpudrift.report.headlines import headline
from gpudrift.report.page.contents import contents_of, text_of, today
from gpudrift.report.text import plain
from gpudrift.vocabulary import COMPARISON_FORMAT, MONITORING_FORMAT

__all__ = ["page_of"]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="gpudrift {version}">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'sha256-{hash}'; style-src \
'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<div id="page"><main class="still"><h1>{title}</h1>
<p>{sentence}</p>
<noscript><p>The rest of this page needs JavaScript.</p></noscript></main></div>
<script type="application/json" id="contents">{contents}</script>
<script>{script}</script>
</body>
</html>
"""


def page_of(document: Mapping[str, Any]) -> str:
    """A comparison or what became of a table over time, as one HTML page.

    Parameters
    ----------
    document : mapping
        Of the format ``gpudrift/comparison/1`` or ``gpudrift/monitoring/1``, as ``to_json`` writes it.

    Returns
    -------
    str
        A whole HTML document, to be written as UTF-8.

    Raises
    ------
    ValueError
        If the document is of another format.
    """
    if document.get("format") not in (COMPARISON_FORMAT, MONITORING_FORMAT):
        raise ValueError(
            f"page: the format is {document.get('format')!r}, expected {COMPARISON_FORMAT!r} or {MONITORING_FORMAT!r}; "
            "write one with --json of 'gpudrift compare' or 'gpudrift monitor'"
        )
    script, style = _built("app.js"), _built("app.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return _PAGE.format(
        version=html.escape(plain(str(document["version"]))),
        hash=digest,
        title=html.escape(_title(document)),
        style=style,
        sentence=html.escape(headline(document).sentence),
        contents=text_of(contents_of(document)),
        script=script,
    )


@cache
def _built(name: str) -> str:
    """A part of the page that is built from ``source/``, committed beside it and shipped."""
    return Path(__file__).with_name(name).read_text("utf-8")


def _title(document: Mapping[str, Any]) -> str:
    current = plain(document["current"]["source"].rstrip("/").rsplit("/", 1)[-1] or "a table", 60)
    return f"Drift of {current}, {today(document['created'])}"
