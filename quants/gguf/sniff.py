"""Name what a file is that should have been a GGUF: the usual mistakes, each with its way out."""

from __future__ import annotations

from typing import Final

from quants.errors import GGUFError

_KNOWN: Final = (
    (b"version https://git-lfs", "a Git LFS pointer, not the model itself", "Run `git lfs pull` in that repository"),
    (b"<!doctype", "a web page, not a model", "Download the file itself (the 'resolve' link), not its page"),
    (b"<html", "a web page, not a model", "Download the file itself (the 'resolve' link), not its page"),
    (b"PK\x03\x04", "a ZIP archive (or PyTorch checkpoint)", "Convert the model with convert_hf_to_gguf.py"),
    (b"tjgg", "a GGJT file, a format from before GGUF", "Convert the model again; llama.cpp no longer reads it"),
    (b"lmgg", "a GGML file, a format from before GGUF", "Convert the model again; llama.cpp no longer reads it"),
    (b"fmgg", "a GGMF file, a format from before GGUF", "Convert the model again; llama.cpp no longer reads it"),
    (b"FUGG", "a GGUF file with a reversed magic, which no tool writes", "Download or convert it again"),
)


def not_gguf(head: bytes, where: str | None) -> GGUFError:
    """The error for a file that begins with `head` (256 bytes are plenty) instead of the magic "GGUF"."""
    if not head.strip(b"\0"):
        return GGUFError("no GGUF: it begins with zeros", "An unfinished download looks so; fetch it again", 0, where)
    lowered = head.lstrip().lower()
    for start, what, hint in _KNOWN:
        if head.startswith(start) or lowered.startswith(start):
            return GGUFError(f"no GGUF: it is {what}", hint, 0, where)
    if head[8:10] == b'{"':
        return GGUFError(
            "no GGUF: it looks like a safetensors file", "Convert the model with convert_hf_to_gguf.py", 0, where
        )
    return GGUFError(f"no GGUF: it begins with {head[:4]!r}", None, 0, where)
