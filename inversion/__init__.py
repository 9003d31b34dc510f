"""Inversion: from a picture back to the latent that a generator made it from.

Tensors inside, plain numbers outside; knows nothing of the ledger. Reading order: `result` (the
values), `picture` (hostile files to pixels), `forward` (what happened to a picture after
generation), `archive` (hostile models to a checked program), `sandbox` (the parent's handle to the
keyless child), `invert` (the search, which runs in the child together with `generator`, `encoder`,
`descend`, `levenberg`, `posterior`).

Only the modules that run in the child import torch; an examination's parent never does.
"""
