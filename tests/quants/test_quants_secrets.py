from __future__ import annotations

import pytest

from quants.errors import HubError, OfflineError
from quants.hub.client import HubClient, HubSettings
from quants.secrets import holds_secret, redacted

SECRET = "s3cr3t-of-ours"
SIGNED = f"https://cdn.example/models/x?X-Amz-Signature={SECRET}&Expires=1"


@pytest.mark.parametrize(
    "text",
    [
        f"http://user:{SECRET}@proxy:3128/",
        f"https://{SECRET}@host/owner/name",
        f"postgres://me:{SECRET}@db",
        SIGNED,
        f"https://host/file.gguf?token={SECRET}",
        "hf_abcdefghijklmnopqrstuvwxyz",
        "sk-proj-abcdefghijklmnopqrst",
        "ghp_abcdefghijklmnopqrst0123",
        "nvapi-abcdefghijklmnopqrst",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "Authorization: Bearer abcdefghijkl",
        '{"api_key": "abcdefghijkl"}',
        "password=hunter2hunter2",
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
)
def test_secrets_are_recognised(text: str) -> None:
    assert holds_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "--mlock",
        "https://host:8080/path?download=true",
        "ssh://git@host/repo",
        "tokenizer.ggml.add_bos_token=bool:false",
        "15043+1",
        "blk.*=CPU",
        "/models/hf_home/key.gguf",
        '{"enable_thinking": false}',
        "secretary-8b.Q4_K_M.gguf",
    ],
)
def test_what_only_sounds_like_one_is_none(text: str) -> None:
    assert not holds_secret(text)


def test_what_is_shown_holds_none() -> None:
    text = redacted(f"403 for url '{SIGNED}' by http://user:{SECRET}@proxy:3128/x and hf_abcdefghijklmnopqrstuvwxyz")
    assert text == "403 for url 'https://cdn.example/models/x?[left out]' by http://proxy:3128/x and [left out]"
    assert redacted("https://huggingface.co/a/b: 429, try again") == "https://huggingface.co/a/b: 429, try again"
    assert redacted("a." * 50_000).startswith("a.a.")


def test_errors_of_the_hub_hold_none(hub_settings: HubSettings) -> None:
    """They end in rows and on terminals; the endpoint may name a password, and a CDN's address its signature."""
    settings = HubSettings(endpoint=f"http://me:{SECRET}@127.0.0.1:9", cache_dir=hub_settings.cache_dir)
    client = HubClient(settings)
    refused = type("ConnectError", (Exception,), {})(f"no route to http://me:{SECRET}@127.0.0.1:9")
    for error in (refused, ValueError(f"Client error '403 Forbidden' for url '{SIGNED}'")):
        with pytest.raises(HubError) as caught:
            client.after_failure("hf:a/b", error, 9)
        assert SECRET not in str(caught.value)
        assert "127.0.0.1:9" in str(caught.value)
    assert isinstance(client.judge("hf:a/b", refused).error, OfflineError)
