"""``python -m gpudrift`` is ``gpudrift``."""

from __future__ import annotations

from gpudrift.cli.main import run

if __name__ == "__main__":
    run()
