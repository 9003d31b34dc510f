"""Save a picture again as JPEG, the way a website or a messenger would."""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--quality", type=int, default=85)
    options = parser.parse_args()
    Image.open(options.source).convert("RGB").save(
        options.target, format="JPEG", quality=options.quality
    )
    print(options.target)


if __name__ == "__main__":
    main()
