"""A recorder that dies at a chosen call: `killed.py HOME CALLS [RECORDER]`; 0 lets it live.

Prints each counter once its sealing returned. Run by `test_recorder`; not a test itself.
"""

import os
import signal
import sys
from types import FrameType

from latentlog.ledger.keystream import gaussian_table
from latentlog.ledger.recorder import Recorder


def die_at(calls: int) -> None:
    """Send this process SIGKILL at its `calls`-th call of any function, C functions included."""
    left = calls

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal left
        if event in ("call", "c_call", "c_return"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)


def main() -> None:
    home, calls = sys.argv[1], int(sys.argv[2])
    name = sys.argv[3] if len(sys.argv) > 3 else None
    gaussian_table()  # 165,000 calls of arithmetic, in which nothing could go wrong
    if calls:
        die_at(calls)
    rounds = 6 if calls == 0 else 10**6
    with Recorder.open("faces", home=home, recorder=name, block=16) as recorder:
        for _ in range(rounds):
            drawn = recorder.draw(3)
            recorder.seal(drawn.part(0, 2), conditioning={"prompt": "a face"})
            print(*drawn.counters[:2], sep="\n", flush=True)


if __name__ == "__main__":
    main()
