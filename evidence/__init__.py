"""From a disputed file to a signed finding: measurement, decision, bundle, verification, report.

The only package that knows both the ledger and inversion. It has two sides.

Checking, for a court's machine (standard library, `ledger`'s pure parts; no torch, no database):
    null          how close a vector comes to a secret latent by coincidence
    likelihood    error rates, weight, verbal scale
    measurements  what was measured, under which rules; JSON-able, strict
    rule, finding, explain, wording, channels    the decision, a pure function
    calibration   the controls' scores, and the limits and miss counts they give at any N
    bundle, statement, dsse, verify, …           the signed artefact and its numbered check

Making, for an examiner's machine:
    record, local_record     what an examination may see of a log
    measure                  from a file to numbers, the pipeline of controls and media alike
    lookup, digests, sketch, replay, reach, seeded    the channels
    calibrate, profiles, trials                       planted positives
    compare, checks, show, examination, examine       the numbered recipe

Read `finding.py`, then `examine.py`, then `verify.py`. The bound and its proof: docs/statistics.md.
"""
