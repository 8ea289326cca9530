"""Write anew what is pinned: python tests/pinned/make.py --texts

--texts      what the commands print (texts/*.txt): for messages that were reworded on purpose
--documents  reports and other JSON (documents/*.json)
--files      saved profiles, windows, a store, reports and a state of alerts (files/)
--digests    digests.json, of all tables; takes minutes

Only the first is for every day. The others are promises: a file that was written once is read by every later version,
and a table has the digest that it had. Look at the difference before you commit it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import click
import pinned_commands
import pinned_digests
import pinned_files
from pinned_documents import DOCUMENTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("texts", "documents", "files", "digests"):
        parser.add_argument(f"--{name}", action="store_true")
    asked = parser.parse_args()
    if not any(vars(asked).values()):
        parser.error("what is to be written?")
    if asked.digests:
        text = json.dumps(pinned_digests.made_digests(click.echo), indent=1)
        pinned_digests.DIGESTS.write_text(f"{text}\n", "utf-8")
    if asked.files:
        pinned_files.write_files()
    if not (asked.texts or asked.documents):
        return
    with tempfile.TemporaryDirectory() as folder:
        told = pinned_commands.tell(Path(folder))
    if asked.texts:
        written(pinned_commands.TEXTS, {f"{name}.txt": text for name, text in told.texts.items()})
    if asked.documents:
        documents = {**told.documents, **pinned_files.documents()}
        written(DOCUMENTS, {name: pinned_commands.as_text(one) for name, one in documents.items()})


def written(folder: Path, texts: dict[str, str]) -> None:
    """Write files instead of all that are there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
