"""Check a bundle offline, in numbered steps; the report prints the same numbers.

     (1) the bundle is complete and well formed
     (2) the statement was signed with the examiner's key that it names
     (3) the list of files was signed with the same key, and every file is as listed
     (4) the statement is about the examined file in the bundle
     (5) the checkpoint was signed with the log's key that the statement names
     (6) every cited entry is in the log
     (7) every cited entry is sealed by the log's operator or a registered recorder
     (8) what is shown of a cited generation opens its logged commitments
     (9) models, epochs, calibrations and the entry of the finding are those of the log
    (10) the rules follow from the controls of the calibrations
    (11) the probability follows from cosine, dimension and number of comparisons
    (12) the rules draw this finding from these measurements
    (13) the log's key is one the reader trusts
    (14) the examiner's key is one the reader trusts

Steps 1–12 use the keys that came with the bundle: they show that it is whole. Only 13 and 14, with
keys from outside, show whose it is. Nothing here needs the network, a model or a database.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from latentlog.evidence import dsse, facts
from latentlog.evidence.bundle import (
    CHECKPOINT,
    MANIFEST,
    MANIFEST_TYPE,
    STATEMENT,
    Bundle,
    read_bundle,
    verify_layout,
    verify_manifest,
)
from latentlog.evidence.citation import VerifiedEntries, verify_entries, verify_seals
from latentlog.evidence.errors import (
    BundleTooNew,
    EvidenceError,
    NotABundle,
    UnreadableFile,
    UntrustedSigner,
    WrongLog,
    WrongSubject,
)
from latentlog.evidence.finding import Finding
from latentlog.evidence.statement import PAYLOAD_TYPE, Statement, claimed_key, decode_statement
from latentlog.evidence.steps import STEPS
from latentlog.evidence.trust import Trust
from latentlog.ledger.checkpoint import Checkpoint, VerifiedCheckpoint, verify_checkpoint
from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import LedgerError
from latentlog.ledger.keys import PublicKey
from latentlog.ledger.note import NoteVerifier

Status = Literal["verified", "broken", "untrusted_signer", "not_checkable"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step and how it went; `ok` is None where it was not reached."""

    n: int
    name: str
    ok: bool | None
    detail: str
    expected: str | None = None
    got: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A key that the bundle names, for the reader to compare with what they know."""

    role: Literal["examiner", "log"]
    name: str
    key: str
    """Public key in hexadecimal, or the log's vkey."""
    fingerprint: str
    """SHA-256 of the DER public key, as OpenSSL prints it."""
    trusted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What became of every step; `finding` is there only if steps 1 to 12 passed."""

    status: Status
    steps: tuple[Step, ...]
    signers: tuple[Signer, ...]
    finding: Finding | None
    statement: Statement | None

    @property
    def failure(self) -> Step | None:
        """Return the first step that failed."""
        return next((step for step in self.steps if step.ok is False), None)

    def to_json(self) -> dict[str, Any]:
        """Return the object of schema latentlog/verification/v0."""
        return {
            "schema": "latentlog/verification/v0",
            "status": self.status,
            "steps": [
                {name: getattr(step, name) for name in Step.__slots__} for step in self.steps
            ],
            "signers": [
                {name: getattr(signer, name) for name in Signer.__slots__}
                for signer in self.signers
            ],
            "finding": self.finding.to_output() if self.finding else None,
        }


class _Stopped(Exception):
    """Leaves the recipe; never leaves this module."""


class _Run:
    """The steps so far; a failed one ends the run, whatever else would have been looked at."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.failure: EvidenceError | LedgerError | None = None

    def step(self, check: Callable[[], tuple[T, str]]) -> T:
        n = len(self.steps) + 1
        try:
            result, detail = check()
        except (EvidenceError, LedgerError) as error:
            self.failure = error
            self.steps.append(
                Step(
                    n=n,
                    name=STEPS[n - 1],
                    ok=False,
                    detail=error.message,
                    expected=error.expected,
                    got=error.got,
                )
            )
            raise _Stopped from error
        self.steps.append(Step(n=n, name=STEPS[n - 1], ok=True, detail=detail))
        return result

    def padded(self) -> tuple[Step, ...]:
        rest = range(len(self.steps) + 1, len(STEPS) + 1)
        unreached = (Step(n=n, name=STEPS[n - 1], ok=None, detail="not reached") for n in rest)
        return (*self.steps, *unreached)


def verify(source: str | Path | Bundle, trust: Trust | None = None) -> Verification:
    """Run every step on a bundle or the one at a path; raises nothing that a bundle could cause.

    Without `trust` the result is at best `untrusted_signer`: a bundle cannot vouch for itself.
    """
    run = _Run()
    try:
        statement = _verify_whole(run, source)
    except _Stopped:
        return Verification(
            status=_status(run.failure),
            steps=run.padded(),
            signers=(),
            finding=None,
            statement=None,
        )
    # (13), (14)
    trusted = [_trust_step(run, check, statement, trust) for check in (_trust_log, _trust_examiner)]
    return Verification(
        status="verified" if all(trusted) else "untrusted_signer",
        steps=run.padded(),
        signers=_signers(statement, *trusted),
        finding=statement.finding,
        statement=statement,
    )


def _verify_whole(run: _Run, source: str | Path | Bundle) -> Statement:
    """Steps 1 to 12: everything that the bundle can show about itself."""
    # (1)
    bundle = run.step(lambda: _open(source))
    # (2) The signature comes before any look at what it covers.
    statement = run.step(lambda: _statement(bundle))
    # (3)
    run.step(lambda: _files(bundle, statement))
    # (4)
    run.step(lambda: _subject(bundle, statement))
    # (5)
    checkpoint = run.step(lambda: _checkpoint(bundle, statement))
    # (6)
    entries = run.step(lambda: _entries(bundle, statement, checkpoint))
    # (7)
    run.step(lambda: _seals(bundle, statement, entries))
    # (8)
    run.step(lambda: facts.verify_openings(bundle, statement, entries))
    # (9)
    run.step(lambda: facts.verify_references(statement, entries))
    # (10)
    run.step(lambda: facts.verify_rules(bundle, statement))
    # (11) Apart from the decision, so that a wrong number is named as one.
    run.step(lambda: facts.verify_probability(statement))
    # (12)
    run.step(lambda: facts.verify_decision(statement))
    return statement


def _open(source: str | Path | Bundle) -> tuple[Bundle, str]:
    bundle = source if isinstance(source, Bundle) else read_bundle(source)
    return bundle, f"{len(bundle.parts)} files, {sum(map(len, bundle.parts.values()))} bytes"


def _statement(bundle: Bundle) -> tuple[Statement, str]:
    envelope = dsse.parse_envelope(bundle.part(STATEMENT))
    # The key to check with stands in what is to be checked. That is sound because nothing else is
    # read before its signature holds, and only a comparison with trusted keys gives it a meaning.
    key = claimed_key(envelope.payload)
    statement = decode_statement(dsse.verify_envelope(envelope, key, PAYLOAD_TYPE))
    return statement, f"signed by key {dsse.key_id(key)}"


def _files(bundle: Bundle, statement: Statement) -> tuple[None, str]:
    key = PublicKey.fromhex(statement.examiner.key)
    envelope = dsse.parse_envelope(bundle.part(MANIFEST))
    verify_manifest(bundle, dsse.verify_envelope(envelope, key, MANIFEST_TYPE))
    # Only now, so that a smuggled file is reported as smuggled and not as one of a newer format.
    verify_layout(bundle)
    return None, f"{len(bundle.parts) - 1} files listed and unchanged"


def _subject(bundle: Bundle, statement: Statement) -> tuple[None, str]:
    for exhibit in statement.exhibits:
        if not exhibit.path.startswith("exhibits/"):
            raise WrongSubject("an exhibit is shown from outside exhibits/", got=exhibit.path[:80])
        content = bundle.part(exhibit.path)
        if Digest.of(content).hex() != exhibit.sha256 or len(content) != exhibit.size:
            raise WrongSubject(
                f"{exhibit.path} is not the file that the statement names",
                expected=exhibit.sha256,
                got=Digest.of(content).hex(),
            )
    for figure in statement.figures:
        bundle.part(figure.path)
    return None, f"{statement.medium.name}, SHA-256 {statement.medium.sha256}"


def _checkpoint(bundle: Bundle, statement: Statement) -> tuple[VerifiedCheckpoint, str]:
    log = statement.log
    verified = verify_checkpoint(bundle.part(CHECKPOINT), _log_key(statement), log.origin)
    named = Checkpoint(log.origin, log.size, Digest.fromhex(log.root))
    if verified.checkpoint != named:
        raise WrongLog(
            "the checkpoint is not the one that the statement names",
            expected=f"{named.size} entries, root {named.root.hex()}",
            got=f"{verified.checkpoint.size} entries, root {verified.checkpoint.root.hex()}",
        )
    return verified, f"{log.origin}, {log.size} entries"


def _entries(
    bundle: Bundle, statement: Statement, checkpoint: VerifiedCheckpoint
) -> tuple[VerifiedEntries, str]:
    entries = verify_entries(bundle, statement.cited, checkpoint, _log_key(statement))
    return entries, f"{len(entries.by_index)} entries included"


def _seals(bundle: Bundle, statement: Statement, entries: VerifiedEntries) -> tuple[None, str]:
    signers = verify_seals(bundle, entries, _log_key(statement))
    return None, f"sealed by {', '.join(signers)}"


def _log_key(statement: Statement) -> NoteVerifier:
    verifier = NoteVerifier.parse(statement.log.vkey)
    if verifier.name != statement.log.origin:
        raise WrongLog(
            "the log's key is another log's",
            expected=statement.log.origin,
            got=verifier.name[:200],
        )
    return verifier


def _trust_step(
    run: _Run,
    check: Callable[[Statement, Trust | None], tuple[None, str]],
    statement: Statement,
    trust: Trust | None,
) -> bool:
    """Run one of the last steps, which do not depend on each other."""
    try:
        run.step(lambda: check(statement, trust))
    except _Stopped:
        return False
    return True


def _trust_log(statement: Statement, trust: Trust | None) -> tuple[None, str]:
    verifier = _log_key(statement)
    known = trust.logs.get(verifier.name) if trust else None
    if known is None:
        raise UntrustedSigner(
            f"no trusted key is given for the log {verifier.name}", got=verifier.vkey
        )
    if known.key != verifier.key:
        raise UntrustedSigner(
            f"the log {verifier.name} is trusted with another key",
            expected=known.vkey,
            got=verifier.vkey,
        )
    return None, f"{verifier.name}, key {dsse.key_id(verifier.key)}"


def _trust_examiner(statement: Statement, trust: Trust | None) -> tuple[None, str]:
    key = PublicKey.fromhex(statement.examiner.key)
    name = trust.examiners.get(key) if trust else None
    if name is None:
        raise UntrustedSigner(
            "the examiner's key is not among the trusted ones", got=statement.examiner.key
        )
    # The name that the reader wrote down counts, not the one that the bundle claims.
    return None, f"{name}, key {dsse.key_id(key)}"


def _signers(statement: Statement, log_trusted: bool, examiner_trusted: bool) -> tuple[Signer, ...]:
    log, key = _log_key(statement), PublicKey.fromhex(statement.examiner.key)
    return (
        Signer(
            role="log",
            name=log.name,
            key=log.vkey,
            fingerprint=dsse.key_id(log.key),
            trusted=log_trusted,
        ),
        Signer(
            role="examiner",
            name=statement.examiner.name,
            key=key.hex(),
            fingerprint=dsse.key_id(key),
            trusted=examiner_trusted,
        ),
    )


def _status(failure: EvidenceError | LedgerError | None) -> Status:
    unreadable = (NotABundle, UnreadableFile, BundleTooNew)
    return "not_checkable" if isinstance(failure, unreadable) else "broken"
