"""Names of files made of text that others have chosen: labels of models and quants, which come from file names."""

from __future__ import annotations

import hashlib
import re
from typing import Final

MOST_BYTES: Final = 120
"""Of a name made here: a file system takes 255, and prefixes and suffixes of ours are still to come."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._+-]+")


def safe_name(text: str, most_bytes: int = MOST_BYTES) -> str:
    """`text` as one part of a path: letters, digits and `._+-` only, neither hidden nor read as an option.

    What another text might be changed to as well gets a digest of what it was, so that different texts keep different
    names.
    """
    plain = text.replace(" ", "-")
    name = _UNSAFE.sub("_", plain).lstrip(".-")[:most_bytes]
    if name and name == plain:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: most_bytes - len(digest) - 1]}-{digest}".lstrip("-")


def log_name(lease_id: str, label: str) -> str:
    """What the engine's log of a lease is called in the run folder; `label` says which cell it served."""
    return f"{safe_name(lease_id)}-{safe_name(label.replace('(', '').replace(')', ''))}.log"
