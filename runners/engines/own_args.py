"""Refuses arguments of llama-server that repeat a setting of ours, or that point to a file which no plan pins.

The footprint, the identity and the row are made from our settings. An argument that changed one of them behind their
back would make all three wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runners.engines.secret_args import flag_of
from runners.errors import RunnersError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Our setting -> the flags of llama.cpp that set it, in every build since 2024.
_SETTINGS: Final = {
    "context": "-c --ctx-size",
    "slots": "-np --parallel",
    "gpu_layers": "-ngl --gpu-layers --n-gpu-layers",
    "cpu_moe_layers": "-cmoe --cpu-moe -ncmoe --n-cpu-moe",
    "threads": "-t --threads -tb --threads-batch",
    "cache_type_k": "-ctk --cache-type-k",
    "cache_type_v": "-ctv --cache-type-v",
    "flash_attention": "-fa --flash-attn",
    "batch": "-b --batch-size",
    "ubatch": "-ub --ubatch-size",
    "mmap": "--mmap --no-mmap -lm --load-mode",
    "swa_full": "--swa-full",
    "reasoning": "-rea --reasoning",
    "reasoning_budget": "--reasoning-budget",
    "chat_template": "--chat-template --chat-template-file --jinja --no-jinja",
    "grammar": "--grammar --grammar-file",
}
_SAMPLING: Final = {
    "sampling.temperature": "--temp --temperature",
    "sampling.top_p": "--top-p",
    "sampling.top_k": "--top-k",
    "sampling.min_p": "--min-p",
    "sampling.repeat_penalty": "--repeat-penalty",
    "sampling.presence_penalty": "--presence-penalty",
    "sampling.frequency_penalty": "--frequency-penalty",
    "sampling.max_tokens": "-n --predict --n-predict",
    "seeds": "-s --seed",
    "models.source": "-m --model -mu --model-url -dr --docker-repo -hf -hfr --hf-repo -hff --hf-file",
}
# What is chosen for each start, or keeps a measurement honest and the server closed to others.
_OURS: Final = (
    "-a --alias --tags --host --port --reuse-port --path --api-prefix --api-key --api-key-file -dev --device "
    "-sm --split-mode -ts --tensor-split -mg --main-gpu -fit --fit -fitt --fit-target -fitc --fit-ctx "
    "--cache-prompt --no-cache-prompt --cache-reuse -cram --cache-ram -ctxcp --ctx-checkpoints --swa-checkpoints "
    "--context-shift --no-context-shift --offline -lv --verbosity --log-verbosity -v --verbose --log-verbose "
    "--log-disable --log-file --log-jsonl --log-colors --slots --no-slots --warmup --no-warmup --props --tools "
    "--tools-runtime --agent -ag --mcp-servers-config --mcp-servers-json --ui-mcp-proxy --webui-mcp-proxy "
    "--ssl-key-file --ssl-cert-file --embedding --embeddings --rerank --reranking"
)
# What names a file (or a model) that a plan does not pin: the same words would mean something else tomorrow.
_UNPINNED: Final = (
    "-md --model-draft --spec-draft-model -hfd -hfrd --hf-repo-draft --spec-draft-hf --lora --lora-scaled "
    "--control-vector --control-vector-scaled -mm --mmproj -mmu --mmproj-url -jf --json-schema-file "
    "-lcs --lookup-cache-static -lcd --lookup-cache-dynamic --slot-save-path --media-path --video-ffmpeg-dir --rpc "
    "--ui-config-file --webui-config-file --models-dir --models-preset"
)
# What prints something and ends the program: it would never serve.
_ENDS: Final = "-h --help --usage --version --license -cl --cache-list --completion-bash --list-devices"
_KEYS: Final = {
    flag: key if "." in key or key == "seeds" else f"engine.{key}"
    for key, flags in (_SETTINGS | _SAMPLING).items()
    for flag in flags.split()
}


_OUR_FLAGS: Final = frozenset(_OURS.split())
_ENDING_FLAGS: Final = frozenset(_ENDS.split())
_MOST_ARGUMENT_BYTES: Final = 100_000  # Linux: 128 KiB (MAX_ARG_STRLEN), for one argument
_UNPINNED_FLAGS: Final = frozenset(_UNPINNED.split())


class OwnArgumentError(RunnersError):
    """An argument sets what a key of the spec sets; the message names both."""


def refuse_own(arguments: Sequence[str]) -> None:
    """Raise `OwnArgumentError` if one of llama-server's arguments is ours to give."""
    for argument in arguments:
        flag = flag_of(argument)
        if flag in _KEYS:
            message = f"{flag} in extra_args sets what the key {_KEYS[flag]} sets"
            raise OwnArgumentError(message, hint=f"take it out, and set {_KEYS[flag]} if its default is not wanted")
        if flag in _OUR_FLAGS:
            message = f"{flag} may not stand in extra_args: quantsweep chooses that for every start itself"
            raise OwnArgumentError(message, hint="take it out")
        if flag in _ENDING_FLAGS:
            message = f"{flag} in extra_args ends the program at once: it prints something, and serves nothing"
            raise OwnArgumentError(message, hint="take it out")
        if len(argument.encode(errors="replace")) > _MOST_ARGUMENT_BYTES:
            message = f"{flag or argument[:40]} in extra_args is longer than the system lets an argument be"
            raise OwnArgumentError(message, hint=f"take it out, or shorten it to {_MOST_ARGUMENT_BYTES:,} bytes")
        if flag in _UNPINNED_FLAGS:
            message = f"{flag} in extra_args names something by its path, which says nothing about what is in it"
            raise OwnArgumentError(message, hint="take it out; rows could not be compared")
