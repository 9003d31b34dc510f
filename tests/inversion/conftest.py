"""Models exported once per session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.inversion.builders import TINY, LinearGenerator, TinyDecoder, save


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_pt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny colour decoder."""
    return save(TinyDecoder(), TINY.latent_shape, tmp_path_factory.mktemp("tiny") / "tiny.pt2")


@pytest.fixture(scope="session")
def linear_pt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear model of 10 coordinates and 8×8 gray pixels in [0, 255]."""
    folder = tmp_path_factory.mktemp("linear")
    return save(LinearGenerator(10, (1, 8, 8)), (10,), folder / "linear.pt2")
