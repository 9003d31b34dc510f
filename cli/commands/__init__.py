"""One file per command group; each imports its layers inside the command, so `--help` is light."""
