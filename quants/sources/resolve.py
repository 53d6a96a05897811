"""Model sources: from the text in a spec to what is there, and from quant names to pinned artifacts."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from profiles.homes import expanded
from quants.artifact import Artifact, ModelFile
from quants.catalogue import find_model, nearest_names
from quants.digests import file_sha256
from quants.errors import SelectionError, SourceError
from quants.sources.labels import find_label
from quants.sources.listing import Candidate, ListedFile, Listing, Sidecar, SourceKind
from quants.sources.local import builtin_root, list_builtin, list_local

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quants.hub.client import HubSettings

__all__ = [
    "Candidate",
    "HubAddress",
    "ListedFile",
    "Listing",
    "Sidecar",
    "SourceKind",
    "parse_hub",
    "resolve",
    "select",
]

_HUB: Final = re.compile(r"^(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?$", re.ASCII)
_WEB: Final = re.compile(r"^https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)(?:/tree/([\w.-]+))?/?$")


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A repository on the Hub: "owner/name", and the branch, tag or commit that was asked for, if any."""

    repo: str
    revision: str | None


def resolve(text: str, *, base_dir: Path, need_data: bool = True, hub: HubSettings | None = None) -> Listing:
    """What `text` (a file, a folder, `hf:owner/name[@revision]`, `builtin:stand-in`, a name of the catalogue) holds.

    Local headers are read and checked; nothing is hashed or downloaded yet. What is there as a file or a folder is
    never taken for a name of the catalogue.

    Args:
        text: the source as the spec has it. A relative path counts from `base_dir`, `~` is the home folder.
        base_dir: the folder of the spec.
        need_data: False accepts local files without their tensor data: enough for sizing, not for running.
        hub: where the Hub is; by default as huggingface_hub took it from the environment.

    Raises:
        SourceError: nothing usable there, with the path or repository named.
        HubError: the Hub refused or cannot be reached.
    """
    source = text.strip()
    if not source:
        raise SourceError("the model source is empty", "Give a file, a folder, or hf:owner/name")
    address = parse_hub(source)
    if address is not None:
        from quants.hub.repository import list_repo

        return list_repo(address.repo, revision=address.revision, source=source, settings=hub)
    if source.startswith("builtin:"):
        return list_builtin(source.removeprefix("builtin:"), source)
    if "\0" in source:
        raise SourceError("the model source holds a zero byte")
    path = (base_dir / expanded(source)).absolute()
    if _could_be_a_name(source) and not os.path.lexists(path):
        model = find_model(source)
        if model is not None:
            return resolve(model.hub_source, base_dir=base_dir, need_data=need_data, hub=hub)
        if near := nearest_names(source):
            raise SourceError(
                f"there is no {path}, and the catalogue has no model {source!r}",
                f"Did you mean {' or '.join(near)}? Any repository of the Hub is hf:owner/name",
            )
    return list_local(path, source, need_data=need_data)


def is_folder(text: str, base_dir: Path) -> bool:
    """Whether the source `text` is a folder that is there; nothing is read or asked."""
    source = text.strip()
    if "\0" in source or source.startswith(("hf:", "builtin:", "http://", "https://")):
        return False
    return (base_dir / expanded(source)).is_dir()


def _could_be_a_name(source: str) -> bool:
    """Whether `source` has the form of a model's name rather than that of a path."""
    return not source.startswith((".", "~")) and not any(mark in source for mark in "/\\@")


def parse_hub(source: str) -> HubAddress | None:
    """The repository that `source` names, or None where it is no Hub address.

    Raises:
        SourceError: it begins like a Hub address and is none.
    """
    web = _WEB.match(source)
    if web is not None:
        return HubAddress(web[1], web[2])
    if not source.startswith("hf:"):
        return None
    rest = source.removeprefix("hf:").removeprefix("//")
    match = _HUB.match(rest)
    if match is None:
        head, _, tail = rest.rpartition(":")
        hint = (
            f"Write hf:{head} and name the quant under `quants`"
            if head and find_label(tail) is not None
            else "The form is hf:owner/name or hf:owner/name@revision"
        )
        raise SourceError(f"{source!r} is no Hub repository", hint)
    return HubAddress(match["repo"], match["revision"])


def select(
    listing: Listing,
    quants: Sequence[str] | Literal["all"],
    *,
    progress: Callable[[str, int, int], None] | None = None,
    hub: HubSettings | None = None,
) -> tuple[Artifact, ...]:
    """The artifacts of `quants`, pinned by size and sha256, in the order asked ("all": smallest first).

    Local files are hashed here; digests are remembered by path, size, mtime and inode.

    Args:
        listing: from `resolve`.
        quants: names as in `listing.quants`, in any case; a file name or path of the listing works too.
        progress: called with (path, bytes hashed, bytes of the file) while a local file is hashed.
        hub: where the Hub is; by default as huggingface_hub took it from the environment.

    Raises:
        SelectionError: a quant that is not there (the nearest is named) or a name that stands for several.
        SourceError: a file that cannot be read, or changed while it was hashed.
    """
    return tuple(pin(listing, candidate, progress=progress, hub=hub) for candidate in choose(listing, quants))


def choose(listing: Listing, quants: Sequence[str] | Literal["all"]) -> tuple[Candidate, ...]:
    """The candidates of `quants`, in the order asked ("all": smallest first); nothing is hashed.

    Raises:
        SelectionError: a quant that is not there, stands for several, or is asked for twice.
    """
    if quants == "all":
        return listing.candidates
    chosen = [find(listing, quant) for quant in quants]
    for index, candidate in enumerate(chosen):
        if candidate in chosen[:index]:
            raise SelectionError(f"quant {quants[index]!r} of {listing.source} is asked for twice")
    return tuple(chosen)


def find(listing: Listing, quant: str) -> Candidate:
    """The one candidate that `quant` names.

    Raises:
        SelectionError: none does, or several do.
    """
    for candidate in listing.candidates:
        if candidate.quant == quant.strip():
            return candidate
    wanted = quant.strip().casefold()
    for names in (_names, _labels, _aliases, _file_names):
        found = [candidate for candidate in listing.candidates if wanted in names(candidate)]
        if len(found) == 1:
            return found[0]
        if found:
            options = ", ".join(candidate.quant for candidate in found)
            raise SelectionError(
                f"quant {quant!r} stands for {len(found)} files in {listing.source}", f"Take one of: {options}"
            )
    raise _not_there(listing, quant)


def _names(candidate: Candidate) -> set[str]:
    return {candidate.quant.casefold()}


def _labels(candidate: Candidate) -> set[str]:
    return {candidate.label.casefold()}


def _aliases(candidate: Candidate) -> set[str]:
    """Other names of the same file type: gpt-oss files say MXFP4, their file type is MXFP4_MOE."""
    pair = {"mxfp4", "mxfp4_moe"}
    return pair if candidate.label.casefold() in pair else set()


def _file_names(candidate: Candidate) -> set[str]:
    path = candidate.files[0].path.casefold()
    name = path.rpartition("/")[2]
    return {path, name, path.removesuffix(".gguf"), name.removesuffix(".gguf")}


def _not_there(listing: Listing, quant: str) -> SelectionError:
    wanted = quant.strip().casefold()
    for path, reason in listing.skipped:
        label = find_label(path)
        if wanted in {path.casefold(), (label or "").casefold()}:
            return SelectionError(f"quant {quant!r} of {listing.source} cannot be used: {reason}")
    by_key = {name.casefold(): name for name in listing.quants}
    close = difflib.get_close_matches(wanted, by_key, n=1, cutoff=0.5)
    nearest = f"Did you mean {by_key[close[0]]}? " if close else ""
    return SelectionError(
        f"{listing.source} has no quant {quant!r}", f"{nearest}It has: {', '.join(listing.quants) or 'none'}"
    )


def pin(
    listing: Listing,
    candidate: Candidate,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    hub: HubSettings | None = None,
) -> Artifact:
    """One candidate, pinned by size and sha256; arguments and errors as of `select`."""
    if listing.kind == "hub":
        from quants.hub.repository import pin_files

        files = pin_files(listing, candidate, hub)
    else:
        root = builtin_root(listing.builtin) if listing.builtin is not None else Path(listing.root or ".")
        files = tuple(_pin_local(root, file, progress) for file in candidate.files)
    return Artifact(
        quant=candidate.quant,
        files=files,
        repo=listing.repo,
        revision=listing.revision,
        root=listing.root,
        builtin=listing.builtin,
    )


def _pin_local(root: Path, file: ListedFile, progress: Callable[[str, int, int], None] | None) -> ModelFile:
    path = root / file.path
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(file.path, done, file.size_bytes)

    digest = file_sha256(path, progress=step)
    size_bytes = path.stat().st_size
    if size_bytes != file.size_bytes:
        raise SourceError(f"{path} changed while it was read", "Wait until it is written, then try again")
    return ModelFile(file.path, size_bytes, digest)
