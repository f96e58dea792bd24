"""The container files, as far as they can be judged without a container engine."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.settings import read_settings
from tests.deploy.files import ROOT, longest_end, read_yaml
from tests.fakes import FakeEngine, make_app, run_server

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = read_yaml(ROOT / "docker-compose.yml")
BIN = Path(sys.executable).parent


def stages() -> dict[str, str]:
    """The text of each stage by its name, in order."""
    parts = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([BIN / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["docker-compose.yml", "clients/examples/open-webui/compose.yaml"])
def test_compose_follows_its_schema(name: str) -> None:
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, ROOT / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_default_image_is_for_cpus_and_no_image_has_build_tools() -> None:
    assert list(stages())[-1] == "cpu"
    for name in ("serve", "cpu", "cuda"):
        assert not re.search(r"apt-get|pip|gcc|useradd.*root", stages()[name])
    assert "USER 10001" in stages()["serve"]


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    copied: set[str] = set()
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE):
        copied |= set(sources.split())
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_images_environment_is_the_servers() -> None:
    variables = dict(re.findall(r"\b(INTERNVL_\w+)=(\S+)", stages()["serve"]))
    settings = read_settings(argparse.Namespace(), variables)
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)
    assert f"EXPOSE {settings.port}" in DOCKERFILE


@pytest.mark.parametrize("problem", [None, "loading the model"])
def test_the_health_check_is_right(tiny_checkpoint: Path, problem: str | None) -> None:
    """Run as the container would, against a server that is ready and one that is not."""
    found = re.search(r"^HEALTHCHECK .*\\\n\s+CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found
    command = [sys.executable, *json.loads(found[1])[1:]]
    with run_server(make_app(tiny_checkpoint, FakeEngine(not_ready=problem))) as url:
        environment = {**os.environ, "INTERNVL_PORT": str(httpx.URL(url).port)}
        done = subprocess.run(command, env=environment, capture_output=True)
    assert (done.returncode == 0) == (problem is None)


def services(profile: str | None) -> dict[str, Any]:
    """What `docker compose up` starts under a profile."""
    return {
        name: service
        for name, service in COMPOSE["services"].items()
        if not service.get("profiles") or profile in service["profiles"]
    }


def test_compose_starts_the_demo_by_default() -> None:
    (service,) = services(None).values()
    assert service["build"]["target"] == "cpu" and "command" not in service
    assert set(services("monitoring")) == {"cpu", "prometheus", "grafana"}
    assert services("gpu")["gpu"]["deploy"]["resources"]["reservations"]["devices"]


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_servers_are_confined_and_get_time_to_end(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["cap_drop"] == ["ALL"] and service["read_only"] is (name == "cpu")
    assert service["build"]["target"] in stages()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["networks"]["default"]["aliases"] == ["server"]
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert grace > longest_end()


def test_mounted_files_exist_and_volumes_are_named() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source[0] == "." else source in COMPOSE["volumes"]
