"""Epochs: the key is committed to before it is used, and every counter ends in an account."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentlog.ledger.counters import Span, gaps, high_water, within
from latentlog.ledger.entry import Abandoned, EpochClose, EpochOpen
from latentlog.ledger.epochs import (
    close_epoch,
    counter_states,
    counter_totals,
    derive_epoch_key,
    epoch_states,
    newest_open_epoch,
    open_epoch,
)
from latentlog.ledger.errors import (
    AlreadyRegistered,
    EpochClosed,
    NoSuchEpoch,
    NoSuchModel,
    WrongOpening,
)
from latentlog.ledger.keystream import RecorderKeys
from latentlog.ledger.log import Log
from latentlog.ledger.registry import add_model, find_model, models, retire_recorder
from tests.builders import (
    MASTER,
    RECORDER,
    make_generation,
    make_log,
    make_model,
    make_recording_log,
    make_reservation,
    repeating,
)


def states(log: Log, epoch: int = 0) -> list[tuple[str, int, int]]:
    return [(s.state, s.first, s.count) for s in counter_states(log, epoch)]


def test_an_epoch_opens_under_a_checkpoint_that_covers_it() -> None:
    log = make_log()
    add_model(log, make_model())
    kept: dict[int, RecorderKeys] = {}
    opened = open_epoch(log, MASTER, "faces", repeating("epoch"), keep=kept.__setitem__)
    [state] = epoch_states(log)
    assert state.open_index < log.checkpoint().checkpoint.size
    assert (state.epoch, state.model, state.dim, state.high_water) == (0, "faces", 8, 0)
    assert state.open
    assert kept == {0: derive_epoch_key(log, MASTER, 0).recorder_keys()}
    assert opened.commitment == state.commitment


def test_epochs_are_numbered_across_models() -> None:
    log = make_log()
    add_model(log, make_model("a"))
    add_model(log, make_model("b", latent_shape=(4, 2, 2)))
    numbers = [open_epoch(log, MASTER, name, repeating("e")).epoch for name in ("a", "b", "a")]
    assert numbers == [0, 1, 2]
    assert newest_open_epoch(log, "a").epoch == 2
    assert newest_open_epoch(log, "b").dim == 16


def test_two_epochs_never_share_a_key() -> None:
    log = make_recording_log()
    open_epoch(log, MASTER, "faces", repeating("the same randomness"))
    open_epoch(log, MASTER, "faces", repeating("the same randomness"))
    secrets = {derive_epoch_key(log, MASTER, epoch).secret for epoch in range(3)}
    assert len(secrets) == 3


def test_an_unknown_model_has_no_epoch() -> None:
    log = make_log()
    with pytest.raises(NoSuchModel):
        open_epoch(log, MASTER, "faces", repeating("epoch"))
    with pytest.raises(NoSuchEpoch):
        newest_open_epoch(log, "faces")
    with pytest.raises(NoSuchEpoch):
        derive_epoch_key(log, MASTER, 0)
    with pytest.raises(NoSuchEpoch):
        close_epoch(log, 0)


def test_another_master_key_is_noticed() -> None:
    log = make_recording_log()
    with pytest.raises(WrongOpening):
        derive_epoch_key(log, bytes(32), 0)


def test_a_models_name_is_taken_once() -> None:
    log = make_recording_log()
    with pytest.raises(AlreadyRegistered):
        add_model(log, make_model(digest=make_model("other").digest))
    assert [entry.name for _, entry in models(log)] == ["faces"]
    with log.snapshot() as reader:
        assert find_model(reader, "faces").entry == make_model()


def test_a_model_is_registered_under_one_name() -> None:
    log = make_recording_log()
    with pytest.raises(AlreadyRegistered, match="as 'faces'"):
        add_model(log, make_model("other", digest=make_model().digest))
    assert [entry.name for _, entry in models(log)] == ["faces"]


def test_closing_abandons_the_rest_and_states_the_high_water() -> None:
    log = make_recording_log(reserved=10)
    log.append([make_generation(2), make_generation(3)], RECORDER)
    result = close_epoch(log, 0)
    closing = [log.entry(i).entry for i in range(result.first, result.seal_index)]
    assert closing == [
        Abandoned(epoch=0, first=0, count=2, reason="epoch_closed"),
        Abandoned(epoch=0, first=4, count=6, reason="epoch_closed"),
        EpochClose(epoch=0, high_water=10),
    ]
    assert not epoch_states(log)[0].open
    with pytest.raises(EpochClosed):
        close_epoch(log, 0)


def test_closing_an_epoch_with_many_gaps_takes_several_batches() -> None:
    log = make_recording_log(reserved=1200)
    odd = [make_generation(n) for n in range(1, 1200, 2)]
    for at in range(0, len(odd), 256):
        log.append(odd[at : at + 256], RECORDER)
    close_epoch(log, 0)
    totals = counter_totals(log, 0)
    assert totals == (1200, 600, 600, 0)


def test_an_unused_epoch_closes_at_zero() -> None:
    log = make_log()
    add_model(log, make_model())
    open_epoch(log, MASTER, "faces", repeating("epoch"))
    close_epoch(log, 0)
    assert log.entry(epoch_states(log)[0].close_index or 0).entry == EpochClose(
        epoch=0, high_water=0
    )


def test_counters_are_streamed_with_what_became_of_them() -> None:
    log = make_recording_log(reserved=8)
    log.append([make_generation(1)], RECORDER)
    log.append([Abandoned(epoch=0, first=3, count=3, reason="crashed")], RECORDER)
    log.append([make_generation(4, late=True)], RECORDER)
    log.append([make_reservation(8, 2)], RECORDER)
    assert states(log) == [
        ("reserved", 0, 1),
        ("generated", 1, 1),
        ("reserved", 2, 1),
        ("abandoned", 3, 3),
        ("late", 4, 1),
        ("reserved", 6, 2),
        ("reserved", 8, 2),
    ]
    assert counter_totals(log, 0) == (10, 2, 2, 6)


def test_retiring_abandons_only_what_is_the_recorders() -> None:
    log = make_recording_log(reserved=4)
    log.append([make_generation(0)], RECORDER)
    retire_recorder(log, "local")
    assert states(log) == [("generated", 0, 1), ("abandoned", 1, 3)]


@given(st.lists(st.tuples(st.integers(0, 39), st.integers(1, 8)), max_size=8), st.data())
@settings(max_examples=60, deadline=None)
def test_gaps_are_what_is_left(spans: list[tuple[int, int]], data: st.DataObject) -> None:
    """Against the plain set of counters: any mixture of generations and abandonments."""
    log = make_recording_log(reserved=48)
    taken: set[int] = set()
    for first, count in spans:
        wanted = range(first, first + count)
        if taken & set(wanted):
            continue
        taken |= set(wanted)
        if count == 1:
            log.append([make_generation(first)], RECORDER)
        else:
            log.append([Abandoned(epoch=0, first=first, count=count, reason="failed")], RECORDER)
    low = data.draw(st.integers(0, 47))
    high = data.draw(st.integers(low + 1, 48))
    with log.snapshot() as reader:
        found = list(gaps(within(reader), 0, Span(low, high - low)))
        assert high_water(reader, 0) == 48
    free = {counter for span in found for counter in range(span.first, span.stop)}
    assert free == set(range(low, high)) - taken
    assert all(a.stop < b.first for a, b in pairwise(found))


def test_an_open_epochs_entry_is_the_first_of_its_batch() -> None:
    log = make_recording_log()
    assert isinstance(log.entry(epoch_states(log)[0].open_index).entry, EpochOpen)
