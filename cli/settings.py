"""Where the ledger is and which database it uses: flag > environment > `latentlog.toml` > default.

`LATENTLOG_HOME` and `LATENTLOG_DB` are the environment. The default home is
`$XDG_DATA_HOME/latentlog` (`~/.local/share/latentlog`). A password belongs in the environment or
the file, never on the command line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def default_home() -> Path:
    """Give the home of the XDG base directory specification."""
    return _xdg("XDG_DATA_HOME", ".local/share") / "latentlog"


def state_folder() -> Path:
    """Give the folder for logs of internal errors."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "latentlog"


class Settings(BaseSettings):
    """What a command runs with."""

    model_config = SettingsConfigDict(
        env_prefix="LATENTLOG_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    home: Path = Field(default_factory=default_home)
    """The folder with keys, models, configuration and, by default, the database."""
    db: str | None = None
    """A SQLAlchemy URL that takes precedence over the one in `latentlog.toml`."""


def resolve(home: Path | None = None, db: str | None = None) -> Settings:
    """Read the settings; a flag that was given wins over the environment."""
    given: dict[str, Any] = {"home": home, "db": db}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    return settings.model_copy(update={"home": settings.home.expanduser()})


def _xdg(variable: str, fallback: str) -> Path:
    # The specification: a relative path in the variable is invalid and ignored.
    value = os.environ.get(variable, "")
    return Path(value) if os.path.isabs(value) else Path.home() / fallback
