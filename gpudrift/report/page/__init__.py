"""One page for a browser, drawn from a document: a single file that asks nothing of any network."""

from __future__ import annotations

from gpudrift.report.page.pages import page_of

__all__ = ["page_of"]
