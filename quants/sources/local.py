"""Local sources: GGUF files and folders of them, and the models that ship with quantsweep."""

from __future__ import annotations

import difflib
import itertools
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from quants.errors import GGUFError, SourceError
from quants.gguf import LISTING_BYTES, ArrayMemo, combine, held_bytes, read_header
from quants.gguf.window import FIRST_BYTES
from quants.sources.labels import group, parse_path
from quants.sources.listing import Candidate, ListedFile, Listing, Sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quants.gguf import Header
    from quants.sources.listing import SidecarKind

BUILTIN_MODELS: Final = {"stand-in": "standin"}  # name in a spec -> folder in this package
# By how much the headers of one model's quants differ (imatrix notes, file type): the next read is that much longer.
MARGIN_BYTES: Final = 4096
MOST_SHARDS: Final = 1024  # the largest real sets have under a hundred
MOST_FILES: Final = 10_000
_FOLDER_DEPTH: Final = 4  # source/owner/model/quant/file.gguf is the deepest layout that tools make


def builtin_root(name: str) -> Path:
    """The folder of a model that ships with quantsweep, on this machine.

    Raises:
        SourceError: there is none of that name.
    """
    folder = BUILTIN_MODELS.get(name)
    if folder is None:
        raise SourceError(f"no built-in model {name!r}", f"There is: {', '.join(BUILTIN_MODELS)}")
    return Path(__file__).resolve().parents[1] / folder


def list_builtin(name: str, source: str) -> Listing:
    """What the built-in model `name` offers."""
    found = _list_folder(builtin_root(name), source, need_data=True)
    return replace(found, kind="builtin", root=None, builtin=name)


def list_local(path: Path, source: str, *, need_data: bool) -> Listing:
    """What a file or folder offers; headers are read and checked.

    Args:
        path: absolute.
        source: the text of the spec, for error texts.
        need_data: False accepts files whose tensor data is missing (enough for sizing, not for running).

    Raises:
        SourceError: nothing usable there.
    """
    try:
        if path.is_dir():
            return _list_folder(path, source, need_data=need_data)
        if path.is_file():
            return _list_file(path, source, need_data=need_data)
        if path.exists():
            raise SourceError(f"{path} is neither a file nor a folder")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    raise _missing(path, source)


def _list_file(path: Path, source: str, *, need_data: bool) -> Listing:
    name = parse_path(path.name)
    paths = [path.name]
    if name.shard is not None:
        if name.shards > MOST_SHARDS:
            raise SourceError(f"{path} says that it is one of {name.shards:,} files; at most {MOST_SHARDS:,} are read")
        suffix = path.name[-5:]
        paths = [f"{name.base}-{number:05d}-of-{name.shards:05d}{suffix}" for number in range(1, name.shards + 1)]
    found = _inspect(path.parent, paths, source, need_data=need_data)
    if not found.candidates:
        if found.sidecars:
            raise SourceError(f"{path} is no model but its {found.sidecars[0].kind} file")
        raise SourceError(found.skipped[0][1])
    (candidate,) = found.candidates
    if name.label is None:  # it stands alone, whatever lies beside it: its header's label is a name that stays
        candidate = replace(candidate, quant=candidate.label)
    return replace(found, kind="file", candidates=(candidate,), sidecars=())


def _list_folder(root: Path, source: str, *, need_data: bool) -> Listing:
    paths = sorted(itertools.islice(_gguf_paths(root, 0, set()), MOST_FILES + 1))
    if len(paths) > MOST_FILES:
        raise SourceError(f"{root} holds more than {MOST_FILES:,} .gguf files", "Name a folder with fewer of them")
    if not paths:
        raise SourceError(f"{root} holds no .gguf file", _look_alike(root))
    found = _inspect(root, paths, source, need_data=need_data)
    if not found.candidates:
        reasons = "; ".join(reason for _, reason in found.skipped[:3])
        raise SourceError(f"{root} holds no usable model" + (f": {reasons}" if reasons else ", only sidecar files"))
    return found


def _inspect(root: Path, paths: list[str], source: str, *, need_data: bool) -> Listing:
    """The listing of the files at `paths`; those that cannot be used are in `skipped`, with full sentences."""
    headers: dict[str, Header] = {}
    files: list[ListedFile] = []
    sidecars: list[Sidecar] = []
    skipped: list[tuple[str, str]] = []
    cut_off: dict[str, str] = {}
    memo = ArrayMemo()
    usual_bytes = FIRST_BYTES
    total_bytes = 0
    for relative in paths:
        path = root / relative
        try:
            size_bytes = path.stat().st_size
            header = read_header(path, memo=memo, first_bytes=usual_bytes)
            usual_bytes = header.header_bytes + MARGIN_BYTES
        except GGUFError as error:
            skipped.append((relative, str(error)))
            continue
        except OSError as error:
            skipped.append((relative, f"cannot read {path}: {error.strerror or error}"))
            continue
        file = ListedFile(relative, size_bytes)
        kind, why_not = _judge(header)
        if need_data:
            try:
                header.require_data(size_bytes, str(path))
            except GGUFError as error:
                cut_off[relative] = str(error)
        if kind is not None and relative in cut_off:
            skipped.append((relative, cut_off[relative]))
        elif kind is not None:
            sidecars.append(Sidecar(kind, file))
        elif why_not is not None:
            skipped.append((relative, f"{path} {why_not}"))
        else:
            total_bytes += held_bytes(header)
            if total_bytes > LISTING_BYTES:
                raise SourceError(
                    f"{root} holds too much: the headers of its files take more than {LISTING_BYTES >> 20} MiB",
                    "Name one of its files, or a folder with fewer of them",
                )
            headers[relative] = header
            files.append(file)
    # Files that are cut off are named too, and left out then: names are the same with and without `need_data`.
    grouping = group(files, lambda relative: headers[relative].file_type)
    candidates: list[Candidate] = []
    for candidate in grouping.candidates:
        torn = next((file.path for file in candidate.files if file.path in cut_off), None)
        if torn is not None:
            skipped.append((torn, cut_off[torn]))
            continue
        try:
            combine([headers[file.path] for file in candidate.files])
        except GGUFError as error:
            first = candidate.files[0].path
            skipped.append((first, f"{root / first}: {error}"))
        else:
            candidates.append(candidate)
    skipped += [(path, f"{root / path}: {reason}") for path, reason in grouping.incomplete]
    return Listing(
        kind="folder",
        source=source,
        repo=None,
        revision=None,
        root=str(root),
        builtin=None,
        candidates=tuple(candidates),
        sidecars=(*grouping.sidecars, *sidecars),
        skipped=tuple(skipped),
        headers=headers,
    )


def _judge(header: Header) -> tuple[SidecarKind | None, str | None]:
    """What a header says the file is when it is no model: a kind of sidecar, or why it cannot be used."""
    general_type = header.get("general.type")
    if header.get("general.architecture") == "clip" or general_type == "mmproj":
        return "mmproj", None
    if general_type == "imatrix":
        return "imatrix", None
    if general_type == "adapter":
        return None, "is a LoRA adapter, not a model"
    if not header.tensors and header.split is None:
        return None, "holds no tensors (a vocabulary only)"
    return None, None


def _gguf_paths(folder: Path, depth: int, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Paths of .gguf files below `folder`, relative to it; hidden folders and those too deep are left out.

    A folder that several links lead to counts once, where it is met first: links back to where they lie would make
    of forty links two million folders.
    """
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        # Folders before links to them, so that a file has the path that its owner gave it.
        for entry in sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name)):
            if entry.name.startswith("."):
                continue
            if entry.is_dir() and depth < _FOLDER_DEPTH:
                below = _gguf_paths(Path(entry.path), depth + 1, seen)
                yield from (str(PurePosixPath(entry.name, path)) for path in below)
            elif entry.name.lower().endswith(".gguf") and entry.is_file():
                yield entry.name


def _look_alike(folder: Path) -> str | None:
    names = [entry.name.lower() for entry in folder.iterdir()][:1000]
    if any(name.endswith(".safetensors") for name in names):
        return "It holds safetensors: convert them with llama.cpp's convert_hf_to_gguf.py, or use a GGUF repository"
    if any(".gguf." in name or name.endswith((".part", ".incomplete", ".download")) for name in names):
        return "It holds parts of an unfinished download"
    return None


def _missing(path: Path, source: str) -> SourceError:
    """The error for a path that does not exist, with what may have been meant."""
    hint = None
    parent = path.parent
    if parent.is_dir():
        close = difflib.get_close_matches(path.name, [entry.name for entry in parent.iterdir()], n=1)
        hint = f"There is {parent / close[0]}" if close else None
    if hint is None and source.count("/") == 1 and not source.startswith(("/", ".", "~")):
        hint = f"For a repository on the Hugging Face Hub write hf:{source}"
    return SourceError(f"{path} does not exist", hint)
