"""Checks of the record that an examination makes itself, beside the record's own audit."""

import math
from collections.abc import Sequence

from latentlog.evidence.calibration import Calibration
from latentlog.evidence.compare import ModelUnderTest
from latentlog.evidence.measurements import COUNTER_RECORDED, LogCheck, Measurements, Rules
from latentlog.evidence.null import family, log_p_bar
from latentlog.evidence.record import EpochView, Record
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import EpochOpen, decode_entry


def check_keys(tested: ModelUnderTest, record: Record) -> LogCheck:
    """Hold every disclosed epoch key against the commitment logged when the epoch opened."""
    wrong = [e.epoch for e in tested.disclosed if not _opens(e, record)]
    detail = f"epoch {wrong[0]} was opened with another key" if wrong else "all committed to"
    return LogCheck(name="epoch_keys", ok=not wrong, detail=detail)


def check_control_key(calibration: Calibration, record: Record) -> LogCheck | None:
    """Hold a calibration's control key against the checkpoint that has to fix it.

    A calibration made elsewhere has the control key of another log: nothing to hold it against.
    """
    root = record.control_root(calibration.model_digest).hex()
    fits = calibration.control_root == root
    if calibration.made == "elsewhere" and not fits:
        return None
    return LogCheck(
        name="control_key",
        ok=fits,
        detail="the controls follow from the first checkpoint after the model's entry"
        if fits
        else "the controls do not follow from the checkpoint after the model's entry",
    )


def check_counters(m: Measurements, rules: Rules) -> LogCheck:
    """Say whether every counter that was really named has a generation in the record."""
    limit = math.log(rules.p_negative)
    named = [
        c
        for model in m.models
        for c in model.counters
        if c.digests
        or (c.cosine is not None and family(log_p_bar(c.cosine, model.dim), m.multiplicity) < limit)
    ]
    odd = next((c for c in named if c.state != "generated"), None)
    detail = f"{len(named)} counters named"
    if odd is not None:
        detail = f"counter {odd.counter} of epoch {odd.epoch} is {odd.state.replace('_', ' ')}"
    return LogCheck(name=COUNTER_RECORDED, ok=odd is None, detail=detail)


def merged(checks: Sequence[LogCheck]) -> tuple[LogCheck, ...]:
    """Join checks of one name: failed if one failed, not run if one was not."""
    joined: dict[str, LogCheck] = {}
    for check in checks:
        known = joined.setdefault(check.name, check)
        if known == check:
            continue
        results = (known.ok, check.ok)
        joined[check.name] = LogCheck(
            name=check.name,
            ok=False if False in results else None if None in results else True,
            detail="; ".join(d for d in (known.detail, check.detail) if d),
        )
    return tuple(joined.values())


def _opens(epoch: EpochView, record: Record) -> bool:
    entry = decode_entry(record.entry(epoch.open_index))
    if not isinstance(entry, EpochOpen) or epoch.key is None:
        return False
    model = Digest.fromhex(epoch.model_digest)
    made = epoch.key.commitment(record.origin, model, epoch.epoch, entry.salt)
    return entry.model_digest == model and made == entry.commitment
