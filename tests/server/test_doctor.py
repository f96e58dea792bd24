"""The doctor: right about this machine, and useful about broken ones."""

import json
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model_runtime.checkpoint import DEMO_CHECKPOINT
from server.__main__ import main
from server.doctor import machine, media, model
from server.doctor.machine import Gpu, Torch, ask_torch, available_memory, chosen_gpu
from server.doctor.report import Finding, as_json, as_text, is_healthy
from server.settings import ServerSettings

GIB = 1 << 30
BUSY = Gpu("H200", 10 * GIB, 100 * GIB)
FREE = Gpu("H200", 99 * GIB, 100 * GIB)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


def test_the_demo_can_be_served_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--port", free_port()]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[1] for line in lines]
    assert names == [
        *("python", "torch", "transformers", "bitsandbytes", "triton", "device", "model"),
        *("memory", "decoder", "port", "descriptors"),
    ]
    assert all(line.startswith(("ok ", "warning ")) for line in lines)
    assert any("internvl-demo: 11 MiB" in line for line in lines)


def test_problems_are_an_exit_status_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["doctor", "./no-such-folder", "--port", port, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    problems = {c["name"]: c for c in report["checks"] if c["outcome"] == "problem"}
    assert set(problems) == {"model", "port"} and report["ok"] is False
    assert "--port" in problems["port"]["advice"] and port in problems["port"]["found"]


def test_the_process_that_asks_loads_no_torch() -> None:
    code = "import sys, server.doctor; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_a_broken_torch_is_a_problem_with_advice() -> None:
    assert ask_torch("raise ImportError") is None
    finding = machine.check_torch(None)
    assert finding.outcome == "problem" and "pip install" in finding.advice
    assert machine.check_torch(ask_torch()).outcome == "ok"


def test_warnings_do_not_fail() -> None:
    findings = [Finding("a", "ok", "x"), Finding("b", "warning", "y", "do z")]
    assert is_healthy(findings) and json.loads(as_json(findings))["ok"] is True
    assert as_text(findings).splitlines()[1].endswith("y -> do z")
    assert not is_healthy([*findings, Finding("c", "problem", "")])


@pytest.mark.parametrize(
    ("device", "gpus", "chosen", "outcome"),
    [
        ("auto", (), None, "ok"),
        ("auto", (FREE,), FREE, "ok"),
        ("cuda:1", (FREE, BUSY), BUSY, "warning"),
        ("cuda:1", (FREE,), None, "problem"),
        ("cuda", (), None, "problem"),
        ("cpu", (FREE,), None, "ok"),
    ],
)
def test_the_device_is_the_one_that_would_be_taken(
    device: str, gpus: tuple[Gpu, ...], chosen: Gpu | None, outcome: str
) -> None:
    torch = Torch("2", "13", gpus)
    settings = ServerSettings(device=device)
    assert chosen_gpu(settings, torch) == chosen
    assert machine.check_device(settings, torch).outcome == outcome


def test_packages_are_needed_by_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_version", lambda name: None)
    torch = Torch("2", "13", (FREE,))

    def outcomes(**settings: Any) -> list[str]:
        return [f.outcome for f in machine.check_packages(ServerSettings(**settings), torch)]

    assert outcomes(device="cpu") == ["ok", "ok"]
    assert outcomes(quantization="bitsandbytes") == ["problem", "warning"]
    assert machine.check_transformers().outcome == "problem"


def test_a_containers_memory_limit_counts(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    4096 kB\n")
    assert available_memory(meminfo, tmp_path) == 4 << 20
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert available_memory(meminfo, tmp_path) == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(meminfo, tmp_path) == 4 << 20


def test_few_descriptors_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 1_000_000))
    finding = machine.check_descriptors()
    assert finding.outcome == "warning" and "ulimit -n 65536" in finding.advice


def test_a_folder_without_all_its_weights_is_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(DEMO_CHECKPOINT, folder)
    settings = ServerSettings(model=str(folder))
    assert [f.outcome for f in model.check_model(settings, None)] == ["ok", "ok"]
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "part-2.x"}}')
    (finding,) = model.check_model(settings, None)
    assert finding.outcome == "problem" and "part-2.x" in finding.found
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model.safetensors").unlink()
    (finding,) = model.check_model(settings, None)
    assert finding.outcome == "problem" and ".safetensors" in finding.found


def test_a_model_too_large_for_its_device_is_a_problem() -> None:
    tiny = Gpu("small", 14 << 20, 14 << 20)
    assert [f.outcome for f in model.check_model(ServerSettings(), tiny)] == ["ok", "problem"]
    settings = ServerSettings(quantization="bitsandbytes")
    assert [f.outcome for f in model.check_model(settings, tiny)] == ["ok", "ok"]


@pytest.mark.parametrize("name", ["some/model-hf", "not a name!"])
def test_a_hub_id_is_not_downloaded_to_judge_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (finding,) = model.check_model(ServerSettings(model=name), None)
    assert finding.outcome == "problem" and name in finding.found
    assert not list(tmp_path.iterdir())


def test_a_model_of_the_hub_is_judged_before_it_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def model_info(*_: object, **__: object) -> SimpleNamespace:
        files = {"model.safetensors": 16 * GIB, "README.md": 99 * GIB}
        siblings = [SimpleNamespace(rfilename=name, size=size) for name, size in files.items()]
        return SimpleNamespace(siblings=siblings)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    settings = ServerSettings(model="some/model-hf")
    for gpu, outcome in ((BUSY, "problem"), (FREE, "ok")):
        hub, fit = model.check_model(settings, gpu)
        assert (hub.outcome, fit.outcome) == ("ok", outcome) and "16.0 GiB" in hub.found
    assert not list(tmp_path.iterdir())


def test_a_decoder_that_cannot_start_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(settings: ServerSettings) -> None:
        raise OSError("no processes left")

    monkeypatch.setattr(media, "_decode_one", fails)
    finding = media.check_decoder(ServerSettings())
    assert finding.outcome == "problem" and "OSError" in finding.found and finding.advice
