from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from quantum_db.errors import FieldError, InvalidRequest
from quantum_db.filters import MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES, Filter, matches, message_of, parse_key, path_of

FIELD = {"key": "source", "match": {"value": "arxiv"}}


def nested(levels: int) -> dict[str, Any]:
    raw: dict[str, Any] = {"must": [FIELD]}
    for _ in range(levels - 1):
        raw = {"must": [raw]}
    return raw


def passes(condition: dict[str, Any], **metadata: Any) -> bool:
    return matches(Filter.parse({"must": [condition]}), "e1", metadata)


# Parsing


def test_every_shape_is_read_and_written_back() -> None:
    raw = {
        "must": [
            FIELD,
            {"key": "year", "range": {"gte": 2020, "lt": 2025.5}},
            {"key": "tags[].name", "match": {"any": ["a", "b"]}},
            {"key": "n", "match": {"except": [1, 2]}},
            {"key": "title", "match": {"text": "quantum search"}},
            {"key": "authors", "values_count": {"gt": 1}},
        ],
        "should": [{"is_empty": {"key": "a.b"}}, {"is_null": {"key": "c"}}, {"must_not": [{"has_id": ["e1"]}]}],
        "must_not": [{"key": "hidden", "match": {"value": True}}],
    }
    parsed = Filter.parse(raw)
    assert Filter.parse(json.loads(parsed.model_dump_json(by_alias=True, exclude_defaults=True))) == parsed
    assert json.loads(json.dumps(parsed.model_dump(by_alias=True, exclude_defaults=True))) == raw
    assert pickle.loads(pickle.dumps(parsed)) == parsed
    assert hash(parsed) == hash(Filter.parse(raw))


def test_one_condition_stands_for_a_list_of_one_and_null_for_none() -> None:
    assert Filter.parse({"must": FIELD, "should": None}) == Filter.parse({"must": [FIELD]})
    assert Filter.parse({}) == Filter()
    assert matches(Filter(), "e1", {})


def test_the_schema_can_be_shown() -> None:
    schema = Filter.model_json_schema()
    assert schema["$defs"]["Match"]["properties"].keys() == {"value", "any", "except", "text"}
    assert {"type": "null"} in schema["$defs"]["Filter"]["properties"]["must"]["anyOf"]


@pytest.mark.parametrize(
    ("raw", "path", "message"),
    [
        ([], "filter", "must be an object"),
        ("must", "filter", "must be an object"),
        ({"musst": []}, "filter.musst", "is not a known field"),
        ({"must": [3]}, "filter.must[0]", "must be an object with one of key, is_empty"),
        ({"must": [FIELD, {"kye": 1}]}, "filter.must[1]", "must be an object with one of key, is_empty"),
        ({"should": [{**FIELD, "is_null": 1}]}, "filter.should[0].is_null", "is not a known field"),
        ({"must": [{"key": "a"}]}, "filter.must[0]", "needs exactly one of match, range, values_count"),
        ({"must": [{**FIELD, "range": {"gt": 1}}]}, "filter.must[0]", "needs exactly one of match, range"),
        ({"must": [{"key": 3, "match": {"value": 1}}]}, "filter.must[0].key", "must be a string"),
        ({"must": [{"key": "a..b", "match": {"value": 1}}]}, "filter.must[0].key", "must be names joined by dots"),
        ({"must": [{"key": "a" * 513, "match": {"value": 1}}]}, "filter.must[0].key", "at most 512"),
        ({"must": [{"key": "a", "match": 1}]}, "filter.must[0].match", "must be an object"),
        ({"must": [{"key": "a", "match": {}}]}, "filter.must[0].match", "needs exactly one of value, any"),
        ({"must": [{"key": "a", "match": {"value": 1.5}}]}, "filter.must[0].match.value", "64-bit integer"),
        ({"must": [{"key": "a", "match": {"value": 2**63}}]}, "filter.must[0].match.value", "64-bit integer"),
        ({"must": [{"key": "a", "match": {"value": ["x"]}}]}, "filter.must[0].match.value", "must be a string"),
        ({"must": [{"key": "a", "match": {"any": "abc"}}]}, "filter.must[0].match.any", "a list of strings or"),
        ({"must": [{"key": "a", "match": {"any": [1, "a"]}}]}, "filter.must[0].match.any", "a list of strings or"),
        ({"must": [{"key": "a", "match": {"except": [True]}}]}, "filter.must[0].match.except", "a list of strings or"),
        (
            {"must": [{"key": "a", "match": {"any": [0] * (MAX_VALUES + 1)}}]},
            "filter.must[0].match.any",
            f"at most {MAX_VALUES}",
        ),
        ({"must": [{"key": "a", "match": {"text": 1}}]}, "filter.must[0].match.text", "must be a string"),
        ({"must": [{"key": "a", "range": {}}]}, "filter.must[0].range", "needs at least one of gt, gte, lt, lte"),
        ({"must": [{"key": "a", "range": {"gt": "1"}}]}, "filter.must[0].range.gt", "must be a number"),
        ({"must": [{"key": "a", "range": {"gt": True}}]}, "filter.must[0].range.gt", "must be a number"),
        ({"must": [{"key": "a", "range": {"lt": float("inf")}}]}, "filter.must[0].range.lt", "finite"),
        ({"must": [{"key": "a", "values_count": {"gt": -1}}]}, "filter.must[0].values_count.gt", "greater than"),
        ({"must": [{"key": "a", "values_count": {"gt": 0.5}}]}, "filter.must[0].values_count.gt", "an integer"),
        ({"must": [{"is_empty": "a"}]}, "filter.must[0].is_empty", "must be an object"),
        ({"must": [{"is_null": {}}]}, "filter.must[0].is_null.key", "is required"),
        ({"must": [{"has_id": "e1"}]}, "filter.must[0].has_id", "must be a list"),
        ({"must": [{"has_id": ["e1", 2]}]}, "filter.must[0].has_id[1]", "must be a string"),
        (
            {"must": [{"should": [FIELD, {"must_not": [{"has_id": 1}]}]}]},
            "filter.must[0].should[1].must_not[0].has_id",
            "must be a list",
        ),
        (nested(MAX_DEPTH + 1), "filter", f"is nested deeper than {MAX_DEPTH} levels"),
        (nested(5000), "filter", f"is nested deeper than {MAX_DEPTH} levels"),
        ({"must": [FIELD] * (MAX_CONDITIONS + 1)}, "filter", f"has more than {MAX_CONDITIONS} conditions"),
        ({"must": [{"should": [FIELD] * 200}] * 2}, "filter", f"has more than {MAX_CONDITIONS} conditions"),
    ],
)
def test_a_wrong_shape_is_told_with_its_place(raw: Any, path: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        Filter.parse(raw)
    [found] = error.value.errors
    assert found.path == path
    assert message in found.message
    assert error.value.detail == f"{path}: {found.message}"


def test_all_wrong_places_are_told() -> None:
    raw = {"must": [{"has_id": 1}, {"key": "a", "range": {"gt": "x", "lt": "y"}}]}
    with pytest.raises(InvalidRequest) as error:
        Filter.parse(raw, "searches[2].filter")
    assert error.value.errors == (
        FieldError("searches[2].filter.must[0].has_id", "must be a list"),
        FieldError("searches[2].filter.must[1].range.gt", "must be a number"),
        FieldError("searches[2].filter.must[1].range.lt", "must be a number"),
    )


def test_the_limits_themselves_are_allowed() -> None:
    assert Filter.parse(nested(MAX_DEPTH))
    assert Filter.parse({"must": [FIELD] * MAX_CONDITIONS})


def test_a_filter_within_another_model_is_checked_alike() -> None:
    class Request(BaseModel):
        filter: Filter

    with pytest.raises(ValidationError) as error:
        Request.model_validate({"filter": {"must": [{"key": "a", "match": {"value": None}}]}})
    [found] = error.value.errors()
    assert path_of(found["loc"]) == "filter.must[0].match"
    assert message_of(found) == "needs exactly one of value, any, except, text"


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a", ("a",)),
        ("a.b-c._d", ("a", "b-c", "_d")),
        ("a[].b", ("a", None, "b")),
        ("a[0][12]", ("a", 0, 12)),
        ('"a.b c"[].d', ("a.b c", None, "d")),
        ("größe", ("größe",)),
    ],
)
def test_keys(key: str, path: tuple[str | int | None, ...]) -> None:
    assert parse_key(key) == path


@pytest.mark.parametrize("key", ["", ".", "a.", ".a", "a b", "a[", "a[x]", "[0]", "a]", '"a', '""', "a[-1]", "a$"])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(ValueError, match="names joined by dots"):
        parse_key(key)


# Meaning


def test_the_three_clauses() -> None:
    a, b = ({"key": "k", "match": {"value": v}} for v in ("a", "b"))
    both = {"k": ["a", "b"]}

    def holds(metadata: dict[str, Any], **clauses: Any) -> bool:
        return matches(Filter.parse(clauses), "e1", metadata)

    assert holds(both, must=[a, b])
    assert not holds({"k": "a"}, must=[a, b])
    assert holds({"k": "a"}, should=[a, b])
    assert not holds({"k": "c"}, should=[a, b])
    assert holds({"k": "c"}, should=[])
    assert holds({"k": "c"}, must_not=[a, b])
    assert not holds({"k": "a"}, must_not=[a, b])
    assert not holds({"k": "a"}, must=[b], should=[a])
    assert holds({"k": "a"}, must=[{"must_not": [b]}])


@pytest.mark.parametrize("value", ["1", 1, True])
def test_a_match_knows_the_types_of_json(value: Any) -> None:
    for other in ("1", 1, True, 1.0):
        same = type(other) is type(value)
        assert passes({"key": "k", "match": {"value": value}}, k=other) == same
        assert passes({"key": "k", "match": {"value": value}}, k=[other, None]) == same
        if not isinstance(value, bool):
            assert passes({"key": "k", "match": {"any": [value]}}, k=other) == same
            assert passes({"key": "k", "match": {"except": [value]}}, k=other) != same


def test_except_wants_some_value_that_is_not_listed() -> None:
    condition = {"key": "k", "match": {"except": ["a"]}}
    assert passes(condition, k=["a", "b"])
    assert not passes(condition, k=["a"])
    assert not passes(condition, k=None)
    assert not passes(condition)


def test_text_is_whole_words_in_any_order_and_case() -> None:
    for text, expected in (("SEARCH, quantum", True), ("quant", False), ("quantum gate", False), ("", False)):
        assert passes({"key": "k", "match": {"text": text}}, k="Quantum_search: a study") == expected
    assert not passes({"key": "k", "match": {"text": "1"}}, k=1)


def test_a_range_is_of_numbers() -> None:
    condition = {"key": "k", "range": {"gt": 0, "lte": 2}}
    assert [v for v in (0, 0.5, 1, 2, 2.5, True, "1", None) if passes(condition, k=v)] == [0.5, 1, 2]
    assert passes(condition, k=[9, 1])
    assert not passes(condition, k=[[1]])


def test_counting_values() -> None:
    for value, count in ((None, 0), ([], 0), ("a", 1), ({}, 1), (["a", None, "b"], 3)):
        assert passes({"key": "k", "values_count": {"gte": count, "lte": count}}, k=value)
    assert passes({"key": "k", "values_count": {"lt": 1}})


def test_empty_and_null() -> None:
    def kinds(**metadata: Any) -> tuple[bool, bool]:
        return passes({"is_empty": {"key": "k"}}, **metadata), passes({"is_null": {"key": "k"}}, **metadata)

    assert kinds() == (True, False)
    assert kinds(k=None) == (True, True)
    assert kinds(k=[]) == (True, False)
    assert kinds(k=[1, None]) == (False, True)
    assert kinds(k="") == (False, False)


def test_paths_lead_through_objects_and_lists() -> None:
    metadata = {"a": [{"b": 1}, {"b": [2, 3]}], "with space": {"x.y": 4}}
    for key, values in (("a[].b", {1, 2, 3}), ("a[0].b", {1}), ("a[1].b[1]", {3}), ('"with space"."x.y"', {4})):
        assert {v for v in range(6) if passes({"key": key, "match": {"value": v}}, **metadata)} == values
    assert not passes({"key": "a.b", "match": {"value": 1}}, **metadata)


def test_ids() -> None:
    assert passes({"has_id": ["e0", "e1"]})
    assert not passes({"has_id": []})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["must", "should", "must_not", "key", "match", "value", "any", "range", "gt", "has_id", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(raw=anything, metadata=st.dictionaries(st.text(max_size=2), anything, max_size=3))
def test_anything_is_either_read_or_refused(raw: Any, metadata: dict[str, Any]) -> None:
    try:
        parsed = Filter.parse(raw)
    except InvalidRequest as error:
        paths = [e.path for e in error.errors]
    else:
        paths = ["filter"]
        assert matches(parsed, "e1", metadata) in {True, False}
    assert paths
    assert all(path.startswith("filter") and "#" not in path for path in paths)
