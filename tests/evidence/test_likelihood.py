"""Error rates against scipy, and the verbal scale, pinned whole."""

import math

import pytest
from scipy import stats

from latentlog.evidence.likelihood import (
    ENFSI_SCALE,
    LOG10_CAP,
    binomial_tail,
    clopper_pearson_lower,
    clopper_pearson_upper,
    trials_needed,
    verbal_equivalent,
    weigh_not_produced,
    weigh_produced,
)


@pytest.mark.parametrize("trials", [1, 10, 59, 150, 1000, 3000])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6, 0.05 / 14])
def test_clopper_pearson_is_the_beta_quantile(trials: int, alpha: float) -> None:
    for misses in {0, 1, 2, 7, trials // 2, trials - 1, trials} & set(range(trials + 1)):
        upper = clopper_pearson_upper(misses, trials, alpha)
        if misses == trials:
            assert upper == 1.0
        else:
            assert upper == pytest.approx(
                stats.beta.ppf(1 - alpha, misses + 1, trials - misses), rel=1e-9
            )


def test_the_lower_bound_mirrors_the_upper() -> None:
    assert clopper_pearson_lower(0, 20) == 0.0
    assert clopper_pearson_lower(20, 20) == pytest.approx(0.05 ** (1 / 20))
    assert clopper_pearson_lower(0, 0) == 0.0


def test_the_profiles_figures() -> None:
    assert clopper_pearson_upper(0, 59) < 0.05
    assert clopper_pearson_upper(0, 150) == pytest.approx(0.0198, abs=1e-4)
    assert clopper_pearson_upper(0, 150, 0.05 / 6) < 0.05
    assert clopper_pearson_upper(0, 1000, 0.05 / 14) == pytest.approx(0.0056, abs=5e-5)
    assert [trials_needed(0.05, m) for m in (1, 2, 3, 6)] == [59, 72, 80, 94]


def test_binomial_tail_is_scipys() -> None:
    for events in range(12):
        expected = stats.binom.sf(events - 1, 10, 0.05)
        assert binomial_tail(events, 10, 0.05) == pytest.approx(expected, abs=1e-12)


def test_the_verbal_scale_is_enfsis() -> None:
    """ENFSI Guideline for Evaluative Reporting, 2015: seven phrases, whole."""
    assert ENFSI_SCALE == (
        (1e6, "extremely strong support"),
        (1e4, "very strong support"),
        (1e3, "strong support"),
        (1e2, "moderately strong support"),
        (1e1, "moderate support"),
        (2.0, "weak support"),
        (0.0, "no support"),
    )
    assert verbal_equivalent(1.0) == "no support"
    assert verbal_equivalent(20.0) == "moderate support"


def test_the_phrase_follows_the_smaller_ratio() -> None:
    weight = weigh_produced(math.log(1e-30), validations=300, events=0)
    assert weight.log10_coincidence == pytest.approx(30.0)
    assert weight.log10_error == pytest.approx(2.0)
    assert weight.verbal == "moderately strong support"


def test_no_event_supports_no_more_than_a_third_of_the_trials() -> None:
    assert weigh_produced(None, validations=177, events=0).log10_error == pytest.approx(
        math.log10(59)
    )
    assert weigh_produced(None, validations=2, events=0).verbal == "no support"
    seen = weigh_produced(None, validations=177, events=5).log10_error
    assert seen is not None
    assert seen < math.log10(177 / 5)


def test_coincidence_is_capped_at_the_cipher() -> None:
    assert weigh_produced(-1e5, validations=10**9, events=0).log10_coincidence == LOG10_CAP


def test_not_produced_supports_no_more_than_its_miss_bound() -> None:
    assert weigh_not_produced(0.01).log10_error == pytest.approx(2.0)
    assert weigh_not_produced(0.05).verbal == "moderate support"
