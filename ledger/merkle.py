"""RFC 6962/9162 Merkle trees over SHA-256: hashes, proofs, and the growing edge of a log.

Pure: nothing here reads or writes. Making a proof is *plan, fetch, assemble*: which nodes are
needed (`inclusion_nodes`), one batched read by the caller's `NodeReader`, then hashing. A node is
named (level, index): the hash over leaves [index·2^level, (index+1)·2^level), always complete, so
a stored node never changes.

Verifying trusts only its arguments. Both kinds of proof are verified through the subtree
algorithms of draft-ietf-plants-merkle-tree-certs (section 4), of which RFC 9162's are the case
start = 0.
"""

import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NoReturn, Protocol

from latentlog.ledger.digest import Digest, u64
from latentlog.ledger.errors import InvalidProof, MalformedFrontier, MalformedProof

NodeId = tuple[int, int]
Span = tuple[int, int]

# RFC 6962 section 2.1: the hash of an empty tree is the hash of the empty string.
EMPTY_ROOT: Final = Digest.of(b"")
# Sizes travel as signed 64-bit integers in other implementations.
SIZE_LIMIT: Final = 1 << 63


class NodeReader(Protocol):
    """Read complete nodes by (level, index), in the order asked for."""

    def __call__(self, nodes: Sequence[NodeId], /) -> Sequence[Digest]: ...


def leaf_hash(entry: bytes) -> Digest:
    """Hash a leaf; the prefix 0x00 keeps it from passing as an inner node."""
    return Digest(sha256(b"\x00" + entry).digest())


def node_hash(left: bytes, right: bytes) -> Digest:
    """Hash an inner node of the tree."""
    return Digest(sha256(b"\x01" + left + right).digest())


def root_of(leaves: Sequence[Digest]) -> Digest:
    """Return the root over leaf hashes (RFC 6962 section 2.1)."""
    if not leaves:
        return EMPTY_ROOT
    level = list(leaves)
    while len(level) > 1:
        paired = [node_hash(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        # An odd last node moves up unchanged: it is the root of the shorter right-hand tree.
        level = paired + level[len(paired) * 2 :]
    return level[0]


# Proofs: which spans of leaves they hash, which stored nodes those spans are made of.


def inclusion_nodes(index: int, size: int) -> list[list[NodeId]]:
    """Plan the proof that leaf `index` is in the tree of `size`: one list of nodes per hash.

    Requires `0 <= index < size` (RFC 6962 section 2.1.1).
    """
    if not 0 <= index < size < SIZE_LIMIT:
        raise MalformedProof("no such leaf in a tree of this size", got=f"{index} of {size}")
    spans: list[Span] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            spans.append((middle, high))
            high = middle
        else:
            spans.append((low, middle))
            low = middle
    return [_complete_nodes(*span) for span in reversed(spans)]


def consistency_nodes(old: int, new: int) -> list[list[NodeId]]:
    """Plan the proof that the tree of `old` leaves is a prefix of the tree of `new`.

    Requires `0 < old <= new` (RFC 6962 section 2.1.2): nothing is proved about an empty tree.
    """
    if not 0 < old <= new < SIZE_LIMIT:
        raise MalformedProof("no consistency proof between these sizes", got=f"{old} and {new}")
    spans: list[Span] = []
    low, high = 0, new
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            spans.append((middle, high))
            high = middle
        else:
            spans.append((low, middle))
            low = middle
    if low > 0:
        # The verifier knows the old root already, but not this right-hand part of it.
        spans.append((low, high))
    return [_complete_nodes(*span) for span in reversed(spans)]


def prove_inclusion(reader: NodeReader, index: int, size: int) -> list[Digest]:
    """Build the proof that leaf `index` is in the tree of `size`, in one read."""
    return _assemble(reader, inclusion_nodes(index, size))


def prove_consistency(reader: NodeReader, old: int, new: int) -> list[Digest]:
    """Build the proof that the tree of `old` leaves is a prefix of that of `new`, in one read."""
    return _assemble(reader, consistency_nodes(old, new))


def root_at(reader: NodeReader, size: int) -> Digest:
    """Return the root of the tree of `size` leaves, in one read."""
    return _assemble(reader, [_complete_nodes(0, size)])[0] if size else EMPTY_ROOT


def frontier_at(reader: NodeReader, size: int) -> "Frontier":
    """Return the right edge of the tree of `size` leaves, in one read."""
    return Frontier(size, reader(_complete_nodes(0, size)))


def _assemble(reader: NodeReader, plan: list[list[NodeId]]) -> list[Digest]:
    hashes = iter(reader([node for nodes in plan for node in nodes]))
    return [_fold([next(hashes) for _ in nodes]) for nodes in plan]


def _fold(nodes: Sequence[Digest]) -> Digest:
    """Hash complete subtrees, largest first, into the root over all of them."""
    root = nodes[-1]
    for node in reversed(nodes[:-1]):
        root = node_hash(node, root)
    return root


def _complete_nodes(low: int, high: int) -> list[NodeId]:
    """Cut a span of leaves into complete subtrees, largest first.

    Every span of a proof starts at a multiple of the largest power of two it holds.
    """
    nodes = []
    while low < high:
        level = (high - low).bit_length() - 1
        nodes.append((level, low >> level))
        low += 1 << level
    return nodes


def _split(size: int) -> int:
    """Return the largest power of two smaller than `size`, at which RFC 6962 splits a tree."""
    return 1 << ((size - 1).bit_length() - 1)


# Verification.


def verify_inclusion(
    leaf: Digest, index: int, size: int, proof: Sequence[Digest], root: Digest
) -> None:
    """Return only if `proof` shows `leaf` at `index` of the tree (`size`, `root`).

    Raises `InvalidProof` (RFC 9162 section 2.1.3.2).
    """
    verify_subtree_inclusion(leaf, index, 0, size, proof, root)


def verify_consistency(
    old: int, new: int, proof: Sequence[Digest], old_root: Digest, new_root: Digest
) -> None:
    """Return only if `proof` shows the tree (`old`, `old_root`) to be a prefix of the new one.

    Raises `InvalidProof` (RFC 9162 section 2.1.4.2), also for `old` = 0: every tree extends the
    empty one, so such a proof would say nothing while looking like evidence.
    """
    if old < 1:
        _refuse("consistency with an empty tree shows nothing")
    verify_subtree_consistency(0, old, new, proof, old_root, new_root)


def verify_subtree_inclusion(
    leaf: Digest, index: int, start: int, end: int, proof: Sequence[Digest], root: Digest
) -> None:
    """Return only if `proof` shows `leaf` at `index` of the subtree [start, end) with `root`.

    Raises `InvalidProof`.
    """
    _require_subtree(start, end)
    if not start <= index < end < SIZE_LIMIT:
        _refuse(f"leaf {index} is not in [{start}, {end})")
    position, last = index - start, end - start - 1
    computed = leaf
    for sibling in proof:
        if last == 0:
            _refuse("the inclusion proof is longer than the tree is high")
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            # A last node without a partner moved up unchanged; skip those levels.
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        _refuse("the inclusion proof is shorter than the tree is high")
    _require_equal(computed, root, f"leaf {index} is not shown to be in the tree")


def verify_subtree_consistency(
    start: int, end: int, size: int, proof: Sequence[Digest], subtree_root: Digest, root: Digest
) -> None:
    """Return only if `proof` shows [start, end) with its root to be part of the tree (`size`).

    An empty subtree is part of every tree. Raises `InvalidProof`.
    """
    if not 0 <= start <= end <= size < SIZE_LIMIT:
        _refuse(f"a tree of {size} leaves has no part [{start}, {end})")
    if start == end:
        _require_equal(subtree_root, EMPTY_ROOT, "an empty subtree has another root")
        if proof:
            _refuse("nothing is to be proved about an empty subtree")
        return
    _require_subtree(start, end)
    first, last, top = start, end - 1, size - 1
    # Up to the node that both trees hold: the largest complete one ending where the subtree ends.
    while first != last and (last & 1 or last == top):
        first, last, top = first >> 1, last >> 1, top >> 1
    hashes = list(proof)
    if first == last:
        part = whole = subtree_root
    else:
        if not hashes:
            _refuse("the consistency proof is empty")
        part = whole = hashes.pop(0)
    for sibling in hashes:
        if top == 0:
            _refuse("the consistency proof is longer than the tree is high")
        if last & 1 or last == top:
            if first < last:
                part = node_hash(sibling, part)
            whole = node_hash(sibling, whole)
            while not last & 1 and last:
                first, last, top = first >> 1, last >> 1, top >> 1
        else:
            whole = node_hash(whole, sibling)
        first, last, top = first >> 1, last >> 1, top >> 1
    if top != 0:
        _refuse("the consistency proof is shorter than the tree is high")
    _require_equal(part, subtree_root, "the older tree has another root")
    _require_equal(whole, root, "the newer tree is not shown to extend the older one")


def _require_subtree(start: int, end: int) -> None:
    """Refuse spans that are no node of any tree: start must be a multiple of the height's span."""
    if not 0 <= start < end or start & ((1 << (end - start - 1).bit_length()) - 1):
        _refuse(f"[{start}, {end}) is not a subtree")


def _require_equal(computed: Digest, root: Digest, message: str) -> None:
    if not hmac.compare_digest(computed, root):
        raise InvalidProof(message, expected=root.hex(), got=computed.hex())


def _refuse(message: str) -> NoReturn:
    raise InvalidProof(message)


class Frontier:
    """The right edge of a growing tree: its size and its complete subtrees, largest first.

    All a log needs to append and to publish a root; 8 + 32·popcount(size) bytes encoded.
    """

    __slots__ = ("_nodes", "_size")

    def __init__(self, size: int = 0, nodes: Sequence[Digest] = ()) -> None:
        if not 0 <= size < SIZE_LIMIT or len(nodes) != size.bit_count():
            raise MalformedFrontier(
                "a frontier holds one node for every bit set in its size",
                got=f"size {size}, {len(nodes)} nodes",
            )
        self._size = size
        self._nodes = list(nodes)

    @property
    def size(self) -> int:
        return self._size

    def append(self, leaf: Digest) -> list[tuple[int, int, Digest]]:
        """Add a leaf; return the nodes it completes, leaf first, as (level, index, hash)."""
        level, index, node = 0, self._size, leaf
        completed = [(level, index, node)]
        while index & 1:
            node = node_hash(self._nodes.pop(), node)
            level, index = level + 1, index >> 1
            completed.append((level, index, node))
        self._nodes.append(node)
        self._size += 1
        return completed

    def root(self) -> Digest:
        """Return the root of the tree as it stands."""
        return _fold(self._nodes) if self._nodes else EMPTY_ROOT

    def copy(self) -> "Frontier":
        return Frontier(self._size, self._nodes)

    def encode(self) -> bytes:
        return u64(self._size) + b"".join(self._nodes)

    @classmethod
    def decode(cls, encoded: bytes) -> "Frontier":
        """Decode what `encode` wrote; raises `MalformedFrontier`."""
        if len(encoded) % 32 != 8:
            raise MalformedFrontier("a frontier has 8 + 32·n bytes", got=str(len(encoded)))
        nodes = [Digest(encoded[at : at + 32]) for at in range(8, len(encoded), 32)]
        return cls(int.from_bytes(encoded[:8], "big"), nodes)
