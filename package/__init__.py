"""Latentlog: a plausible-deniability provenance ledger for generative models.

Reading order: `ledger` (bytes and signatures), `inversion` (tensors in, numbers out),
`evidence` (the only package that knows both), `cli` (the commands).
"""
