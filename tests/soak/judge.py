"""Says which outcomes are wrong. Knows the times at which no worker was there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.soak.client import End, Outcome
from tests.soak.plan import Manner
from tests.soak.shapes import Endpoint

_WITHOUT_WORKER = ("engine_crashed", "server_not_ready")
_UNNAMED = ("api_error", "overloaded_error", "server_error")  # where an API has no codes
_BUG = "This is a bug"


@dataclass(frozen=True, slots=True)
class Absence:
    """From the worker's death until another one was ready, by the monotonic clock."""

    began: float
    ended: float


class Judge:
    """`right` has the answers to known questions, asked alone, by name and endpoint."""

    def __init__(self, right: Mapping[tuple[str, Endpoint], str]) -> None:
        self._right = right

    def fault(self, outcome: Outcome, absences: Sequence[Absence]) -> str | None:
        """What is wrong with it, in words; None when nothing is."""
        if outcome.end is End.LOST:
            return f"lost: {outcome.words}"
        if outcome.end is End.LEFT:
            return None
        if outcome.end is End.REFUSED:
            return self._refusal_fault(outcome, absences)
        if outcome.plan.manner is Manner.BRINGS_BAD_MEDIA:
            return "bad media was answered"
        return self._answer_fault(outcome)

    def _refusal_fault(self, outcome: Outcome, absences: Sequence[Absence]) -> str | None:
        told = f"{outcome.status} {outcome.code}: {outcome.words}"
        if _BUG in outcome.words:
            return told
        if outcome.plan.manner is Manner.BRINGS_BAD_MEDIA and _is_about_media(outcome):
            return None
        if outcome.code == "request_quarantined" or "is refused for an hour" in outcome.words:
            return None if len(absences) > 1 else told
        is_excused = any(a.began <= outcome.ended and outcome.began <= a.ended for a in absences)
        is_of_absence = outcome.code in (*_WITHOUT_WORKER, *_UNNAMED)
        return None if is_excused and is_of_absence else told

    def _answer_fault(self, outcome: Outcome) -> str | None:
        plan = outcome.plan
        if plan.known is not None:
            right = self._right[plan.known.name, plan.endpoint]
            said = outcome.texts[0]
            return None if said == right else f"{plan.known.name}: {said!r} is not {right!r}"
        if plan.schema is not None and outcome.reasons[0] in ("stop", "completed", "end_turn"):
            return None if _fits(outcome.texts[0]) else f"{outcome.texts[0]!r} is not as asked"
        return None


def _is_about_media(outcome: Outcome) -> bool:
    if outcome.status != 400:
        return False
    return outcome.code.startswith("media_") or outcome.words.startswith("messages[")


def _fits(text: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return set(value) == {"color", "count"} and value["color"] in ("red", "blue")
