"""Make the stand-in model from nothing: corpus, vocabulary, training, GGUF, quants, checksums.

    python tools/standin/build.py --llama-quantize PATH --out DIR

Needs the packages of requirements.txt beside this file; README.md there says how long it takes and what comes out.
"""

import argparse
import hashlib
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import bpe
import chat
import corpus
from programs import failure_of

HERE = Path(__file__).resolve().parent
PROMPT = HERE.parents[1] / "runners" / "exams" / "todo" / "prompt.md"
PROGRAMS = 1000
MAX_TOTAL_BYTES = 12_000_000


def checked_corpus(count: int, seed: int) -> list[corpus.Pair]:
    """Draw the corpus and run every program of it; raises ValueError at the first that does not work."""
    pairs = corpus.draw_corpus(count, seed)
    for index, pair in enumerate(pairs):
        failure = failure_of(pair.program)
        if failure is not None:
            raise ValueError(f"program {index} of the corpus does not work ({failure}):\n{pair.program}")
    return pairs


def write_sums(files: list[Path], folder: Path) -> None:
    """Write SHA256SUMS in `sha256sum -c`'s format."""
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """Build everything; says what it does as it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-quantize", type=Path, required=True, help="llama.cpp's llama-quantize")
    parser.add_argument("--out", type=Path, required=True, help="folder for the GGUF files and SHA256SUMS")
    args = parser.parse_args()
    if not args.llama_quantize.is_file():
        parser.error(f"--llama-quantize: there is no file {args.llama_quantize}")
    missing = [name for name in ("gguf", "numpy", "torch") if find_spec(name) is None]
    if missing:
        parser.error(f"missing: {', '.join(missing)}; pip install -r {HERE / 'requirements.txt'}")
    from export import QuantizeError, quantize, write_f32
    from model import Shape
    from train import Recipe, train

    started = time.monotonic()
    recipe, shape = Recipe(), Shape()
    prompt = PROMPT.read_text(encoding="utf-8").strip()
    pairs = checked_corpus(PROGRAMS, recipe.seed)
    print(f"{len(pairs)} programs, each one run: all work ({time.monotonic() - started:.0f} s)", flush=True)
    vocabulary = bpe.learn(chat.vocabulary_texts(pairs[:500], prompt), shape.vocab)
    net = train(chat.examples(pairs, prompt, vocabulary, recipe.seed), vocabulary, shape, recipe)
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="standin-") as scratch:
        full = Path(scratch) / "standin-F32.gguf"
        write_f32(net, vocabulary, full)
        try:
            files = quantize(args.llama_quantize, full, args.out)
        except QuantizeError as error:
            raise SystemExit(f"error: {error}") from error
    write_sums(files, args.out)
    total = sum(path.stat().st_size for path in files)
    print(f"{len(files)} files, {total} bytes, {time.monotonic() - started:.0f} s")
    if total > MAX_TOTAL_BYTES:
        raise SystemExit(f"together the files may have {MAX_TOTAL_BYTES} bytes")


if __name__ == "__main__":
    main()
