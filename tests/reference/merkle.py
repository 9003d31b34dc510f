"""RFC 6962 section 2.1 written down literally: recursive, slow, and independent of the ledger."""

from collections.abc import Sequence
from hashlib import sha256


def mth(entries: Sequence[bytes]) -> bytes:
    """MTH(D[n])."""
    n = len(entries)
    if n == 0:
        return sha256(b"").digest()
    if n == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = largest_power_of_two_below(n)
    return sha256(b"\x01" + mth(entries[:k]) + mth(entries[k:])).digest()


def path(m: int, entries: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n]): the inclusion proof of entry m."""
    n = len(entries)
    if n == 1:
        return []
    k = largest_power_of_two_below(n)
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


def proof(m: int, entries: Sequence[bytes]) -> list[bytes]:
    """PROOF(m, D[n]): the consistency proof from the first m entries."""
    return subproof(m, entries, True)


def subproof(m: int, entries: Sequence[bytes], complete: bool) -> list[bytes]:
    n = len(entries)
    if m == n:
        return [] if complete else [mth(entries)]
    k = largest_power_of_two_below(n)
    if m <= k:
        return [*subproof(m, entries[:k], complete), mth(entries[k:])]
    return [*subproof(m - k, entries[k:], False), mth(entries[:k])]


def subtree_proof(start: int, end: int, entries: Sequence[bytes]) -> list[bytes]:
    """SUBTREE_PROOF of draft-ietf-plants-merkle-tree-certs section 4.4.1."""
    return subtree_subproof(start, end, entries, True)


def subtree_subproof(start: int, end: int, entries: Sequence[bytes], complete: bool) -> list[bytes]:
    n = len(entries)
    if start == 0 and end == n:
        return [] if complete else [mth(entries)]
    k = largest_power_of_two_below(n)
    if end <= k:
        return [*subtree_subproof(start, end, entries[:k], complete), mth(entries[k:])]
    if k <= start:
        return [*subtree_subproof(start - k, end - k, entries[k:], complete), mth(entries[:k])]
    return [*subtree_subproof(0, end - k, entries[k:], False), mth(entries[:k])]


def largest_power_of_two_below(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k
