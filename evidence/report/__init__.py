"""A finding for people: two pages, made from a bundle's parts and from nothing else.

    text.en.toml   every word that is not the finding's own
    phrases        numbers and strangers' strings as a page can show them
    figures        pictures, enlarged and amplified by stated factors
    sections       page one: the decision, what it rests on, what it does not say, its weight
    tables         page two: measurements, error rates, checks, assumptions, identities, steps
    template.typ   the layout, without words
    pdf            typst: PDF/A-3a, PDF/UA-1, the same bytes for the same parts

The report decides nothing and adds no number. It is no part of what `verify` checks but its digest.
"""
