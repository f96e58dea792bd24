"""The import arrows of docs/architecture.md, enforced on the source itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TRAINING = ROOT / "model_runtime" / "demo" / "training"
PURE = {  # what the server may use of the runtime: no torch inside
    "model_runtime.protocol",
    "model_runtime.checkpoint",
    "model_runtime.tiling",
    "model_runtime.link",
    "model_runtime.environment",
    "model_runtime.logs",
    "model_runtime.lifeline",
    "model_runtime.pulse",
}
HEAVY = {"torch", "transformers", "torchvision", "safetensors"}
WEB = {"fastapi", "starlette", "uvicorn", "httpx", "httpcore", "pydantic"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module named in an import statement of the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def tops(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", sources("server"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_server_knows_no_torch_and_little_of_the_runtime(path: Path) -> None:
    names = imports(path)
    assert not tops(names) & HEAVY
    assert {name for name in names if name.startswith("model_runtime")} <= PURE
    assert "clients" not in tops(names) or path.name == "__main__.py"


@pytest.mark.parametrize("path", sources("model_runtime"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_runtime_knows_no_http(path: Path) -> None:
    assert not tops(imports(path)) & {*WEB, "server", "clients"}


@pytest.mark.parametrize("path", sources("clients"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_clients_stand_alone(path: Path) -> None:
    assert not tops(imports(path)) & {*HEAVY, "server", "model_runtime"}


@pytest.mark.parametrize("name", ["scheduler", "block_pool", "sequence", *sorted(PURE)])
def test_books_are_kept_without_tensors(name: str) -> None:
    path = ROOT / "model_runtime" / (name.removeprefix("model_runtime.") + ".py")
    assert not tops(imports(path)) & HEAVY


def test_the_core_knows_no_asyncio_and_no_sockets() -> None:
    assert not tops(imports(ROOT / "model_runtime" / "core.py")) & {"asyncio", "socket"}


def test_importing_the_server_loads_no_torch() -> None:
    code = (
        "import sys, server.__main__; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "path",
    [p for package in ("server", "model_runtime", "clients") for p in sources(package)],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
