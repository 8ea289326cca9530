"""The JSON Schema of a comparison: what it takes and what it refuses."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest
from support.example_document import HOSTILE_NAMES, example_document


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    text = (resources.files("gpudrift") / "report" / "comparison-1.schema.json").read_text("utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def short_example() -> dict[str, Any]:
    document = example_document()
    return document | {"columns": document["columns"][:1]}


# --- the schema of the document


def test_the_example_is_valid_and_the_schema_itself_too(validator: jsonschema.Draft202012Validator) -> None:
    validator.check_schema(validator.schema)
    document = json.loads(json.dumps(example_document(), allow_nan=False))
    validator.validate(document)
    kinds = {column["kind"] for column in document["columns"]}
    severities = {column["severity"] for column in document["columns"]}
    known = validator.schema["$defs"]["column"]["properties"]
    assert kinds == set(known["kind"]["enum"])
    assert severities == set(known["severity"]["enum"])
    assert set(HOSTILE_NAMES) <= {column["name"] for column in document["columns"]}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], "gpudrift/comparison/2"),
        (["surprise"], 1),
        (["backend"], None),
        (["schema_digest"], "abc"),
        (["reference", "rows"], -1),
        (["current", "fingerprint"], "F" * 64),
        (["summary", "share"], 1.5),
        (["summary", "surprise"], 1),
        (["schema", 0, "finding"], "renamed"),
        (["columns", 0, "kind"], "float"),
        (["columns", 0, "severity"], "huge"),
        (["columns", 0, "severity"], "none"),
        (["columns", 0, "drifted"], False),
        (["columns", 0, "reason"], None),
        (["columns", 0, "surprise"], 1),
        (["columns", 0, "reference", "surprise"], 1),
        (["columns", 0, "reference", "rows"], 1.5),
        (["columns", 0, "distribution", "surprise"], 1),
        (["columns", 0, "distribution", "reference", 0], 2.0),
        (["columns", 0, "distribution", "scale"], "log"),
        (["columns", 0, "distribution", "scale"], "logarithmic"),
        (["columns", 0, "distribution", "unit"], 1.0),
        (["columns", 0, "distribution", "points"], [{"value": 0}]),
        (["columns", 0, "statistics", "psi"], 0.3),
        (["columns", 0, "statistics", "psi"], {"value": 0.3}),
        (["columns", 0, "statistics", "psi", "surprise"], 1),
        (["columns", 0, "statistics", "ks", "p_value"], 2),
        (["columns", 0, "statistics", "ks"], {"value": 0.1}),
        (["columns", 0, "statistics", "ks"], {"value": None}),
        (["columns", 0, "statistics", "ks", "value"], float("inf")),
        (["columns", 0, "statistics", "further"], {"low": 1}),
    ],
)
def test_the_schema_refuses(validator: jsonschema.Draft202012Validator, path: list[Any], value: Any) -> None:
    document = short_example()
    assert validator.is_valid(document)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not validator.is_valid(document)


def test_every_key_of_the_document_and_of_a_column_is_required(
    validator: jsonschema.Draft202012Validator,
) -> None:
    for key in short_example():
        document = short_example()
        del document[key]
        assert not validator.is_valid(document), key
    for key in short_example()["columns"][0]:
        document = short_example()
        del document["columns"][0][key]
        assert not validator.is_valid(document), key


def test_the_schema_lets_undefined_and_further_statistics_pass(
    validator: jsonschema.Draft202012Validator,
) -> None:
    document = short_example()
    document["columns"][0]["statistics"]["ks"] = {"value": None, "reason": "no rows"}
    document["columns"][0]["statistics"]["energy"] = {"value": 0.1, "order": 2}
    document["columns"][0] |= {"distribution": None, "unit": None, "reference": None}
    validator.validate(document)
