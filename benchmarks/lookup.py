"""How fast one vector is compared with every latent of an epoch, on one core.

The baseline is the bare keystream of the same latents in the same run: no scan can be faster.
"""

import os

# One core means one thread; the libraries read this when they load.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
from common import arguments, report, result, times  # noqa: E402

from latentlog.evidence.lookup import OVERRUN, EpochLatents, look_up  # noqa: E402
from latentlog.ledger.keystream import Schedule  # noqa: E402

DIM = 100
TARGET = 4_000_000.0


def main() -> None:
    """Measure scan and keystream alternately and print the medians."""
    options = arguments(__doc__ or "")
    schedule = Schedule(bytes(range(32)), DIM)
    epoch = EpochLatents(epoch=0, schedule=schedule, high_water=0 if options.quick else 7 * OVERRUN)
    repeats = 3 if options.quick else 5
    vector = np.random.default_rng(0).standard_normal(DIM)

    scans, streams = [], []
    for _ in range(repeats):
        scans += times(lambda: look_up({"medium": vector}, [epoch]), 1)
        streams += times(lambda: _keystream(schedule, epoch.count), 1)
    speed = sorted(epoch.count / s for s in scans)
    stream = sorted(epoch.count / s for s in streams)
    middle = repeats // 2
    baseline = {"name": "keystream_only", "value": stream[middle], "unit": "latents/s"}
    rows = [
        result(
            "latents_per_s",
            speed[middle],
            "latents/s",
            target=TARGET,
            baseline=baseline,
            interval=(speed[0], speed[-1]),
        ),
        result(
            "fraction_of_keystream",
            speed[middle] / stream[middle],
            "1",
            baseline=baseline,
            interval=(speed[0] / stream[-1], speed[-1] / stream[0]),
        ),
    ]
    report(rows, as_json=options.json)


def _keystream(schedule: Schedule, count: int) -> None:
    for _first, _raw in schedule.scan(0, count):
        pass


if __name__ == "__main__":
    main()
