"""Copy a file and change one byte of the copy."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--at", type=int, help="which byte; the middle of the file if not given")
    options = parser.parse_args()
    content = bytearray(options.source.read_bytes())
    at = len(content) // 2 if options.at is None else options.at
    content[at] ^= 1
    options.target.write_bytes(content)
    print(f"{options.target}: byte {at} changed")


if __name__ == "__main__":
    main()
