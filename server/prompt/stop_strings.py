"""Cuts an answer at its stop strings. Never shows a part of one, also across deltas."""


class StopStringMatcher:
    """Text in, text out, until the first stop string is complete.

    Of several stop strings the one that is complete first wins, so the cut does not depend on
    how the text was divided into deltas.
    """

    def __init__(self, stop: tuple[str, ...] = (), *, include: bool = False) -> None:
        self._stop = tuple(text for text in stop if text)
        self._include = include
        self._held = ""
        self.found = ""  # the one that ended the answer

    def feed(self, text: str) -> tuple[str, bool]:
        """What may be shown now, and whether a stop string ended the answer."""
        text = self._held + text
        if (match := self._first_match(text)) is not None:
            start, end = match
            self._held, self.found = "", text[start:end]
            return text[: end if self._include else start], True
        num_held = self._num_held(text)
        self._held = text[len(text) - num_held :]
        return text[: len(text) - num_held], False

    def flush(self) -> str:
        """What was held back and, as the answer has ended, is no stop string after all."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> tuple[int, int] | None:
        matches = [(text.find(stop), stop) for stop in self._stop]
        found = [(start + len(stop), start) for start, stop in matches if start >= 0]
        if not found:
            return None
        end, start = min(found)
        return start, end

    def _num_held(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if stop.startswith(text[-length:]):
                    longest = length
                    break
        return longest
