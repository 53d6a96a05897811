"""llama-server programs as they are found: builds old and new, broken ones, ports that are taken."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from profiles.probe import probe_node
from runners.chat import ChatRequest, Message, Sampling
from runners.engines import engine_kinds, file_engine_kinds, get_endpoint_engine, get_engine, settings_from_json
from runners.engines import llama_server as llama_server_module
from runners.engines.base import (
    EngineInfo,
    EngineUnavailable,
    EngineUnavailableError,
    LoadError,
)
from runners.engines.embedded import _visible_devices
from runners.engines.llama_flags import command_line
from runners.engines.llama_program import Program, parse_build, parse_flags
from runners.engines.settings import EmbeddedSettings, EngineSettings, LlamaServerSettings, TextFile
from runners.errors import RunnersError

# Excerpts of `--help`, in the layout of each time. 2024: a switch for flash attention, no level in --verbosity.
OLD_HELP = """----- common params -----

-h,    --help, --usage                  print usage and exit
-c,    --ctx-size N                     size of the prompt context (default: 4096, 0 = loaded from model)
-fa,   --flash-attn                     enable Flash Attention (default: disabled)
-ctk,  --cache-type-k TYPE              KV cache data type for K (default: f16)
-np,   --parallel N                     number of parallel sequences to decode (default: 1)
--no-mmap                               do not memory-map model (slower load but may reduce pageouts if not
                                        using --mlock)
-ngl,  --gpu-layers, --n-gpu-layers N   number of layers to store in VRAM
-a,    --alias STRING                   set alias for model name (to be used by REST API)
-lv,   --verbosity, --log-verbosity N   Set the verbosity threshold. Messages with a higher verbosity will be
                                        ignored.
                                        (env: LLAMA_LOG_VERBOSITY)
"""
NEW_HELP = """----- common params -----

-fa,   --flash-attn [on|off|auto]       set Flash Attention use ('on', 'off', or 'auto', default: 'auto')
                                        (env: LLAMA_ARG_FLASH_ATTN)
-lm,   --load-mode MODE                 model loading mode (default: auto)
-sm,   --split-mode {none,layer,row,tensor}
                                        how to split the model across multiple GPUs
-ts,   --tensor-split N0,N1,N2,...      fraction of the model to offload to each GPU
-dev,  --device <dev1,dev2,..>          comma-separated list of devices to use for offloading
-ngl,  --gpu-layers, --n-gpu-layers N   max. number of layers to store in VRAM
-ncmoe, --n-cpu-moe N                   keep the Mixture of Experts (MoE) weights of the first N layers in the CPU
-fit,  --fit [on|off]                   whether to adjust unset arguments to fit in device memory
--offline                               Offline mode: forces use of cache, prevents network access
-lv,   --verbosity, --log-verbosity N   Set the verbosity threshold. Messages with a higher verbosity will be
                                        ignored. Values:
                                         - 0: generic output
                                         - 1: error
                                         - 4: trace (more info)
-ctxcp, --ctx-checkpoints, --swa-checkpoints N
                                        max number of context checkpoints to create per slot
-cram, --cache-ram N                    set the maximum cache size in MiB
--context-shift, --no-context-shift     whether to use context shift on infinite text generation
-rea,  --reasoning [on|off|auto]        Use reasoning/thinking in the chat
--reasoning-budget N                    token budget for thinking
--jinja, --no-jinja                     whether to use jinja template engine for chat (default: enabled)
--cache-prompt, --no-cache-prompt       whether to enable prompt caching (default: enabled)
--swa-full                              use full-size SWA cache (default: false)
"""


def program(help_text: str) -> Program:
    return Program(Path("/opt/llama-server"), "llama.cpp b1-abc", help_text, parse_flags(help_text), ())


OLD, NEW = program(OLD_HELP), program(NEW_HELP)


def flags(
    build: Program, *, device: str | None = None, shares: tuple[float, ...] | None = None, **settings: object
) -> list[str]:
    chosen = LlamaServerSettings(context=4096, **settings)  # type: ignore[arg-type]  # each test knows its types
    return command_line(
        build,
        Path("/models/m.gguf"),
        chosen,
        port=8123,
        alias="me",
        device=device,
        texts=Path("/texts"),
        tensor_split=shares,
    )


def value(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


class TestFlags:
    def test_of_every_build(self) -> None:
        for build in (OLD, NEW):
            argv = flags(build, slots=2, threads=3)
            assert argv[0] == "/opt/llama-server"
            assert value(argv, "--model") == "/models/m.gguf"
            assert value(argv, "--host") == "127.0.0.1"
            assert value(argv, "--port") == "8123"
            assert value(argv, "--alias") == "me"
            assert value(argv, "--ctx-size") == "8192"
            assert value(argv, "--parallel") == "2"
            assert value(argv, "--threads") == "3"
            assert value(argv, "--gpu-layers") == "999"

    def test_what_keeps_a_server_honest_where_it_is_known(self) -> None:
        argv = flags(NEW)
        assert value(argv, "--fit") == "off"
        assert value(argv, "--cache-ram") == "0"
        assert value(argv, "--ctx-checkpoints") == "0"
        assert value(argv, "--verbosity") == "4"
        assert {"--no-cache-prompt", "--offline", "--jinja", "--no-context-shift"} <= set(argv)

    def test_an_old_build_is_given_nothing_it_does_not_know(self) -> None:
        always = {"--model", "--host", "--port", "--batch-size", "--ubatch-size", "--cache-type-v"}
        assert {word for word in flags(OLD) if word.startswith("--")} <= OLD.flags | always
        assert "--verbosity" not in flags(OLD)

    def test_flash_attention_in_both_forms(self) -> None:
        assert value(flags(NEW, flash_attention="off"), "--flash-attn") == "off"
        assert "--flash-attn" not in flags(OLD)
        assert "--flash-attn" not in flags(OLD, flash_attention="off")
        assert "--flash-attn" in flags(OLD, flash_attention="on")

    def test_several_devices_get_the_shares_that_were_planned(self) -> None:
        argv = flags(NEW, device="CUDA0,CUDA1", shares=(24.0, 12.5), devices=2, split_mode="row")
        assert value(argv, "--device") == "CUDA0,CUDA1"
        assert value(argv, "--tensor-split") == "24,12.5"
        assert value(argv, "--split-mode") == "row"
        assert "--split-mode" not in flags(NEW, device="CUDA0,CUDA1", shares=(1.0, 1.0), devices=2)
        assert "--tensor-split" not in flags(NEW, device="CUDA0")
        with pytest.raises(LoadError, match="--tensor-split"):
            flags(OLD, shares=(1.0, 1.0), devices=2)

    def test_memory_mapping_in_both_forms(self) -> None:
        assert value(flags(NEW, mmap=False), "--load-mode") == "none"
        assert "--no-mmap" in flags(OLD, mmap=False)

    def test_reasoning(self) -> None:
        assert "--reasoning" not in flags(NEW)
        assert value(flags(NEW, reasoning="off"), "--reasoning") == "off"
        assert value(flags(NEW, reasoning_budget=100), "--reasoning-budget") == "100"

    def test_devices(self) -> None:
        assert value(flags(NEW, device="CUDA0,CUDA1"), "--device") == "CUDA0,CUDA1"
        on_cpu = flags(NEW, device="CPU")
        assert value(on_cpu, "--device") == "none"
        assert value(on_cpu, "--gpu-layers") == "0"
        assert value(flags(OLD, device="CPU"), "--gpu-layers") == "0"

    def test_arguments_of_the_spec_come_last(self) -> None:
        assert flags(NEW, extra_args=("--keep", "1"))[-2:] == ["--keep", "1"]

    @pytest.mark.parametrize(
        ("settings", "flag"),
        [
            ({"reasoning_budget": 5}, "--reasoning-budget"),
            ({"reasoning": "off"}, "--reasoning-budget"),
            ({"cpu_moe_layers": 4}, "--n-cpu-moe"),
            ({"swa_full": True}, "--swa-full"),
            ({"device": "CUDA1"}, "--device"),
        ],
    )
    def test_a_setting_the_build_cannot_follow_is_an_error(self, settings: dict[str, object], flag: str) -> None:
        with pytest.raises(LoadError, match=f"has no {flag}") as caught:
            flags(OLD, **settings)  # type: ignore[arg-type]  # one of them is the device
        assert caught.value.reason == "bad_settings"
        assert flag in flags(NEW, **settings) or settings == {"reasoning": "off"}  # type: ignore[arg-type]  # as above


def test_flags_of_a_help_text() -> None:
    assert {"-h", "--help", "--usage", "-ngl", "--n-gpu-layers", "--no-mmap"} <= parse_flags(OLD_HELP)
    assert {"--context-shift", "--no-context-shift", "-ctxcp", "--swa-checkpoints"} <= parse_flags(NEW_HELP)
    assert "--mlock" not in parse_flags(OLD_HELP)


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("version: 6327 (4d74393b)\nbuilt with cc", "b6327-4d74393b"),
        ("version: 0.5.0-dev (build 1, commit 0c1e570)\nbuilt with GNU 12.2.0", "b1-0c1e570"),
        ("ggml_cuda_init: found 1 CUDA devices:\nversion: 4000 (abcdef1)", "b4000-abcdef1"),
        ("version: unknown", None),
        ("", None),
    ],
)
def test_build_of_a_version_text(text: str, build: str | None) -> None:
    assert parse_build(text) == build


class TestFinding:
    @pytest.fixture(autouse=True)
    def nothing_around(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("LLAMA_SERVER", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))

    def test_nowhere(self) -> None:
        there = get_engine("llama-server").available()
        assert isinstance(there, EngineUnavailable)
        assert "not found" in there.reason
        assert "make llama-cpp" in there.hint

    def test_the_order(self, monkeypatch: pytest.MonkeyPatch, own_folders: Path, llama_server: Path) -> None:
        built = own_folders / "cache" / "quantsweep" / "llama-cpp-1" / "bin" / "llama-server"
        built.parent.mkdir(parents=True)
        built.symlink_to(llama_server)
        machine = own_folders / "machine.toml"
        machine.write_text(f'llama_server = "{own_folders / "owners"}"')
        for expected, name, text in (
            (built, "IGNORED", ""),
            (llama_server, "PATH", f"{llama_server.parent}:/usr/bin:/bin"),
            (own_folders / "elsewhere", "LLAMA_SERVER", str(own_folders / "elsewhere")),
            (own_folders / "owners", "QUANTSWEEP_MACHINE", str(machine)),
        ):
            if not expected.exists():
                expected.symlink_to(llama_server)
            monkeypatch.setenv(name, text)
            there = get_engine("llama-server").available()
            assert isinstance(there, EngineInfo)
            assert there.binary == str(expected)
            offered = probe_node().engine("llama-server")
            assert offered is not None
            assert offered.path == there.binary, "the node offers what would be started"
        there = get_engine("llama-server", binary=str(llama_server)).available()
        assert isinstance(there, EngineInfo)
        assert there.binary == str(llama_server)

    @pytest.mark.parametrize("name", ["missing", "."])
    def test_a_name_that_leads_nowhere(self, tmp_path: Path, tiny_model: Path, name: str) -> None:
        engine = get_engine("llama-server", binary=str(tmp_path / name))
        there = engine.available()
        assert isinstance(there, EngineUnavailable)
        assert str(tmp_path) in there.reason
        with pytest.raises(EngineUnavailableError, match=r"engine\.binary"):
            engine.load(tiny_model, LlamaServerSettings(context=256), log_path=tmp_path / "log")


class TestBrokenPrograms:
    def unavailable(self, program: Path) -> EngineUnavailable:
        there = get_engine("llama-server", binary=str(program)).available()
        assert isinstance(there, EngineUnavailable)
        assert str(program) in there.reason
        return there

    def write(self, folder: Path, content: bytes, mode: int = 0o755) -> Path:
        path = folder / "llama-server"
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def test_not_executable(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, b"#!/bin/sh\n", 0o644)
        assert self.unavailable(path).hint == f"chmod +x {path}"

    def test_for_another_machine(self, tmp_path: Path) -> None:
        # An ELF header for a machine that does not exist (e_machine 0xfefe).
        header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xfe\xfe\x01\x00\x00\x00" + bytes(40)
        there = self.unavailable(self.write(tmp_path, header))
        assert "no program for this machine" in there.reason
        assert "architecture" in there.hint

    def test_without_its_interpreter(self, tmp_path: Path) -> None:
        assert "interpreter" in self.unavailable(self.write(tmp_path, b"#!/nonexistent/loader\n")).hint

    def test_another_program(self, tmp_path: Path) -> None:
        there = self.unavailable(self.write(tmp_path, b"#!/bin/sh\necho I am a teapot\n"))
        assert "I am a teapot" in there.reason

    def test_without_its_libraries(self, tmp_path: Path) -> None:
        says = b"#!/bin/sh\necho 'error while loading shared libraries: libcuda.so.1: cannot open' >&2\nexit 127\n"
        assert "libcuda.so.1" in self.unavailable(self.write(tmp_path, says)).reason

    def test_a_program_that_changed_is_asked_again(self, tmp_path: Path) -> None:
        says = "#!/bin/sh\necho 'version: {} (abcdef1)'\n"
        path = self.write(tmp_path, says.format(1).encode())
        engine = get_engine("llama-server", binary=str(path))
        assert isinstance(first := engine.available(), EngineInfo)
        path.write_text(says.format(4321), encoding="ascii")
        assert path.stat().st_mode & stat.S_IXUSR
        assert isinstance(second := engine.available(), EngineInfo)
        assert (first.build, second.build) == ("llama.cpp b1-abcdef1", "llama.cpp b4321-abcdef1")

    def test_devices_are_listed(self, tmp_path: Path) -> None:
        says = b"""#!/bin/sh
case $1 in
--version) echo 'version: 6327 (4d74393b)' ;;
--help) echo '--list-devices                          print list of available devices and exit' ;;
--list-devices) echo 'ggml_cuda_init: found 2 CUDA devices:
  Device 0: NVIDIA GeForce RTX 5090, compute capability 12.0, VMM: yes
Available devices:
  CUDA0: NVIDIA GeForce RTX 5090 (32109 MiB, 31000 MiB free)
  CUDA1: NVIDIA GeForce RTX 3090 (24109 MiB, 23000 MiB free)' ;;
esac
"""
        there = get_engine("llama-server", binary=str(self.write(tmp_path, says))).available()
        assert isinstance(there, EngineInfo)
        assert there.devices == ("CUDA0", "CUDA1")


class TestPorts:
    def test_one_that_is_taken_is_left_for_another(
        self, llama_server: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        free_port = llama_server_module._free_port()
        with socket.create_server(("127.0.0.1", 0)) as stranger:
            offered = iter([stranger.getsockname()[1], stranger.getsockname()[1], free_port])
            monkeypatch.setattr(llama_server_module, "_free_port", lambda: next(offered))
            engine = get_engine("llama-server", binary=str(llama_server))
            served = engine.load(tiny_model, LlamaServerSettings(context=256, threads=1), log_path=tmp_path / "log")
            try:
                assert served.base_url == f"http://127.0.0.1:{free_port}"
                assert served.is_alive()
            finally:
                served.stop()

    def test_a_stranger_that_answers_there_is_not_taken_for_ours(
        self, llama_server: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = get_engine("llama-server", binary=str(llama_server))
        settings = LlamaServerSettings(context=256, threads=1)
        first = engine.load(tiny_model, settings, log_path=tmp_path / "first")
        try:
            assert first.base_url is not None
            port = int(first.base_url.rpartition(":")[2])
            monkeypatch.setattr(llama_server_module, "_free_port", lambda: port)
            with pytest.raises(LoadError, match="port taken"):
                engine.load(tiny_model, settings, log_path=tmp_path / "second")
            assert first.is_alive()
            assert [path.name for path in tmp_path.glob("*.server.json")] == ["first.server.json"]
        finally:
            first.stop()


def test_a_build_that_asks_for_no_key_is_not_used(llama_server: Path, tiny_model: Path, tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text(f'#!/bin/sh\nunset LLAMA_API_KEY\nexec "{llama_server}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    engine = get_engine("llama-server", binary=str(program))
    with pytest.raises(LoadError, match="answers every user of this machine") as caught:
        engine.load(tiny_model, LlamaServerSettings(context=256, threads=1), log_path=tmp_path / "log")
    assert "newer build" in caught.value.hint
    assert not list(tmp_path.glob("*.server.json"))


class TestRegistry:
    def test_kinds(self) -> None:
        assert file_engine_kinds() == ["embedded", "llama-server"]
        for kind in file_engine_kinds():
            assert get_engine(kind).kind == kind
        endpoints = [kind for kind in engine_kinds() if kind not in file_engine_kinds()]
        assert endpoints == ["openai", "anthropic", "ollama", "llama-swap"]
        for kind in endpoints:
            assert get_endpoint_engine(kind).kind == kind

    def test_an_unknown_one_names_the_nearest(self) -> None:
        with pytest.raises(RunnersError, match="there is no engine 'lama-server'") as caught:
            get_engine("lama-server")
        assert caught.value.hint == "did you mean 'llama-server'?"
        with pytest.raises(RunnersError, match="embedded, llama-server"):
            get_engine("zzz")

    def test_the_embedded_engine_has_no_program_and_takes_no_arguments(self, tiny_model: Path, tmp_path: Path) -> None:
        with pytest.raises(EngineUnavailableError, match="no program of its own"):
            get_engine("embedded", binary="/usr/bin/llama-server")
        with pytest.raises(TypeError, match="embedded was given settings of llama-server"):
            get_engine("embedded").load(tiny_model, LlamaServerSettings(context=256), log_path=tmp_path / "log")

    def test_the_embedded_engine_says_that_it_cannot_name_a_file(self, tmp_path: Path) -> None:
        model = tmp_path / os.fsdecode(b"model\xff.gguf")
        with pytest.raises(LoadError, match="not UTF-8") as caught:
            get_engine("embedded").load(model, EmbeddedSettings(context=256), log_path=tmp_path / "log")
        assert "rename it" in caught.value.hint

    def test_a_cache_type_that_does_not_exist(self, tiny_model: Path, tmp_path: Path) -> None:
        settings = EmbeddedSettings(context=256, cache_type_k="q9_9")
        with pytest.raises(LoadError, match="q9_9") as caught:
            get_engine("embedded").load(tiny_model, settings, log_path=tmp_path / "log")
        assert caught.value.reason == "bad_settings"


class TestSettings:
    def test_what_makes_results_comparable(self) -> None:
        settings = LlamaServerSettings(context=4096, binary="/here", load_timeout_s=1.0, extra_args=("--a",))
        again = LlamaServerSettings(context=4096, binary="/there", load_timeout_s=2.0, extra_args=("--a",))
        assert settings.comparable() == again.comparable()
        assert settings.comparable() != LlamaServerSettings(context=4097, extra_args=("--a",)).comparable()
        assert settings.comparable()["extra_args"] == ["--a"]
        assert None not in settings.comparable().values()
        assert {"binary", "load_timeout_s", "threads"}.isdisjoint(settings.comparable())

    def test_only_the_settings_of_its_kind_are_there(self) -> None:
        assert {"extra_args", "binary", "chat_template"}.isdisjoint(EmbeddedSettings(context=1).comparable())
        assert EmbeddedSettings(context=1).comparable() != LlamaServerSettings(context=1).comparable()

    def test_a_text_counts_by_what_is_in_it_and_not_by_where_it_lay(self) -> None:
        here, there, other = TextFile("/a", "x"), TextFile("/b", "x"), TextFile("/a", "y")
        of = {text: LlamaServerSettings(context=1, chat_template=text).comparable() for text in (here, there, other)}
        assert of[here] == of[there] != of[other]
        assert "/a" not in str(of[here])

    @pytest.mark.parametrize(
        "settings",
        [
            EmbeddedSettings(context=1, threads=3),
            LlamaServerSettings(context=1, extra_args=("--no-host",), grammar=TextFile("/g", "root ::= .*")),
        ],
    )
    def test_they_survive_being_written_down(self, settings: EngineSettings) -> None:
        assert settings_from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize(
    ("device", "there", "variables"),
    [
        (None, None, {}),
        ("CPU", None, {}),
        ("CUDA1", None, {"CUDA_VISIBLE_DEVICES": "1"}),
        ("CUDA0,CUDA2", None, {"CUDA_VISIBLE_DEVICES": "0,2"}),
        ("CUDA1", "GPU-aa,GPU-bb", {"CUDA_VISIBLE_DEVICES": "GPU-bb"}),
        ("Vulkan1", None, {"GGML_VK_VISIBLE_DEVICES": "1"}),
        ("Vulkan2", None, {}),
        ("MTL0", None, {}),
    ],
)
def test_devices_of_the_embedded_engine(
    monkeypatch: pytest.MonkeyPatch, device: str | None, there: str | None, variables: dict[str, str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if there is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", there)
    listed = ("Vulkan2",) if device == "Vulkan2" else ("CUDA0", "CUDA1", "Vulkan0", "Vulkan1")
    assert _visible_devices(device, listed) == variables


@pytest.mark.skipif("LLAMA_SERVER" not in os.environ, reason="LLAMA_SERVER names no program")
def test_texts_that_settings_point_to_are_followed(tiny_model: Path, tmp_path: Path) -> None:
    """A grammar that allows one answer, and a template that shows in the length of the prompt."""
    request = ChatRequest(
        messages=(Message(role="user", content="hi"),), sampling=Sampling(temperature=0.0, max_tokens=16), seed=1
    )
    told: dict[int, int] = {}
    for words in (1, 9):
        settings = LlamaServerSettings(
            context=256,
            threads=1,
            grammar=TextFile("yes.gbnf", 'root ::= "yes"'),
            chat_template=TextFile("t.jinja", "{% for m in messages %}" + "{{ m.content }}" * words + "{% endfor %}"),
        )
        served = get_engine("llama-server").load(tiny_model, settings, log_path=tmp_path / "log", device="CPU")
        try:
            result = served.chat(request)
        finally:
            served.stop()
        assert settings.chat_template is not None
        assert served.chat_template == settings.chat_template.text  # not the model's own
        assert result.text == "yes"
        assert result.usage is not None
        assert result.usage.prompt_tokens is not None
        told[words] = result.usage.prompt_tokens
    assert told[9] - told[1] >= 8
