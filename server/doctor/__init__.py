"""`internvl-server doctor`: can these settings be served here, and if not, what to do."""

import sys

from server.doctor.machine import (
    ask_torch,
    check_descriptors,
    check_device,
    check_packages,
    check_port,
    check_python,
    check_torch,
    check_transformers,
    chosen_gpu,
)
from server.doctor.media import check_decoder
from server.doctor.model import check_model
from server.doctor.report import Finding, as_json, as_text, is_healthy
from server.settings import ServerSettings


def run_doctor(settings: ServerSettings, *, is_json: bool) -> int:
    """Print every finding. The exit status: 0 when nothing keeps the server from running."""
    findings = examine(settings)
    sys.stdout.write(as_json(findings) if is_json else as_text(findings))
    return 0 if is_healthy(findings) else 1


def examine(settings: ServerSettings) -> list[Finding]:
    torch = ask_torch()
    return [
        check_python(),
        check_torch(torch),
        check_transformers(),
        *check_packages(settings, torch),
        check_device(settings, torch),
        *check_model(settings, chosen_gpu(settings, torch)),
        check_decoder(settings),
        check_port(settings),
        check_descriptors(),
    ]
