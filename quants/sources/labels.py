"""Names of GGUF files as found in the wild: quant labels, split sets, and files that are no quant of the model."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from quants.sources.listing import Candidate, Sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from quants.sources.listing import ListedFile, SidecarKind

# A label starts behind a separator, or glued to the name in camel case ("devstralQ4_K_M.gguf").
_LABEL: Final = re.compile(
    r"""
    (?: (?<![A-Za-z0-9]) | (?-i:(?<=[a-z])(?=[A-Z])) )
    (?P<ud> UD[-_] )?
    (?P<body>
        Q[1-8]_K (?: _ (?: XXS | XS | S | M | L | XL | XXL ) )?
      | Q[1-8]_[01] (?: _[48]_[48] )? (?: _ (?: S | M | L | XL ) )?
      | IQ[1-6]_ (?: XXS | XS | S | M | L | XL | NL | KSS | KS | KT | KL | K ) (?: _ (?: XS | S | M | L | XL ) )?
      | TQ[12]_0
      | MXFP4 (?: [-_]MOE )?
      | NVFP4
      | BF16 | FP?16 | FP?32
    )
    (?! [A-Za-z0-9] )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SHARD: Final = re.compile(r"^(?P<base>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})$")
_DRAFT: Final = re.compile(r"^mtp-|(?:^|[-_.])(?:eagle3|dflash|dspark)-", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FileName:
    """What a file's path says about it.

    Attributes:
        path: as given, with forward slashes.
        base: the name without ".gguf" and without the shard suffix.
        label: the quant label in canonical form ("UD-Q4_K_XL"), None where the path has none.
        sidecar: what the file is when it is no quant of the model.
        shard: its number from 1, or None outside a split set.
        shards: the size of its split set, 1 outside one.
    """

    path: str
    base: str
    label: str | None
    sidecar: SidecarKind | None
    shard: int | None
    shards: int


@dataclass(frozen=True, slots=True)
class Grouping:
    """The files of a source, told apart.

    Attributes:
        candidates: quants with unique names, smallest first.
        sidecars: mmproj, imatrix and draft files.
        incomplete: (path of the first shard that is there, reason) of split sets with shards missing.
    """

    candidates: tuple[Candidate, ...]
    sidecars: tuple[Sidecar, ...]
    incomplete: tuple[tuple[str, str], ...]


def parse_path(path: str) -> FileName:
    """What the path of a GGUF file says: the last label in its name, else in the folder nearest to it."""
    pure = PurePosixPath(path)
    stem = pure.name[:-5] if pure.name.lower().endswith(".gguf") else pure.name
    match = _SHARD.match(stem)
    base = match["base"] if match else stem
    label = None
    for part in (base, *(folder.name for folder in pure.parents)):
        label = find_label(part)
        if label is not None:
            break
    return FileName(
        path=path,
        base=base,
        label=label,
        sidecar=_sidecar_kind(base),
        shard=int(match["number"]) if match else None,
        shards=int(match["count"]) if match else 1,
    )


def find_label(text: str) -> str | None:
    """The last quant label in `text`, in canonical form: capitals, "F16" for "fp16", "UD-" kept."""
    matches = list(_LABEL.finditer(text))
    if not matches:
        return None
    last = matches[-1]
    body = last["body"].upper().replace("-", "_")
    if body in {"FP16", "FP32"}:
        body = body.replace("FP", "F")
    return f"UD-{body}" if last["ud"] else body


def group(files: Iterable[ListedFile], file_type: Callable[[str], str | None] = lambda _path: None) -> Grouping:
    """Tell quants, split sets and sidecars apart, and give every quant a name of its own.

    A quant is named by the label in its file's name, and without one by the file name. Where several have the same
    label ("Q4_K_M" of two models in a folder) each is named by its file name instead, and by its path where those are
    equal too. So no name depends on neighbours but for files of the same label.

    Args:
        files: GGUF files of one source.
        file_type: the label by the header of the file at a path; quants whose file names have none are known by it too.
    """
    sidecars: list[Sidecar] = []
    sets: dict[tuple[str, str, int], dict[int, ListedFile]] = {}
    for file in files:
        name = parse_path(file.path)
        if name.sidecar is not None:
            sidecars.append(Sidecar(name.sidecar, file))
            continue
        folder = str(PurePosixPath(file.path).parent)
        shards = name.shards if name.shard is not None else 0
        sets.setdefault((folder, name.base, shards), {})[name.shard or 1] = file
    complete: list[tuple[ListedFile, ...]] = []
    incomplete: list[tuple[str, str]] = []
    for (_, _, shards), members in sets.items():
        # A name may claim 99,999 files; five of those that are not there are enough to say so.
        missing = list(itertools.islice((n for n in range(1, (shards or 1) + 1) if n not in members), 6))
        ordered = tuple(members[number] for number in sorted(members))
        if missing:
            shown = ", ".join(str(number) for number in missing[:5]) + (" ..." if len(missing) > 5 else "")
            incomplete.append((ordered[0].path, f"split set of {shards} files without number {shown}"))
        elif len(members) > max(shards, 1):
            incomplete.append((ordered[-1].path, f"numbered beyond its split set of {shards} files"))
        else:
            complete.append(ordered)
    candidates = sorted(_named(complete, file_type), key=lambda candidate: (candidate.file_bytes, candidate.quant))
    return Grouping(tuple(candidates), tuple(sidecars), tuple(incomplete))


def _named(sets: list[tuple[ListedFile, ...]], file_type: Callable[[str], str | None]) -> list[Candidate]:
    """Candidates with names that are unique, without regard to case wherever paths are."""
    forms: list[tuple[str, ...]] = []
    for files in sets:
        name = parse_path(files[0].path)
        folder = PurePosixPath(files[0].path).parent
        forms.append((name.label or name.base, name.base, str(folder / name.base), files[0].path))
    levels = [0] * len(forms)
    while True:
        chosen = [form[level] for form, level in zip(forms, levels, strict=True)]
        counts = Counter(name.casefold() for name in chosen)
        shared = [i for i, name in enumerate(chosen) if counts[name.casefold()] > 1 and levels[i] < len(forms[i]) - 1]
        if not shared:
            break  # unique, or paths that differ in nothing but case
        for i in shared:
            levels[i] += 1
    return [
        Candidate(quant=name, files=files, label=parse_path(files[0].path).label or file_type(files[0].path) or form[0])
        for name, files, form in zip(chosen, sets, forms, strict=True)
    ]


def _sidecar_kind(base: str) -> SidecarKind | None:
    lowered = base.lower()
    if "mmproj" in lowered:
        return "mmproj"
    # "model-imatrix-Q4_K_M" is a quant made with an imatrix, "model-Q8_0.imatrix" is one made from a quant.
    _, found, rest = lowered.rpartition("imatrix")
    if found and find_label(rest) is None:
        return "imatrix"
    return "draft" if _DRAFT.search(base) else None
