"""Where a run lives, and the numbers that may change while it runs."""

import json
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_MIX = {"single": 0.2, "tiled": 0.3, "several": 0.18, "video": 0.2, "text": 0.12}


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """Read again every minute from `settings.json` in the run's folder."""

    minutes: float = 60.0
    """Wall-clock training time; also the length of the learning-rate schedule."""
    learning_rate: float = 2.5e-3
    mix: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_MIX))


def read_settings(path: Path, default: LiveSettings) -> LiveSettings:
    """The file's settings over `default`; an unreadable file changes nothing."""
    try:
        changes = json.loads(path.read_text())
        return LiveSettings(
            minutes=float(changes.get("minutes", default.minutes)),
            learning_rate=float(changes.get("learning_rate", default.learning_rate)),
            mix={str(k): float(v) for k, v in changes.get("mix", default.mix).items()},
        )
    except (OSError, ValueError, AttributeError):
        return default
