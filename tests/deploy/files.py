"""Where the files of deployment are, and what the tests need of them."""

import json
from pathlib import Path
from typing import Any

import yaml

from server.settings import ServerSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MONITORING = DEPLOY / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "internvl-server.json"


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def dashboard_panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return panels


def expressions() -> list[str]:
    """Every query of the dashboard and of the alerts."""
    panels = [t["expr"] for panel in dashboard_panels() for t in panel.get("targets", ())]
    (group,) = read_yaml(MONITORING / "alerts.yml")["groups"]
    return panels + [rule["expr"] for rule in group["rules"]]


def longest_end() -> int:
    """Seconds from SIGTERM to the end, with some to spare, when no setting says otherwise."""
    settings = ServerSettings()
    return int(settings.shutdown_timeout + getattr(settings, "drain_delay", 0) + 10)
