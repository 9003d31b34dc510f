"""What a verified bundle's statement says, held against its cited entries and its own numbers.

Steps 8 to 12 of `verify`. Nothing here asks who signed; everything here was signed.
"""

import math
from typing import Any, Final

from latentlog.evidence import null, strict
from latentlog.evidence.bundle import Bundle
from latentlog.evidence.calibration import rules_at
from latentlog.evidence.citation import VerifiedEntries
from latentlog.evidence.errors import (
    MalformedMeasurements,
    NotCited,
    WrongDecision,
    WrongEntry,
    WrongNumber,
)
from latentlog.evidence.finding import decide
from latentlog.evidence.measurements import (
    INDEPENDENT_TIME,
    CalibrationRules,
    CounterScores,
    Lookup,
    ModelScores,
    Rules,
)
from latentlog.evidence.statement import Statement
from latentlog.ledger.codec import format_time
from latentlog.ledger.commitment import Opening, open_commitment, value_of
from latentlog.ledger.entry import (
    CalibrationEntry,
    EpochOpen,
    Generation,
    ModelEntry,
    Seal,
)

LIBM_TOLERANCE: Final = 1e-9
"""Logarithms differ between machines in their last digits, decisions do not."""


def verify_openings(
    bundle: Bundle, statement: Statement, entries: VerifiedEntries
) -> tuple[None, str]:
    """(8) Open every commitment that the bundle shows an opening for."""
    opened = 0
    for index, encoded in bundle.numbered("openings", ".json").items():
        entry = entries.by_index.get(index)
        if not isinstance(entry, Generation):
            raise NotCited(f"an opening is shown for entry {index}, which is no cited generation")
        opening = Opening.decode(encoded)
        opened += _verify_opening(index, entry, opening, statement.log.origin)
        _verify_digests(index, opening, statement)
    _require_shown(bundle, statement)
    return None, f"{opened} fields opened" if opened else "nothing is shown"


def verify_references(statement: Statement, entries: VerifiedEntries) -> tuple[None, str]:
    """(9) Find in the log what the statement says is in it."""
    _verify_seen(statement)
    for model in statement.measurements.models:
        _verify_model(model, entries)
        for counter in model.counters:
            _verify_time_source(counter)
            if counter.index in entries.by_index:
                _verify_counter(counter, model, entries)
    for calibration in statement.rules.calibrations:
        _verify_calibration(calibration, entries)
    entry = statement.finding.entry
    if entry and entry.index is not None and entry.index not in entries.by_index:
        raise NotCited(f"the finding names entry {entry.index}, which the bundle lacks")
    return None, f"{len(entries.by_index)} entries agree with the statement"


def verify_rules(bundle: Bundle, statement: Statement) -> tuple[None, str]:
    """(10) Count the controls of every calibration again, at this examination's own N."""
    documents = {
        exhibit.sha256: bundle.part(exhibit.path)
        for exhibit in statement.exhibits
        if exhibit.role == "calibration"
    }
    trials = 0
    for said in statement.rules.calibrations:
        if said.document not in documents:
            raise NotCited(f"the bundle lacks the calibration document {said.document}")
        n = statement.measurements.multiplicity
        counted = rules_at(documents[said.document], n, entry=said.entry, rules=statement.rules)
        _require_same(
            strict.encode(counted), strict.encode(said), "the rules follow from the calibration"
        )
        trials += sum(point.trials for point in said.points)
    return None, f"{trials} controls of {len(statement.rules.calibrations)} calibrations counted"


def verify_probability(statement: Statement) -> tuple[None, str]:
    """(11) Compute p̄ and p_family again, from the cosines alone."""
    n = sum(lookup.compared for _, lookup in _lookups(statement))
    n += statement.measurements.compared_before
    finding = statement.finding
    if finding.multiplicity != n:
        raise WrongNumber(
            "the number of comparisons is not the sum of the look-ups",
            expected=str(n),
            got=str(finding.multiplicity),
        )
    log_p = min(
        (null.family(null.log_p_bar(x.cosine, model.dim), n) for model, x in _lookups(statement)),
        default=0.0,
    )
    log10 = null.floored(log_p) / math.log(10.0)
    if not _close_log(log10, finding.log10_p_family) or null.format_p(log_p) != finding.p_family:
        raise WrongNumber(
            "the probability does not follow from the measured cosines",
            expected=f"{null.format_p(log_p)} (log10 {log10!r})",
            got=f"{finding.p_family} (log10 {finding.log10_p_family!r})",
        )
    return None, f"p is at most {finding.p_family} over {n} comparisons"


def verify_decision(statement: Statement) -> tuple[None, str]:
    """(12) Draw the finding again, under the limits that everybody's findings are drawn under."""
    _require_same(_limits(Rules()), _limits(statement.rules), "the limits of the rule are fixed")
    try:
        drawn = decide(statement.measurements, statement.rules)
    except MalformedMeasurements as error:
        raise WrongDecision(f"no finding follows from these measurements: {error}") from error
    _require_same(
        drawn.to_json(), statement.finding.to_json(), "the finding follows from the rules"
    )
    return None, f"{drawn.outcome}, {drawn.reason}"


def _verify_opening(index: int, entry: Generation, opening: Opening, origin: str) -> int:
    if (opening.epoch, opening.counter) != (entry.epoch, entry.counter):
        raise WrongEntry(
            f"the opening shown for entry {index} is of another counter",
            expected=f"{entry.epoch}/{entry.counter}",
            got=f"{opening.epoch}/{opening.counter}",
        )
    # The latent's content is never shown: whoever holds the epoch key derives it.
    shown = {name: field for name, field in opening.fields.items() if name != "latent"}
    for name, field in shown.items():
        if name not in entry.commitments:
            raise WrongEntry(f"entry {index} commits to no {name}")
        open_commitment(
            entry.commitments[name],
            name,
            value_of(name, field.content),
            field.salt,
            origin=origin,
            epoch=entry.epoch,
            counter=entry.counter,
        )
    return len(shown)


def _verify_digests(index: int, opening: Opening, statement: Statement) -> None:
    """Compare opened output digests with the medium's, where the statement says they are equal."""
    medium = statement.measurements.medium
    own = {"file": medium.sha256, "pixels": medium.pixels}
    rows = (c for m in statement.measurements.models for c in m.counters if c.index == index)
    for name in (name for row in rows for name in row.digests):
        field = opening.fields.get(f"output_{name}")
        if field is None or field.content != own[name]:
            raise WrongEntry(
                f"the {name} digest sealed in entry {index} is not the medium's",
                expected=own[name],
                got=str(field.content) if field else "not shown",
            )


def _require_shown(bundle: Bundle, statement: Statement) -> None:
    """Require the opening of the finding's own entry where its digest is said to be equal."""
    named = statement.finding.entry
    if named is None:
        return
    place = (named.epoch, named.counter)
    rows = [c for m in statement.measurements.models for c in m.counters]
    claimed = any(c.digests for c in rows if (c.epoch, c.counter) == place)
    shown = bundle.numbered("openings", ".json")
    if claimed and (named.index is None or named.index not in shown):
        raise NotCited(f"entry {named.index}'s digest is said to be equal and is not shown")


def _verify_model(model: ModelScores, entries: VerifiedEntries) -> None:
    registered = {
        (entry.name, entry.digest.hex(), entry.dim, entry.generator_kind)
        for entry in entries.of_kind(ModelEntry)
    }
    if (model.name, model.digest, model.dim, model.kind) not in registered:
        raise NotCited(f"no cited entry registers the model {model.name} with this digest")
    opened = {
        entry.epoch: (entry.model_digest.hex(), entry.dim) for entry in entries.of_kind(EpochOpen)
    }
    for epoch in model.disclosed_epochs:
        if opened.get(epoch) != (model.digest, model.dim):
            raise NotCited(f"no cited entry opens epoch {epoch} of {model.name}")


def _verify_counter(counter: CounterScores, model: ModelScores, entries: VerifiedEntries) -> None:
    assert counter.index is not None
    entry = entries.by_index[counter.index]
    if not isinstance(entry, Generation):
        raise WrongEntry(f"entry {counter.index} is no generation", got=entry.kind)
    said = (counter.epoch, counter.counter, counter.source)
    if (entry.epoch, entry.counter, entry.source) != said:
        raise WrongEntry(
            f"entry {counter.index} is of another counter",
            expected=f"{counter.epoch}/{counter.counter} from {counter.source}",
            got=f"{entry.epoch}/{entry.counter} from {entry.source}",
        )
    if counter.epoch not in (*model.disclosed_epochs, *model.undisclosed_epochs):
        raise WrongEntry(f"entry {counter.index} is not of an epoch of {model.name}")
    sealed = counter.sealed_at
    if sealed:
        times = {format_time(seal.time) for seal in _covering(counter.index, entries)}
        if sealed.at not in times:
            raise WrongEntry(
                f"entry {counter.index} was sealed at another time",
                expected=", ".join(times),
                got=sealed.at,
            )


def _verify_time_source(counter: CounterScores) -> None:
    """Accept no time of sealing but a seal's own: bundles carry no token of anybody else's."""
    sealed = counter.sealed_at
    if sealed and sealed.source != "operator":
        raise WrongEntry("no token in the bundle shows this time", got=sealed.source)


def _verify_seen(statement: Statement) -> None:
    """Accept no independent time of the medium: bundles carry no token that would show it."""
    seen = statement.measurements.medium.seen_at
    if seen and seen.source in INDEPENDENT_TIME:
        raise WrongEntry("no token in the bundle shows this time", got=seen.source)


def _covering(index: int, entries: VerifiedEntries) -> list[Seal]:
    return [seal for seal in entries.of_kind(Seal) if seal.first <= index < seal.first + seal.count]


def _verify_calibration(rules: CalibrationRules, entries: VerifiedEntries) -> None:
    if rules.entry is None:
        return
    entry = entries.by_index.get(rules.entry)
    if not isinstance(entry, CalibrationEntry):
        raise NotCited(f"the rules name calibration entry {rules.entry}, which the bundle lacks")
    logged = (entry.model_digest.hex(), entry.document.hex(), entry.profile, entry.pipeline)
    said = (rules.model_digest, rules.document, rules.profile, rules.pipeline)
    if logged != said or (entry.made, entry.beta) != (rules.made, rules.beta):
        raise WrongEntry(
            f"the rules are not those that entry {rules.entry} logged",
            expected=", ".join((*logged[1:], entry.made)),
            got=", ".join((*said[1:], rules.made)),
        )


def _lookups(statement: Statement) -> list[tuple[ModelScores, Lookup]]:
    models = statement.measurements.models
    return [(model, lookup) for model in models for lookup in model.lookups]


def _limits(rules: Rules) -> dict[str, Any]:
    """Return the part of the rules that no examiner chooses."""
    return {name: value for name, value in rules.to_json().items() if name != "calibrations"}


def _require_same(expected: Any, got: Any, what: str) -> None:
    where = _disagreement(expected, got, "")
    if where:
        raise WrongDecision(
            f"{what}, and {where[0].lstrip('.')} is another",
            expected=str(where[1])[:400],
            got=str(where[2])[:400],
        )


def _disagreement(expected: Any, got: Any, where: str) -> tuple[str, Any, Any] | None:
    """Return the first place where two JSON values differ by more than `LIBM_TOLERANCE`."""
    if isinstance(expected, dict) and isinstance(got, dict) and expected.keys() == got.keys():
        pairs = [(expected[key], got[key], f"{where}.{key}") for key in expected]
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        pairs = [
            (a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(expected, got, strict=True))
        ]
    else:
        same = expected == got and type(expected) is type(got)
        return None if same or _same_decimal(expected, got, where) else (where, expected, got)
    return next((found for pair in pairs if (found := _disagreement(*pair))), None)


def _same_decimal(a: Any, b: Any, where: str) -> bool:
    if not (isinstance(a, str) and isinstance(b, str)):
        return False
    try:
        x, y = strict.parse_decimal(a), strict.parse_decimal(b)
    except MalformedMeasurements:
        return False
    # Only a logarithm may vanish by rounding; a probability near zero is not near every other one.
    return _close_log(x, y) if "log10" in where else math.isclose(x, y, rel_tol=LIBM_TOLERANCE)


def _close_log(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=LIBM_TOLERANCE, abs_tol=1e-12)
