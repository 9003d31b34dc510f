"""The quantised DCT coefficients of a JPEG, exactly as the file stores them.

Decoded pixels no longer determine the coefficients (clipping, chroma upsampling, cropped edge
blocks), and the coefficients are the measurement. So this reads the entropy-coded data itself:
Huffman coding, baseline or progressive, 8 bits, one to three components (ITU-T T.81, sections B, F
and G). Torch-free; trusts nothing: every length, table and index is bounded, and anything unusual
is an UnreadablePicture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from latentlog.inversion.errors import UnreadablePicture, UnsupportedPicture

ZIGZAG: Final = (
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
)  # fmt: skip
MAX_BLOCKS: Final = 40_000
"""About 900×900 in colour; Python reads a block in some 50 µs, and larger pictures are read by
their pixels.
"""
MAX_BYTES: Final = 1 << 20
"""Python reads a bit in about a microsecond; a hostile file must not buy more than some seconds."""
MAX_SCANS: Final = 100
_BASELINE: Final = (0xC0, 0xC1)
_PROGRESSIVE: Final = 0xC2


@dataclass(slots=True)
class _Component:
    identifier: int
    h: int
    v: int
    rows: int = 0
    columns: int = 0
    levels: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0, 64), np.int32))
    blocks: list[list[int]] = field(default_factory=list)
    """Rows × padded columns of 64 levels in zigzag order."""
    stride: int = 0


@dataclass(frozen=True, slots=True)
class _Scan:
    components: tuple[_Component, ...]
    dc: tuple[dict[tuple[int, int], int], ...]
    ac: tuple[dict[tuple[int, int], int], ...]
    first: int
    last: int
    high: int
    low: int


def read_coefficients(data: bytes) -> tuple[npt.NDArray[np.int32], ...]:
    """Return each component's levels (rows, columns, 64), row by row within a block.

    Raises UnreadablePicture on damage, UnsupportedPicture where the coding is not one of the above.
    """
    if len(data) > MAX_BYTES:
        raise UnsupportedPicture("JPEG too large to read by coefficients", got=str(len(data)))
    try:
        return _Reader(data).read()
    except (IndexError, KeyError, ValueError, OverflowError, StopIteration) as error:
        raise UnreadablePicture("damaged JPEG data", got=str(error)[:100]) from error


class _Reader:
    """Walks the markers of one JPEG file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 2
        self.huffman: dict[int, dict[tuple[int, int], int]] = {}
        self.components: list[_Component] = []
        self.restart = 0
        self.progressive = False
        self.scans = 0

    def read(self) -> tuple[npt.NDArray[np.int32], ...]:
        if self.data[:2] != b"\xff\xd8":
            _broken("no JPEG")
        while (marker := self._marker()) != 0xD9:
            length = int.from_bytes(self.data[self.at : self.at + 2], "big")
            if length < 2 or self.at + length > len(self.data):
                _broken("segment past the end")
            body = self.data[self.at + 2 : self.at + length]
            self.at += length
            self._segment(marker, body)
        if not self.scans:
            _broken("no picture data")
        return tuple(_natural(component) for component in self.components)

    def _marker(self) -> int:
        while self.data[self.at] == 0xFF and self.data[self.at + 1] == 0xFF:
            self.at += 1
        if self.data[self.at] != 0xFF:
            _broken("marker expected")
        self.at += 2
        return self.data[self.at - 1]

    def _segment(self, marker: int, body: bytes) -> None:
        if marker == 0xC4:
            self._tables(body)
        elif marker in _BASELINE or marker == _PROGRESSIVE:
            self._frame(body, marker == _PROGRESSIVE)
        elif 0xC3 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            raise UnsupportedPicture("lossless or arithmetic JPEG", got=f"SOF{marker - 0xC0}")
        elif marker == 0xDD:
            self.restart = int.from_bytes(body[:2], "big")
        elif marker == 0xDA:
            self._scan(body)

    def _tables(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            kind, counts = body[at], body[at + 1 : at + 17]
            at += 17
            code, table = 0, {}
            for length, count in enumerate(counts, start=1):
                for _ in range(count):
                    table[length, code] = body[at]
                    at, code = at + 1, code + 1
                code <<= 1
            self.huffman[kind] = table

    def _frame(self, body: bytes, progressive: bool) -> None:
        precision, count = body[0], body[5]
        height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
        if self.components or precision != 8 or count not in (1, 3) or not (height and width):
            raise UnsupportedPicture(
                "unusual JPEG frame", got=f"{precision} bits, {count} components"
            )
        self.progressive = progressive
        for i in range(count):
            identifier, sampling = body[6 + 3 * i], body[7 + 3 * i]
            h, v = sampling >> 4, sampling & 15
            if not (1 <= h <= 4 and 1 <= v <= 4):
                _broken("sampling factor")
            self.components.append(_Component(identifier, h, v))
        self._allocate(height, width)

    def _allocate(self, height: int, width: int) -> None:
        most_h = max(c.h for c in self.components)
        most_v = max(c.v for c in self.components)
        self.mcus = (math.ceil(height / (8 * most_v)), math.ceil(width / (8 * most_h)))
        if sum(self.mcus[0] * self.mcus[1] * c.h * c.v for c in self.components) > MAX_BLOCKS:
            raise UnsupportedPicture("JPEG too large to read by coefficients")
        for c in self.components:
            c.rows = math.ceil(math.ceil(height * c.v / most_v) / 8)
            c.columns = math.ceil(math.ceil(width * c.h / most_h) / 8)
            c.stride = self.mcus[1] * c.h
            c.blocks = [[0] * 64 for _ in range(self.mcus[0] * c.v * c.stride)]

    def _scan(self, body: bytes) -> None:
        count = body[0]
        self.scans += 1
        if not 1 <= count <= len(self.components) or self.scans > MAX_SCANS:
            _broken("scan header")
        chosen, dc, ac = [], [], []
        for i in range(count):
            identifier, tables = body[1 + 2 * i], body[2 + 2 * i]
            chosen.append(next(c for c in self.components if c.identifier == identifier))
            dc.append(self.huffman.get(tables >> 4, {}))
            ac.append(self.huffman.get(0x10 | (tables & 15), {}))
        first, last, bits = body[1 + 2 * count : 4 + 2 * count]
        scan = _Scan(tuple(chosen), tuple(dc), tuple(ac), first, last, bits >> 4, bits & 15)
        if not (0 <= first <= last <= 63) or (self.progressive and first == 0 and last != 0):
            _broken("spectral selection")
        if self.progressive and first > 0 and count != 1:
            _broken("interleaved AC scan")
        self.at = _decode_scan(self.data, self.at, scan, self.progressive, self.restart, self.mcus)


def _decode_scan(
    data: bytes, at: int, scan: _Scan, progressive: bool, restart: int, mcus: tuple[int, int]
) -> int:
    """Decode one scan into its components' blocks and return where the next marker is."""
    bits = _Bits(data, at)
    decode = _Decoder(scan, bits, progressive)
    for number, unit in enumerate(_units(scan, mcus)):
        if restart and number and number % restart == 0:
            bits.restart()
            decode.reset()
        for index, block in unit:
            decode.block(index, block)
    return bits.finish()


def _units(scan: _Scan, mcus: tuple[int, int]) -> Any:
    """Yield the blocks of each coded unit, as (component index in the scan, block)."""
    if len(scan.components) == 1:
        c = scan.components[0]
        for row in range(c.rows):
            for column in range(c.columns):
                yield ((0, c.blocks[row * c.stride + column]),)
        return
    for row in range(mcus[0]):
        for column in range(mcus[1]):
            yield tuple(
                (i, c.blocks[(row * c.v + y) * c.stride + column * c.h + x])
                for i, c in enumerate(scan.components)
                for y in range(c.v)
                for x in range(c.h)
            )


class _Bits:
    """The entropy-coded bits from one position on, byte stuffing removed."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.buffer, self.count = 0, 0

    def take(self, count: int) -> int:
        while self.count < count:
            byte = self.data[self.at]
            if byte == 0xFF:
                if self.data[self.at + 1] != 0:
                    _broken("data ends early")
                self.at += 1
            self.at += 1
            self.buffer = (self.buffer << 8 | byte) & 0xFFFFFFFF
            self.count += 8
        self.count -= count
        return self.buffer >> self.count & ((1 << count) - 1)

    def symbol(self, table: dict[tuple[int, int], int]) -> int:
        code = 0
        for length in range(1, 17):
            code = code << 1 | self.take(1)
            value = table.get((length, code))
            if value is not None:
                return value
        _broken("unknown code")

    def signed(self, size: int) -> int:
        """Read a magnitude of `size` bits (F.2.2.1, EXTEND)."""
        if size == 0:
            return 0
        if size > 15:
            _broken("magnitude")
        value = self.take(size)
        return value if value >> (size - 1) else value - (1 << size) + 1

    def restart(self) -> None:
        self.count = 0
        if self.data[self.at] != 0xFF or not 0xD0 <= self.data[self.at + 1] <= 0xD7:
            _broken("restart marker expected")
        self.at += 2

    def finish(self) -> int:
        return self.at


class _Decoder:
    """Decodes blocks of one scan; keeps the DC predictions and the end-of-band run."""

    def __init__(self, scan: _Scan, bits: _Bits, progressive: bool) -> None:
        self.scan, self.bits = scan, bits
        if not progressive:
            self.block = self._sequential
        elif scan.first == 0:
            self.block = self._dc_refine if scan.high else self._dc_first
        else:
            self.block = self._ac_refine if scan.high else self._ac_first
        self.reset()

    def reset(self) -> None:
        self.prediction = [0] * len(self.scan.components)
        self.run = 0

    def _difference(self, index: int) -> int:
        size = self.bits.symbol(self.scan.dc[index])
        self.prediction[index] += self.bits.signed(size)
        return self.prediction[index]

    def _sequential(self, index: int, block: list[int]) -> None:
        block[0] = self._difference(index)
        k, table = 1, self.scan.ac[index]
        while k < 64:
            symbol = self.bits.symbol(table)
            run, size = symbol >> 4, symbol & 15
            if size == 0:
                if run != 15:
                    return
                k += 16
                continue
            k += run
            block[k] = self.bits.signed(size)
            k += 1

    def _dc_first(self, index: int, block: list[int]) -> None:
        block[0] = self._difference(index) << self.scan.low

    def _dc_refine(self, index: int, block: list[int]) -> None:
        block[0] |= self.bits.take(1) << self.scan.low

    def _ac_first(self, index: int, block: list[int]) -> None:
        if self.run:
            self.run -= 1
            return
        k = self.scan.first
        while k <= self.scan.last:
            symbol = self.bits.symbol(self.scan.ac[0])
            run, size = symbol >> 4, symbol & 15
            if size == 0:
                if run != 15:
                    self.run = (1 << run) - 1 + (self.bits.take(run) if run else 0)
                    return
                k += 16
                continue
            k += run
            block[k] = self.bits.signed(size) << self.scan.low
            k += 1

    def _ac_refine(self, index: int, block: list[int]) -> None:
        """Add one bit of precision to a band (G.1.2.3)."""
        k, one = self.scan.first, 1 << self.scan.low
        if self.run == 0:
            while k <= self.scan.last:
                symbol = self.bits.symbol(self.scan.ac[0])
                run, size = symbol >> 4, symbol & 15
                value = 0
                if size:
                    value = one if self.bits.take(1) else -one
                elif run != 15:
                    self.run = (1 << run) + (self.bits.take(run) if run else 0)
                    break
                k = self._pass_over(block, k, run, one)
                if value:
                    block[k] = value
                k += 1
        if self.run:
            self._pass_over(block, k, 64, one)
            self.run -= 1

    def _pass_over(self, block: list[int], k: int, zeros: int, one: int) -> int:
        """Refine the nonzero levels from k on until `zeros` zero ones are passed; return the next
        zero's place.
        """
        while k <= self.scan.last:
            if block[k]:
                if self.bits.take(1) and not abs(block[k]) & one:
                    block[k] += one if block[k] > 0 else -one
            elif zeros == 0:
                return k
            else:
                zeros -= 1
            k += 1
        return k


def _natural(component: _Component) -> npt.NDArray[np.int32]:
    """Return the blocks that cover the picture, each in row order."""
    grid = np.array(component.blocks, dtype=np.int64).reshape(-1, component.stride, 64)
    kept = grid[: component.rows, : component.columns]
    if np.abs(kept).max(initial=0) > 32767:
        _broken("level out of range")
    natural = np.empty(kept.shape, dtype=np.int32)
    natural[:, :, list(ZIGZAG)] = kept
    return natural


def _broken(what: str) -> NoReturn:
    raise UnreadablePicture("damaged JPEG data", got=what)
