"""The null distribution: how close a vector comes to a secret latent by coincidence.

protocol.md section 4; theorem, proof and what is certified are in docs/statistics.md. Everything
is a natural logarithm, because the tails that matter underflow: a cosine of 0.99 in 512 dimensions
has log p near -970. Pure `math`, so that a court's machine needs nothing else to recompute a bound.

    >>> round(log_p_bar(0.778, 64) / math.log(10), 2)
    -12.01
"""

import math

from latentlog.evidence.errors import MalformedMeasurements

# The lemma's constants: what the 65,536-value table may exceed the Gaussian by.
LEMMA_C0 = 1e-6
LEMMA_KAPPA = 1e-3
LEMMA_MAX_B = 300.0

# Nothing is claimed below the strength of the cipher that draws the latents.
LOG_FLOOR = -128.0 * math.log(2.0)

MIN_DIM = 2
_FRACTION_STEPS = 10_000
_TINY = 1e-300


def log_p_bar(cosine: float, dim: int) -> float:
    """Bound log P(cos(Q, v) >= cosine) for a fixed v and a secret table latent Q.

    The theorem's p̄, at the λ it names, kept inside the lemma's range (λr² <= 300). A vector that is
    not finite, or not on the latent's side, supports nothing: log 1.
    """
    _require_dim(dim)
    if not math.isfinite(cosine) or cosine <= 0.0:
        return 0.0
    r2 = min(cosine, 1.0) ** 2
    s = 1.0 - r2 + LEMMA_KAPPA
    # 2λr², positive only where r² is well above its mean 1/d.
    spread = min(((dim - 1) * r2 - s) / (dim * s), 2.0 * LEMMA_MAX_B)
    if spread <= 0.0:
        return 0.0
    log_p = (
        -math.log(2.0)
        + LEMMA_C0 * dim
        - 0.5 * (dim - 1) * math.log1p(spread)
        - 0.5 * math.log1p(-spread * s / r2)
    )
    return min(0.0, log_p)


def log_p_ideal(cosine: float, dim: int) -> float:
    """Return log P(cos >= cosine) for an exactly Gaussian latent: (1+ρ)/2 ~ Beta((d−1)/2, (d−1)/2).

    For the appendix only: the table is not exactly Gaussian, so no verdict rests on this.
    """
    _require_dim(dim)
    if not math.isfinite(cosine) or cosine <= -1.0:
        return 0.0
    if cosine < 0.0:
        return math.log1p(-math.exp(log_p_ideal(-cosine, dim)))
    if cosine >= 1.0:
        return -math.inf
    return -math.log(2.0) + _log_beta_tail((dim - 1) / 2.0, 0.5, cosine)


def family(log_p: float, multiplicity: int) -> float:
    """Return log min(1, N·p) for N comparisons."""
    if multiplicity < 1:
        return 0.0
    return min(0.0, log_p + math.log(multiplicity))


def floored(log_p: float) -> float:
    """Return the value that may be printed: never below 2^-128."""
    return max(log_p, LOG_FLOOR)


def format_p(log_p: float) -> str:
    """Format a probability given by its logarithm, floored at 2^-128, with two digits."""
    log10 = floored(log_p) / math.log(10.0)
    exponent = math.floor(log10)
    digits = f"{10.0 ** (log10 - exponent):.1f}"
    if digits == "10.0":
        digits, exponent = "1.0", exponent + 1
    if exponent >= -3:
        return f"{10.0**log10:.2g}"
    return f"{digits}e{exponent}"


def cosine_needed(p: float, dim: int, n: int = 1) -> float | None:
    """Return the least cosine whose family bound over n comparisons is at most p, or None.

    None in so few dimensions that even a cosine of 1 does not reach p.
    """
    _require_dim(dim)
    target = math.log(p)
    if family(log_p_bar(1.0, dim), n) > target:
        return None
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if family(log_p_bar(middle, dim), n) <= target:
            high = middle
        else:
            low = middle
    return high


def _require_dim(dim: int) -> None:
    if dim < MIN_DIM:
        raise MalformedMeasurements(
            "a latent of fewer than two dimensions has no direction",
            expected=f"at least {MIN_DIM} dimensions",
            got=str(dim),
        )


def _log_beta_tail(a: float, b: float, r: float) -> float:
    """Return log I_x(a, b), the regularised incomplete Beta function, at x = 1 − r², 0 <= r < 1.

    Taking r, not x, keeps 1 − x exact where the tail is wide.
    """
    if r <= 0.0:
        return 0.0
    x, y = (1.0 - r) * (1.0 + r), r * r
    front = (
        a * math.log(x)
        + 2.0 * b * math.log(r)
        + math.lgamma(a + b)
        - math.lgamma(a)
        - math.lgamma(b)
    )
    if x < (a + 1.0) / (a + b + 2.0):
        return front - math.log(a) + math.log(_beta_fraction(a, b, x))
    # The complement converges here, and is at most about 1/2: no cancellation.
    return math.log1p(-math.exp(front - math.log(b) + math.log(_beta_fraction(b, a, y))))


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Evaluate the continued fraction DLMF 8.17.22 by Lentz's method."""
    c, d = 1.0, _reciprocal(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, _FRACTION_STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        d = _reciprocal(1.0 + even * d)
        c = _away_from_zero(1.0 + even / c)
        value *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        d = _reciprocal(1.0 + odd * d)
        c = _away_from_zero(1.0 + odd / c)
        value *= d * c
        if abs(d * c - 1.0) < 1e-15:
            return value
    raise RuntimeError(f"the continued fraction of I_x({a}, {b}) did not converge at x = {x}")


def _away_from_zero(x: float) -> float:
    return x if abs(x) > _TINY else _TINY


def _reciprocal(x: float) -> float:
    return 1.0 / _away_from_zero(x)
