"""The hyper-parameters of real models, one or more for each architecture that the estimator knows.

Figures are those of the published config.json files, under the keys that llama.cpp's converter writes for them. Names
say which model a shape follows; no weights are involved.
"""

from __future__ import annotations

from typing import Final

from tools.fit_truth.shape import MLA, MROPE, NANO, NEMOTRON, QKV_BIAS, Shape, at, by_letter, dense, gemma4_kv, moe, ssm

SHAPES: Final[tuple[Shape, ...]] = (
    Shape("llama-3.1-8b", "llama", dense(32, 4096, 14336, 32, 8, 128256, 128), drop=(r"\.bias$", r"^cls")),
    Shape("llama-3.2-1b", "llama", dense(16, 2048, 8192, 32, 8, 128256, 64), types="q8_0", tied=True),
    Shape(
        "mixtral-8x7b",
        "llama",
        dense(32, 4096, 14336, 32, 8, 32000, 128) | {"expert_count": 8, "expert_used_count": 2},
    ),
    Shape(
        "llama4-scout",
        "llama4",
        dense(48, 5120, 16384, 40, 8, 202048, 128)
        | moe(16, 1, 8192, interleave_moe_layer_step=1, expert_shared_feed_forward_length=8192),
        types="q4_0",
    ),
    Shape("qwen2.5-14b", "qwen2", dense(48, 5120, 13824, 40, 8, 152064), drop=QKV_BIAS),
    Shape(
        "qwen1.5-moe-a2.7b",
        "qwen2moe",
        dense(24, 2048, 5632, 16, 16, 151936) | moe(60, 4, 1408, expert_shared_feed_forward_length=5632),
        drop=QKV_BIAS,
    ),
    Shape(
        "qwen2-vl-7b",
        "qwen2vl",
        dense(28, 3584, 18944, 28, 4, 152064) | {"rope.dimension_sections": [16, 24, 24, 0]},
        drop=QKV_BIAS,
    ),
    Shape("qwen3-8b", "qwen3", dense(36, 4096, 12288, 32, 8, 151936, 128), types="q8_0"),
    Shape("qwen3-0.6b", "qwen3", dense(28, 1024, 3072, 16, 8, 151936, 128), tied=True),
    Shape("qwen3-30b-a3b", "qwen3moe", dense(48, 2048, 6144, 32, 4, 151936, 128) | moe(128, 8, 768)),
    Shape("qwen3-vl-8b", "qwen3vl", dense(36, 4096, 12288, 32, 8, 151936, 128) | MROPE | {"n_deepstack_layers": 3}),
    Shape(
        "qwen3-vl-30b-a3b",
        "qwen3vlmoe",
        dense(48, 2048, 6144, 32, 4, 151936, 128) | MROPE | moe(128, 8, 768) | {"n_deepstack_layers": 3},
    ),
    Shape(
        "qwen3-next-80b-a3b",
        "qwen3next",
        dense(48, 2048, 5120, 16, 2, 151936, 256)
        | {"rope.dimension_count": 64}
        | moe(512, 10, 512, expert_shared_feed_forward_length=512)
        | ssm(4, 4096, 128, 32, 16),
    ),
    Shape(
        "qwen3.5-9b",
        "qwen35",
        dense(32, 4096, 12288, 16, 4, 248320, 256)
        | {"rope.dimension_count": 64, "rope.dimension_sections": [11, 11, 10, 0], "full_attention_interval": 4}
        | ssm(4, 4096, 128, 32, 16),
    ),
    Shape(
        "qwen3.5-27b-mtp",
        "qwen35",
        dense(65, 5120, 17408, 24, 4, 248320, 256)
        | {
            "rope.dimension_count": 64,
            "rope.dimension_sections": [11, 11, 10, 0],
            "full_attention_interval": 4,
            "nextn_predict_layers": 1,
        }
        | ssm(4, 6144, 128, 48, 16),
    ),
    Shape(
        "qwen3.5-35b-a3b",
        "qwen35moe",
        dense(40, 2048, 512, 16, 2, 248320, 256)
        | {"rope.dimension_count": 64, "rope.dimension_sections": [11, 11, 10, 0], "full_attention_interval": 4}
        | moe(256, 8, 512, expert_shared_feed_forward_length=512)
        | ssm(4, 4096, 128, 32, 16),
    ),
    Shape("gemma-7b", "gemma", dense(28, 3072, 24576, 16, 16, 256000, 256), tied=True),
    Shape(
        "gemma-2-9b",
        "gemma2",
        dense(42, 3584, 14336, 16, 8, 256000, 256) | {"attention.sliding_window": 4096},
        tied=True,
    ),
    Shape(
        "gemma-3-12b",
        "gemma3",
        dense(48, 3840, 15360, 16, 8, 262208, 256) | {"attention.sliding_window": 1024},
        tied=True,
    ),
    Shape(
        "gemma-3n-e4b",
        "gemma3n",
        dense(35, 2048, 16384, 8, 2, 262144, 256) | {"attention.sliding_window": 512},
        tied=True,
    ),
    Shape(
        "gemma-4-31b",
        "gemma4",
        dense(60, 5376, 21504, 32, 16, 262144, 512)
        | {"attention.sliding_window": 1024, "embedding_length_per_layer_input": 0}
        | gemma4_kv(60, 6, 16, 4),
        tied=True,
    ),
    Shape(
        "gemma-4-26b-a4b",
        "gemma4",
        dense(30, 2816, 2112, 16, 8, 262144, 512)
        | {"attention.sliding_window": 1024, "embedding_length_per_layer_input": 0}
        | moe(128, 8, 704)
        | gemma4_kv(30, 6, 8, 2),
        tied=True,
    ),
    Shape(
        "gemma-4-e4b",
        "gemma4",
        dense(42, 2560, 10240, 8, 2, 262144, 512)
        | {"attention.sliding_window": 512, "embedding_length_per_layer_input": 256, "attention.shared_kv_layers": 18}
        | gemma4_kv(42, 6, 2, 2),
        tied=True,
    ),
    Shape(
        "gpt-oss-20b",
        "gpt-oss",
        dense(24, 2880, 2880, 64, 8, 201088, 64) | {"attention.sliding_window": 128} | moe(32, 4, 2880),
        types="mxfp4",
        drop=(r"^cls",),
    ),
    Shape(
        "deepseek-v2-lite",
        "deepseek2",
        dense(27, 2048, 10944, 16, 1, 102400)
        | MLA
        | moe(64, 6, 1408, expert_shared_count=2, leading_dense_block_count=1, expert_weights_scale=1.0),
    ),
    Shape(
        "deepseek-v3",
        "deepseek2",
        dense(61, 7168, 18432, 128, 1, 129280)
        | MLA
        | {"attention.q_lora_rank": 1536}
        | moe(
            256,
            8,
            2048,
            expert_shared_count=1,
            leading_dense_block_count=3,
            expert_gating_func=2,
            expert_group_count=8,
            expert_group_used_count=4,
        ),
    ),
    Shape(
        "deepseek-v2-lite-old",
        "deepseek2",
        dense(27, 2048, 10944, 16, 16, 102400)
        | {
            "attention.key_length": 192,
            "attention.value_length": 128,
            "attention.kv_lora_rank": 512,
            "rope.dimension_count": 64,
        }
        | moe(64, 6, 1408, expert_shared_count=2, leading_dense_block_count=1),
    ),
    Shape("glm-4-9b", "glm4", dense(40, 4096, 13696, 32, 2, 151552, 128) | {"rope.dimension_count": 64}),
    Shape(
        "glm-4.5-air",
        "glm4moe",
        dense(47, 4096, 10944, 96, 8, 151552, 128)
        | {"rope.dimension_count": 64, "nextn_predict_layers": 1}
        | moe(128, 8, 1408, expert_shared_count=1, leading_dense_block_count=1, expert_gating_func=2),
        drop=QKV_BIAS,
    ),
    Shape("phi-4", "phi3", dense(40, 5120, 17920, 40, 10, 100352, 128), fused_qkv=True),
    Shape(
        "phi-3.5-mini",
        "phi3",
        dense(32, 3072, 8192, 32, 32, 32064, 96) | {"attention.sliding_window": 262144},
        fused_qkv=True,
    ),
    Shape("devstral-24b", "mistral3", dense(40, 5120, 32768, 32, 8, 131072, 128)),
    Shape("granite-3.3-8b", "granite", dense(40, 4096, 12800, 32, 8, 49159, 128) | {"logit_scale": 16.0}, tied=True),
    Shape(
        "granite-4-h-small",
        "granitehybrid",
        dense(40, 4096, 768, 32, at(40, (5, 15, 25, 35), 8), 100352, 128)
        | moe(72, 10, 768, expert_shared_feed_forward_length=1536)
        | ssm(4, 8192, 128, 128, 1),
        tied=True,
        drop=(r"(attn|ffn).*\.bias$", r"rope_"),
    ),
    Shape(
        "granite-4-h-1b",
        "granitehybrid",
        dense(40, 1536, 4096, 12, at(40, (5, 15, 25, 35), 4), 100352, 128) | ssm(4, 3072, 128, 48, 1),
        types="q8_0",
        tied=True,
        drop=(r"(attn|ffn).*\.bias$", r"rope_"),
    ),
    Shape(
        "nemotron-nano-9b-v2",
        "nemotron_h",
        dense(56, 4480, by_letter(NEMOTRON, "-", 15680), 40, by_letter(NEMOTRON, "*", 8), 131072, 128)
        | ssm(4, 10240, 128, 128, 8),
        drop=(r"(attn|ffn).*\.bias$", r"rope_"),
    ),
    Shape(
        "nemotron-3-nano-30b",
        "nemotron_h_moe",
        dense(52, 2688, by_letter(NANO, "E", 1856), 32, by_letter(NANO, "*", 2), 131072, 128)
        | moe(128, 6, 1856, expert_shared_feed_forward_length=3712, expert_shared_count=1)
        | ssm(4, 4096, 128, 64, 8),
        drop=(r"(attn|ffn)_(?!.*exp_probs).*\.bias$", r"rope_", r"latent"),
    ),
    Shape("mamba-2.8b", "mamba", dense(64, 2560, 0, 0, 0, 50280) | ssm(4, 5120, 16, 160), types="q8_0", tied=True),
    Shape("mamba2-2.7b", "mamba2", dense(64, 2560, 0, 0, 0, 50288) | ssm(4, 5120, 128, 80, 1), types="q8_0", tied=True),
    Shape(
        "falcon-h1-7b",
        "falcon-h1",
        dense(44, 3072, 12288, 12, 2, 130049, 128) | ssm(4, 3072, 256, 24, 1),
        drop=(r"(attn|ffn).*\.bias$", r"rope_", r"ssm_norm"),
    ),
    Shape("jamba-reasoning-3b", "jamba", dense(28, 2560, 8192, 20, at(28, (7, 21), 1), 65536) | ssm(4, 5120, 16, 160)),
    Shape(
        "jamba-moe-52b",
        "jamba",
        dense(32, 4096, 14336, 32, at(32, range(4, 32, 8), 8), 65536)
        | {"expert_count": 16, "expert_used_count": 2}
        | ssm(4, 8192, 16, 256),
    ),
    Shape(
        "rwkv7-2.9b",
        "rwkv7",
        dense(32, 2560, 10240, 0, 0, 65536)
        | {
            "wkv.head_size": 64,
            "attention.decay_lora_rank": 96,
            "attention.iclr_lora_rank": 96,
            "attention.value_residual_mix_lora_rank": 64,
            "attention.gate_lora_rank": 320,
        },
        types="q8_0",
        drop=(),
    ),
    Shape(
        "lfm2-1.2b",
        "lfm2",
        dense(16, 2048, 8192, 32, at(16, (2, 5, 8, 10, 12, 14), 8), 65536) | {"shortconv.l_cache": 3},
        tied=True,
    ),
    Shape(
        "lfm2-8b-a1b",
        "lfm2moe",
        dense(24, 2048, 7168, 32, at(24, (2, 6, 10, 14, 18, 21), 8), 65536)
        | {"shortconv.l_cache": 3}
        | moe(32, 4, 1792, leading_dense_block_count=2, expert_gating_func=2),
        tied=True,
    ),
    Shape("command-r-35b", "command-r", dense(40, 8192, 22528, 64, 64, 256000), tied=True),
    Shape(
        "command-r7b",
        "cohere2",
        dense(32, 4096, 14336, 32, 8, 256000, 128) | {"attention.sliding_window": 4096, "logit_scale": 0.25},
        tied=True,
    ),
    Shape("olmo-2-13b", "olmo2", dense(40, 5120, 13824, 40, 40, 100352)),
    Shape("olmo-3-7b", "olmo2", dense(32, 4096, 11008, 32, 32, 100278) | {"attention.sliding_window": 4096}),
    Shape("olmoe-7b", "olmoe", dense(16, 2048, 1024, 16, 16, 50304) | moe(64, 8, 1024)),
    Shape("smollm3-3b", "smollm3", dense(36, 2048, 11008, 16, 4, 128256), tied=True),
    Shape("exaone-4-32b", "exaone4", dense(64, 5120, 27392, 40, 8, 102400, 128) | {"attention.sliding_window": 4096}),
    Shape("seed-oss-36b", "seed_oss", dense(64, 5120, 27648, 80, 8, 155136, 128), drop=QKV_BIAS),
    Shape(
        "minimax-m2",
        "minimax-m2",
        dense(62, 3072, 1536, 48, 8, 200064, 128)
        | {"rope.dimension_count": 64}
        | moe(256, 8, 1536, expert_gating_func=2),
        drop=(r"(attn)_.*\.bias$", r"rope_"),
    ),
    Shape(
        "hunyuan-a13b",
        "hunyuan-moe",
        dense(32, 4096, 3072, 32, 8, 128167, 128) | moe(64, 8, 3072, expert_shared_feed_forward_length=3072),
        tied=True,
    ),
    Shape("starcoder2-15b", "starcoder2", dense(40, 6144, 24576, 48, 4, 49152), drop=(r"rope_",)),
    Shape("internlm2-7b", "internlm2", dense(32, 4096, 14336, 32, 8, 92544)),
    Shape(
        "kimi-linear-48b",
        "kimi-linear",
        dense(27, 2304, 9216, 32, at(27, (3, 7, 11, 15, 19, 23, 26), 1), 163840)
        | MLA
        | {"kda.head_dim": 128, "ssm.conv_kernel": 4}
        | moe(256, 8, 1024, expert_shared_count=1, leading_dense_block_count=1, expert_gating_func=2),
    ),
)
