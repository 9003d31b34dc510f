"""The decision table of protocol.md section 6: every reason is reached, no verdict falsely."""

import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentlog.evidence import null, wording
from latentlog.evidence.errors import MalformedMeasurements
from latentlog.evidence.finding import (
    CounterScores,
    Finding,
    LogCheck,
    Lookup,
    Measurements,
    Rules,
    Time,
    decide,
)
from latentlog.evidence.rule import (
    INCONCLUSIVE_REASONS,
    NEGATIVE_REASONS,
    POSITIVE_REASONS,
    matching_point,
)
from tests.evidence.scores import (
    BAD_REPLAY,
    CLOSE,
    DIM,
    FAR,
    GOOD_REPLAY,
    GREY,
    NOT_RUN,
    PATCHED_REPLAY,
    calibration,
    counter,
    live,
    measurements,
    model,
    point,
    rules,
)

FAILED = (LogCheck(name="audit", ok=False, detail="entry 9 is not sealed"),)


def own(**changes: Any) -> Measurements:
    return measurements(model(counter(**{"cosine": CLOSE, "replay": GOOD_REPLAY, **changes})))


def innocent() -> Measurements:
    return measurements(model(counter()))


def test_the_three_cosines_lie_where_the_tests_say() -> None:
    p = [null.family(null.log_p_bar(c, DIM), 4000) / 2.302585 for c in (CLOSE, GREY, FAR)]
    assert p[0] < -6 < p[1] < -3 < p[2]


def test_latent_and_replay_on_one_counter_is_produced() -> None:
    finding = decide(own(), rules())
    assert (finding.outcome, finding.reason) == ("produced", "latent_and_replay")
    assert finding.entry is not None
    assert (finding.entry.index, finding.entry.epoch, finding.entry.counter) == (41, 0, 37)
    assert finding.model == "faces"
    assert finding.exclusion == ()
    assert finding.multiplicity == 4000


def test_digest_and_replay_on_one_counter_is_produced() -> None:
    finding = decide(own(digests=("pixels",)), rules())
    assert (finding.outcome, finding.reason) == ("produced", "digest_and_replay")


def test_produced_says_the_protocols_sentence_and_that_the_order_is_not_shown() -> None:
    finding = decide(own(), rules())
    assert finding.explanation.startswith(
        "The medium is entry 41's output, or a copy that cannot be told apart at this medium's "
        "quality. This does not say who copied, altered or circulated it."
    )
    assert "is not shown" in finding.explanation


@pytest.mark.parametrize(
    ("sealed", "seen", "order"),
    [
        (None, "2026-02-01T00:00:00Z", "not_shown"),
        (Time(at="2026-01-01T00:00:00Z", source="operator"), "2026-02-01T00:00:00Z", "not_shown"),
        (Time(at="2026-01-01T00:00:00Z", source="rfc3161"), None, "not_shown"),
        (Time(at="2026-01-01T00:00:00Z", source="rfc3161"), "2026-02-01T00:00:00Z", "shown"),
        (Time(at="2026-03-01T00:00:00Z", source="witness"), "2026-02-01T00:00:00Z", "reversed"),
    ],
)
def test_order_of_time(sealed: Time | None, seen: str | None, order: str) -> None:
    m = own(sealed_at=sealed)
    seen_at = Time(at=seen, source="rfc3161") if seen else None
    finding = decide(replace(m, medium=replace(m.medium, seen_at=seen_at)), rules())
    assert finding.outcome == "produced"
    assert finding.order_of_time == order


def test_the_stated_time_of_a_medium_shows_no_order() -> None:
    m = own(sealed_at=Time(at="2026-01-01T00:00:00Z", source="rfc3161"))
    stated = Time(at="2026-02-01T00:00:00Z", source="stated")
    finding = decide(replace(m, medium=replace(m.medium, seen_at=stated)), rules())
    assert finding.order_of_time == "not_shown"


@pytest.mark.parametrize("channel", ["digest_channel", "sketch_channel", "replay_channel"])
def test_a_channel_that_was_switched_off_has_not_found_nothing(channel: str) -> None:
    finding = decide(measurements(model(counter(), **{channel: NOT_RUN})), rules())
    assert (finding.outcome, finding.reason) == ("inconclusive", "power_too_low")
    absent = replace(NOT_RUN, note="no digest was disclosed")
    finding = decide(measurements(model(counter(), **{channel: absent})), rules())
    assert finding.outcome == "not_produced"


def test_seeds_that_were_not_compared_leave_silence_without_meaning() -> None:
    check = LogCheck(name="logged_seeds", ok=None, detail="2 were not compared")
    finding = decide(replace(innocent(), log_checks=(check,)), rules())
    assert (finding.outcome, finding.reason) == ("inconclusive", "power_too_low")
    assert decide(replace(own(), log_checks=(check,)), rules()).outcome == "produced"


def test_a_photograph_is_not_produced_within_the_envelope() -> None:
    finding = decide(innocent(), rules())
    assert (finding.outcome, finding.reason) == ("not_produced", "nothing_within_envelope")
    assert finding.entry is None
    assert finding.explanation.startswith(
        "The medium is not an output of the registered epochs of faces, as such or transformed "
        "within the envelope."
    )
    envelope = finding.exclusion[0].envelope
    assert [p.covered for p in envelope] == [True, True, True]
    assert envelope[0].upper95 == pytest.approx(1 - (0.05 / 3) ** (1 / 150))


def test_without_range_power_the_first_sentence_says_so() -> None:
    m = measurements(model(counter(), kind="ddim", range_channel=NOT_RUN, residual=None))
    finding = decide(m, rules())
    assert finding.outcome == "not_produced"
    assert finding.explanation.startswith(wording.NO_RANGE.strip())


def test_an_abandoned_counter_whose_replay_passes_is_produced_with_the_check_shown_as_failed() -> (
    None
):
    m = own(state="abandoned", index=None)
    failed = LogCheck(name="counter_recorded", ok=False, detail="0/37 is abandoned")
    finding = decide(replace(m, log_checks=(failed,)), rules())
    assert finding.outcome == "produced"
    assert finding.log_checks == (failed,)
    assert "counter 37 of epoch 0" in finding.explanation
    assert "shown as failed" in finding.explanation


def inconclusive_cases() -> dict[str, tuple[Measurements, Rules]]:
    photo, tuned = innocent(), rules()
    blurred = model(counter())
    return {
        "wrong_format": (
            measurements(model(applicable=False, condition=None, residual=None,
                               range_channel=NOT_RUN)),
            tuned,
        ),
        "not_calibrated": (own(), Rules()),
        "altered_region": (
            measurements(model(counter(cosine=CLOSE, replay=PATCHED_REPLAY))), tuned),
        "depends_on_entry": (measurements(model(counter(cosine=CLOSE, replay=BAD_REPLAY))), tuned),
        "digest_without_replay": (
            measurements(model(counter(digests=("file",), replay=BAD_REPLAY))), tuned),
        "replay_only": (measurements(model(counter(replay=GOOD_REPLAY))), tuned),
        "grey_zone": (measurements(model(counter(cosine=GREY))), tuned),
        "log_check_failed": (replace(photo, log_checks=FAILED), tuned),
        "outside_envelope": (
            measurements(replace(blurred, condition=replace(
                blurred.condition, distortion="jpeg", strength=40.0))),  # type: ignore[type-var]
            tuned,
        ),
        "reachable_unregistered": (measurements(model(counter(), residual=1.1)), tuned),
        "power_too_low": (photo, rules(calibration(point("png", 0.0), point("jpeg", 90.0,
                                                                            misses=8)))),
    }  # fmt: skip


@pytest.mark.parametrize("reason", INCONCLUSIVE_REASONS)
def test_every_reason_is_reached(reason: str) -> None:
    finding = decide(*inconclusive_cases()[reason])
    assert (finding.outcome, finding.reason) == ("inconclusive", reason)
    assert finding.weight is None
    assert finding.explanation


def test_a_failed_log_check_withholds_a_produced_and_names_the_entry() -> None:
    finding = decide(replace(own(), log_checks=FAILED), rules())
    assert (finding.outcome, finding.reason) == ("inconclusive", "log_check_failed")
    assert finding.entry is not None
    assert "audit" in finding.explanation
    assert "entry 41" in finding.explanation


def test_the_digest_of_one_counter_and_the_replay_of_another_do_not_add_up() -> None:
    one = counter(counter=1, index=2, digests=("pixels",), replay=BAD_REPLAY)
    other = counter(counter=2, index=3, replay=GOOD_REPLAY)
    finding = decide(measurements(model(one, other)), rules())
    assert finding.outcome == "inconclusive"


@pytest.mark.parametrize("why", ["constant", "several_counters"])
def test_an_excluded_digest_does_not_carry_a_finding(why: str) -> None:
    row = counter(digests=("pixels",), digest_excluded=why, replay=GOOD_REPLAY)
    finding = decide(measurements(model(row)), rules())
    assert (finding.outcome, finding.reason) == ("inconclusive", "replay_only")


def test_a_latent_without_any_replay_is_no_more_than_dependence() -> None:
    row = counter(cosine=CLOSE, rederived=False, replay=None)
    finding = decide(measurements(model(row, replay_channel=NOT_RUN)), rules())
    assert finding.reason == "depends_on_entry"


def test_the_nearest_point_judges_the_replay_not_the_loosest() -> None:
    loose = point("jpeg", 75.0, replay_global=50.0, replay_local=(50.0, 50.0, 50.0))
    tuned = rules(calibration(point("png", 0.0), point("jpeg", 90.0), loose))
    m = measurements(model(counter(cosine=CLOSE, replay=BAD_REPLAY)))
    assert decide(m, tuned).reason == "depends_on_entry"


def test_matching_point_needs_a_point_at_least_as_harsh() -> None:
    condition = model(counter()).condition
    assert condition is not None
    jpeg = [replace(condition, distortion="jpeg", strength=q) for q in (74.0, 75.0, 83.0, 100.0)]
    points = (point("jpeg", 75.0), point("jpeg", 90.0))
    found = [matching_point(c, points) for c in jpeg]
    assert [p and p.strength for p in found] == [None, 75.0, 90.0, 90.0]


@pytest.mark.parametrize(
    ("quality", "limit"), [(60.0, 5.0), (70.0, 5.0), (75.0, 2.0), (80.0, 3.0), (95.0, 4.0)]
)
def test_between_two_points_the_looser_of_these_two_holds(quality: float, limit: float) -> None:
    condition = model(counter()).condition
    assert condition is not None
    medium = replace(condition, distortion="jpeg", strength=quality)
    points = tuple(
        point(name, strength, replay_global=g, replay_local=(g, g, g), reach=g)
        for name, strength, g in (
            ("png", 0.0, 4.0), ("jpeg", 90.0, 3.0), ("jpeg", 75.0, 2.0), ("jpeg", 60.0, 5.0),
            ("resize", 0.5, 50.0),
        )
    )  # fmt: skip
    found = matching_point(medium, points)
    assert found is not None
    assert {found.replay_global, found.reach, *found.replay_local} == {limit}


def test_the_envelope_must_hold_png_and_jpeg_90() -> None:
    only_png = rules(calibration(point("png", 0.0)))
    assert decide(innocent(), only_png).reason == "power_too_low"
    harsher = rules(calibration(point("png", 0.0), point("jpeg", 75.0)))
    assert decide(innocent(), harsher).outcome == "not_produced"


def test_59_trials_cover_one_point_and_not_two() -> None:
    def tuned(trials: int) -> Rules:
        return rules(calibration(point("png", 0.0, trials=trials, produced=0),
                                 point("jpeg", 90.0, trials=trials, produced=0)))  # fmt: skip

    assert decide(innocent(), tuned(59)).reason == "power_too_low"
    assert decide(innocent(), tuned(72)).outcome == "not_produced"


@pytest.mark.parametrize(
    "repeat",
    [
        live(cosines=(0.1,) * 3 + (0.99,) * 7),
        live(replays=(BAD_REPLAY,) * 3 + (GOOD_REPLAY,) * 7),
        live(distortion="jpeg", strength=60.0),
    ],
)
def test_live_controls_that_contradict_the_calibration_withhold_both_verdicts(
    repeat: object,
) -> None:
    for m in (own(), innocent()):
        scores = replace(m.models[0], live=repeat)  # type: ignore[arg-type]
        assert decide(replace(m, models=(scores,)), rules()).reason == "not_calibrated"


def test_two_misses_in_ten_live_controls_are_within_chance() -> None:
    m = innocent()
    repeat = live(cosines=(0.1,) + (0.99,) * 9)
    scores = replace(m.models[0], live=repeat)
    assert decide(replace(m, models=(scores,)), rules()).outcome == "not_produced"


def test_a_calibration_from_elsewhere_counts_only_with_the_examiners_repeat() -> None:
    m = innocent()
    tuned = rules(calibration(made="elsewhere"))
    assert decide(m, tuned).outcome == "not_produced"
    assert any("made elsewhere" in a for a in decide(m, tuned).assumptions)
    alone = replace(m.models[0], live=None)
    assert decide(replace(m, models=(alone,)), tuned).reason == "not_calibrated"


def test_earlier_runs_of_the_case_count_towards_n() -> None:
    row = counter(cosine=0.68)
    few = decide(measurements(model(row)), rules())
    many = decide(measurements(model(row), compared_before=10**9), rules())
    assert many.multiplicity == 10**9 + 4000
    assert many.log10_p_family == pytest.approx(few.log10_p_family + 5.4, abs=0.01)


def test_p_is_never_printed_below_the_strength_of_the_cipher() -> None:
    finding = decide(own(), rules())
    assert finding.p_family == "2.9e-39"
    assert finding.log10_p_family == pytest.approx(-38.53, abs=0.01)
    assert finding.log10_p_ideal < -60


def test_two_models_are_excluded_only_together() -> None:
    other = "cd" * 32
    second = replace(model(counter()), name="sibling", digest=other)
    both = rules(calibration(), calibration(model_digest=other))
    m = measurements(model(counter()), second)
    assert decide(m, both).outcome == "not_produced"
    assert decide(m, both).model is None
    assert len(decide(m, both).exclusion) == 2
    assert decide(m, rules()).reason == "not_calibrated"
    produced = replace(second, counters=(counter(cosine=CLOSE, replay=GOOD_REPLAY),),
                       lookups=(Lookup(vector="medium", compared=4000, cosine=CLOSE),))  # fmt: skip
    finding = decide(measurements(model(counter()), produced), both)
    assert (finding.outcome, finding.model) == ("produced", "sibling")


def test_everything_not_checked_is_an_assumption_by_name() -> None:
    m = measurements(
        model(counter(), sketch_channel=NOT_RUN, live=None),
        earlier_disclosures=("key 1234 in case 7",),
    )
    finding = decide(m, rules(calibration(entry=None)))
    text = "\n".join(finding.assumptions)
    for part in ("timestamps", "sketch channel", "not logged", "did not repeat", "case 7", "AES"):
        assert part in text, part


def test_a_logged_seed_voids_the_bound() -> None:
    finding = decide(own(source="seed"), rules())
    assert wording.SEED in finding.assumptions


def test_a_medium_that_cannot_be_read_is_of_the_wrong_format() -> None:
    m = measurements()
    m = replace(m, medium=replace(m.medium, problem="It is not a picture.", pixels=None))
    finding = decide(m, Rules())
    assert finding.reason == "wrong_format"
    assert "It is not a picture." in finding.explanation


SCORES = st.sampled_from([None, GOOD_REPLAY, PATCHED_REPLAY, BAD_REPLAY])
ROWS = st.builds(
    lambda cosine, digests, excluded, replay: counter(
        cosine=cosine, digests=digests, digest_excluded=excluded if digests else "", replay=replay
    ),
    cosine=st.floats(-1.0, 1.0),
    digests=st.sampled_from([(), ("pixels",), ("file", "pixels")]),
    excluded=st.sampled_from(["", "constant", "several_counters"]),
    replay=SCORES,
)


@given(
    rows=st.lists(ROWS, min_size=1, max_size=3),
    ok=st.sampled_from([True, None, False]),
    residual=st.sampled_from([0.9, 30.0]),
    misses=st.integers(0, 12),
    applicable=st.booleans(),
    calibrated=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_no_verdict_without_its_grounds(
    rows: list[CounterScores],
    ok: bool | None,
    residual: float,
    misses: int,
    applicable: bool,
    calibrated: bool,
) -> None:
    numbered = [replace(r, counter=i, index=i + 1) for i, r in enumerate(rows)]
    scores = model(*numbered, residual=residual)
    if not applicable:
        scores = replace(scores, applicable=False, condition=None, lookups=(), counters=())
    m = replace(measurements(scores), log_checks=(LogCheck(name="audit", ok=ok, detail=""),))
    tuned = rules(calibration(point("png", 0.0, misses=misses), point("jpeg", 90.0)))
    finding = decide(m, tuned if calibrated else Rules())
    p = finding.log10_p_family
    if finding.outcome == "produced":
        assert applicable
        assert calibrated
        assert ok is not False
        [row] = [r for r in numbered if finding.entry and r.counter == finding.entry.counter]
        assert row.replay == GOOD_REPLAY
        own_p = null.family(null.log_p_bar(row.cosine, DIM), m.multiplicity) / 2.302585093
        assert own_p <= -6 or (row.digests and not row.digest_excluded)
        assert finding.reason in POSITIVE_REASONS
    elif finding.outcome == "not_produced":
        assert applicable
        assert calibrated
        assert ok is not False
        assert p >= -3.0000001
        assert not any(r.digests for r in numbered)
        assert not any(r.replay in (GOOD_REPLAY, PATCHED_REPLAY) for r in numbered)
        assert residual > 1.3
        assert all(x.covered for x in finding.exclusion[0].envelope)
        assert finding.reason in NEGATIVE_REASONS
    else:
        assert finding.reason in INCONCLUSIVE_REASONS
        assert set(finding.also) <= set(INCONCLUSIVE_REASONS)


@pytest.mark.parametrize("p_step", [-2, -1, 0, 1, 2])
def test_the_limits_belong_to_the_verdicts(p_step: int) -> None:
    at = null.cosine_needed(1e-6, DIM, 4000)
    assert at is not None
    row = counter(cosine=at + p_step * 1e-12, replay=GOOD_REPLAY)
    finding = decide(measurements(model(row)), rules())
    assert (finding.outcome == "produced") == (p_step >= 0)


def every_case() -> list[tuple[Measurements, Rules]]:
    return [(own(), rules()), (innocent(), rules()), *inconclusive_cases().values()]


def test_everything_survives_json() -> None:
    for m, r in every_case():
        text = json.dumps([m.to_json(), r.to_json(), decide(m, r).to_json()])
        wire = json.loads(text, parse_float=lambda s: pytest.fail(f"a float was written: {s}"))
        again, rules_again = Measurements.from_json(wire[0]), Rules.from_json(wire[1])
        assert (again, rules_again) == (m, r)
        assert decide(again, rules_again) == decide(m, r) == Finding.from_json(wire[2])


def test_output_holds_the_stable_keys_with_numbers() -> None:
    out = decide(innocent(), rules()).to_output(bundle="case.zip")
    for key in ("schema", "outcome", "reason", "explanation", "model", "entry", "p_family",
                "log10_p_family", "log10_p_ideal", "multiplicity", "channels", "exclusion",
                "assumptions", "bundle"):  # fmt: skip
        assert key in out
    assert out["entry"] is None
    assert isinstance(out["log10_p_family"], float)
    assert out["exclusion"]["envelope"][1]["strength"] == 90
    assert isinstance(out["channels"]["latent"]["cosine"], float)
    assert decide(own(), rules()).to_output()["exclusion"] is None


def mutations(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in [(*path, k), *mutations(v, (*path, k))]]
    if isinstance(value, list):
        return [p for i, v in enumerate(value) for p in mutations(v, (*path, i))]
    return [path] if path else []


@pytest.mark.parametrize("junk", [1.5, {"x": []}, "\x00", None, [], "1e400", "NaN", "01"])
def test_no_junk_leaks_another_error(junk: object) -> None:
    for parse, value in ((Measurements.from_json, own().to_json()),
                         (Rules.from_json, rules().to_json())):  # fmt: skip
        for path in set(mutations(value)):
            broken = json.loads(json.dumps(value))
            at = broken
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = junk
            try:
                parse(broken)
            except MalformedMeasurements:
                continue


@pytest.mark.parametrize(
    "broken",
    [
        own(cosine=1.5),
        measurements(model(counter(cosine=CLOSE), lookups=())),
        measurements(model(counter(cosine=FAR),
                           lookups=(Lookup(vector="medium", compared=9, cosine=CLOSE),))),
        measurements(model(counter(), counter())),
        measurements(model(counter()), model(counter())),
        measurements(model(counter(rederived=False))),
        measurements(model(counter(state="generated", index=None))),
        measurements(model(counter(), residual=None)),
        measurements(model(counter(), live=live(trials=9))),
        measurements(),
    ],
)  # fmt: skip
def test_measurements_that_contradict_themselves_are_refused(broken: Measurements) -> None:
    with pytest.raises(MalformedMeasurements):
        decide(broken, rules())
    with pytest.raises(MalformedMeasurements):
        Measurements.from_json(broken.to_json())


def test_no_finding_says_what_must_not_be_said() -> None:
    banned = re.compile(r"\bmatch|\bprove[sd]?\b|latentlog|probability that|attributed", re.I)
    for m, r in every_case():
        finding = decide(m, r)
        for text in (finding.explanation, *finding.assumptions):
            assert not banned.search(text), text
            assert "{" not in text
    every = [*wording.REASONS.values(), wording.PRODUCED, wording.NOT_PRODUCED]
    assert not [t for t in every if banned.search(t)]
    assert set(wording.REASONS) == {*INCONCLUSIVE_REASONS, *POSITIVE_REASONS, *NEGATIVE_REASONS}


def test_the_decision_needs_the_standard_library_only() -> None:
    heavy = ("numpy", "scipy", "torch", "sqlalchemy", "PIL")
    code = (
        "import sys; import latentlog.evidence.finding, latentlog.evidence.null, "
        "latentlog.evidence.exhibit, latentlog.evidence.likelihood; "
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_whole_table_has_no_third_way_to_a_verdict() -> None:
    """Latent, digest and replay in every combination, on one counter."""
    cosines = {CLOSE: "pass", GREY: "grey", FAR: "fail"}
    replays = [GOOD_REPLAY, PATCHED_REPLAY, BAD_REPLAY, None]
    for cosine, digests, replay in itertools.product(cosines, [(), ("pixels",)], replays):
        m = measurements(model(counter(cosine=cosine, digests=digests, replay=replay)))
        outcome = decide(m, rules()).outcome
        named = cosine == CLOSE or digests
        silent = cosine == FAR and not digests and replay in (BAD_REPLAY, None)
        expected = "produced" if named and replay == GOOD_REPLAY else "inconclusive"
        assert outcome == ("not_produced" if silent else expected)


def test_a_range_channel_that_takes_composites_for_its_own_has_no_power() -> None:
    blind = point("png", 0.0, foreign_reached=9)
    reachable = measurements(model(counter(), residual=1.1))
    finding = decide(reachable, rules(calibration(blind, point("jpeg", 90.0))))
    assert finding.outcome == "not_produced"
    assert finding.explanation.startswith(wording.NO_RANGE.strip())


def test_silence_of_some_epochs_is_not_silence_of_all() -> None:
    m = measurements(model(counter(), undisclosed_epochs=(3,)))
    finding = decide(m, rules())
    assert finding.reason == "power_too_low"
    assert any("not disclosed" in a for a in finding.assumptions)
    hit = measurements(model(counter(cosine=CLOSE, replay=GOOD_REPLAY), undisclosed_epochs=(3,)))
    assert decide(hit, rules()).outcome == "produced"
