"""The ledger: an append-only, signed record of generations. Bytes and signatures, no tensors.

Reading order, each file one idea:

- `digest` · `canonical` · `errors`: 32-byte digests and labels, one encoding per value, what fails
- `keystream` · `commitment` · `vault`: from keys to latents, hiding what stays private, erasing it
- `merkle` · `keys` · `note` · `checkpoint` · `proof` · `tiles`: the transparency log's mathematics
  and its C2SP text formats, all pure
- `entry` · `log` · `epochs` · `recorder` · `audit` · `store`: what is logged, where it is kept, how
  a developer's service writes it, and how anyone recomputes it
"""
