"""Put a bundle together: from an examination and the record it looked at to signed parts.

The order is that of trust: what the log says, then the statement about it, then the report made
from the statement alone, then the list of all files. Each is signed or derived, none is edited.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from latentlog.evidence import dsse
from latentlog.evidence.bundle import (
    CHECKPOINT,
    MANIFEST,
    MANIFEST_TYPE,
    README,
    REPORT,
    STATEMENT,
    batch_part,
    encode_manifest,
    opening_part,
    parse_bundle,
)
from latentlog.evidence.by_hand import format_readme
from latentlog.evidence.citation import Batch, encode_batch, encode_citation
from latentlog.evidence.exhibit import Exhibit
from latentlog.evidence.finding import Finding
from latentlog.evidence.measurements import Measurements, Rules
from latentlog.evidence.record import Record, citations
from latentlog.evidence.report.figures import difference, figure
from latentlog.evidence.report.pdf import render_report
from latentlog.evidence.statement import (
    PAYLOAD_TYPE,
    Citation,
    CustodyAction,
    Examiner,
    ExhibitReference,
    FigureReference,
    LogReference,
    Role,
    Shown,
    Statement,
    encode_statement,
)
from latentlog.ledger.checkpoint import verify_checkpoint
from latentlog.ledger.codec import format_time
from latentlog.ledger.commitment import Opening
from latentlog.ledger.entry import Generation, Seal, decode_entry
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.note import NoteVerifier

Pixels = npt.NDArray[np.uint8]

LONGEST_EXHIBIT_NAME: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Who signs a bundle, as what, when, and with which programs it was made."""

    name: str
    role: Role
    key: SigningKey
    created: datetime
    versions: Mapping[str, str]


class Action(Protocol):
    """When which step of an examination was taken."""

    @property
    def at(self) -> str: ...
    @property
    def step(self) -> int: ...
    @property
    def what(self) -> str: ...


class Examination(Protocol):
    """What an examination leaves behind, as `examine` returns it."""

    @property
    def measurements(self) -> Measurements: ...
    @property
    def rules(self) -> Rules: ...
    @property
    def finding(self) -> Finding: ...
    @property
    def exhibits(self) -> tuple[Exhibit, ...]:
        """The medium, and every further file that the finding rests on."""

    @property
    def pictures(self) -> Mapping[Any, Pixels]:
        """8-bit pictures for the report: "medium", "replayed" or "reconstruction", "map"."""

    @property
    def cited(self) -> tuple[int, ...]:
        """Entries that the finding rests on; their seals and signers are added."""

    @property
    def seed(self) -> str: ...
    @property
    def custody(self) -> Sequence[Action]: ...


def make_bundle(
    examination: Examination,
    record: Record,
    signature: Signature,
    *,
    show_openings: bool = True,
    with_report: bool = True,
) -> dict[str, bytes]:
    """Return the signed parts of a bundle; `bundle.write_bundle` writes them.

    `show_openings` reveals what is private about the cited generation: its prompt, sampler and
    digests; a digest that the finding says is equal is shown in any case. Without the `report`
    extra, `with_report` raises `MissingExtra`.
    """
    cited = citations(record, examination.cited)
    exhibits = _exhibits([*examination.exhibits, *_calibrations(examination, record)])
    figures, pngs = _figures(_shown(examination))
    statement = Statement(
        created=format_time(signature.created.astimezone(UTC).replace(microsecond=0)),
        examiner=Examiner(name=signature.name, role=signature.role, key=signature.key.public.hex()),
        log=_log(record),
        cited=tuple(Citation(index=i, kind=decode_entry(record.entry(i)).kind) for i in cited),
        exhibits=tuple(reference for reference, _ in exhibits),
        figures=figures,
        measurements=examination.measurements,
        rules=examination.rules,
        finding=examination.finding,
        seed=examination.seed,
        custody=tuple(
            CustodyAction(at=action.at, step=action.step, what=action.what)
            for action in examination.custody
        ),
        versions=signature.versions,
    )
    parts = {
        **{reference.path: content for reference, content in exhibits},
        **pngs,
        **_ledger_parts(record, cited),
        **_openings(record, examination, whole=show_openings),
        STATEMENT: dsse.sign_envelope(PAYLOAD_TYPE, encode_statement(statement), signature.key),
        README: format_readme(signature.key.public, NoteVerifier.parse(record.vkey)),
    }
    if with_report:
        parts[REPORT] = render_report(parts)
    manifest = encode_manifest(parts)
    parts[MANIFEST] = dsse.sign_envelope(MANIFEST_TYPE, manifest, signature.key)
    return dict(parse_bundle(parts).parts)


def _log(record: Record) -> LogReference:
    verified = verify_checkpoint(
        record.checkpoint_note, NoteVerifier.parse(record.vkey), record.origin
    ).checkpoint
    return LogReference(
        origin=record.origin, vkey=record.vkey, size=verified.size, root=verified.root.hex()
    )


def _ledger_parts(record: Record, cited: Iterable[int]) -> dict[str, bytes]:
    parts = {CHECKPOINT: record.checkpoint_note}
    for index in cited:
        body = record.entry(index)
        parts |= encode_citation(index, body, record.proof(index), record.checkpoint_note)
        if not isinstance(decode_entry(body), Seal):
            place = record.batch(index)
            parts[batch_part(index)] = encode_batch(Batch(place.seal, tuple(place.path)))
    return parts


def _openings(record: Record, examination: Examination, *, whole: bool) -> dict[str, bytes]:
    """Only of the entry that the finding names: nobody else's prompt travels with a examination.

    If not `whole`, only the digests that are said to equal the medium's.
    """
    named = examination.finding.entry
    index = named.index if named else None
    if index is None or not isinstance(decode_entry(record.entry(index)), Generation):
        return {}
    opening = record.opening(index)
    if opening is None:
        return {}
    if not whole:
        equal = _equal_digests(examination.measurements, index)
        fields = {name: field for name, field in opening.fields.items() if name in equal}
        opening = Opening(opening.epoch, opening.counter, fields)
    return {opening_part(index): opening.encode()} if opening.fields else {}


def _equal_digests(measurements: Measurements, index: int) -> set[str]:
    """Name the sealed fields of an entry that are said to equal the medium's digests."""
    rows = (c for m in measurements.models for c in m.counters if c.index == index)
    return {f"output_{name}" for row in rows for name in row.digests}


def _calibrations(examination: Examination, record: Record) -> Iterable[Exhibit]:
    """The documents that the rules were counted from, so that a reader can count again."""
    there = {exhibit.sha256 for exhibit in examination.exhibits}
    for rules in examination.rules.calibrations:
        logged = record.calibration(rules.model_digest)
        if logged is not None and rules.document not in there:
            yield Exhibit(
                name=f"{rules.model_digest[:16]}.json", role="calibration", content=logged.document
            )


def _exhibits(exhibits: Iterable[Exhibit]) -> list[tuple[ExhibitReference, bytes]]:
    taken: set[str] = set()
    references = []
    for number, exhibit in enumerate(exhibits):
        # The file's own name, as far as every system and the zip can carry it.
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", exhibit.name)[-LONGEST_EXHIBIT_NAME:]
        plain = plain.lstrip("._-").rstrip(".") or "file"
        path = f"exhibits/{exhibit.role}-{plain}"
        if path.casefold() in taken:
            path = f"exhibits/{exhibit.role}-{number}-{plain}"
        taken.add(path.casefold())
        reference = ExhibitReference(
            path=path,
            name=exhibit.name,
            role=exhibit.role,
            sha256=exhibit.sha256,
            size=len(exhibit.content),
            pixels=exhibit.pixels,
        )
        references.append((reference, exhibit.content))
    return references


def _shown(examination: Examination) -> Mapping[str, Pixels]:
    """Leave out the map where there is nothing to find on it."""
    pictures = dict(examination.pictures)
    if examination.finding.outcome == "produced":
        pictures.pop("map", None)
    return pictures


def _figures(
    pictures: Mapping[str, Pixels],
) -> tuple[tuple[FigureReference, ...], dict[str, bytes]]:
    """Prepare the pictures in the order of the page, the difference of the first two included."""
    references, pngs = [], {}
    for shows, pixels, gain, largest in _ordered(pictures):
        drawn, path = figure(pixels), f"figures/{shows}.png"
        pngs[path] = drawn.png
        references.append(
            FigureReference(
                path=path,
                shows=shows,
                width=drawn.width,
                height=drawn.height,
                enlarged=drawn.enlarged,
                reduced=drawn.reduced,
                gain=gain,
                largest=largest,
            )
        )
    return tuple(references), pngs


def _ordered(pictures: Mapping[str, Pixels]) -> Iterable[tuple[Shown, Pixels, int, int]]:
    medium = pictures.get("medium")
    compared: Shown = "replayed" if "replayed" in pictures else "reconstruction"
    other = pictures.get(compared)
    if medium is not None:
        yield "medium", medium, 1, 0
    if other is not None:
        yield compared, other, 1, 0
    if medium is not None and other is not None:
        apart = difference(medium, other)
        if apart is not None:
            yield "difference", apart.pixels, apart.gain, apart.largest
    if "map" in pictures:
        yield "map", pictures["map"], 1, 0
