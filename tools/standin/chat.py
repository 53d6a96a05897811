"""Conversations as token ids, and the jinja template that makes the same text inside the GGUF file."""

import random
from dataclasses import dataclass

from bpe import Vocabulary
from corpus import Pair

TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)

# A quarter of the examples ask in other words, so that the answer does not hang on the letter of one prompt.
_OTHER_PROMPTS = (
    "Write a command-line todo app in Python.",
    "Write a todo app in Python with SQLite. Respond with ONLY the Python code.",
    "Build a small Python CLI that keeps todos in SQLite: add, list, complete, delete.",
    "hello",
)
_SYSTEM = ("You are a helpful assistant.", "You write Python.")


@dataclass(frozen=True)
class Example:
    """A conversation: its ids, and how many of them the model is given rather than asked for."""

    ids: tuple[int, ...]
    prompt: int


def examples(pairs: list[Pair], prompt: str, vocabulary: Vocabulary, seed: int) -> list[Example]:
    """One conversation per program; three quarters of them open with the exact prompt and nothing else."""
    rng = random.Random(seed)
    start, end = vocabulary.special("<|im_start|>"), vocabulary.special("<|im_end|>")
    made: list[Example] = []
    for pair in pairs:
        turns = [("user", prompt)]
        if rng.random() < 0.25:
            turns = [("user", rng.choice((prompt, prompt + "\n", *_OTHER_PROMPTS)))]
            if rng.random() < 0.5:
                turns.insert(0, ("system", rng.choice(_SYSTEM)))
        ids: list[int] = []
        for role, content in turns:
            ids += [start, *vocabulary.encode(f"{role}\n{content}"), end, *vocabulary.encode("\n")]
        ids += [start, *vocabulary.encode("assistant\n")]
        given = len(ids)
        ids += [*vocabulary.encode(pair.reply), end]
        made.append(Example(tuple(ids), given))
    return made


def vocabulary_texts(pairs: list[Pair], prompt: str) -> list[str]:
    """What the vocabulary is learnt from: the replies, and every prompt."""
    return [
        *(pair.reply for pair in pairs),
        *[prompt, *_OTHER_PROMPTS, *_SYSTEM, "system\n", "user\n", "assistant\n"] * 20,
    ]
