"""Canonical JSON: JCS vectors, agreement with the rfc8785 package, and everything refused."""

import json
import math
from typing import Any

import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentlog.ledger.canonical import (
    DEPTH_LIMIT,
    INTEGER_LIMIT,
    decimal,
    decode,
    encode,
    parse_decimal,
)
from latentlog.ledger.errors import MalformedDecimal, NotCanonical
from tests.ledger.vectors import vector_folder

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-INTEGER_LIMIT, INTEGER_LIMIT)
    | st.text(st.characters(codec="utf-8"))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("name", ["arrays", "french", "structures", "unicode", "values", "weird"])
def test_jcs_vectors(name: str) -> None:
    folder = vector_folder("rfc8785") / "testdata"
    text = (folder / "input" / f"{name}.json").read_bytes()
    expected = bytes.fromhex((folder / "outhex" / f"{name}.txt").read_text())
    if name in ("structures", "values"):
        with pytest.raises(NotCanonical, match="floats are not exact"):
            encode(json.loads(text))
    if name == "values":  # 333333333.33333329 and others that only a float holds
        return
    # ECMAScript has no integers: the vectors' 56.0 is the same number as 56.
    value = json.loads(text, parse_float=lambda number: int(float(number)))
    assert encode(value) == expected == (folder / "output" / f"{name}.json").read_bytes()


@given(VALUES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_encoding_agrees_with_the_rfc8785_package(value: Any) -> None:
    assert encode(value) == rfc8785.dumps(value)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES, max_size=5))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_decoding_inverts_encoding(value: dict[str, Any]) -> None:
    assert decode(encode(value)) == value


def test_keys_are_sorted_by_utf16_code_units() -> None:
    assert encode({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        {"a": math.nan},
        [2**53],
        -(2**53),
        {1: 2},
        {"a": b"bytes"},
        {"a": {1, 2}},
        "\ud800",
        {"\udc00": 1},
        # A non-ASCII key first must not switch the later checks off.
        [{"é": 1}, 1.5],
        {"é": 1, "z": 1.5},
        {"é": 1, "z": 2**53},
    ],
)
def test_values_without_an_exact_encoding_are_refused(value: Any) -> None:
    with pytest.raises(NotCanonical):
        encode(value)


def test_depth_is_bounded() -> None:
    value: Any = {}
    for _ in range(DEPTH_LIMIT - 1):
        value = {"a": value}
    assert decode(encode(value)) == value
    with pytest.raises(NotCanonical, match="deeper"):
        encode({"a": value})
    with pytest.raises(NotCanonical):
        decode(b"[" * 60_000)
    with pytest.raises(NotCanonical):
        decode(b'{"a":' * 10_000 + b"1" + b"}" * 10_000)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"{",
        b"[]",
        b'"a"',
        b"{} ",
        b' {"a":1}',
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":-0}',
        b'{"a":01}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":9007199254740992}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":"\\u00E9"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\x01"}',
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b'{"a":1}\n',
    ],
)
def test_only_canonical_bytes_are_decoded(encoded: bytes) -> None:
    with pytest.raises(NotCanonical):
        decode(encoded)


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_no_bytes_raise_anything_else(encoded: bytes) -> None:
    try:
        assert encode(decode(encoded)) == encoded
    except NotCanonical:
        pass


def test_size_is_bounded_at_the_limit() -> None:
    body = {"a": "x" * (65_535 - len(b'{"a":""}'))}
    assert len(encode(body)) == 65_535
    assert decode(encode(body)) == body
    with pytest.raises(NotCanonical, match="too large"):
        decode(encode({"a": body["a"] + "x"}))
    assert decode(encode({"a": body["a"] + "x"}), limit=70_000)


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimals_read_back_to_the_same_float(number: float) -> None:
    assert math.copysign(1, parse_decimal(decimal(number))) == math.copysign(1, number)
    assert parse_decimal(decimal(number)) == number


@pytest.mark.parametrize(
    "text", ["1", "1.00", "+1.0", "1e0", " 1.0", "1_0.0", "nan", "inf", "-inf", "1E-07", "", "٣.0"]
)
def test_other_spellings_of_decimals_are_refused(text: str) -> None:
    with pytest.raises(MalformedDecimal):
        parse_decimal(text)


def test_numbers_that_are_not_finite_are_not_written() -> None:
    for number in (math.nan, math.inf, -math.inf):
        with pytest.raises(MalformedDecimal):
            decimal(number)
    assert decimal(1e-7) == "1e-07"
    with pytest.raises(MalformedDecimal):
        parse_decimal(1.0)  # type: ignore[arg-type]
