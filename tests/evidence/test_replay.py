"""Replay scores: what a patch, a whole other picture and the right one look like."""

import numpy as np
import pytest

from latentlog.evidence.calibration import replay_limits
from latentlog.evidence.measurements import ReplayScore
from latentlog.evidence.replay import (
    WINDOWS,
    global_score,
    local_scores,
    replay_score,
    window_means,
)
from latentlog.evidence.rule import replay_verdict
from latentlog.inversion.result import Residual
from tests.evidence.scores import point


def energy(side: int = 64, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    """The map of a true source: squared standard normals, averaged over three colours."""
    rng = np.random.default_rng(seed)
    noise: np.ndarray = (rng.standard_normal((side, side, 3)) ** 2).mean(axis=2)  # type: ignore[type-arg]
    return noise.astype(np.float32)


def score(field: np.ndarray) -> ReplayScore:  # type: ignore[type-arg]
    return replay_score(Residual(global_=float(np.sqrt(field.mean())), map=field))


LIMIT_GLOBAL, LIMIT_LOCAL = replay_limits(tuple(score(energy(seed=i)) for i in range(1, 60)))
RULE = point("png", 0.0, replay_global=LIMIT_GLOBAL, replay_local=LIMIT_LOCAL)


@pytest.mark.parametrize("shape", [(28, 28), (64, 64), (48, 64), (17, 31), (3, 3), (2, 9)])
def test_window_means_are_those_of_a_plain_loop(shape: tuple[int, int]) -> None:
    field = np.random.default_rng(3).random(shape).astype(np.float32)
    for fraction in WINDOWS:
        side = min(max(2, round(min(shape) / fraction)), *shape)
        plain = [
            field[y : y + side, x : x + side].mean()
            for y in range(shape[0] - side + 1)
            for x in range(shape[1] - side + 1)
        ]
        assert window_means(field, fraction).ravel() == pytest.approx(plain, rel=1e-5)


def test_a_true_source_passes() -> None:
    verdicts = [replay_verdict(score(energy(seed=i)), RULE) for i in range(100, 300)]
    assert verdicts.count("pass") >= 199


@pytest.mark.parametrize("side", [4, 8, 16, 20])
@pytest.mark.parametrize("corner", [(0, 0), (20, 33), (40, 40)])
def test_a_pasted_patch_passes_as_a_whole_and_fails_locally(
    side: int, corner: tuple[int, int]
) -> None:
    field = energy(seed=7)
    y, x = corner
    field[y : y + side, x : x + side] = 900.0
    assert replay_verdict(score(field), RULE) == "local_fails"


@pytest.mark.parametrize("level", [1.5, 4.0, 900.0])
def test_another_picture_fails_as_a_whole(level: float) -> None:
    assert replay_verdict(score(energy(seed=8) * level), RULE) == "fails"


def test_half_a_picture_is_no_picture() -> None:
    field = energy(seed=9)
    field[:, 32:] *= 400.0
    assert replay_verdict(score(field), RULE) == "fails"


def test_a_faint_large_patch_is_found_by_the_larger_windows() -> None:
    field = energy(seed=10)
    field[10:42, 10:42] *= 1.5
    found = score(field)
    assert found.local[0] <= LIMIT_LOCAL[0] * 1.2
    assert found.local[2] > LIMIT_LOCAL[2]


def test_limits_lie_past_every_control() -> None:
    controls = [score(energy(seed=i)) for i in range(1, 60)]
    assert max(c.global_ for c in controls) < LIMIT_GLOBAL
    for i, limit in enumerate(LIMIT_LOCAL):
        assert max(c.local[i] for c in controls) < limit


def test_a_residual_that_is_not_finite_fails() -> None:
    for bad in (np.inf, np.nan, 1e30):
        field = energy(seed=11)
        field[3, 3] = bad
        assert replay_verdict(score(field), RULE) != "pass"


def test_scores_of_a_flat_map_are_its_level() -> None:
    field = np.full((32, 32), 4.0, np.float32)
    assert global_score(field) == pytest.approx(2.0)
    assert local_scores(field) == pytest.approx([2.0, 2.0, 2.0])
