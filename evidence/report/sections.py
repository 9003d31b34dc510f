"""From a bundle's parts to the content of its two pages; no layout, no decision, no new number.

Page one is made here, the tables of page two in `tables`. Every string that came from outside goes
through `printable`; every sentence that is not the finding's own comes from `text.en.toml`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from latentlog.evidence import dsse
from latentlog.evidence.bundle import STATEMENT, Bundle
from latentlog.evidence.finding import Finding
from latentlog.evidence.measurements import ModelScores
from latentlog.evidence.report import tables
from latentlog.evidence.report.phrases import (
    count,
    printable,
    probability,
    rate,
    ratio,
    text,
    typeset,
)
from latentlog.evidence.statement import FigureReference, Statement, decode_statement
from latentlog.ledger.digest import Digest


@dataclass(frozen=True, slots=True)
class Report:
    """What a layout needs: its content, and the pictures by the names the content uses."""

    content: Mapping[str, Any]
    pictures: Mapping[str, bytes]


def write_report(parts: Mapping[str, bytes]) -> Report:
    """Return the report on a bundle's parts; a manifest and an earlier report are not looked at.

    The statement is taken as it stands: `verify` says whether it holds.
    """
    bundle = Bundle(parts)
    payload = dsse.parse_envelope(bundle.part(STATEMENT)).payload
    statement = decode_statement(payload)
    pictures = {_flat(figure.path): bundle.part(figure.path) for figure in statement.figures}
    content = {
        **_head(statement, payload),
        "decision": _decision(statement),
        "images": [_image(figure, statement) for figure in statement.figures],
        "question": _question(statement),
        "finding": _finding(statement.finding),
        "limits": _limits(statement.finding),
        "settle": _settle(statement.finding),
        "strength": _strength(statement),
        **tables.second_page(statement, bundle),
    }
    return Report(content, pictures)


def entry_words(finding: Finding) -> str:
    """Name the counter that a finding is about."""
    words, entry = text()["entry"], finding.entry
    if entry is None:
        return ""
    if entry.index is not None:
        return str(words["logged"].format(index=count(entry.index)))
    return str(words["counter"].format(counter=count(entry.counter), epoch=entry.epoch))


def chosen_model(statement: Statement) -> ModelScores | None:
    """Return the model that the finding is about, or the first of several."""
    models, name = statement.measurements.models, statement.finding.model
    return next((m for m in models if m.name == name), models[0] if models else None)


def _head(statement: Statement, payload: bytes) -> dict[str, Any]:
    words, finding = text(), statement.finding
    heading = words["decision"]["heading"][finding.outcome]
    created = datetime.strptime(statement.created, "%Y-%m-%dT%H:%M:%SZ")
    parts = ("year", "month", "day", "hour", "minute", "second")
    return {
        "lang": words["lang"],
        "title": words["title"],
        "author": words["author"].format(examiner=printable(statement.examiner.name)),
        "description": words["description"].format(heading=heading, sha256=statement.medium.sha256),
        "created": {part: getattr(created, part) for part in parts},
        "dateline": words["dateline"].format(
            day=created.day,
            month=words["months"][created.month - 1],
            year=created.year,
            hour=created.hour,
            minute=created.minute,
        ),
        "subtitle": words["subtitle"].format(
            medium=printable(statement.medium.name, 40),
            models=_models(finding),
            origin=printable(statement.log.origin, 40),
        ),
        # A report signed by a party to the dispute says so before it says anything else.
        "notice": words["notice"].get(statement.examiner.role),
        "footer": {
            "left": words["statement_digest"],
            "digest": Digest.of(payload).hex(),
            "page": words["page"],
            "of": words["of"],
        },
    }


def _models(finding: Finding) -> str:
    words = text()
    names = [words["models_one"].format(name=printable(name, 24)) for name in finding.models]
    return str(words["and"].join(names[:3])) + (" …" if len(names) > 3 else "")


def _decision(statement: Statement) -> dict[str, str]:
    words, finding = text(), statement.finding
    also = ", ".join(words["reason"][reason] for reason in finding.also)
    betas = [exclusion.beta for exclusion in finding.exclusion]
    return {
        "shape": finding.outcome,
        "heading": words["decision"]["heading"][finding.outcome],
        "sentence": words["decision"]["sentence"][finding.reason].format(
            entry=entry_words(finding) or words["entry"]["some"],
            beta=rate(max(betas, default=1.0)),
        ),
        "rule": words["decision"]["rule"].format(
            reason=words["reason"][finding.reason],
            also=words["decision"]["also"].format(reasons=also) if also else "",
        ),
    }


def _image(figure: FigureReference, statement: Statement) -> dict[str, Any]:
    words = text()["images"]
    model = chosen_model(statement)
    condition = model.condition if model else None
    steps = words["scale"]["condition_unknown"]
    if condition:
        steps = words["scale"]["condition"].format(words=printable(condition.words))
    scale = "reduced" if figure.reduced else "enlarged" if figure.enlarged > 1 else "plain"
    amplified = figure.gain > 1
    values = {
        "size": f"{figure.width} × {figure.height} pixels",
        "format": printable(statement.measurements.medium.format, 12),
        "scale": words["scale"][scale].format(n=figure.enlarged),
        "entry": entry_words(statement.finding),
        "condition": steps,
        "largest": figure.largest,
        "gain": words["difference"]["heading_gain"].format(n=figure.gain) if amplified else "",
        "amplified": words["difference"]["amplified"] if amplified else "",
    }
    phrases = dict(words[figure.shows])
    if figure.shows == "difference" and figure.largest == 0:
        phrases["caption"] = phrases["caption_none"]
    return {
        "path": _flat(figure.path),
        "aspect": figure.height / figure.width,
        **{key: phrases[key].format(**values) for key in ("heading", "caption", "alt")},
    }


def _flat(path: str) -> str:
    return path.rpartition("/")[2]


def _question(statement: Statement) -> dict[str, Any]:
    words = text()["question"]
    return {
        "heading": words["heading"],
        "paragraphs": [
            words["one"].format(
                medium=printable(statement.medium.name, 40),
                models=_models(statement.finding),
                origin=printable(statement.log.origin, 40),
                size=count(statement.log.size),
            )
        ],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    """The finding's own text, whole; its first sentence stands out, nothing is reworded."""
    lead, _, rest = finding.explanation.partition(". ")
    return {
        "heading": text()["finding"]["heading"],
        "lead": _prose(lead + "." * bool(rest)),
        "rest": _prose(rest),
        "terms": text()["finding"]["terms"],
    }


def _limits(finding: Finding) -> dict[str, Any]:
    words = text()["limits"]
    return {"heading": words["heading"], "items": [*words[finding.outcome], *words["common"]]}


def _settle(finding: Finding) -> dict[str, Any] | None:
    """An inconclusive finding tells its reader what to look for next."""
    if finding.outcome != "inconclusive":
        return None
    words = text()["settle"]
    return {"heading": words["heading"], "paragraphs": [words[finding.reason]]}


def _strength(statement: Statement) -> dict[str, Any]:
    words, finding = text()["weight"], statement.finding
    rows, note = [], _no_weight(finding)
    if finding.weight and finding.outcome == "produced":
        rows, note = [_coincidence(finding), _error(statement)], words["note"]
    elif finding.weight:
        rows, note = [_missed(finding)], words["note_single"]
    return {
        "heading": words["heading"],
        "columns": words["columns"],
        "rows": rows,
        "note": note,
    }


def _no_weight(finding: Finding) -> str:
    words = text()["weight"]
    if finding.channels is None or not finding.channels.latent.run:
        return str(words["inconclusive_none"])
    if finding.log10_p_family == 0.0:
        return str(words["inconclusive_chance"])
    return str(words["inconclusive"].format(p=probability(finding.p_family, explain=True)))


def _coincidence(finding: Finding) -> list[str]:
    words, p = text()["weight"], probability(finding.p_family, explain=True)
    if finding.weight is None or finding.weight.log10_coincidence is None:
        value, sentence = words["unavailable"], words["coincidence_unused"]
    else:
        value = words["at_least"].format(ratio=ratio(finding.weight.log10_coincidence))
        sentence = words["coincidence_words"]
    return [words["coincidence"], value, sentence.format(p=p)]


def _error(statement: Statement) -> list[str]:
    words, weight = text()["weight"], statement.finding.weight
    model = chosen_model(statement)
    points = [
        point
        for calibration in statement.rules.calibrations
        if model and calibration.model_digest == model.digest
        for point in calibration.points
    ]
    if weight is None or weight.log10_error is None:
        return [words["error"], words["unavailable"], words["error_unknown"]]
    sentence = words["error_words"].format(
        verbal=_capital(weight.verbal),
        events=count(sum(point.false_replays for point in points)) or "0",
        trials=count(sum(point.trials for point in points)),
    )
    return [words["error"], words["at_most"].format(ratio=ratio(weight.log10_error)), sentence]


def _missed(finding: Finding) -> list[str]:
    words, weight = text()["weight"], finding.weight
    assert weight is not None
    assert weight.log10_error is not None
    beta = rate(max(exclusion.beta for exclusion in finding.exclusion))
    sentence = words["missed_words"].format(verbal=_capital(weight.verbal), beta=beta)
    return [words["missed"], words["at_most"].format(ratio=ratio(weight.log10_error)), sentence]


def _capital(phrase: str) -> str:
    return phrase[:1].upper() + phrase[1:]


def _prose(sentences: str) -> str:
    """Prose of the finding: nothing is cut, and long digests may break."""
    return re.sub(r"([0-9a-f]{32})(?=[0-9a-f]{32})", "\\1\u200b", typeset(sentences, 4000))
