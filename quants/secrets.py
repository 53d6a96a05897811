"""Secrets in text: recognised before they are written down, and left out where a text is shown."""

from __future__ import annotations

import re
from typing import Final

LEFT_OUT: Final = "[left out]"
_URL: Final = re.compile(
    r"\b([a-z][a-z0-9+.-]{0,15}://)([^\s/?#@'\"<>]+@)?([^\s?#'\"<>]*)(\?[^\s#'\"<>]*)?", re.IGNORECASE
)
_VALUES: Final = (
    # The forms that well-known services give their tokens.
    r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}",
    r"\bsk-[A-Za-z0-9_-]{16,}",
    r"\b(?:ghp|gho|ghs|ghu|ghr|glpat|github_pat|npm|pypi|xox[abprs]|nvapi)[_-][A-Za-z0-9_-]{16,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
)
_VALUE: Final = re.compile("|".join(_VALUES))
_NAMED: Final = re.compile(
    r"\b(?:authorization|bearer|api[_-]?key|access[_-]?token|auth[_-]?token|secret|password|passwd)"
    r"[\"']?\s*(?:[:=]\s*[\"']?|\s)(?:bearer\s+)?[^\s\"',;&]{6,}",
    re.IGNORECASE,
)
_SIGNED: Final = re.compile(r"(?:token|key|secret|password|passwd|sig|signature|credential|auth)=", re.IGNORECASE)


def holds_secret(text: str) -> bool:
    """Whether `text` holds what looks like a key, a token or a password."""
    if _VALUE.search(text) or _NAMED.search(text):
        return True
    return any(
        # ssh://git@host names a user; over HTTP a lone user is a token.
        (user and (":" in user or scheme.lower().startswith("http"))) or _SIGNED.search(query)
        for scheme, user, _, query in _URL.findall(text)
    )


def redacted(text: str) -> str:
    """`text` without user names, passwords and query strings of URLs, and without tokens of well-known forms."""

    def plain(match: re.Match[str]) -> str:
        scheme, _, address, query = match.groups()
        return f"{scheme}{address}" + (f"?{LEFT_OUT}" if query else "")

    return _VALUE.sub(LEFT_OUT, _URL.sub(plain, text))
