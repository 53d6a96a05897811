"""Models that the estimator was not made with: shapes added when it was done, to see whether it holds for others.

Figures as in shapes.py.
"""

from __future__ import annotations

from typing import Final

from tools.fit_truth.shape import NEMOTRON_47B, QKV_BIAS, Shape, at, by_letter, dense, moe, ssm, window

HELD_OUT: Final[tuple[Shape, ...]] = (
    Shape("llama-3.3-70b", "llama", dense(80, 8192, 28672, 64, 8, 128256, 128), drop=(r"\.bias$", r"^cls")),
    Shape("qwen2.5-0.5b", "qwen2", dense(24, 896, 4864, 14, 2, 151936), types="q8_0", tied=True, drop=QKV_BIAS),
    Shape("qwen3-32b", "qwen3", dense(64, 5120, 25600, 64, 8, 151936, 128), types="q4_0"),
    Shape("qwen3-235b-a22b", "qwen3moe", dense(94, 4096, 12288, 64, 4, 151936, 128) | moe(128, 8, 1536)),
    Shape(
        "qwen3.5-122b-a10b",
        "qwen35moe",
        dense(48, 3072, 1024, 32, 2, 248320, 256)
        | {"rope.dimension_count": 64, "rope.dimension_sections": [11, 11, 10, 0], "full_attention_interval": 4}
        | moe(256, 8, 1024, expert_shared_feed_forward_length=1024)
        | ssm(4, 8192, 128, 64, 16),
        types="mxfp4",
    ),
    Shape("gemma-2-27b", "gemma2", dense(46, 4608, 36864, 32, 16, 256000, 128) | window(4096), tied=True),
    Shape("gemma-3-4b", "gemma3", dense(34, 2560, 10240, 8, 4, 262208, 256) | window(1024), tied=True),
    Shape("gemma-3-27b", "gemma3", dense(62, 5376, 21504, 32, 16, 262208, 128) | window(1024), tied=True),
    Shape(
        "gpt-oss-120b",
        "gpt-oss",
        dense(36, 2880, 2880, 64, 8, 201088, 64) | window(128) | moe(128, 4, 2880),
        types="mxfp4",
        drop=(r"^cls",),
    ),
    Shape("phi-4-mini", "phi3", dense(32, 3072, 8192, 24, 8, 200064, 128), tied=True, fused_qkv=True),
    Shape("glm-4-32b", "glm4", dense(61, 6144, 23040, 48, 2, 151552, 128) | {"rope.dimension_count": 64}),
    Shape("mistral-large-123b", "llama", dense(88, 12288, 28672, 96, 8, 32768, 128)),
    Shape(
        "falcon-h1-34b",
        "falcon-h1",
        dense(72, 5120, 21504, 20, 4, 261120, 128) | ssm(4, 10240, 256, 32, 2),
        drop=(r"(attn|ffn).*\.bias$", r"rope_"),
    ),
    Shape(
        "granite-4-h-tiny",
        "granitehybrid",
        dense(40, 1536, 512, 12, at(40, (5, 15, 25, 35), 4), 100352, 128)
        | moe(64, 6, 512, expert_shared_feed_forward_length=1024)
        | ssm(4, 3072, 128, 48, 1),
        tied=True,
        drop=(r"(attn|ffn).*\.bias$", r"rope_"),
    ),
    Shape(
        "lfm2-2.6b",
        "lfm2",
        dense(30, 2048, 10752, 32, at(30, (2, 5, 9, 13, 17, 21, 25, 28), 8), 65536) | {"shortconv.l_cache": 3},
        tied=True,
    ),
    Shape("mamba2-1.3b", "mamba2", dense(48, 2048, 0, 0, 0, 50288) | ssm(4, 4096, 128, 64, 1), types="q8_0", tied=True),
    Shape(
        "rwkv7-1.5b",
        "rwkv7",
        dense(24, 2048, 8192, 0, 0, 65536)
        | {
            "wkv.head_size": 64,
            "attention.decay_lora_rank": 96,
            "attention.iclr_lora_rank": 96,
            "attention.value_residual_mix_lora_rank": 64,
            "attention.gate_lora_rank": 256,
        },
        drop=(),
    ),
    Shape("olmo-3-32b", "olmo2", dense(64, 5120, 27648, 40, 8, 100278, 128) | window(4096)),
    Shape("starcoder2-3b", "starcoder2", dense(30, 3072, 12288, 24, 2, 49152), tied=True, drop=(r"rope_",)),
    Shape("command-r-plus", "command-r", dense(64, 12288, 33792, 96, 8, 256000), types="q4_0", tied=True),
    Shape(
        "nemotron-h-47b",
        "nemotron_h",
        dense(
            len(NEMOTRON_47B),
            8192,
            by_letter(NEMOTRON_47B, "-", 30720),
            64,
            by_letter(NEMOTRON_47B, "*", 8),
            131072,
            128,
        )
        | ssm(4, 16384, 256, 256, 8),
        drop=(r"(attn|ffn).*\.bias$", r"rope_"),
    ),
)
