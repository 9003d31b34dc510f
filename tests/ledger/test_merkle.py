"""Merkle trees against a literal RFC 6962, public vectors, every flipped hash up to 64 leaves."""

import base64
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentlog.ledger import merkle
from latentlog.ledger.digest import Digest
from latentlog.ledger.errors import (
    InvalidProof,
    LedgerError,
    MalformedFrontier,
    MalformedProof,
)
from tests.ledger.vectors import read_json, vector_folder
from tests.reference import merkle as reference

ENTRIES = [b"entry %d" % i for i in range(300)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]
SMALL = 64


@cache
def nodes(size: int) -> dict[merkle.NodeId, Digest]:
    """Every complete node of the tree of `size` leaves, as a log would have stored them."""
    frontier = merkle.Frontier()
    return {
        (level, index): node
        for leaf in LEAVES[:size]
        for level, index, node in frontier.append(leaf)
    }


def reader(size: int) -> merkle.NodeReader:
    stored = nodes(size)
    return lambda wanted: [stored[node] for node in wanted]


@cache
def root(size: int) -> Digest:
    return merkle.root_of(LEAVES[:size])


def flipped(digest: Digest) -> Digest:
    return Digest(bytes([digest[0] ^ 1]) + digest[1:])


def mutations(proof: Sequence[Digest]) -> list[list[Digest]]:
    """The proof with each hash flipped or left out, one too many, and two swapped."""
    changed = [[*proof[:i], flipped(proof[i]), *proof[i + 1 :]] for i in range(len(proof))]
    changed += [[*proof[:i], *proof[i + 1 :]] for i in range(len(proof))]
    changed += [[*proof, LEAVES[0]], [LEAVES[0], *proof]]
    changed += [[proof[1], proof[0], *proof[2:]]] if len(proof) > 1 else []
    return changed


def test_rfc6962_reference_constants() -> None:
    tree = read_json(vector_folder("rfc6962-reference") / "reference-tree-8-leaves.json")
    leaves = [merkle.leaf_hash(bytes.fromhex(entry)) for entry in tree["leaf_inputs_hex"]]
    frontier = merkle.Frontier()
    stored = {node[:2]: node[2] for leaf in leaves for node in frontier.append(leaf)}
    for level, hashes in enumerate(tree["node_hashes_by_level"]):
        assert [stored[level, i].hex() for i in range(len(hashes))] == hashes
    for size, expected in enumerate(tree["root_hash_by_size"]):
        assert merkle.root_of(leaves[:size]).hex() == expected


def probes(kind: str) -> list[tuple[Path, dict[str, Any]]]:
    folder = vector_folder("transparency-dev-merkle") / kind
    return [(path, read_json(path)) for path in sorted(folder.rglob("*.json"))]


def digest(text: str | None) -> Digest:
    raw = base64.b64decode(text or "")
    # Some probes hold the words "don't care 1" for a root: any digest that is as different will do.
    return Digest(raw) if len(raw) in (0, 32) else Digest.of(raw)


def run_inclusion(p: dict[str, Any], proof: list[Digest]) -> None:
    merkle.verify_inclusion(
        digest(p["leafHash"]), p["leafIdx"], p["treeSize"], proof, digest(p["root"])
    )


def run_consistency(p: dict[str, Any], proof: list[Digest]) -> None:
    merkle.verify_consistency(p["size1"], p["size2"], proof, digest(p["root1"]), digest(p["root2"]))


def run_subtree_inclusion(p: dict[str, Any], proof: list[Digest]) -> None:
    merkle.verify_subtree_inclusion(
        digest(p["leafHash"]), p["leafIdx"], p["start"], p["end"], proof, digest(p["root"])
    )


def run_subtree_consistency(p: dict[str, Any], proof: list[Digest]) -> None:
    merkle.verify_subtree_consistency(
        p["start"], p["end"], p["size"], proof, digest(p["root1"]), digest(p["root2"])
    )


@pytest.mark.parametrize(
    ("kind", "verify", "count"),
    [
        ("inclusion", run_inclusion, 98),
        ("consistency", run_consistency, 98),
        ("subtreeinclusion", run_subtree_inclusion, 204),
        ("subtreeconsistency", run_subtree_consistency, 118),
    ],
)
def test_transparency_dev_vectors(
    kind: str, verify: Callable[[dict[str, Any], list[Digest]], None], count: int
) -> None:
    found = probes(kind)
    assert len(found) == count
    for path, probe in found:
        try:
            verify(probe, [digest(node) for node in probe["proof"] or []])
            refused = False
        except LedgerError:
            refused = True
        assert refused == probe["wantErr"], path


def test_roots_and_frontiers_agree_with_the_reference() -> None:
    frontier = merkle.Frontier()
    for size in range(SMALL + 1):
        expected = reference.mth(ENTRIES[:size])
        assert root(size) == frontier.root() == merkle.root_at(reader(size), size) == expected
        assert merkle.Frontier.decode(frontier.encode()).root() == expected
        frontier.append(LEAVES[size])


def test_every_inclusion_proof_up_to_64_leaves() -> None:
    for size in range(1, SMALL + 1):
        for index in range(size):
            proof = merkle.prove_inclusion(reader(size), index, size)
            assert proof == reference.path(index, ENTRIES[:size])
            merkle.verify_inclusion(LEAVES[index], index, size, proof, root(size))


def test_every_consistency_proof_up_to_64_leaves() -> None:
    for new in range(1, SMALL + 1):
        for old in range(1, new + 1):
            proof = merkle.prove_consistency(reader(new), old, new)
            assert proof == reference.proof(old, ENTRIES[:new])
            merkle.verify_consistency(old, new, proof, root(old), root(new))


def test_every_changed_inclusion_proof_up_to_64_leaves_is_refused() -> None:
    for size in range(1, SMALL + 1):
        for index in range(size):
            proof = merkle.prove_inclusion(reader(size), index, size)
            for changed in mutations(proof):
                with pytest.raises(InvalidProof):
                    merkle.verify_inclusion(LEAVES[index], index, size, changed, root(size))
            with pytest.raises(InvalidProof):
                merkle.verify_inclusion(flipped(LEAVES[index]), index, size, proof, root(size))


def test_every_changed_consistency_proof_up_to_64_leaves_is_refused() -> None:
    for new in range(1, SMALL + 1):
        for old in range(1, new + 1):
            proof = merkle.prove_consistency(reader(new), old, new)
            for changed in mutations(proof):
                with pytest.raises(InvalidProof):
                    merkle.verify_consistency(old, new, changed, root(old), root(new))
            with pytest.raises(InvalidProof):
                merkle.verify_consistency(old, new, proof, flipped(root(old)), root(new))
            with pytest.raises(InvalidProof):
                merkle.verify_consistency(old, new, proof, root(old), flipped(root(new)))


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
@settings(max_examples=60, deadline=None)
def test_inclusion_in_larger_trees(place: tuple[int, int]) -> None:
    index, size = place
    proof = merkle.prove_inclusion(reader(size), index, size)
    merkle.verify_inclusion(LEAVES[index], index, size, proof, root(size))
    for wrong in {index ^ 1, index ^ (1 << (size.bit_length() - 1)), index + 1} - {index}:
        with pytest.raises(InvalidProof):
            merkle.verify_inclusion(LEAVES[index], wrong, size, proof, root(size))


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
@settings(max_examples=60, deadline=None)
def test_consistency_of_larger_trees(sizes: tuple[int, int]) -> None:
    old, new = sizes
    proof = merkle.prove_consistency(reader(new), old, new)
    merkle.verify_consistency(old, new, proof, root(old), root(new))
    for changed in mutations(proof):
        with pytest.raises(InvalidProof):
            merkle.verify_consistency(old, new, changed, root(old), root(new))


@given(st.integers(2, 2**62), st.data())
@settings(deadline=None)
def test_a_plan_in_a_huge_tree_reads_few_nodes(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    plan = merkle.inclusion_nodes(index, size)
    assert len(plan) <= 62
    assert sum(map(len, plan)) <= 2 * 62
    for level, at in (node for span in plan for node in span):
        assert (at + 1) << level <= size
    for level, at in (node for span in merkle.consistency_nodes(index + 1, size) for node in span):
        assert (at + 1) << level <= size


def subtrees(size: int) -> list[tuple[int, int]]:
    spans = [(start, end) for end in range(1, size + 1) for start in range(end)]
    return [(start, end) for start, end in spans if not start % power_of_two_from(end - start)]


def power_of_two_from(n: int) -> int:
    return 1 << (n - 1).bit_length()


def test_every_leaf_of_every_subtree_is_included() -> None:
    for start, end in subtrees(24):
        part = merkle.root_of(LEAVES[start:end])
        for index in range(start, end):
            path = [Digest(h) for h in reference.path(index - start, ENTRIES[start:end])]
            merkle.verify_subtree_inclusion(LEAVES[index], index, start, end, path, part)


def test_every_subtree_of_every_tree_up_to_20_leaves_is_consistent() -> None:
    for size in range(1, 21):
        for start, end in subtrees(size):
            part = merkle.root_of(LEAVES[start:end])
            proof = [Digest(h) for h in reference.subtree_proof(start, end, ENTRIES[:size])]
            merkle.verify_subtree_consistency(start, end, size, proof, part, root(size))
            for changed in mutations(proof):
                with pytest.raises(InvalidProof):
                    merkle.verify_subtree_consistency(start, end, size, changed, part, root(size))


def test_a_span_that_is_no_subtree_is_refused() -> None:
    with pytest.raises(InvalidProof, match="not a subtree"):
        merkle.verify_subtree_inclusion(LEAVES[1], 1, 1, 3, [], LEAVES[1])
    with pytest.raises(InvalidProof, match="not a subtree"):
        merkle.verify_subtree_consistency(1, 3, 4, [], LEAVES[1], root(4))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 4), (4, 4), (0, 2**63)])
def test_no_plan_for_impossible_leaves(index: int, size: int) -> None:
    with pytest.raises(MalformedProof):
        merkle.inclusion_nodes(index, size)


@pytest.mark.parametrize(("old", "new"), [(0, 4), (5, 4), (-1, 4), (1, 2**63)])
def test_no_plan_for_impossible_sizes(old: int, new: int) -> None:
    with pytest.raises(MalformedProof):
        merkle.consistency_nodes(old, new)


def test_an_old_size_of_zero_proves_nothing() -> None:
    with pytest.raises(InvalidProof):
        merkle.verify_consistency(0, 4, [], merkle.EMPTY_ROOT, root(4))


def test_frontier_bytes_of_the_wrong_size_are_refused() -> None:
    frontier = merkle.Frontier()
    for leaf in LEAVES[:11]:
        frontier.append(leaf)
    encoded = frontier.encode()
    assert len(encoded) == 8 + 3 * 32
    for wrong in (encoded[:-1], encoded[:-32], encoded + bytes(32), b"", b"\xff" * 8):
        with pytest.raises(MalformedFrontier):
            merkle.Frontier.decode(wrong)


def test_a_copied_frontier_is_independent() -> None:
    frontier = merkle.Frontier()
    frontier.append(LEAVES[0])
    copy = frontier.copy()
    copy.append(LEAVES[1])
    assert (frontier.size, copy.size) == (1, 2)
    assert frontier.root() == LEAVES[0]
