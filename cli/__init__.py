"""The command line: settings, wiring, one file per command group.

Reading order: `app` (commands and the one error boundary), `options` (what every command shares),
`settings`, `wiring` (the only place that builds stores, signers and model processes), `console`
(stdout is data, stderr is messages), then `commands/`.
"""
