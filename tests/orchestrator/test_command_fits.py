"""`quantsweep fits` as a person meets it: the table, its JSON, where it ends, and what bad input is answered with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.commands.fits import choose_targets, render, show_fits
from orchestrator.commands.fits_notes import notes
from orchestrator.commands.nodes import show_cards
from orchestrator.terminal import Printer
from orchestrator.terminal.printer import PLAIN_WIDTH
from profiles.errors import UnknownCardError
from quants.fit.amounts import GIB
from quants.fit.rows import FitsSettings
from quants.fit.table import fits
from quants.fit.targets import USABLE_SHARE, by_size
from tests.hubserver.server import LocalHub
from tests.quants import ggufbytes as gb
from tests.quants.fitmodels import MATRIX_TYPES, model, publish, write_sparse

SHAPES = (
    "llama-3.1-8b",
    "qwen3-8b",
    "qwen3-30b-a3b",
    "qwen3.5-27b-mtp",
    "qwen3.5-35b-a3b",
    "gemma-3-12b",
    "gemma-4-31b",
    "gpt-oss-20b",
    "deepseek-v2-lite",
    "granite-4-h-1b",
    "rwkv7-2.9b",
    "devstral-24b",
)
# The command as the console script runs it, whether or not it is among the commands already.
PROGRAM = """
from orchestrator.cli.app import app
from orchestrator.cli.fits import fits
if not any((each.name or each.callback.__name__) == "fits" for each in app.registered_commands):
    app.command()(fits)
from orchestrator.cli import main
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Header-only files of twelve models."""
    path = tmp_path_factory.mktemp("models")
    for shape in SHAPES:
        write_sparse(path / f"{shape}.gguf", model(shape, "Q4_K_M"))
    return path


@pytest.fixture(scope="module")
def quants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quants of one model."""
    path = tmp_path_factory.mktemp("quants")
    for label in MATRIX_TYPES:
        write_sparse(path / f"Qwen3.5-35B-A3B-{label}.gguf", model("qwen3.5-35b-a3b", label))
    return path


def quantsweep_fits(*arguments: str | Path | int, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "fits", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **env},
    )


def plain(sources: list[Path] | list[str], *sizes: str, settings: FitsSettings | None = None) -> str:
    return Printer(None).text_of(*show_fits([str(source) for source in sources], vram=sizes, settings=settings).parts)


def test_the_table_reads_as_one_at_a_hundred_columns(quants: Path) -> None:
    lines = plain([quants], "16", "32").splitlines()
    assert max(map(len, lines)) <= PLAIN_WIDTH
    assert lines[0].startswith(str(quants))
    assert lines[0].endswith("qwen35moe, 16,384 tokens, cache K f16, V f16")
    header = "quant file bpw weights KV state compute engine total host max ctx 16 GB 32 GB"
    assert lines[1].split() == header.split()
    rows = {line.split()[0]: line for line in lines[2 : 2 + len(MATRIX_TYPES)]}
    assert set(rows) == set(MATRIX_TYPES)
    assert re.search(r"fits \d+\.\d +fits \d+\.\d$", rows["Q2_K"])
    assert re.search(r"no -\d+\.\d +fits \d+\.\d$", rows["Q6_K"])
    assert re.search(r"- +no -\d+\.\d +no -\d+\.\d$", rows["BF16"])  # no context at which it fits
    assert " 128k " in rows["Q2_K"]
    assert "Sizes in GiB. fits: so much stays free; no: so much is missing" in lines
    assert "16 GB: a card of 16 GB, 15.7 GiB to use" in lines
    assert "total = weights + KV + state + compute + engine: what has to be free, on 16 GB" in lines
    assert "GB of a card: as it is sold, where 1 GB is 1 GiB; the driver keeps a part of it" in lines
    cards = Printer(None).text_of(*show_cards("rtx-5090", as_json=False))
    assert "32 GiB" in cards
    assert "as cards are sold, where 1 GB is 1 GiB; `quantsweep fits` calls it GB" in " ".join(cards.split())


def test_the_columns_of_a_row_can_be_added_up_to_its_verdicts() -> None:
    """`total` was host and card together: 1063.2 MiB "fit" a card of 1 GB with 359.7 MiB to spare."""
    lines = plain(["builtin:stand-in"], "1", "0.6").splitlines()
    headings = re.sub(r"(max|1|0\.6) ", r"\1_", lines[1]).split()
    line = next(line for line in lines if line.startswith("Q8_0 "))
    row = dict(zip(headings, re.sub(r"(fits|no) ", "", line).split(), strict=True))
    usable = {
        name.replace(" ", "_"): float(size.replace(",", ""))
        for name, size in re.findall(r"^(\S+ GB): .* ([\d.,]+) MiB to use$", "\n".join(lines), re.MULTILINE)
    }
    assert set(usable) == {"1_GB", "0.6_GB"}
    parts = sum(float(row[name]) for name in ("weights", "KV", "compute", "engine"))
    assert float(row["total"]) == pytest.approx(parts, abs=0.3)
    for name, size in usable.items():
        assert float(row[name]) == pytest.approx(size - float(row["total"]), abs=0.2)


def test_of_several_cards_it_is_said_whose_the_figures_are(quants: Path) -> None:
    text = " ".join(plain([quants], "2x16", "32").split())
    assert "what has to be free, on 2 x 16 GB (its cards together); elsewhere more or less " in text
    assert "15.7 + 15.7 GiB to use; free or missing: on the fullest of them" in text
    assert "32 GB: a card of 32 GB, 31.4 GiB to use" in text


def test_what_is_missing_is_never_nothing(tmp_path: Path) -> None:
    write_sparse(tmp_path / "m-Q8_0.gguf", model("qwen3-8b", "Q8_0"))
    (row,) = fits([str(tmp_path)], [by_size("16")]).rows
    short = (row.total_bytes or 0) / GIB / USABLE_SHARE - 0.01
    assert re.search(r"no -10\.\d MiB$", plain([tmp_path], f"{short:.6f}"), re.MULTILINE)


def test_a_wide_question_is_answered_in_two_tables(folder: Path) -> None:
    text = plain([folder], "16", "32")
    assert max(map(len, text.splitlines())) <= PLAIN_WIDTH
    for shape in SHAPES:
        assert len(re.findall(rf"^{re.escape(shape)} ", text, re.MULTILINE)) == 2
    assert "architecture" in text
    assert "deepseek2" in text
    many = plain([folder], "8", "12", "16", "24", "32", "48", "96")
    assert max(map(len, many.splitlines())) <= PLAIN_WIDTH


def test_only_components_that_some_model_has_take_room(tmp_path: Path) -> None:
    write_sparse(tmp_path / "m-Q8_0.gguf", model("qwen3-8b", "Q8_0"))
    assert "state" not in plain([tmp_path], "16")


def test_offload_is_told_with_its_cost_and_its_flags(quants: Path) -> None:
    text = plain([quants], "16", settings=FitsSettings(offload=True, context=32768))
    assert re.search(r"part \d+\.\d host \d+\.\d -ngl 41 -ncmoe \d+", text)
    assert "part: fits with part of it in host memory" in text
    assert "32,768 tokens" in text


def test_what_is_not_known_is_said_and_not_guessed(tmp_path: Path) -> None:
    write_sparse(tmp_path / "new-Q4_K_M.gguf", model("llama-3.1-8b", "Q4_K_M", architecture="brandnew"))
    text = plain([tmp_path], "16")
    assert re.search(r"^Q4_K_M .* \? +\? .* \?$", text, re.MULTILINE)
    assert "Q4_K_M: no rules for the architecture 'brandnew'" in text
    assert "?: not known" in text


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    write_sparse(tmp_path / "[bold]m:smile:.gguf", model("llama-3.2-1b", "Q8_0"))
    text = plain([tmp_path], "16")
    assert re.search(r"^\[bold\]m:smile: ", text, re.MULTILINE)


def test_what_a_file_says_cannot_steer_a_terminal(tmp_path: Path) -> None:
    file = model("llama-3.1-8b", "Q4_K_M", architecture="\x1b]0;gotcha\x07")
    write_sparse(tmp_path / "a\x1b[2J\n.gguf", file)
    (tmp_path / "b\x1b[2J.gguf").write_bytes(b"no model at all")
    answer = show_fits([str(tmp_path)], vram=["16"])
    text = Printer(None).text_of(*answer.parts, *answer.notes)
    assert "]0;gotcha" in text
    assert not {"\x1b", "\x07"} & set(text)
    assert not [each for each in text.splitlines() if each.startswith(".gguf")]


def test_colour_belongs_in_a_terminal_only(quants: Path) -> None:
    table = fits([str(quants)], [by_size("16"), by_size("32")])
    coloured = Printer(None).text_of(*render(table), width=120, colour=True)
    assert "\x1b[32mfits " in coloured
    assert "\x1b[31mno " in coloured
    text = plain([quants], "16", "32")
    assert "\x1b" not in text
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured).split() == text.split()


def test_small_models_are_shown_in_mib(tmp_path: Path) -> None:
    tiny = gb.small_model()
    (tmp_path / "tiny-Q8_0.gguf").write_bytes(tiny.data())
    assert "Sizes in MiB" in plain([tmp_path], "16")


def test_the_note_counts_bytes_and_names_what_was_left_out(tmp_path: Path) -> None:
    write_sparse(tmp_path / "good-Q8_0.gguf", model("llama-3.2-1b", "Q8_0"))
    (tmp_path / "bad-Q4_K_M.gguf").write_bytes(b"no model at all")
    (tmp_path / "mmproj-F16.gguf").write_bytes(gb.small_model(architecture="clip").data())
    lines = notes(fits([str(tmp_path)], [by_size("16")]))
    assert lines[0] == "1 header read: 0 bytes fetched, for files of 1.3 GB"
    assert lines[1].startswith("left out: bad-Q4_K_M.gguf: ")
    assert lines[2].startswith("not counted: mmproj-F16.gguf (")


def test_files_that_are_cut_off_are_judged_and_said(tmp_path: Path) -> None:
    """A download that broke off was said to fit, without a word; `plan` refuses it."""
    whole = gb.small_model()
    (tmp_path / "whole-Q8_0.gguf").write_bytes(whole.data())
    assert not [line for line in notes(fits([str(tmp_path)], [by_size("16")])) if "shorter" in line]
    (tmp_path / "torn-Q4_K_M.gguf").write_bytes(whole.data()[:-1])
    table = fits([str(tmp_path)], [by_size("16")])
    assert {row.path: row.missing_bytes for row in table.rows} == {"torn-Q4_K_M.gguf": 1, "whole-Q8_0.gguf": 0}
    (said,) = [line for line in notes(table) if "shorter" in line]
    assert said.startswith("warning: a file is shorter than the header says, judged by the header alone; to run it,")
    assert re.search(r"There is: torn-Q4_K_M.gguf \([\d.]+ kB of [\d.]+ kB, 99%\)$", said)
    (tmp_path / "header-Q2_K.gguf").write_bytes(whole.header())
    (said,) = [line for line in notes(fits([str(tmp_path)], [by_size("16")])) if "shorter" in line]
    assert said.startswith("warning: 2 files are shorter")
    assert "whole-Q8_0" not in said


def test_without_a_card_it_is_this_machine() -> None:
    targets = choose_targets((), (), here=False)
    assert "cpu" in {target.name for target in targets}
    assert {target.name for target in choose_targets(["16"], (), here=True)} == {
        "16 GB",
        *(each.name for each in targets),
    }
    named = choose_targets(["16", "16"], ["rtx-5090", "RTX 5090"], here=False)
    assert [target.name for target in named] == ["16 GB", "rtx-5090"]
    with pytest.raises(UnknownCardError, match="rtx-5090"):
        choose_targets((), ["rtx-5900"], here=False)


def test_every_key_of_the_json_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "fits.md").read_text(encoding="utf-8")
    rows, verdicts = page.split("Each of `verdicts`:")
    first = json.loads(json.dumps(fits(["builtin:stand-in"], [by_size("16")]).rows[0].to_json()))
    for text, keys in ((rows, set(first)), (verdicts, set(first["verdicts"]["16 GB"]))):
        table = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
        assert {key for cell in table for key in re.findall(r"`(\w+)`", cell)} == keys


# -- the program


def test_the_program_prints_a_table_and_what_it_fetched(folder: Path) -> None:
    done = quantsweep_fits(folder, "--vram", 16, "--vram", 32)
    assert (done.returncode, done.stderr) == (0, "")
    assert "gpt-oss-20b" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("12 headers read: 0 bytes fetched, for files of ")
    assert "\x1b" not in done.stdout


def test_the_program_prints_json_alone(quants: Path) -> None:
    done = quantsweep_fits(
        quants, "--vram", 16, "--card", "rtx-4090", "--context", 8192, "--cache-type-k", "Q8_0", "--slots", 2, "--json"
    )
    assert done.returncode == 0
    assert done.stderr.startswith("10 headers read: 0 bytes fetched")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert {row["quant"] for row in rows} == set(MATRIX_TYPES)
    assert {(row["context"], row["slots"], row["cache_type_k"], row["cache_type_v"]) for row in rows} == {
        (8192, 2, "q8_0", "f16")
    }
    assert {name for row in rows for name in row["verdicts"]} == {"16 GB", "rtx-4090"}
    assert {row["method"] for row in rows} == {"estimate"}


def test_the_program_asks_a_hub_for_headers_only(quants: Path, tmp_path: Path) -> None:
    with LocalHub(tmp_path / "store") as hub:
        publish(hub, "unsloth/Qwen3.5-35B-A3B-GGUF", {path.name: path for path in quants.iterdir()})
        done = quantsweep_fits(
            "qwen3.5-35b",
            "--vram",
            32,
            "--json",
            HF_ENDPOINT=hub.endpoint,
            HF_HOME=str(tmp_path / "hf"),
            XDG_CACHE_HOME=str(tmp_path / "cache"),
            HF_HUB_OFFLINE="0",
        )
        sent = hub.file_bytes_sent()
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == len(MATRIX_TYPES)
    assert rows[0]["resolved"].startswith("hf:unsloth/Qwen3.5-35B-A3B-GGUF@")
    header_bytes = sum(len(model("qwen3.5-35b-a3b", label).header()) for label in MATRIX_TYPES)
    fetched = re.match(r"10 headers read: ([\d.,]+) MB fetched, for files of \d+\.\d GB", done.stderr)
    assert fetched
    assert float(fetched[1]) == pytest.approx(sent / 1e6, abs=0.05)
    assert sent <= 1024 * 1024 + 2 * header_bytes  # the first request is of a fixed size


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere/at/all", "--vram", "16"], "does not exist"),
        (["gema-4-31b", "--vram", "16"], "Did you mean gemma-4-31b"),
        (["{folder}", "--vram", "0"], "--vram '0': 0 GB is no size of a card"),
        (["{folder}", "--vram", "2x0"], "--vram '2x0': 0 GB is no size of a card"),
        (["{folder}", "--vram", "0x24"], "--vram '0x24' names no card"),
        (["{folder}", "--card", "rtx-5900"], "no card is called 'rtx-5900'"),
        (["{folder}", "--card", "radeon-890m"], "Say how much it may take with --vram"),
        (["{folder}", "--vram", "16", "--context", "0"], "a context of 0 tokens"),
        (["{folder}", "--vram", "16", "--slots", "-1"], "-1 slots"),
        (["{folder}", "--vram", "16", "--cache-type-k", "q9"], "no cache type is called 'q9'"),
        (["{folder}/mamba2.gguf", "--vram", "16"], "does not exist"),
        (["hf:one/two/three", "--vram", "16"], "no Hub repository"),
        (["{folder}", "--vram", "a lot"], "'a lot' is no size of a card"),
        (["--vram", "16"], "SOURCE"),
    ],
)
def test_bad_input_ends_with_a_sentence_and_code_2(folder: Path, arguments: list[str], said: str) -> None:
    done = quantsweep_fits(*(argument.replace("{folder}", str(folder)) for argument in arguments))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("width", [50, 80, 120])
def test_it_fits_any_terminal_and_no_line_loses_its_name(folder: Path, width: int) -> None:
    table = fits([str(folder / f"{shape}.gguf") for shape in SHAPES[:4]], [by_size("16"), by_size("24"), by_size("32")])
    lines = Printer(None).text_of(*render(table), width=width, colour=False).splitlines()
    assert max(map(len, lines)) <= width
    whole = " ".join(" ".join(lines).split())
    for row in table.rows:
        assert row.total_bytes is not None
        # Once in each part of its table, with a figure behind it.
        begun = [line for line in lines if line.split()[:1] == [row.quant] and len(line.split()) > 1]
        assert len(begun) >= (1 if width == 120 else 2)
        assert f"{row.total_bytes / 1024**3:.1f}" in " ".join(begun)
        for verdict in row.verdicts.values():
            assert f"{(verdict.headroom_bytes or 0) / 1024**3:.1f}" in " ".join(begun)
    for heading in ("file", "weights", "KV", "total", "host", "max ctx", "16 GB", "24 GB", "32 GB"):
        assert heading in whole
