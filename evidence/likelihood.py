"""Error rates and the weight of a finding.

Two likelihood ratios, never combined (protocol.md section 6): against *coincidence*, which is the
bound of `null`, and against *copy, forgery or procedural error*, which no experiment of n trials
without an event supports beyond n/3. The verbal equivalent uses the smaller one.
"""

import math
from dataclasses import dataclass

CONFIDENCE = 0.95

# ENFSI Guideline for Evaluative Reporting in Forensic Science, version 3.0 (2015), section 2.5.1.
# Lower ends of the bands; the scale is used whole and pinned by a test.
ENFSI_SCALE: tuple[tuple[float, str], ...] = (
    (1e6, "extremely strong support"),
    (1e4, "very strong support"),
    (1e3, "strong support"),
    (1e2, "moderately strong support"),
    (1e1, "moderate support"),
    (2.0, "weak support"),
    (0.0, "no support"),
)

# The bound excludes coincidence at most at the cipher's claimed strength.
LOG10_CAP = 128.0 * math.log10(2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """Both ratios as log10, None where there is none, and the phrase for the smaller."""

    log10_coincidence: float | None
    log10_error: float | None
    verbal: str


def clopper_pearson_upper(misses: int, trials: int, alpha: float = 1.0 - CONFIDENCE) -> float:
    """Return the exact one-sided upper 1 − alpha bound of a rate; 1 for no trials."""
    if not 0 <= misses <= trials:
        raise ValueError(f"{misses} misses of {trials} trials")
    if misses == trials:
        return 1.0
    if misses == 0:
        return -math.expm1(math.log(alpha) / trials)
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2.0
        if _binomial_cdf(misses, trials, middle) > alpha:
            low = middle
        else:
            high = middle
    return high


def clopper_pearson_lower(events: int, trials: int, alpha: float = 1.0 - CONFIDENCE) -> float:
    """Return the exact one-sided lower 1 − alpha bound of a rate; 0 for no trials."""
    return 1.0 - clopper_pearson_upper(trials - events, trials, alpha) if trials else 0.0


def binomial_tail(events: int, trials: int, rate: float) -> float:
    """Return P(X >= events) for X ~ Binomial(trials, rate)."""
    if events <= 0:
        return 1.0
    return max(0.0, 1.0 - _binomial_cdf(events - 1, trials, rate))


def trials_needed(beta: float, points: int) -> int:
    """Return how many trials without a miss bring `points` joint upper bounds to beta."""
    return math.ceil(math.log((1.0 - CONFIDENCE) / points) / math.log1p(-beta))


def verbal_equivalent(ratio: float) -> str:
    """Return the ENFSI phrase for a likelihood ratio."""
    return next(phrase for lowest, phrase in ENFSI_SCALE if ratio >= lowest)


def weigh_produced(log_p_family: float | None, validations: int, events: int) -> Weight:
    """Weigh a produced finding: `events` false ones were seen in `validations` trials."""
    coincidence = None
    if log_p_family is not None:
        coincidence = min(LOG10_CAP, -log_p_family / math.log(10.0))
    error = _log10_validated(validations, events)
    known = [x for x in (coincidence, error) if x is not None]
    return Weight(
        log10_coincidence=coincidence,
        log10_error=error,
        verbal=verbal_equivalent(10.0 ** min(known)) if known else verbal_equivalent(1.0),
    )


def weigh_not_produced(beta: float) -> Weight:
    """Weigh a not-produced finding: with miss bound beta, at most 1/beta for H0 over H1."""
    return Weight(
        log10_coincidence=None,
        log10_error=-math.log10(beta),
        verbal=verbal_equivalent(1.0 / beta),
    )


def _log10_validated(validations: int, events: int) -> float | None:
    """n/3 for no event in n trials; the reciprocal of the rate's upper bound otherwise."""
    if validations < 3:
        return None
    if events == 0:
        return math.log10(validations / 3.0)
    return -math.log10(clopper_pearson_upper(events, validations))


def _binomial_cdf(k: int, n: int, p: float) -> float:
    """Sum P(X <= k) in log space, from the largest term down to what still counts."""
    if p <= 0.0:
        return 1.0
    if p >= 1.0:
        return 1.0 if k >= n else 0.0
    log_p, log_q, log_n = math.log(p), math.log1p(-p), math.lgamma(n + 1.0)
    return min(
        1.0,
        math.fsum(
            math.exp(
                log_n
                - math.lgamma(i + 1.0)
                - math.lgamma(n - i + 1.0)
                + i * log_p
                + (n - i) * log_q
            )
            for i in range(k + 1)
        ),
    )
