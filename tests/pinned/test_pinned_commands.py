"""The commands print, write and exit as they did.

Where a message was reworded on purpose, ``python tests/pinned/make.py --texts`` writes the texts anew.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import pinned_commands
import pytest
from pinned_documents import DOCUMENTS, HERE, assert_same, pinned, with_kept_reals


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> pinned_commands.Told:
    return pinned_commands.tell(tmp_path_factory.mktemp("commands"))


def test_each_chapter_and_document_has_its_file():
    def names(folder: Path) -> set[str]:
        return {path.name for path in folder.iterdir()}

    assert names(pinned_commands.TEXTS) == {f"{chapter}.txt" for chapter in pinned_commands.CHAPTERS}
    saved = {name for name in names(DOCUMENTS) if name.startswith("saved")}
    assert names(DOCUMENTS) == {*pinned_commands.PARTS, *saved}


@pytest.mark.parametrize("chapter", pinned_commands.CHAPTERS)
def test_what_the_commands_print(chapter, told):
    kept = (pinned_commands.TEXTS / f"{chapter}.txt").read_text("utf-8")
    found = with_kept_reals(told.texts[chapter], kept)
    if found != kept:
        changed = difflib.unified_diff(kept.splitlines(), found.splitlines(), "pinned", "found", lineterm="", n=2)
        advice = "on purpose? python tests/pinned/make.py --texts"
        pytest.fail("\n".join([*changed, advice, HERE]), pytrace=False)


@pytest.mark.parametrize("name", pinned_commands.PARTS)
def test_what_the_commands_write(name, told):
    assert_same(told.documents[name], pinned(name))
