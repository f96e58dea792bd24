"""`make test-long`: LiteLLM asks a served demo model, then schemathesis drives the server.

Schemathesis goes by the server's own OpenAPI document. Bodies are made from the schemas, true and
broken ones. No answer may be a 5xx but a full house's, and each is of a status and a shape that
the document names.
"""

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tests.served import Served

_LITELLM = ("litellm==1.106.2", "mcp==2.3.0")
_CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance"
_CHECKS += ",response_schema_conformance"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make test-long", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (f"--batch-dir={folder}/batches", "--max-model-len=1024")
        with Served(Path(folder) / "server.log", arguments) as server:
            _drive_litellm(server)
            status = _drive(server, folder, given.seconds, given.seed)
            assert server.is_ready() and not server.gauges()["worker_restarts_total"]
    return status


def _drive(server: Served, folder: str, seconds: int, seed: int) -> int:
    command = [str(Path(sys.executable).with_name("schemathesis")), "run"]
    command += [f"{server.url}/openapi.json", f"--checks={_CHECKS}", f"--seed={seed}"]
    command += [f"--max-time={seconds}", "--max-examples=100000", "--workers=1", "--no-color"]
    command += ["--phases=fuzzing,stateful"]
    return subprocess.run(command, check=False, cwd=folder).returncode


def _drive_litellm(server: Served) -> None:
    """In a venv of its own inside ours, made once. Raises CalledProcessError."""
    folder = Path(sys.prefix) / "litellm"
    python = str(folder / "bin" / "python")
    if not folder.is_dir():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *_LITELLM], check=True)
    program = str(Path(__file__).with_name("drive_litellm.py"))
    subprocess.run([python, program, f"{server.url}/v1", "docs/examples"], check=True)


if __name__ == "__main__":
    sys.exit(main())
