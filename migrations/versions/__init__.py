"""One file for each change of the schema, `NNNN_verb_noun.py`, oldest first."""
