"""The tables of page two: what was measured, what would have been missed, what was checked."""

from typing import Any, Final

from latentlog.evidence import dsse
from latentlog.evidence.bundle import Bundle, entry_part
from latentlog.evidence.by_hand import statement_commands
from latentlog.evidence.channels import ReplayResult
from latentlog.evidence.measurements import CalibrationRules, ModelScores
from latentlog.evidence.report.phrases import (
    count,
    printable,
    probability,
    rate,
    residual,
    significant,
    text,
    threshold,
    typeset,
)
from latentlog.evidence.rule import EnvelopePoint
from latentlog.evidence.statement import Statement
from latentlog.evidence.steps import STEPS
from latentlog.ledger.keys import PublicKey
from latentlog.ledger.merkle import leaf_hash
from latentlog.ledger.note import NoteVerifier

# A page holds this many at a readable size; the statement holds all.
MOST_POINTS: Final = 24
MOST_CHECKS: Final = 14
MOST_ASSUMPTIONS: Final = 14
MOST_MODELS: Final = 4
LONGEST_ASSUMPTION: Final = 260

Row = list[str]


def second_page(statement: Statement, bundle: Bundle) -> dict[str, Any]:
    """Return the content of every table of page two."""
    return {
        "numbers": _numbers(statement),
        "envelopes": _envelopes(statement),
        "checks": _checks(statement),
        "assumptions": _assumptions(statement),
        "identities": _identities(statement, bundle),
        "steps": _steps(statement),
    }


def _numbers(statement: Statement) -> dict[str, Any]:
    words = text()["numbers"]
    return {
        "heading": words["heading"],
        "columns": words["columns"],
        "rows": [*_latent_rows(statement), *_channel_rows(statement)],
        "note": f"{words['residual_note']} {words['p_note']}",
    }


def _latent_rows(statement: Statement) -> list[Row]:
    words, finding, rules = text()["numbers"], statement.finding, statement.rules
    channels = finding.channels
    cosine = channels.latent.cosine if channels else None
    dimensions = [m.dim for m in statement.measurements.models if m.name == finding.model]
    limits = words["p_limit"].format(
        produced=threshold(rules.p_produced), negative=threshold(rules.p_negative)
    )
    if cosine is None:
        return [[words["cosine"], words["not_run"], ""]]
    return [
        [words["cosine"], f"{cosine:.4f}", ""],
        *([words["dimension"], count(d), ""] for d in dimensions),
        [words["multiplicity"], count(finding.multiplicity), ""],
        [words["p"], probability(finding.p_family), limits],
        [words["ideal"], f"{finding.log10_p_ideal:.1f}".replace("-", "−"), ""],
    ]


def _channel_rows(statement: Statement) -> list[Row]:
    words, channels = text()["numbers"], statement.finding.channels
    if channels is None:
        return []
    replay, reach = channels.replay, channels.range
    return [
        *_replay_rows(replay),
        [words["range"], *_against(reach.residual, reach.limit)],
        [words["sketch"], _or_not_run(channels.sketch.closest), ""],
        [words["digest"], str(channels.digest.equal) if channels.digest.run else "", ""],
    ]


def _replay_rows(replay: ReplayResult) -> list[Row]:
    """The replay of the entry that the finding is about, or how many were tried in vain."""
    words = text()["numbers"]
    if replay.run and replay.global_ is None:
        return [[words["replay_global"], words["none_fits"].format(n=replay.compared), ""]]
    return [
        [words["replay_global"], *_against(replay.global_, replay.limit_global)],
        [words["replay_local"], *_against(replay.local, replay.limit_local)],
    ]


Measured = float | tuple[float, ...] | None


def _against(value: Measured, limit: Measured) -> tuple[str, str]:
    """Write a measured residual and its limit; a limit without a value has nothing to limit."""
    words = text()["numbers"]
    if value is None:
        return words["not_run"], ""
    return _residual(value), "" if limit is None else f"≤ {_residual(limit)}"


def _residual(value: float | tuple[float, ...]) -> str:
    values = value if isinstance(value, tuple) else (value,)
    return "  ".join(map(residual, values))


def _or_not_run(value: int | None) -> str:
    return str(text()["numbers"]["not_run"]) if value is None else str(value)


def _envelopes(statement: Statement) -> list[dict[str, Any]]:
    """One table for each model examined that has a calibration, or one that says there is none."""
    words, finding = text()["envelope"], statement.finding
    known = finding.outcome == "produced"
    by_model = {exclusion.model: exclusion.envelope for exclusion in finding.exclusion}
    tables = []
    for model in statement.measurements.models[:MOST_MODELS]:
        calibration = _calibration_of(model, statement)
        if calibration is None:
            continue
        points = by_model.get(model.name, ())
        rows = _known_rows(calibration) if known else [_missed_row(point) for point in points]
        tables.append(
            {
                "heading": words["heading_known" if known else "heading_missed"],
                "intro": _calibration_words(model, calibration),
                "columns": words["columns_known" if known else "columns_missed"],
                "rows": _shortened(rows, MOST_POINTS),
                "note": words["note_known" if known else "note_missed"].format(
                    beta=rate(calibration.beta)
                ),
            }
        )
    none = {"heading": words["heading_missed"], "intro": words["none"]}
    return tables or [{**none, "columns": [], "rows": [], "note": ""}]


def _calibration_of(model: ModelScores, statement: Statement) -> CalibrationRules | None:
    rules = statement.rules.calibrations
    return next((c for c in rules if c.model_digest == model.digest), None)


def _calibration_words(model: ModelScores, calibration: CalibrationRules) -> str:
    words = text()["envelope"]
    logged = words["not_logged"]
    if calibration.entry is not None:
        logged = words["logged"].format(entry=count(calibration.entry))
    return str(
        words["intro"].format(
            model=printable(model.name, 24),
            profile=printable(calibration.profile, 20),
            logged=logged,
            device=printable(calibration.device, 30),
        )
    )


def _missed_row(point: EnvelopePoint) -> Row:
    words = text()["envelope"]
    return [
        _transformation(point.distortion, point.strength),
        count(point.trials),
        count(point.misses),
        rate(point.upper95),
        words["covered" if point.covered else "not_covered"],
    ]


def _known_rows(calibration: CalibrationRules) -> list[Row]:
    return [
        [
            _transformation(point.distortion, point.strength),
            *map(count, (point.trials, point.produced, point.false_replays)),
            f"{point.foreign_reached} of {point.foreign}",
        ]
        for point in calibration.points
    ]


def _transformation(distortion: str, strength: float) -> str:
    words = text()["distortion"]
    phrase = words.get(distortion, words["other"])
    return str(phrase.format(name=printable(distortion, 20), strength=significant(strength)))


def _checks(statement: Statement) -> dict[str, Any]:
    words = text()["checks"]
    result = {True: words["passed"], False: words["failed"], None: words["not_run"]}
    # What failed comes first: a long list must not push it off the page.
    ordered = sorted(statement.finding.log_checks, key=lambda check: check.ok is not False)
    rows = []
    for check in ordered:
        name = printable(check.name.replace("_", " "))
        detail = f": {typeset(check.detail, 110)}" if check.detail else ""
        rows.append([result[check.ok], name[:1].upper() + name[1:] + detail])
    return {
        "heading": words["heading"],
        "columns": words["columns"],
        "rows": _shortened(rows, MOST_CHECKS, column=1),
    }


def _assumptions(statement: Statement) -> dict[str, Any]:
    words = text()["assumptions"]
    items = [typeset(item, LONGEST_ASSUMPTION) for item in statement.finding.assumptions]
    shown = [row[0] for row in _shortened([[item] for item in items], MOST_ASSUMPTIONS)]
    return {"heading": words["heading"], "items": shown or [words["none"]]}


def _identities(statement: Statement, bundle: Bundle) -> dict[str, Any]:
    words, log, examiner = text()["identities"], statement.log, statement.examiner
    medium, entry = statement.medium, statement.finding.entry
    rows = [[words["medium"], medium.sha256]]
    if medium.pixels:
        rows.append([words["pixels"], medium.pixels])
    for model in statement.measurements.models[:MOST_MODELS]:
        rows.append([words["model"].format(name=printable(model.name, 20)), model.digest])
    for rules in statement.rules.calibrations[:MOST_MODELS]:
        rows.append([words["calibration"], rules.document])
    rows.append([words["log"], printable(log.vkey, 110)])
    size = count(log.size)
    rows.append([words["checkpoint"], words["checkpoint_value"].format(size=size, root=log.root)])
    if entry and entry.index is not None:
        leaf = leaf_hash(bundle.part(entry_part(entry.index))).hex()
        index = count(entry.index)
        rows.append([words["entry"], words["entry_value"].format(index=index, leaf=leaf)])
    role = text()["role"][examiner.role]
    name = printable(examiner.name, 70)
    rows.append([words["examiner"], words["examiner_value"].format(name=name, role=role)])
    fingerprint = dsse.key_id(PublicKey.fromhex(examiner.key))
    rows.append([words["examiner_key"], examiner.key])
    rows.append([words["examiner_fingerprint"], fingerprint])
    rows.append([words["seed"], printable(statement.seed, 80)])
    return {"heading": words["heading"], "columns": words["columns"], "rows": rows}


def _steps(statement: Statement) -> dict[str, Any]:
    words = text()["steps"]
    key = PublicKey.fromhex(statement.examiner.key)
    log = NoteVerifier.parse(statement.log.vkey)
    versions = ", ".join(f"{name} {version}" for name, version in statement.versions.items())
    return {
        "heading": words["heading"],
        "intro": words["intro"],
        "steps": [typeset(step, 120) for step in STEPS],
        "by_hand": words["by_hand"],
        "lines": statement_commands(key, log),
        "versions": words["versions"].format(versions=printable(versions, 300)),
    }


def _shortened(rows: list[Row], most: int, *, column: int = 0) -> list[Row]:
    """Cut a list to what a page holds, and say in one of its columns how much is elsewhere."""
    if len(rows) <= most:
        return rows
    last = [""] * len(rows[0])
    last[column] = text()["elided"].format(n=len(rows) - most + 1)
    return [*rows[: most - 1], last]
