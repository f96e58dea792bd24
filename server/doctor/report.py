"""What a check finds, and how all findings are shown."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Outcome = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result. `advice` says what to do; nothing is to be done when all is well."""

    name: str
    outcome: Outcome
    found: str
    advice: str = ""


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Warnings do not keep a server from running."""
    return all(finding.outcome != "problem" for finding in findings)


def as_text(findings: Sequence[Finding]) -> str:
    return "\n".join(_line(finding) for finding in findings) + "\n"


def as_json(findings: Sequence[Finding]) -> str:
    checks = [asdict(finding) for finding in findings]
    return json.dumps({"ok": is_healthy(findings), "checks": checks}, indent=2) + "\n"


def _line(finding: Finding) -> str:
    advice = f" -> {finding.advice}" if finding.advice else ""
    return f"{finding.outcome:8} {finding.name:12} {finding.found}{advice}"
