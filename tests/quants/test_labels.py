"""Quant names, split sets and sidecars as they are found on the Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quants.sources.labels import find_label, group, parse_path
from quants.sources.listing import ListedFile

if TYPE_CHECKING:
    import random

FOUND = {
    "Qwen3-8B-Q4_K_M.gguf": "Q4_K_M",
    "Qwen3.5-35B-A3B-UD-Q4_K_XL.gguf": "UD-Q4_K_XL",
    "Qwen3.5-35B-A3B-MXFP4_MOE.gguf": "MXFP4_MOE",
    "gpt-oss-20b-mxfp4.gguf": "MXFP4",
    "gpt-oss-20b-Q8_0.gguf": "Q8_0",
    "gemma-4-31b-it-UD-IQ2_XXS.gguf": "UD-IQ2_XXS",
    "gemma-4-31b-it-UD-TQ1_0.gguf": "UD-TQ1_0",
    "Llama-3.3-70B-Instruct-IQ4_NL.gguf": "IQ4_NL",
    "Llama-3.3-70B-Instruct-Q6_K_L.gguf": "Q6_K_L",
    "Llama-3.3-70B-Instruct-Q4_0_8_8.gguf": "Q4_0_8_8",
    "model.i1-IQ3_XS.gguf": "IQ3_XS",
    "DeepSeek-R1-Distill-Qwen-14B-f16.gguf": "F16",
    "codestral-22b-fp16.gguf": "F16",
    "nemotron-bf16.gguf": "BF16",
    "mistral-F32.gguf": "F32",
    "devstralQ4_K_M.gguf": "Q4_K_M",
    "miniQ5_K_S.gguf": "Q5_K_S",
    "qwen2.5-coder-7b-instruct-q5_k_m.gguf": "Q5_K_M",
    "model-NVFP4.gguf": "NVFP4",
    "model.f16.Q4_K_M.gguf": "Q4_K_M",
    "Model-Q2_K.gguf": "Q2_K",
    "Model-IQ4_KS.gguf": "IQ4_KS",
    "BF16/GLM-4.6-BF16-00001-of-00015.gguf": "BF16",
    "UD-Q2_K_XL/GLM-4.6-UD-Q2_K_XL-00002-of-00003.gguf": "UD-Q2_K_XL",
    "Q4_K_M/model-00001-of-00002.gguf": "Q4_K_M",
    "gguf/Q8_0/nested/model.gguf": "Q8_0",
    "model.gguf": None,
    "Qwen3-8B.gguf": None,
    "SQ4_K_Mx.gguf": None,
    "F16ish.gguf": None,
}


@pytest.mark.parametrize("path", FOUND)
def test_labels(path: str) -> None:
    assert parse_path(path).label == FOUND[path]


SIDECARS = {
    "mmproj-F16.gguf": "mmproj",
    "gemma-4-31b-it-mmproj-BF16.gguf": "mmproj",
    "mmproj/model-Q8_0-mmproj.gguf": "mmproj",
    "imatrix_unsloth.gguf": "imatrix",
    "Qwen3-8B-Q8_0.imatrix.gguf": "imatrix",
    "mtp-Qwen3.5-27B-Q8_0.gguf": "draft",
    "Qwen3.5-27B-eagle3-Q8_0.gguf": "draft",
    "dflash-draft.gguf": "draft",
    "model.dspark-F16.gguf": "draft",
    "Qwen3-8B-imatrix-Q4_K_M.gguf": None,
    "Qwen3.5-35B-A3B-MTP-Q4_K_M.gguf": None,
    "Qwen3-8B-Q4_K_M.gguf": None,
}


@pytest.mark.parametrize("path", SIDECARS)
def test_sidecars(path: str) -> None:
    assert parse_path(path).sidecar == SIDECARS[path]


def test_shards_are_numbered_from_one() -> None:
    name = parse_path("Q8_0/model-Q8_0-00002-of-00003.gguf")
    assert (name.base, name.shard, name.shards) == ("model-Q8_0", 2, 3)
    assert parse_path("model-Q8_0-2-of-3.gguf").shard is None


def listed(*paths: str) -> list[ListedFile]:
    return [ListedFile(path, 100 + len(path)) for path in paths]


def test_a_repository_is_sorted_out() -> None:
    found = group(
        listed(
            "M-UD-Q4_K_XL.gguf",
            "M-Q4_K_M.gguf",
            "BF16/M-BF16-00002-of-00002.gguf",
            "BF16/M-BF16-00001-of-00002.gguf",
            "mmproj-F16.gguf",
            "mmproj-BF16.gguf",
            "imatrix_unsloth.gguf",
            "Q8_0/M-Q8_0-00001-of-00003.gguf",
            "Q8_0/M-Q8_0-00003-of-00003.gguf",
        )
    )
    assert [candidate.quant for candidate in found.candidates] == ["Q4_K_M", "UD-Q4_K_XL", "BF16"]
    assert [file.path for file in found.candidates[2].files] == [
        "BF16/M-BF16-00001-of-00002.gguf",
        "BF16/M-BF16-00002-of-00002.gguf",
    ]
    assert [sidecar.kind for sidecar in found.sidecars] == ["mmproj", "mmproj", "imatrix"]
    assert found.incomplete == (("Q8_0/M-Q8_0-00001-of-00003.gguf", "split set of 3 files without number 2"),)


def test_equal_labels_are_told_apart_by_name_then_by_path() -> None:
    by_name = group(listed("a-Q4_K_M.gguf", "b-Q4_K_M.gguf", "a-Q8_0.gguf"))
    assert {candidate.quant for candidate in by_name.candidates} == {"a-Q4_K_M", "b-Q4_K_M", "Q8_0"}
    assert {candidate.label for candidate in by_name.candidates} == {"Q4_K_M", "Q8_0"}
    by_path = group(listed("x/a-Q4_K_M.gguf", "y/a-Q4_K_M.gguf", "z/b-q4_k_m.gguf"))
    assert {candidate.quant for candidate in by_path.candidates} == {"x/a-Q4_K_M", "y/a-Q4_K_M", "b-q4_k_m"}
    whole_and_split = group(listed("a-Q8_0.gguf", "a-Q8_0-00001-of-00001.gguf"))
    assert len({candidate.quant for candidate in whole_and_split.candidates}) == 2


def test_names_without_a_label_stay_and_are_known_by_their_headers_too() -> None:
    found = group(listed("model.gguf", "other.gguf"), {"model.gguf": "Q5_0"}.get)
    assert {(each.quant, each.label) for each in found.candidates} == {("model", "Q5_0"), ("other", "other")}


def test_a_shard_numbered_beyond_its_set() -> None:
    found = group(listed("a-00001-of-00001.gguf", "a-00002-of-00001.gguf"))
    assert found.candidates == ()
    assert found.incomplete == (("a-00002-of-00001.gguf", "numbered beyond its split set of 1 files"),)


parts = st.sampled_from(
    ["Q4_K_M", "q4_k_m", "UD-Q4_K_XL", "F16", "model", "mmproj", "00001-of-00002", "00002-of-00002"]
)
paths = st.lists(parts, min_size=1, max_size=4).flatmap(
    lambda words: st.sampled_from(["-", "/", "."]).map(lambda mark: mark.join(words) + ".gguf")
)


@given(st.lists(paths, unique=True, max_size=12), st.randoms(use_true_random=False))
def test_every_file_lands_somewhere_once_and_names_are_unique(names: list[str], order: random.Random) -> None:
    found = group(listed(*names))
    quants = [candidate.quant for candidate in found.candidates]
    assert len(set(quants)) == len(quants)
    placed = [file.path for candidate in found.candidates for file in candidate.files]
    placed += [sidecar.file.path for sidecar in found.sidecars]
    assert len(set(placed)) == len(placed)
    assert set(placed) <= set(names)
    if not found.incomplete:
        assert set(placed) == set(names)
    shuffled = list(names)
    order.shuffle(shuffled)
    assert {candidate.quant for candidate in group(listed(*shuffled)).candidates} == {
        candidate.quant for candidate in found.candidates
    }


@given(st.lists(paths, unique=True, max_size=8), paths)
def test_a_name_depends_on_files_of_the_same_label_alone(names: list[str], newcomer: str) -> None:
    """`My Model.gguf` was "Q8_0" alone and "My Model" beside another Q8_0."""

    def quants(files: list[str]) -> dict[str, str]:
        found = group(listed(*files), dict.fromkeys(files, "Q8_0").get)
        return {each.files[0].path: each.quant for each in found.candidates}

    def known(path: str) -> str:
        name = parse_path(path)
        return name.label or name.base

    alone = {path: quant for path, quant in quants(names).items() if quant == known(path)}
    if known(newcomer).casefold() not in {known(path).casefold() for path in names}:
        together = quants([*names, newcomer])
        assert {path: together[path] for path in alone} == alone


@given(st.text(max_size=40))
def test_labels_are_canonical(text: str) -> None:
    label = find_label(text)
    assert label is None or find_label(label) == label
