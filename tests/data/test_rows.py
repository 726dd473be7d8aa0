"""Rows in plain form."""

from __future__ import annotations

import datetime
import decimal

import numpy
import pytest

from rosd_kit.data.rows import MAX_DEPTH, look_up, plain_row, scrubbed
from rosd_kit.data.source import Source, matches

MIDNIGHT = datetime.datetime(2024, 5, 1)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (1.0, "1"),
        (-0.0, "0"),
        (2.5, "2.5"),
        (1e300, "1e+300"),
        (float(2**53), str(float(2**53))),
        (2**80, str(2**80)),
        (True, "True"),
        (float("nan"), "None"),
        (numpy.float64(0.1), "0.1"),
        (numpy.int8(3), "3"),
        (numpy.array([[1.0, 2.5]]), "[[1, 2.5]]"),
        ((1, (2.0,)), "[1, [2]]"),
        (decimal.Decimal("1.50"), "1.5"),
        (decimal.Decimal("3.00"), "3"),
        (decimal.Decimal("0.1234567890123456789"), "0.1234567890123456789"),
        (datetime.date(2024, 5, 1), "2024-05-01"),
        (MIDNIGHT, "2024-05-01"),
        (MIDNIGHT.replace(hour=7), "2024-05-01T07:00:00"),
        (MIDNIGHT.replace(hour=7, tzinfo=datetime.UTC), "2024-05-01T07:00:00Z"),
        (MIDNIGHT.replace(tzinfo=datetime.UTC), "2024-05-01T00:00:00Z"),
        (datetime.time(7, 30), "07:30:00"),
        ({"a": None, "b": {"c": None}, "d": [None, {"e": None}]}, "{'b': {}, 'd': [None, {}]}"),
        ([("a", 1.0), ("b", None)], "{'a': 1}"),
        (b"raw", "b'raw'"),
    ],
)
def test_values_have_one_form(value, plain):
    assert str(plain_row({"x": value})["x"]) == plain


def test_a_row_keeps_its_own_null_columns_and_says_where_it_is_from():
    row = plain_row({"a": None, 2: "b"}, "rows.csv", 3)
    assert row == {"a": None, "2": "b"} and str(row) == "{a: None, 2: 'b'}, row 3 of rows.csv"


def test_a_row_that_is_nested_too_deep_says_so():
    value: object = "x"
    for _ in range(5000):
        value = [value]
    row = plain_row({"x": value})
    assert row["x"] is None and row.fault == f"'x' is nested deeper than {MAX_DEPTH} levels."


def test_scrubbed_rows_can_be_written():
    row = plain_row({"a\ud800": ["\udfff", {"b": "ok \ud83d"}]})
    assert scrubbed(row) == {"a\ufffd": ["\ufffd", {"b": "ok \ufffd"}]}


@pytest.mark.parametrize(
    ("values", "where", "kept"),
    [
        ({"level": "3"}, {"level": 3}, True),
        ({"level": 3}, {"level": ["2", "3"]}, True),
        ({"level": 3.0}, {"level": 3}, True),
        ({"level": "3x"}, {"level": 3}, False),
        ({"good": "true"}, {"good": True}, True),
        ({"good": True}, {"good": "True"}, True),
        ({"good": "yes"}, {"good": True}, False),
        ({"a": None}, {"a": None}, True),
        ({"b": 1}, {"a": [None, 2]}, True),
        ({"a": 1}, {"a": None}, False),
        ({"a.b": 1}, {"a.b": 1}, True),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, True),
    ],
)
def test_where_compares_what_rows_say_not_how_a_reader_types_it(values, where, kept):
    assert matches(plain_row(values), Source(where=where).where) is kept


def test_lookups_end_where_the_path_does():
    row = plain_row({"a": [{"b": "x"}]})
    assert look_up(row, ["a", "0", "b"]) == "x" and look_up(row, []) == row
