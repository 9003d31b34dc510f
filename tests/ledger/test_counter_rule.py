"""The rule of protocol section 2 against a naive oracle: every history that breaks it is reported.

The oracle knows one state for each counter and reads entries in the log's order; the audit reads
them in counter order and remembers almost nothing. They have to agree on every small history.
"""

from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from latentlog.ledger.entry import (
    Abandoned,
    Entry,
    EpochClose,
    EpochOpen,
    Generation,
    RecorderEntry,
    Reservation,
)
from latentlog.ledger.outsider import audit_site
from tests.builders import (
    RECORDER,
    RECORDER_KEY,
    digest,
    make_generation,
    make_model,
    make_reservation,
)
from tests.ledger.sites import OPERATOR, VERIFIER, StaticLog, fetch_from


def allowed(history: Sequence[Entry]) -> bool:
    """Tell whether a history keeps to the rule, the naive way."""
    states: dict[int, str] = {}
    high, closed = 0, False
    for entry in history:
        match entry:
            case Reservation():
                if closed or entry.first != high:
                    return False
                high = entry.first + entry.count
                states |= dict.fromkeys(range(entry.first, high), "reserved")
            case Generation():
                if states.get(entry.counter) != ("abandoned" if entry.late else "reserved"):
                    return False
                states[entry.counter] = "sealed"
            case Abandoned():
                for counter in range(entry.first, entry.first + entry.count):
                    if states.get(counter) != "reserved":
                        return False
                    states[counter] = "abandoned"
            case EpochClose():
                if closed or entry.high_water != high or "reserved" in states.values():
                    return False
                closed = True
    return True


def abandon(first: int, count: int) -> Abandoned:
    return Abandoned(epoch=0, first=first, count=count, reason="crashed")


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    """Draw mostly lawful histories: most steps that break the rule are left out again."""
    history: list[Entry] = []
    high = 0
    for _ in range(draw(st.integers(1, 8))):
        near = st.integers(0, high + 1)
        entry: Entry = draw(
            st.one_of(
                st.builds(make_reservation, st.just(high) | near, st.integers(1, 4)),
                st.builds(lambda n, late: make_generation(n, late=late), near, st.booleans()),
                st.builds(abandon, near, st.integers(1, 4)),
                st.builds(lambda n: EpochClose(epoch=0, high_water=n), st.just(high) | near),
            )
        )
        if allowed([*history, entry]) or draw(st.integers(0, 4)) == 0:
            history.append(entry)
            if isinstance(entry, Reservation):
                high = max(high, entry.first + entry.count)
    return history


@given(histories())
@example([make_reservation(0, 3), abandon(1, 3)])
@example([make_reservation(0, 2), make_generation(0), abandon(0, 2)])
@example([make_reservation(0, 2), abandon(0, 2), make_generation(1, late=True)])
@example([make_reservation(0, 1), EpochClose(epoch=0, high_water=1), make_generation(0)])
@settings(max_examples=400, deadline=None)
def test_the_audit_and_a_naive_reading_agree(history: list[Entry]) -> None:
    model, log = make_model(), StaticLog()
    log.batch([RecorderEntry(name="local", key=RECORDER_KEY.public, state="active")])
    log.batch([model])
    opened = EpochOpen(
        epoch=0,
        model=model.name,
        model_digest=model.digest,
        dim=model.dim,
        salt=bytes(32),
        commitment=digest("epoch key"),
    )
    log.batch([opened])
    for entry in history:
        log.batch([entry], OPERATOR if isinstance(entry, EpochClose) else RECORDER)
    problems = audit_site(fetch_from(log.files()), VERIFIER).audit.problems
    assert allowed(history) == (not problems), problems
