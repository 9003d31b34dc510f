"""The prose of a finding: its explanation and its assumptions, put together from `wording`."""

from collections.abc import Iterable
from typing import Literal

from latentlog.evidence import wording
from latentlog.evidence.measurements import INDEPENDENT_TIME, Measurements, Medium
from latentlog.evidence.rule import Judged, Row, range_has_power


def order_of_time(row: Row, medium: Medium) -> Literal["shown", "not_shown", "reversed"]:
    sealed, seen = row.scores.sealed_at, medium.seen_at
    if sealed is None or seen is None:
        return "not_shown"
    if not {sealed.source, seen.source} <= set(INDEPENDENT_TIME):
        return "not_shown"
    # Both are UTC with whole seconds in one fixed form, so that text order is time order.
    return "shown" if sealed.at < seen.at else "reversed"


def explanation(
    m: Measurements, judged: list[Judged], chosen: Judged | None, order: str | None
) -> str:
    if chosen is None:
        return wording.REASONS["wrong_format"].format(problem=m.medium.problem).strip()
    row = chosen.row
    place = (row.scores.index, row.scores.epoch, row.scores.counter) if row else (None, 0, 0)
    values = {
        "entry": wording.entry_words(*place) if row else "an entry",
        "output": wording.output_words(*place) if row else "an output",
        "models": " and ".join(j.model.name for j in judged),
        "condition": chosen.model.condition.words if chosen.model.condition else "unknown",
        "checks": ", ".join(c.name for c in m.log_checks if c.ok is False),
        "problem": m.medium.problem or f"{chosen.model.name} makes pictures of another form.",
        "digests": " and ".join(j.model.digest for j in judged),
    }
    parts = [wording.REASONS[chosen.reasons[0]]]
    if chosen.outcome == "produced" and row is not None:
        parts = [wording.PRODUCED, *parts, _order_words(m, row, order)]
        if row.scores.state != "generated":
            parts.append(wording.UNRECORDED.format(state=row.scores.state.replace("_", " ")))
    elif chosen.outcome == "not_produced":
        blind = any(not range_has_power(j.model, j.point) for j in judged)
        parts = [wording.NO_RANGE.strip()] * blind + [wording.NOT_PRODUCED, wording.COVERS, *parts]
    elif row is not None and "{entry}" not in parts[0]:
        parts.append(wording.NAMED)
    return " ".join(parts).format(**values).strip()


def _order_words(m: Measurements, row: Row, order: str | None) -> str:
    assert order is not None
    if row.scores.sealed_at is None or row.scores.sealed_at.source not in INDEPENDENT_TIME:
        why = "the entry carries no independent timestamp"
    else:
        why = "no proven time of the medium is given"
    return wording.ORDER[order].format(why=why)


def assumptions(m: Measurements, judged: list[Judged], chosen: Judged | None) -> Iterable[str]:
    """Yield everything that the finding rests on and that nobody checked here."""
    for check in m.log_checks:
        if check.ok is None:
            yield wording.CHECK_NOT_RUN.format(
                name=check.name.replace("_", " "), detail=wording.detail(check.detail)
            )
    for j in judged:
        yield from _model_assumptions(j)
    if chosen is None:
        return
    if any(x.compared for j in judged for x in j.model.lookups):
        yield wording.CIPHER
    if m.earlier_disclosures:
        yield wording.RECIPIENTS.format(names="; ".join(m.earlier_disclosures))
    if chosen.row is not None and chosen.row.scores.source == "seed":
        yield wording.SEED
    if chosen.outcome == "not_produced":
        yield wording.INVISIBLE


def _model_assumptions(j: Judged) -> Iterable[str]:
    model = j.model
    channels = {
        "digest": model.digest_channel,
        "sketch": model.sketch_channel,
        "replay": model.replay_channel,
        "range": model.range_channel,
    }
    for name, run in channels.items():
        if not run.run:
            yield wording.CHANNEL_NOT_RUN.format(
                model=model.name, channel=name, detail=wording.detail(run.note)
            )
    if not any(x.compared for x in model.lookups):
        yield wording.CHANNEL_NOT_RUN.format(model=model.name, channel="latent", detail="")
    if model.disclosed_epochs:
        epochs = ", ".join(map(str, model.disclosed_epochs))
        yield wording.EPOCHS.format(model=model.name, epochs=epochs)
    if model.undisclosed_epochs:
        epochs = ", ".join(map(str, model.undisclosed_epochs))
        yield wording.UNDISCLOSED.format(model=model.name, epochs=epochs)
    if j.calibration is None:
        return
    if j.calibration.entry is None:
        yield wording.NOT_LOGGED.format(model=model.name)
    if j.calibration.made == "elsewhere":
        yield wording.MADE_ELSEWHERE.format(model=model.name)
    if model.live is None or not model.live.trials:
        yield wording.NO_REPEAT.format(model=model.name)
    if j.point and model.condition and j.point.strength != model.condition.strength:
        yield wording.MILDER.format(condition=model.condition.words)
