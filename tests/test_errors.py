"""The exceptions that callers tell apart."""

from __future__ import annotations

import pickle

import pytest

import gpudrift as gd
from gpudrift.errors import UnknownColumnError, did_you_mean, missing_column


def test_an_unknown_column_is_a_value_error_that_says_what_there_is_and_travels_between_processes():
    with pytest.raises(gd.UnknownColumnError) as caught:
        gd.profile({"price": [1.0], "count": [2]}, columns=["prce"])
    error = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(error, ValueError)
    assert (error.option, error.name, error.known) == ("columns", "prce", ("price", "count"))
    assert str(error) == str(caught.value) == f"columns: no column 'prce' in {error.place}; did you mean 'price'?"


@pytest.mark.parametrize(
    ("name", "hint"), [("prce", "; did you mean 'price'?"), ("price", "; did you mean 'price'?"), ("zzz", ""), ("", "")]
)
def test_only_a_similar_name_is_suggested(name, hint):
    assert did_you_mean(name, ["price", "count"]) == hint


def test_a_column_is_unknown_only_where_it_was_asked_for_and_is_not_there():
    assert type(missing_column("time", "ts", "today.parquet", ["t"])) is UnknownColumnError
    assert type(missing_column("time", "ts", "today.parquet", None)) is ValueError
    assert type(missing_column("time", "ts", "today.parquet", ["ts"])) is ValueError
