"""The dashboard and the alerts ask for metrics that the server has."""

import json
import math
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.files import (
    DASHBOARD,
    MONITORING,
    ROOT,
    dashboard_panels,
    expressions,
    read_yaml,
)
from tests.fakes import make_app, run_server
from tests.server.media.makers import encoded, photo
from tests.site import Site

WITHOUT_DATA = {"Refused for load"}  # of a server that was never full
SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}


def told(tiny_checkpoint: Path) -> set[str]:
    """The names of all samples that `/metrics` may show: families without any count too."""
    with run_server(make_app(tiny_checkpoint)) as url:
        text = httpx.get(f"{url}/metrics").text
    families = dict(re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE))
    told = {name.removesuffix("_total"): kind for name, kind in families.items()}
    return {name + end for name, kind in told.items() for end in SUFFIXES[kind]}


def test_every_metric_asked_for_exists(tiny_checkpoint: Path) -> None:
    names = told(tiny_checkpoint)
    asked = {name for text in expressions() for name in re.findall(r"internvl:\w+", text)}
    assert len(asked) > 20 and asked <= names, asked - names


def test_every_panel_asks_the_provisioned_source() -> None:
    (source,) = read_yaml(MONITORING / "grafana/provisioning/datasources/prometheus.yml")[
        "datasources"
    ]
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    panels = [panel for panel in dashboard_panels() if panel["type"] != "row"]
    variables = board["templating"]["list"]
    assert {p["datasource"]["uid"] for p in [*panels, *variables]} == {source["uid"]}
    assert len({panel["id"] for panel in dashboard_panels()}) == len(dashboard_panels())
    assert all(panel["description"] and panel["targets"] for panel in panels)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard_panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells


def test_files_are_mounted_where_grafana_and_prometheus_look() -> None:
    services = read_yaml(ROOT / "docker-compose.yml")["services"]
    (provider,) = read_yaml(MONITORING / "grafana/provisioning/dashboards/internvl.yml")[
        "providers"
    ]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    folder = provider["options"]["path"]
    assert mounts["./deploy/monitoring/grafana/dashboards"] == folder
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/{DASHBOARD.name}"
    (scrape,) = read_yaml(MONITORING / "prometheus.yml")["scrape_configs"]
    assert scrape["static_configs"][0]["targets"] == ["server:8000"]


@pytest.fixture
def prometheus(tmp_path: Path, demo_server: str) -> Iterator[str]:
    """A real Prometheus with our files, which scrapes the demo server."""
    for name in ("prometheus.yml", "alerts.yml"):
        text = (MONITORING / name).read_text(encoding="utf-8")
        target = httpx.URL(demo_server).netloc.decode()
        (tmp_path / name).write_text(
            text.replace("server:8000", target).replace(": 5s", ": 1s").replace(": 15s", ": 1s")
        )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml"]
    command += [f"--storage.tsdb.path={tmp_path}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/-/ready")
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.mark.skipif(
    not shutil.which("prometheus"), reason="no Prometheus here: apt-get install prometheus"
)
def test_queries_have_answers_from_a_real_prometheus(
    prometheus: str, demo_server: str, site: Site
) -> None:
    """Each query of each panel has a number after some requests; the alerts are silent."""
    deadline = time.monotonic() + 60
    empty = {"not asked yet"}
    while empty - WITHOUT_DATA and time.monotonic() < deadline:
        ask_for_a_while(demo_server, prometheus, site)
        empty = {title for title, query in queries() if not numbers(prometheus, query)}
    assert empty <= WITHOUT_DATA
    rules = httpx.get(f"{prometheus}/rules").json()["data"]["groups"][0]["rules"]
    assert {r["health"] for r in rules} == {"ok"} and len(rules) > 5
    assert not [rule["name"] for rule in rules if rule["state"] == "firing"]


def queries() -> list[tuple[str, str]]:
    """Panels' titles and what they ask, as Grafana fills it in."""
    return [
        (panel["title"], filled_in(target["expr"]))
        for panel in dashboard_panels()
        for target in panel.get("targets", ())
    ]


def filled_in(expression: str) -> str:
    query = expression.replace("$__rate_interval", "30s").replace("$instance", ".*")
    assert "$" not in query, f"Grafana would put something else into {query}"
    return query


def numbers(prometheus: str, query: str) -> list[float]:
    """Of its series now, without those that are no numbers, as a share of nothing is."""
    answer = httpx.get(f"{prometheus}/query", params={"query": query}).json()
    assert answer["status"] == "success", (query, answer)
    values = [float(one["value"][1]) for one in answer["data"]["result"]]
    return [value for value in values if math.isfinite(value)]


def ask_for_a_while(server: str, prometheus: str, site: Site) -> None:
    """Until Prometheus has seen requests between two scrapes."""
    bad = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
    query = {"query": "rate(internvl:time_to_first_token_seconds_count[30s]) > 0"}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        picture = photo(64, 64, seed=time.monotonic_ns())  # new: one that is known is not decoded
        good = {"type": "image_url", "image_url": {"url": site.put("/new.png", encoded(picture))}}
        for part in (good, bad):
            body = {"messages": [{"role": "user", "content": [part]}], "max_tokens": 8}
            httpx.post(f"{server}/chat/completions", json=body, timeout=60)
        if results(prometheus, query):
            return
        time.sleep(0.5)
    raise AssertionError("Prometheus saw no request")


def wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(url).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("Prometheus does not come up")


def results(prometheus: str, query: dict[str, str]) -> list[Any]:
    answer = httpx.get(f"{prometheus}/query", params=query).json()
    found: list[Any] = answer.get("data", {}).get("result", [])
    return found


def test_operations_documents_every_metric_and_alert(tiny_checkpoint: Path) -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    with run_server(make_app(tiny_checkpoint)) as url:
        exposed = httpx.get(f"{url}/metrics").text
    names = set(re.findall(r"^# TYPE internvl:(\w+)", exposed, re.MULTILINE))
    names = {name for name in names if not name.endswith("_created")}
    assert not {name for name in names if not re.search(rf"`{name}(_total)?[`{{]", text)}
    (group,) = read_yaml(MONITORING / "alerts.yml")["groups"]
    assert all(f"| `{rule['alert']}` |" in text for rule in group["rules"])
