"""Entries: one encoding for each value, and nothing else decodes."""

import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentlog.ledger.codec import format_time, parse_time
from latentlog.ledger.commitment import FIELDS
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import (
    KINDS,
    Abandoned,
    Entry,
    Generation,
    RecorderEntry,
    Seal,
    decode_entry,
    seal_message,
)
from latentlog.ledger.errors import BadSignature, MalformedEntry
from latentlog.ledger.merkle import root_of
from tests.builders import LOG_KEY, ORIGIN, START, digest, every_kind, make_model


def make_seal(first: int = 4, count: int = 2) -> Seal:
    root = root_of([digest(i) for i in range(count)])
    return Seal(
        signer="operator",
        key=LOG_KEY.public,
        first=first,
        count=count,
        root=root,
        time=START,
        signature=LOG_KEY.sign(seal_message(ORIGIN, first, count, root, START)),
    )


ALL = [*every_kind(), make_seal()]


def test_every_kind_is_covered() -> None:
    assert {entry.kind for entry in ALL} == set(KINDS)


@pytest.mark.parametrize("entry", ALL, ids=lambda e: e.kind)
def test_entry_survives_encoding(entry: Entry) -> None:
    assert decode_entry(entry.encode()) == entry


@pytest.mark.parametrize("entry", ALL, ids=lambda e: e.kind)
def test_every_member_is_required_and_no_other_is_known(entry: Entry) -> None:
    members = json.loads(entry.encode())
    for name in members:
        if name not in entry.optional:
            refused({k: v for k, v in members.items() if k != name})
    refused({**members, "note": "hello"})
    refused({**members, "v": 1})
    refused({**members, "v": False})


@pytest.mark.parametrize("entry", ALL, ids=lambda e: e.kind)
def test_every_member_refuses_values_of_another_type(entry: Entry) -> None:
    members = json.loads(entry.encode())
    for name, value in members.items():
        others: list[object] = [None, True, -1, "", "\x00", [], {}, [value], "ZZ", 2**53 - 1]
        for other in others:
            if other != value and not plausible(entry, name, other):
                refused({**members, name: other})


def plausible(entry: Entry, name: str, other: object) -> bool:
    """Some of the odd values are allowed ones: huge numbers, any text, a flag that is true."""
    if other == 2**53 - 1:
        return name in ("epoch", "index", "sampled") or (name == "first" and entry.kind == "seal")
    if other == "ZZ":
        return name in ("pipeline", "case", "ground")
    return other is True and name in ("after_notice", "late")


def refused(members: dict[str, object]) -> None:
    encoded = json.dumps(
        members, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
    with pytest.raises(MalformedEntry):
        decode_entry(encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"kind":"seal","v":0} ',
        b'{"kind":["seal"],"v":0}',
        b'{"kind":"reservation","kind":"seal","v":0}',
        b"[" * 60_000,
        b"\xff",
        b" " * 70_000,
    ],
)
def test_bytes_that_are_no_entry_are_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedEntry):
        decode_entry(encoded)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_random_bytes_raise_our_error_only(encoded: bytes) -> None:
    with pytest.raises(MalformedEntry):
        decode_entry(encoded)


@given(st.sampled_from(ALL), st.data())
@settings(max_examples=400, deadline=None)
def test_a_changed_byte_never_decodes_to_the_same_entry(entry: Entry, data: st.DataObject) -> None:
    encoded = bytearray(entry.encode())
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    with suppress(MalformedEntry):
        assert decode_entry(bytes(encoded)) != entry


@given(
    st.integers(0, 2**53 - 1),
    st.integers(0, 2**40 - 1),
    st.sets(st.sampled_from(FIELDS)),
    st.booleans(),
)
def test_a_generation_is_written_out_as_canonical_json(
    epoch: int, counter: int, fields: set[str], late: bool
) -> None:
    commitments = {name: digest(name) for name in {*fields, "latent"}}
    source = "seed" if "seed" in fields else "schedule"
    entry = Generation(
        epoch=epoch, counter=counter, source=source, commitments=commitments, late=late
    )
    assert decode_entry(entry.encode()) == entry


def test_late_is_written_only_when_true() -> None:
    entry = Generation(
        epoch=0, counter=1, source="schedule", commitments={"latent": digest("latent")}
    )
    assert b'"late"' not in entry.encode()
    spelled = entry.encode().replace(b'"source"', b'"late":false,"source"')
    with pytest.raises(MalformedEntry):
        decode_entry(spelled)


def test_a_seed_is_committed_to_exactly_by_entries_of_source_seed() -> None:
    commitments: dict[str, Digest] = {name: digest(name) for name in FIELDS}
    seed = Generation(epoch=0, counter=1, source="seed", commitments=commitments)
    assert decode_entry(seed.encode()) == seed
    for wrong in (
        Generation(epoch=0, counter=1, source="schedule", commitments=commitments),
        Generation(epoch=0, counter=1, source="seed", commitments={"latent": digest("latent")}),
        Generation(epoch=0, counter=1, source="schedule", commitments={"sketch": digest("s")}),
    ):
        with pytest.raises(MalformedEntry):
            decode_entry(wrong.encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"range": (1.0, -1.0)},
        {"range": (0.0, 0.0)},
        {"steps": 5},
        {"generator_kind": "flow"},
        {"output_shape": (3, 4)},
        {"latent_shape": ()},
        {"latent_shape": (1 << 31, 2)},
        {"name": "Faces"},
        {"name": "x" * 65},
    ],
)
def test_a_model_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedEntry):
        decode_entry(replace(make_model(), **changes).encode())


def test_no_recorder_is_called_operator() -> None:
    entry = RecorderEntry(name="operator", key=LOG_KEY.public, state="active")
    with pytest.raises(MalformedEntry):
        decode_entry(entry.encode())


def test_a_range_ends_with_the_last_latent_of_an_epoch() -> None:
    at_the_end = Abandoned(epoch=0, first=(1 << 40) - 1, count=1, reason="crashed")
    assert decode_entry(at_the_end.encode()) == at_the_end
    beyond = Abandoned(epoch=0, first=(1 << 40) - 1, count=2, reason="crashed")
    with pytest.raises(MalformedEntry):
        decode_entry(beyond.encode())


def test_a_seal_signs_log_place_root_and_time() -> None:
    seal = make_seal()
    seal.verify(ORIGIN)
    fields = {name: getattr(seal, name) for name in seal.codecs}
    for changed in (
        {"first": 5},
        {"count": 3},
        {"root": digest("another root")},
        {"time": START.replace(minute=31)},
    ):
        with pytest.raises(BadSignature):
            Seal(**{**fields, **changed}).verify(ORIGIN)
    with pytest.raises(BadSignature):
        seal.verify("another.example/log")


def test_a_batch_holds_at_most_256_entries() -> None:
    assert decode_entry(make_seal(count=256).encode())
    with pytest.raises(MalformedEntry):
        decode_entry(make_seal(count=257).encode())


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T09:30:00",
        "2026-01-31T09:30:00.5Z",
        "2026-1-31T09:30:00Z",
        "2026-02-30T00:00:00Z",
    ],
)
def test_times_have_one_spelling(text: str) -> None:
    assert parse_time(format_time(START)) == START
    with pytest.raises(MalformedEntry):
        parse_time(text)


def test_the_format_is_the_documented_one() -> None:
    """Digests of the entries above: whoever changes one of these changes the format."""
    assert {f"{n} {e.kind}": Digest.of(e.encode()).hex()[:16] for n, e in enumerate(ALL)} == GOLDEN


def test_the_documents_examples_are_the_entries_above() -> None:
    page = Path(__file__).parents[2] / "docs/formats/entries.md"
    examples = re.findall(r"```json\n(.*)\n```", page.read_text(encoding="utf-8"))
    shown = [decode_entry(example.encode()) for example in examples]
    assert {entry.kind for entry in shown} == set(KINDS)
    assert all(entry in ALL for entry in shown)


GOLDEN = {
    "0 model": "d2814d5e7333e49b",
    "1 recorder": "12c94c0094d8ef92",
    "2 epoch-open": "2e4e79fe21b27c2a",
    "3 reservation": "28d40a0bcf5b11ec",
    "4 generation": "84ebbefdc0d83af5",
    "5 generation": "3c96a073e846b871",
    "6 abandoned": "f9ef4fea262a75b4",
    "7 epoch-close": "738a3366951e74ea",
    "8 calibration": "3aea0ef58ebab9f8",
    "9 disclosure": "dbcd9df6a4dcef3b",
    "10 erasure": "820ac1cb5dc4403f",
    "11 audit": "ff05945ca254e289",
    "12 seal": "dc9919c0e8fbee4d",
}
