"""The systemd unit and the Kubernetes manifest fit the code: ports, routes, names, times."""

import configparser
import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from server.settings import ENV_PREFIX, ServerSettings
from tests.deploy.files import DEPLOY, ROOT, longest_end
from tests.fakes import make_app, run_server

UNIT = DEPLOY / "systemd" / "internvl-server.service"
MANIFEST = list(
    yaml.safe_load_all((DEPLOY / "kubernetes" / "internvl-server.yaml").read_text(encoding="utf-8"))
)
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
VARIABLES = {ENV_PREFIX + field.name.upper() for field in dataclasses.fields(ServerSettings)}


def only(kind: str) -> Any:
    (document,) = [document for document in MANIFEST if document["kind"] == kind]
    return document


WANTED_PROBES = {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
SCRAPED = only("Deployment")["spec"]["template"]["metadata"]["annotations"]


@pytest.fixture
def pod() -> Any:
    return only("Deployment")["spec"]["template"]["spec"]


@pytest.fixture
def container(pod: Any) -> Any:
    (container,) = pod["containers"]
    return container


def test_probes_ask_open_routes_of_the_server(container: Any, tiny_checkpoint: Path) -> None:
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in WANTED_PROBES}
    assert {kind: probe["path"] for kind, probe in probes.items()} == WANTED_PROBES
    assert {probe["port"] for probe in probes.values()} == {"http"}
    with run_server(make_app(tiny_checkpoint, api_key=("k",))) as url:
        for path in [*WANTED_PROBES.values(), SCRAPED["prometheus.io/path"]]:
            assert httpx.get(url + path).status_code == 200


def test_the_port_is_the_images(container: Any) -> None:
    (port,) = container["ports"]
    assert f"EXPOSE {port['containerPort']}\n" in DOCKERFILE and port["name"] == "http"
    assert only("Service")["spec"]["ports"][0]["targetPort"] == "http"
    assert SCRAPED["prometheus.io/port"] == str(port["containerPort"])


def test_a_pod_has_time_to_finish_what_runs(pod: Any, container: Any) -> None:
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause + longest_end()


def test_a_pod_is_confined(pod: Any, container: Any) -> None:
    user = int(re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)[0])
    security = pod["securityContext"]
    assert security["runAsNonRoot"] and security["runAsUser"] == security["fsGroup"] == user
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert not pod["automountServiceAccountToken"]
    assert {"memory", "nvidia.com/gpu"} <= set(container["resources"]["limits"])


def test_a_pods_variables_and_volumes_exist(pod: Any, container: Any) -> None:
    assert {variable["name"] for variable in container["env"]} <= VARIABLES
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
    assert claim == only("PersistentVolumeClaim")["metadata"]["name"]
    assert "HF_HOME=/models" in DOCKERFILE


def test_labels_select_the_pods() -> None:
    labels = only("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert only("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert only("Service")["spec"]["selector"] == labels


@pytest.fixture
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(UNIT, encoding="utf-8")
    return parser


def test_the_unit_ends_the_front_end_alone_and_waits(unit: configparser.ConfigParser) -> None:
    """A worker that got SIGTERM with the front end would cut what runs."""
    service = unit["Service"]
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > longest_end()
    assert service["ExecStart"].split()[1:] == ["serve"]
    named = set(re.findall(r"INTERNVL_[A-Z_]+", UNIT.read_text(encoding="utf-8")))
    assert named and named <= VARIABLES


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd on this machine")
def test_systemd_understands_the_unit_and_finds_it_confined(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8")
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("/opt/internvl-server/bin/internvl-server", sys.executable))
    for command in (["verify", "--man=no"], ["security", "--offline=true", "--threshold=30"]):
        done = subprocess.run(["systemd-analyze", *command, copy], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Unknown" not in done.stderr
