"""TLS, proxies and what is not trusted: as the environment says, and never around it."""

from __future__ import annotations

import ssl
import subprocess
from shutil import which
from typing import TYPE_CHECKING

import pytest

from runners.chat import TransportError
from runners.engines import http
from runners.engines.base import LoadError
from tests.runners.endpoint_servers import KEY, EndpointServer, Played
from tests.runners.test_openai_endpoint import ASK, VARIABLE, WHOLE, connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(VARIABLE, KEY)
    http._trust.cache_clear()
    yield
    http._trust.cache_clear()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 that nobody trusts but who is told to, and its key beside it."""
    if which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with: make system-deps")
    made = tmp_path / "server.pem"
    subject = ["-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1"]
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    done = subprocess.run(
        [*argv, "-out", str(made), "-keyout", str(tmp_path / "key.pem")], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return made


def secured(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return context


def test_a_certificate_that_is_trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with EndpointServer(Played(pieces=[WHOLE]), tls=secured(certificate)) as server:
        assert connect(server).chat(ASK).text == "eins, zwéi 三"
        assert server.posts[0].headers["authorization"] == f"Bearer {KEY}"


def test_one_that_is_not_gets_nothing(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with EndpointServer(Played(pieces=[WHOLE]), tls=secured(certificate)) as server:
        with pytest.raises(LoadError, match=r"certificate|CERTIFICATE|trust") as caught:
            connect(server)
        assert server.asked == []
    assert KEY not in str(caught.value)


def test_a_proxy_is_used_for_others_and_not_for_this_node(monkeypatch: pytest.MonkeyPatch) -> None:
    with EndpointServer(Played(pieces=[WHOLE])) as proxy, EndpointServer(Played(pieces=[WHOLE])) as here:
        monkeypatch.setenv("HTTP_PROXY", proxy.origin)
        monkeypatch.setenv("http_proxy", proxy.origin)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        there = connect(proxy, base_url="http://provider.invalid/v1")
        assert there.chat(ASK).text == "eins, zwéi 三"
        assert proxy.posts[0].path == "http://provider.invalid/v1/chat/completions"
        assert connect(here).chat(ASK).text == "eins, zwéi 三"
        assert len(here.posts) == len(proxy.posts) == 1
        monkeypatch.setenv("NO_PROXY", "provider.invalid")
        with pytest.raises(TransportError, match="broke"):
            there.chat(ASK)
