"""Where a log is kept: `tables` and `schema` (what is stored), `engine` (how databases are opened),
`sql` and `memory` (two stores of one log), `vault` (record keys, a database of their own).

Rows never leave this package as anything but the values of `ledger.storage`.
"""
