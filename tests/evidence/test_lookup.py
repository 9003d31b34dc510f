"""The exhaustive look-up against a slow, plain scan."""

import numpy as np
import pytest

from latentlog.evidence import lookup
from latentlog.evidence.errors import NothingToExamine
from latentlog.evidence.lookup import EpochLatents, SeedLatent, exact_cosine, look_up
from latentlog.ledger.keystream import SCALE, Schedule

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


def epochs(dim: int, high_water: int = 3000) -> list[EpochLatents]:
    return [
        EpochLatents(epoch=i, schedule=Schedule(key, dim), high_water=high_water)
        for i, key in enumerate((KEY, OTHER))
    ]


@pytest.fixture(autouse=True)
def small_overrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "OVERRUN", 1500)


def noisy(latent: np.ndarray, error: float, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    v: np.ndarray = latent / SCALE + error * rng.standard_normal(latent.shape)  # type: ignore[type-arg]
    return v


@pytest.mark.parametrize("dim", [2, 3, 8, 100, 513])
def test_the_closest_sixteen_are_those_of_a_plain_scan(dim: int) -> None:
    v = np.random.default_rng(dim).standard_normal(dim)
    found = look_up({"medium": v}, epochs(dim))
    unit = v / np.linalg.norm(v)
    plain = []
    for e in epochs(dim):
        q = e.schedule.latents(0, 4500).astype(np.float64)
        cosines = (q @ unit) / np.linalg.norm(q, axis=1)
        plain += [(c, e.epoch, i) for i, c in enumerate(cosines)]
    plain.sort(reverse=True)
    assert [(c.epoch, c.counter) for c in found.candidates] == [(e, i) for _, e, i in plain[:16]]
    for candidate, (cosine, _, _) in zip(found.candidates, plain, strict=False):
        assert candidate.cosine == pytest.approx(cosine, abs=1e-11)
        assert candidate.cosine <= cosine + 1e-15


def test_every_latent_is_counted_once_for_every_vector() -> None:
    v = np.ones(20)
    found = look_up({"medium": v, "turned": -v}, epochs(20))
    assert [x.compared for x in found.lookups] == [2 * 4500, 2 * 4500]


@pytest.mark.parametrize("counter", [0, 1, 2999, 3000, 4499])
def test_any_counter_is_found_also_past_the_high_water_mark(counter: int) -> None:
    latent = epochs(100)[1].schedule.latents(counter, 1)[0]
    found = look_up({"medium": noisy(latent, 0.5)}, epochs(100))
    assert (found.candidates[0].epoch, found.candidates[0].counter) == (1, counter)
    assert found.lookups[0].cosine == found.candidates[0].cosine
    assert found.candidates[0].cosine > 0.8


def test_a_counter_past_the_overrun_is_not_compared() -> None:
    latent = epochs(100)[0].schedule.latents(4500, 1)[0]
    found = look_up({"medium": noisy(latent, 0.01)}, epochs(100))
    assert found.candidates[0].cosine < 0.6


def test_the_look_up_runs_in_constant_memory_over_many_chunks() -> None:
    dim = 9000
    one = EpochLatents(epoch=0, schedule=Schedule(KEY, dim), high_water=0)
    latent = one.schedule.latents(1499, 1)[0]
    steps: list[tuple[int, int]] = []
    found = look_up({"medium": noisy(latent, 0.2)}, [one], on_progress=lambda *x: steps.append(x))
    assert found.candidates[0].counter == 1499
    assert steps[-1] == (1500, 1500)
    assert len(steps) > 60


def test_latents_logged_by_seed_are_compared_and_counted() -> None:
    rng = np.random.default_rng(5)
    drawn = np.rint(rng.standard_normal(100) * SCALE).astype(np.int32)
    seed = SeedLatent(epoch=0, counter=7, latent=drawn)
    found = look_up({"medium": noisy(drawn, 0.1)}, epochs(100), [seed])
    assert found.lookups[0].compared == 2 * 4500 + 1
    assert (found.candidates[0].counter, found.candidates[0].source) == (7, "seed")


@pytest.mark.parametrize(
    "v", [np.zeros(100), np.full(100, np.nan), np.full(100, np.inf), np.eye(100)[0] * np.nan]
)
def test_no_direction_is_compared_with_nothing(v: np.ndarray) -> None:  # type: ignore[type-arg]
    found = look_up({"medium": v}, epochs(100))
    assert found.candidates == ()
    assert (found.lookups[0].compared, found.lookups[0].cosine) == (0, 0.0)


def test_the_size_of_a_vector_does_not_matter() -> None:
    v = np.random.default_rng(1).standard_normal(100)
    plain = look_up({"medium": v}, epochs(100))
    for scale in (1e-300, 1e300):
        scaled = look_up({"medium": v * scale}, epochs(100))
        assert scaled.lookups[0].cosine == pytest.approx(plain.lookups[0].cosine, abs=1e-12)


def test_a_cosine_is_rounded_down_and_precise_near_one() -> None:
    latent = Schedule(KEY, 512).latents(0, 1)[0]
    unit = latent / np.linalg.norm(latent.astype(np.float64))
    rho = exact_cosine(unit, latent)
    assert 1 - 1e-12 < rho < 1
    assert exact_cosine(-unit, latent) < -1 + 1e-9


def test_without_a_key_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(NothingToExamine):
        look_up({"medium": np.ones(4)}, [])
