"""Errors cross process boundaries whole, say what to do, and the rooms stay light to import."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from quants import errors
from quants.artifact import Artifact, ModelFile
from quants.errors import GGUFError, QuantsError, SourceError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, QuantsError)]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_pickling(kind: type[QuantsError]) -> None:
    error = kind("it is broken", "Mend it")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_every_kind_of_error_is_in_the_drawn_tree() -> None:
    assert {kind.__name__ for kind in KINDS} == {
        word for word in (errors.__doc__ or "").replace("├──", " ").split() if word.endswith("Error")
    }


def test_errors_say_what_where_and_what_to_do() -> None:
    assert str(QuantsError("it is broken")) == "it is broken"
    assert str(QuantsError("it is broken", "Mend it")) == "it is broken. Mend it"
    assert (
        str(GGUFError("bad key", "Convert again", 1234, "m.gguf")) == "m.gguf: bad key (at byte 1,234). Convert again"
    )


def test_an_artifact_needs_files_and_says_where_it_is_from() -> None:
    with pytest.raises(SourceError, match="has no files"):
        Artifact("Q8_0", ())
    files = (ModelFile("m.gguf", 1, "0" * 64),)
    assert Artifact("Q8_0", files, root="/models").source == "/models"
    assert Artifact("Q8_0", files, builtin="stand-in").source == "builtin:stand-in"
    assert Artifact("Q8_0", files, repo="a/b", revision="c" * 40).source == f"hf:a/b@{'c' * 40}"
    assert Artifact("Q8_0", files, repo="a/b").source == "hf:a/b"


def test_importing_sources_pulls_in_nothing_heavy() -> None:
    modules = "quants.sources.resolve, quants.cache, quants.sources.headers, quants.hub.repository"
    code = f"import sys, {modules}; print(*sys.modules)"
    root = str(Path(__file__).parents[2])
    loaded = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert not {"huggingface_hub", "httpx", "httpx2", "pydantic", "numpy", "ray", "pyarrow"} & set(loaded.split())
