"""A cache folder and a local Hub of its own for every test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from quants.hub.client import HubSettings
from tests.hubserver.server import LocalHub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where quantsweep remembers digests and listings during this test."""
    folder = tmp_path / "xdg-cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def local_hub(tmp_path: Path) -> Iterator[LocalHub]:
    """A Hub without repositories; the test adds what it needs."""
    with LocalHub(tmp_path / "hub-store") as hub:
        yield hub
    from huggingface_hub import close_session

    close_session()  # connections to a server that is gone


@pytest.fixture
def hub_settings(local_hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubSettings:
    """Settings that lead to the local Hub, with an empty cache, no token and hardly any waiting."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    return HubSettings(local_hub.endpoint, tmp_path / "hf-cache", backoff_s=0.001, timeout_s=10.0)
