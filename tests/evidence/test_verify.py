"""The offline verifier: sound bundles pass, and whatever is changed in one is named."""

import base64
import json
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from latentlog.evidence import dsse
from latentlog.evidence import verify as verify_module
from latentlog.evidence.bundle import (
    CHECKPOINT,
    MANIFEST,
    MANIFEST_TYPE,
    README,
    STATEMENT,
    Bundle,
    encode_manifest,
    verify_manifest,
    write_bundle,
)
from latentlog.evidence.container import decode_container, encode_container
from latentlog.evidence.errors import (
    MalformedBundle,
    MalformedTrust,
    ManifestDisagrees,
    UnreadableFile,
)
from latentlog.evidence.statement import PAYLOAD_TYPE, decode_statement, encode_statement
from latentlog.evidence.steps import STEPS
from latentlog.evidence.trust import Trust, load_trust, parse_trust
from latentlog.evidence.verify import Verification, verify
from latentlog.ledger import canonical
from latentlog.ledger.checkpoint import Checkpoint, sign_checkpoint
from latentlog.ledger.digest import Digest
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.note import NoteSigner
from tests.evidence import cases, schemas

OTHER_KEY = SigningKey(b"somebody else's key, 32 bytes!!!")

Parts = dict[str, bytes]


@cache
def _sound(outcome: str) -> Parts:
    return cases.parts(outcome, with_report=False)


def sound(outcome: str = "produced") -> Parts:
    return dict(_sound(outcome))


def trust(examiner: str = cases.EXAMINER_KEY.public.hex(), vkey: str | None = None) -> Trust:
    vkey = vkey or cases.SmallLog().vkey
    text = f'[logs]\n"{cases.ORIGIN}" = "{vkey}"\n[examiners]\n"Ms Example" = "{examiner}"\n'
    return parse_trust(text.encode())


def resigned(parts: Parts, key: SigningKey = cases.EXAMINER_KEY) -> Parts:
    """A dishonest examiner lists and signs the files again after changing them."""
    return parts | {MANIFEST: dsse.sign_envelope(MANIFEST_TYPE, encode_manifest(parts), key)}


def restated(
    change: Callable[[dict[str, Any]], object],
    outcome: str = "produced",
    key: SigningKey = cases.EXAMINER_KEY,
) -> Parts:
    """A dishonest examiner changes the statement's JSON and signs everything again."""
    parts = sound(outcome)
    fields = json.loads(dsse.parse_envelope(parts[STATEMENT]).payload)
    change(fields)
    parts[STATEMENT] = dsse.sign_envelope(PAYLOAD_TYPE, canonical.encode(fields), key)
    return resigned(parts, key)


def failed(parts: Parts, **how: Any) -> tuple[int, str]:
    """Return the number and words of the step that refused a broken bundle."""
    result = verify(Bundle(parts), trust(), **how)
    assert result.status == "broken", result
    assert result.failure is not None
    assert result.finding is None
    later = [step.ok for step in result.steps[result.failure.n :]]
    assert later == [None] * len(later)
    return result.failure.n, result.failure.detail


@pytest.mark.parametrize("outcome", cases.OUTCOMES)
def test_every_kind_of_finding_verifies(outcome: str) -> None:
    result = verify(Bundle(sound(outcome)), trust())
    assert result.failure is None
    assert result.status == "verified"
    assert [step.n for step in result.steps] == list(range(1, len(STEPS) + 1))
    assert result.finding is not None
    assert result.finding.reason in (outcome, *outcomes_that_are_not_named_by_their_reason)


outcomes_that_are_not_named_by_their_reason = (
    "digest_and_replay",
    "latent_and_replay",
    "nothing_within_envelope",
)


def test_a_zip_and_its_unpacked_folder_verify_alike(tmp_path: Path) -> None:
    write_bundle(tmp_path / "case.zip", sound())
    with zipfile.ZipFile(tmp_path / "case.zip") as archive:
        archive.extractall(tmp_path / "case")
    for name in ("case.zip", "case"):
        assert verify(tmp_path / name, trust()).status == "verified"


def test_the_same_case_makes_the_same_bytes() -> None:
    again = cases.parts("produced", with_report=False)
    assert encode_container(again) == encode_container(sound())


def test_without_trust_every_step_runs_and_the_keys_are_shown() -> None:
    result = verify(Bundle(sound()))
    assert result.status == "untrusted_signer"
    assert [step.ok for step in result.steps] == [True] * 12 + [False] * 2
    assert result.finding is not None
    log, examiner = result.signers
    assert (log.key, log.trusted) == (cases.SmallLog().vkey, False)
    assert (examiner.key, examiner.trusted) == (cases.EXAMINER_KEY.public.hex(), False)
    assert examiner.fingerprint == dsse.key_id(cases.EXAMINER_KEY.public)


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (lambda: trust(examiner=OTHER_KEY.public.hex()), [14]),
        (lambda: trust(vkey=NoteSigner(cases.ORIGIN, OTHER_KEY).verifier.vkey), [13]),
        (lambda: parse_trust(b""), [13, 14]),
        (lambda: Trust({}, {cases.EXAMINER_KEY.public: "Ms Example"}), [13]),
    ],
)
def test_untrusted_keys_are_named(given: Callable[[], Trust], refused: list[int]) -> None:
    result = verify(Bundle(sound()), given())
    assert result.status == "untrusted_signer"
    assert [step.n for step in result.steps if step.ok is False] == refused


def test_a_bundle_remade_whole_by_somebody_else_is_sound_and_untrusted() -> None:
    forged = restated(
        lambda s: s["predicate"]["examiner"].update(key=OTHER_KEY.public.hex()), key=OTHER_KEY
    )
    result = verify(Bundle(forged), trust())
    assert result.status == "untrusted_signer"
    assert [step.n for step in result.steps if step.ok is False] == [14]


def test_the_trusted_name_counts_not_the_claimed_one() -> None:
    forged = restated(lambda s: s["predicate"]["examiner"].update(name="The Court"))
    result = verify(Bundle(forged), trust())
    assert result.steps[13].detail.startswith("Ms Example")


# One changed byte.


def test_every_changed_byte_of_the_file_is_refused(tmp_path: Path) -> None:
    """Every byte of the small parts and their headers, a sample of the large ones."""
    good = encode_container(sound())
    positions = set(range(0, len(good), 97)) | set(range(len(good) - 2000, len(good)))
    for name, content in sound().items():
        start = good.index(content)
        if len(content) < 1000:
            positions.update(range(start - len(name) - 30, start + len(content)))
    assert len(positions) > 10_000
    for position in sorted(positions):
        bad = bytearray(good)
        bad[position] ^= 0x01 if position % 2 else 0x80
        with pytest.raises(MalformedBundle):
            decode_container(bytes(bad))
        if position % 500 == 0:
            (tmp_path / "case.zip").write_bytes(bad)
            assert verify(tmp_path / "case.zip", trust()).status == "broken", position


def test_a_changed_byte_with_its_checksum_put_right_is_refused() -> None:
    """Every byte of the small parts, a sample of the large ones, by the signed list of files."""
    listed = dsse.parse_envelope(sound()[MANIFEST]).payload
    for name, content in sound().items():
        for position in range(
            0, len(content), 1 if len(content) < 1000 else 1 + len(content) // 50
        ):
            bad = bytearray(content)
            bad[position] ^= 1 << position % 8
            changed = sound() | {name: bytes(bad)}
            if name != MANIFEST:
                with pytest.raises(ManifestDisagrees):
                    verify_manifest(Bundle(changed), listed)
            if name == MANIFEST or position % 300 == 0:
                assert failed(changed)[0] in (2, 3), (name, position)


# Parts removed, added, exchanged.


@pytest.mark.parametrize("name", sorted(_sound("produced")))
def test_every_missing_part_is_refused(name: str) -> None:
    without = {k: v for k, v in sound().items() if k != name}
    assert failed(without)[0] in (1, 2, 3)


@pytest.mark.parametrize("name", sorted(set(_sound("produced")) - {STATEMENT, MANIFEST, README}))
def test_every_part_left_out_by_the_examiner_is_refused(name: str) -> None:
    without = {k: v for k, v in sound().items() if k != name}
    if name.startswith("openings/"):
        n, words = failed(resigned(without))
        assert (n, words) == (8, "entry 47's digest is said to be equal and is not shown")
        return
    assert 1 <= failed(resigned(without))[0] <= 10


def test_an_opening_that_nothing_rests_on_may_be_left_out() -> None:
    parts = cases.parts("produced_latent", with_report=False, show_openings=False)
    assert not [name for name in parts if name.startswith("openings/")]
    assert verify(Bundle(parts), trust()).status == "verified"


def test_of_a_hidden_opening_the_equal_digest_is_shown_and_nothing_else() -> None:
    parts = cases.parts("produced", with_report=False, show_openings=False)
    assert json.loads(parts[f"openings/{cases.ENTRY}.json"])["fields"].keys() == {"output_file"}
    assert verify(Bundle(parts), trust()).status == "verified"


def test_an_exhibit_outside_its_folder_is_refused() -> None:
    """The file is the one that the statement names; only its place is wrong."""
    seen = Digest.of(sound()[README])

    def change(statement: dict[str, Any]) -> None:
        exhibit = statement["predicate"]["exhibits"][1]
        exhibit.update(path=README, sha256=seen.hex(), size=len(sound()[README]))

    n, words = failed(restated(change))
    assert (n, words) == (4, "an exhibit is shown from outside exhibits/")


def test_an_added_part_is_refused() -> None:
    n, words = failed(sound() | {"exhibits/more.txt": b"psst"})
    assert (n, words) == (
        3,
        "the bundle holds exhibits/more.txt, which the manifest does not list",
    )


def test_another_cases_statement_is_refused() -> None:
    assert failed(sound() | {STATEMENT: sound("not_produced")[STATEMENT]})[0] == 3


def test_another_cases_statement_listed_again_is_refused() -> None:
    mixed = resigned(sound() | {STATEMENT: sound("not_produced")[STATEMENT]})
    assert failed(mixed)[0] in (4, 6)


def test_another_medium_is_refused() -> None:
    parts = sound()
    path = next(name for name in parts if name.startswith("exhibits/medium"))
    n, words = failed(resigned(parts | {path: b"another file"}))
    assert (n, words) == (4, f"{path} is not the file that the statement names")


# A dishonest log or examiner who signs what they changed.


def other_checkpoint(size: int, root: Digest, key: SigningKey = cases.LOG_KEY) -> bytes:
    return sign_checkpoint(Checkpoint(cases.ORIGIN, size, root), [NoteSigner(cases.ORIGIN, key)])


def test_a_checkpoint_by_another_key_is_refused() -> None:
    _, log = cases.case("produced")
    note = other_checkpoint(log.size, log.root, OTHER_KEY)
    assert failed(resigned(sound() | {CHECKPOINT: note}))[0] == 5


def test_another_checkpoint_of_the_same_log_is_refused() -> None:
    note = other_checkpoint(49, cases.digest_of("another tree"))
    n, words = failed(resigned(sound() | {CHECKPOINT: note}))
    assert (n, words) == (5, "the checkpoint is not the one that the statement names")


def test_an_entry_that_is_not_in_the_log_is_refused() -> None:
    parts = sound()
    name = f"ledger/entries/{cases.ENTRY}.json"
    entry = json.loads(parts[name])
    entry["counter"] = 36
    assert failed(resigned(parts | {name: canonical.encode(entry)}))[0] == 6


def test_a_proof_of_another_entry_is_refused() -> None:
    parts = sound()
    one, other = (f"ledger/entries/{i}.tlog-proof" for i in (cases.ENTRY, 0))
    assert failed(resigned(parts | {one: parts[other]}))[0] == 6


def test_a_batch_path_of_another_entry_is_refused() -> None:
    parts = sound()
    one, other = (f"ledger/batches/{i}.json" for i in (cases.ENTRY, 8))
    assert failed(resigned(parts | {one: parts[other]}))[0] == 7


@pytest.mark.parametrize(
    "batch",
    [
        b"{}",
        b'{"kind":"batch","path":[],"seal":-1,"v":0}',
        b'{"kind":"batch","path":["00"],"seal":49,"v":0}',
        b'{"kind":"batch","path":[],"seal":0,"v":0}',
        b'{"kind":"batch","path":[],"seal":999,"v":0}',
        canonical.encode({"kind": "batch", "path": ["00" * 32] * 9, "seal": 49, "v": 0}),
    ],
)
def test_malformed_batch_paths_are_refused(batch: bytes) -> None:
    name = f"ledger/batches/{cases.ENTRY}.json"
    assert failed(resigned(sound() | {name: batch}))[0] == 7


def opening(**changes: Any) -> Parts:
    name = f"openings/{cases.ENTRY}.json"
    fields = json.loads(sound()[name])
    fields.update(changes)
    return resigned(sound() | {name: canonical.encode(fields)})


def test_an_opening_of_another_counter_is_refused() -> None:
    assert failed(opening(counter=36))[0] == 8


def test_an_invented_prompt_is_refused() -> None:
    fields = json.loads(sound()[f"openings/{cases.ENTRY}.json"])["fields"]
    fields["conditioning"]["content"] = {"prompt": "something incriminating"}
    n, words = failed(opening(fields=fields))
    assert n == 8
    assert "not the one that was committed to" in words


def test_an_opening_that_shows_no_equal_digest_is_refused_where_one_is_claimed() -> None:
    fields = json.loads(sound()[f"openings/{cases.ENTRY}.json"])["fields"]
    del fields["output_file"]
    n, words = failed(opening(fields=fields))
    assert n == 8
    assert "digest sealed in entry 47 is not the medium's" in words


def test_an_opening_of_an_entry_that_is_not_cited_is_refused() -> None:
    parts = sound()
    moved = parts | {"openings/46.json": parts[f"openings/{cases.ENTRY}.json"]}
    assert failed(resigned(moved))[0] == 8


def predicate(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(statement: dict[str, Any]) -> None:
        place = statement["predicate"]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


MODEL = ("measurements", "models", 0)
COUNTER = (*MODEL, "counters", 0)
RULES = ("rules", "calibrations", 0)
POINT = (*RULES, "points", 0)

LIES: list[tuple[str, Callable[[dict[str, Any]], None], int]] = [
    ("an outcome", predicate("finding", "outcome", value="not_produced"), 12),
    ("a reason", predicate("finding", "reason", value="latent_and_replay"), 12),
    ("prose", predicate("finding", "explanation", value="It is a deepfake."), 12),
    ("fewer assumptions", predicate("finding", "assumptions", value=[]), 12),
    ("a smaller p", predicate("finding", "p_family", value="1e-99"), 11),
    ("a smaller exponent", predicate("finding", "log10_p_family", value="-38.6"), 11),
    ("fewer comparisons", predicate("finding", "multiplicity", value=1), 11),
    ("a laxer rule", predicate("rules", "p_produced", value="0.0005"), 12),
    ("a narrower rule", predicate("rules", "required", value=[]), 12),
    ("a looser replay", predicate(*POINT, "replay_global", value="99"), 10),
    ("fewer misses", predicate(*RULES, "points", 3, "misses", value=0), 10),
    ("a rarer error", predicate(*RULES, "beta", value="0.001"), 9),
    ("another calibration", predicate(*RULES, "document", value="00" * 32), 9),
    ("a calibration not logged", predicate(*RULES, "entry", value=None), 12),
    ("a calibration elsewhere in the log", predicate(*RULES, "entry", value=0), 9),
    ("another model", predicate(*MODEL, "digest", value="00" * 32), 9),
    ("more dimensions", predicate(*MODEL, "dim", value=200), 9),
    ("an epoch that is not logged", predicate(*MODEL, "disclosed_epochs", value=[0, 1]), 9),
    ("another counter", predicate(*COUNTER, "counter", value=36), 9),
    ("an earlier time", predicate(*COUNTER, "sealed_at", "at", value="2025-03-01T12:00:00Z"), 9),
    ("a token for its time", predicate(*COUNTER, "sealed_at", "source", value="rfc3161"), 9),
    (
        "a token for the medium",
        predicate(
            "measurements",
            "medium",
            "seen_at",
            value={"at": "2026-04-01T12:00:00Z", "source": "rfc3161"},
        ),
        9,
    ),
    ("an entry that is not cited", predicate("finding", "entry", "index", value=46), 8),
    ("another origin", predicate("log", "origin", value="other.example/log"), 5),
    ("a larger log", predicate("log", "size", value=51), 5),
    ("another kind of entry", predicate("cited", 0, "kind", value="recorder"), 6),
    (
        "a smaller p of one channel",
        predicate("finding", "channels", "latent", "p_family", value="1e-300"),
        12,
    ),
    ("another size of the medium", predicate("exhibits", 0, "size", value=1), 4),
]


@pytest.mark.parametrize(("lie", "step"), [x[1:] for x in LIES], ids=[x[0] for x in LIES])
def test_a_signed_lie_is_refused_at_its_step(
    lie: Callable[[dict[str, Any]], None], step: int
) -> None:
    n, words = failed(restated(lie))
    assert (n, bool(words)) == (step, True), words


def test_a_hidden_hit_is_refused() -> None:
    """Dropping the row of the counter that was found does not turn its finding."""
    n, words = failed(restated(predicate(*MODEL, "counters", value=[])))
    assert n == 2
    assert "malformed" in words


@pytest.mark.parametrize(
    "change",
    [
        predicate("created", value="yesterday"),
        predicate("extra", value=1),
        predicate("examiner", "role", value="friend"),
        predicate("exhibits", value=[]),
        predicate("figures", 0, "path", value="figures/../template.typ"),
        predicate("figures", 0, "path", value="template.typ"),
        predicate("figures", 0, "gain", value=0),
        predicate("figures", 0, "largest", value=256),
        predicate("finding", "log10_p_family", value="NaN"),
        predicate("finding", "log10_p_family", value="-0.50"),
        predicate("measurements", "models", 0, "dim", value=0),
        predicate("cited", value=[{"index": 1, "kind": "seal"}, {"index": 0, "kind": "model"}]),
        lambda s: s.update(subject=[]),
        lambda s: s.update(subject=s["subject"] * 2),
        lambda s: s["subject"][0]["digest"].update(sha256="00" * 32),
        lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"),
    ],
)
def test_malformed_statements_are_refused(change: Callable[[dict[str, Any]], None]) -> None:
    assert failed(restated(change))[0] == 2


HOSTILE: list[Any] = [None, -1, 2**53 - 1, "", "x", [], {}, True, "1e400", "nan", "-0", ["a"]]


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items: list[Any] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value[:2]))
    below = [p for key, item in items for p in _places(item, (*place, key))]
    return [place, *below] if place else below


def test_no_signed_statement_makes_the_verifier_fail_by_itself() -> None:
    """A hostile value in every place of the statement, or nothing there, or one thing more."""
    payload = json.loads(dsse.parse_envelope(sound()[STATEMENT]).payload)
    chosen = random.Random(7)
    for *above, last in chosen.sample(_places(payload), 200):

        def change(statement: Any, above: Sequence[Any] = above, last: Any = last) -> None:
            for key in above:
                statement = statement[key]
            statement[last] = chosen.choice(HOSTILE)
            if isinstance(statement, dict) and chosen.random() < 0.2:
                del statement[last]

        result = verify(Bundle(restated(change)), trust())
        assert result.status in ("broken", "verified", "not_checkable")
        json.dumps(result.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"predicate":{"examiner":{"key":1}}}',
        b'{"predicate":' + b"[" * 100_000,
        b'{"a":' + b"1" * 100_000 + b"}",
        b'{"a":1.5}',
    ],
)
def test_hostile_payloads_are_refused(payload: bytes) -> None:
    envelope = dsse.sign_envelope(PAYLOAD_TYPE, payload, cases.EXAMINER_KEY)
    assert failed(resigned(sound() | {STATEMENT: envelope}))[0] == 2


def test_statement_round_trips() -> None:
    payload = dsse.parse_envelope(sound()[STATEMENT]).payload
    statement = decode_statement(payload)
    assert encode_statement(statement) == payload


# What cannot be checked here.


def test_a_newer_schema_is_not_checkable() -> None:
    newer = restated(lambda s: s.update(predicateType="urn:latentlog:finding:v1"))
    result = verify(Bundle(newer), trust())
    assert result.status == "not_checkable"
    assert result.failure is not None
    assert result.failure.got == "urn:latentlog:finding:v1"


def test_a_newer_schema_with_a_bad_signature_is_broken() -> None:
    newer = restated(lambda s: s.update(predicateType="urn:latentlog:finding:v1"))
    envelope = json.loads(newer[STATEMENT])
    envelope["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
    assert failed(newer | {STATEMENT: canonical.encode(envelope)})[0] == 2


def test_a_signed_part_of_a_newer_release_is_not_checkable() -> None:
    result = verify(Bundle(resigned(sound() | {"viewer.html": b"<!doctype html>"})), trust())
    assert result.status == "not_checkable"


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0" + bytes(100), b"hello"])
def test_another_kind_of_file_is_not_checkable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert verify(tmp_path / "x", trust()).status == "not_checkable"
    assert verify(tmp_path / "none", trust()).status == "not_checkable"


# Trust files.


@pytest.mark.parametrize(
    "text",
    [
        "[log]\n",
        "logs = 1\n",
        "[logs]\na = 1\n",
        '[logs]\n"other" = "{vkey}"\n',
        '[logs]\n"faces.example/log" = "faces.example/log+00000000+AAAA"\n',
        '[examiners]\nA = "00"\n',
        '[examiners]\nA = "{key}"\nB = "{key}"\n',
        '[examiners]\nA = "{key}"\nA = "{key}"\n',
        "[[logs]]\n",
        "\x00",
        "a = " + "[" * 5000,
    ],
)
def test_malformed_trust_is_refused(text: str) -> None:
    key, vkey = cases.EXAMINER_KEY.public.hex(), cases.SmallLog().vkey
    with pytest.raises(MalformedTrust):
        parse_trust(text.replace("{key}", key).replace("{vkey}", vkey).encode())


def test_trust_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile):
        load_trust(tmp_path / "trust.toml")
    (tmp_path / "trust.toml").write_bytes(b"\xff")
    with pytest.raises(MalformedTrust):
        load_trust(tmp_path / "trust.toml")


# Without our program, and without its heavy parts.


def unpacked(parts: Parts, folder: Path) -> Path:
    for name, content in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def by_hand(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the indented lines of README.txt, and nothing else, in the unpacked folder."""
    lines = (folder / README).read_text("utf-8").splitlines()
    script = "\n".join(line[4:] for line in lines if line.startswith("    "))
    command = ["sh", "-eu", "-c", script]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


needs_openssl = pytest.mark.skipif(
    not shutil.which("openssl") or not shutil.which("sha256sum"), reason="needs openssl, coreutils"
)


@needs_openssl
def test_the_readmes_commands_verify_a_bundle(tmp_path: Path) -> None:
    ran = by_hand(unpacked(sound(), tmp_path))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("Signature Verified Successfully") == 3
    assert ran.stdout.count(": included") == 12
    assert "FAILED" not in ran.stdout
    payload = dsse.parse_envelope(sound()[STATEMENT]).payload
    assert (tmp_path / "statement.json").read_bytes() == payload


@needs_openssl
@pytest.mark.parametrize(
    "name",
    [STATEMENT, MANIFEST, CHECKPOINT, f"ledger/entries/{cases.ENTRY}.json", "figures/medium.png"],
)
def test_the_readmes_commands_refuse_a_tampered_bundle(tmp_path: Path, name: str) -> None:
    bad = bytearray(sound()[name])
    bad[30] = ord("A") if bad[30] != ord("A") else ord("B")
    ran = by_hand(unpacked(sound() | {name: bytes(bad)}, tmp_path))
    assert ran.returncode != 0
    assert "not found" not in ran.stderr
    assert any(word in ran.stdout + ran.stderr for word in ("Failure", "FAILED", "Error"))


@needs_openssl
def test_the_readmes_commands_refuse_an_entry_that_is_not_in_the_log(tmp_path: Path) -> None:
    name = f"ledger/entries/{cases.ENTRY}.json"
    forged = resigned(sound() | {name: sound()[name].replace(b'"counter":37', b'"counter":36')})
    ran = by_hand(unpacked(forged, tmp_path))
    assert ran.returncode != 0
    assert f"entry {cases.ENTRY}: NOT INCLUDED" in ran.stdout


BLOCKED = ("torch", "scipy", "matplotlib", "sqlalchemy", "alembic", "PIL", "typst", "pdqhash")


def test_the_verifier_runs_without_models_database_or_pictures(tmp_path: Path) -> None:
    write_bundle(tmp_path / "case.zip", sound())
    code = f"""
import sys
for name in {BLOCKED!r}:
    sys.modules[name] = None
from latentlog.evidence.verify import verify
result = verify({str(tmp_path / "case.zip")!r})
assert result.status == "untrusted_signer", result
loaded = [n for n in {BLOCKED!r} if sys.modules.get(n) is not None]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Machine-readable output.


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((schemas.FOLDER / f"{name}-v0.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


def results() -> list[Verification]:
    sound_bundle = Bundle(sound())
    broken = Bundle(sound() | {README: b""})
    newer = Bundle(restated(lambda s: s.update(predicateType="urn:latentlog:finding:v1")))
    return [verify(sound_bundle, trust()), verify(sound_bundle), verify(broken), verify(newer)]


def test_the_published_schemas_are_those_of_the_types() -> None:
    for path, text in schemas.written().items():
        assert path.read_text("utf-8") == text, "python -m tests.evidence.schemas"


def test_verification_follows_its_schema() -> None:
    statuses = []
    for result in results():
        output = json.loads(json.dumps(result.to_json()))
        jsonschema.validate(output, schema("verification"))
        statuses.append(output["status"])
    assert statuses == ["verified", "untrusted_signer", "broken", "not_checkable"]


@pytest.mark.parametrize("outcome", cases.OUTCOMES)
def test_findings_and_statements_follow_their_schemas(outcome: str) -> None:
    made, _ = cases.case(outcome)
    output = json.loads(json.dumps(made.finding.to_output("case.zip"), allow_nan=False))
    jsonschema.validate(output, schema("finding"))
    statement = json.loads(dsse.parse_envelope(sound(outcome)[STATEMENT]).payload)
    jsonschema.validate(statement, schema("statement"))


def test_the_error_schema_takes_an_error_and_nothing_else() -> None:
    error = {
        "schema": "latentlog/error/v0",
        "code": "unreadable_file",
        "message": "cannot read x",
        "expected": None,
        "got": None,
        "next": None,
        "exit": 5,
    }
    jsonschema.validate(error, schema("error"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(error | {"exit": 0}, schema("error"))


def test_every_step_is_numbered_alike_in_code_and_documentation() -> None:
    assert verify_module.__doc__ is not None
    for n, name in enumerate(STEPS, start=1):
        assert f"({n}) {name}" in " ".join(verify_module.__doc__.split())
