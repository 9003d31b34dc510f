"""Commitments: the bytes hashed, what each input binds, and openings that read back."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentlog.ledger import canonical
from latentlog.ledger.commitment import (
    FIELDS,
    OpenedField,
    Opening,
    commit,
    open_commitment,
    value_of,
)
from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import MalformedOpening, WrongOpening

VALUE, SALT = Digest.of(b"value"), bytes(range(32))
PLACE: dict[str, Any] = {"origin": "example.com/log", "epoch": 2, "counter": 41}
SKETCH = "f0" * 32
GOLDEN = "b1dac08e467c9809f56a54cd17af9813d2d0e3187c0d0fef0991d12cdf95b42a"

OPENING = Opening(
    epoch=2,
    counter=41,
    fields={
        "latent": OpenedField(SALT, None),
        "conditioning": OpenedField(bytes(32), {"prompt": "a mayor at a lectern, élan"}),
        "sampler": OpenedField(b"\x02" * 32, {"scale": "7.5", "steps": 20}),
        "output_file": OpenedField(b"\x03" * 32, VALUE.hex()),
        "output_pixels": OpenedField(b"\x04" * 32, VALUE.hex()),
        "sketch": OpenedField(b"\x05" * 32, SKETCH),
        "compute": OpenedField(b"\x06" * 32, {"device": "cpu"}),
        "seed": OpenedField(b"\x07" * 32, {"rng": "torch.cpu", "seed": "42", "shape": [4]}),
    },
)


def test_the_bytes_hashed_are_those_of_the_protocol() -> None:
    context = (
        b"\0\0\0\x06latent"
        + (b"\0\0\0\x0fexample.com/log")
        + (2).to_bytes(8, "big")
        + (41).to_bytes(8, "big")
    )
    hashed = sha256(
        b"latentlog/commitment/v0\0" + len(context).to_bytes(4, "big") + context + SALT + VALUE
    )
    assert commit("latent", VALUE, SALT, **PLACE) == hashed.digest()


def test_a_golden_commitment() -> None:
    assert commit("sketch", VALUE, SALT, **PLACE).hex() == GOLDEN


def test_a_commitment_opens_to_its_value_only() -> None:
    commitment = commit("sampler", VALUE, SALT, **PLACE)
    assert open_commitment(commitment, "sampler", VALUE, SALT, **PLACE) == VALUE
    wrong: list[dict[str, Any]] = [
        {"field": "compute"},
        {"value": Digest.of(b"other")},
        {"salt": bytes(32)},
        {"origin": "example.com/log2"},
        {"epoch": 3},
        {"counter": 40},
        {"commitment": Digest.of(b"")},
    ]
    right = {"commitment": commitment, "field": "sampler", "value": VALUE, "salt": SALT, **PLACE}
    for change in wrong:
        with pytest.raises(WrongOpening):
            open_commitment(**{**right, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"field": "prompt"},
        {"salt": bytes(31)},
        {"value": b"short"},
        {"epoch": -1},
        {"counter": 2**64},
    ],
)
def test_impossible_commitments_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedOpening):
        commit(**{"field": "sampler", "value": VALUE, "salt": SALT, **PLACE, **change})


def test_the_value_of_every_field() -> None:
    content = {"prompt": "a"}
    for name in ("conditioning", "sampler", "compute", "seed"):
        assert value_of(name, content) == sha256(b'{"prompt":"a"}').digest()
    for name in ("output_file", "output_pixels"):
        assert value_of(name, VALUE.hex()) == VALUE
    assert value_of("sketch", SKETCH) == sha256(bytes.fromhex(SKETCH)).digest()


@pytest.mark.parametrize(
    ("field", "content"),
    [
        ("latent", None),
        ("output_file", None),
        ("output_file", "00"),
        ("sketch", "F0" * 32),
        ("sampler", {"scale": 7.5}),
        ("sampler", [1]),
        ("seed", "42"),
        ("prompt", {}),
    ],
)
def test_content_of_the_wrong_kind_has_no_value(field: str, content: Any) -> None:
    with pytest.raises(MalformedOpening):
        value_of(field, content)


def test_an_opening_reads_back() -> None:
    assert set(OPENING.fields) == set(FIELDS)
    assert Opening.decode(OPENING.encode()) == OPENING
    few = replace(OPENING, fields={"latent": OPENING.fields["latent"]})
    assert Opening.decode(few.encode()) == few


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8")), st.integers(0, 2**40), st.integers(0, 2**40))
def test_any_prompt_and_counter_read_back(prompt: str, epoch: int, counter: int) -> None:
    opening = Opening(epoch, counter, {"conditioning": OpenedField(SALT, {"prompt": prompt})})
    assert Opening.decode(opening.encode()) == opening


def changed(**members: Any) -> bytes:
    value = canonical.decode(OPENING.encode(), limit=1 << 20)
    return canonical.encode({**value, **members})


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"{}",
        OPENING.encode() + b" ",
        changed(kind="entry"),
        changed(v=1),
        changed(v=False),
        changed(more=1),
        changed(epoch=-1),
        changed(counter="1"),
        changed(counter=True),
        changed(fields=[]),
        changed(fields={"prompt": {"content": {}, "salt": SALT.hex()}}),
        changed(fields={"latent": {"content": None}}),
        changed(fields={"latent": {"content": "00", "salt": SALT.hex()}}),
        changed(fields={"latent": {"content": None, "salt": "00"}}),
        changed(fields={"latent": {"content": None, "salt": 5}}),
        changed(fields={"sketch": {"content": {}, "salt": SALT.hex()}}),
        changed(fields={"latent": []}),
    ],
)
def test_malformed_openings_are_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedOpening):
        Opening.decode(encoded)
