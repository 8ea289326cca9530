"""The same work on a Dask cluster; the only package that imports Dask."""

from __future__ import annotations
