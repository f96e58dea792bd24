"""Turns tokens into text as they come. Never shows half a character."""

from collections.abc import Sequence

from tokenizers import Tokenizer

_INCOMPLETE = "\ufffd"  # what the decoder puts for bytes that are no whole character yet


class IncrementalDetokenizer:
    """Decodes a growing list of ids through a small window.

    The window starts at the last boundary that gave whole text, since a token's text may
    depend on the one before it (the method is Hugging Face's text-generation-inference's).
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._context_ids: list[int] = []  # shown already; they give the new ids their context
        self._new_ids: list[int] = []

    def add(self, token_ids: Sequence[int]) -> str:
        """The text that became whole by these tokens; bytes of a cut character wait."""
        self._new_ids += token_ids
        text = self._new_text()
        if not text or text.endswith(_INCOMPLETE):
            return ""
        self._context_ids, self._new_ids = self._new_ids, []
        return text

    def finish(self) -> str:
        """The rest, with a replacement character for bytes that stayed incomplete."""
        text = self._new_text()
        self._context_ids, self._new_ids = [], []
        return text

    def _new_text(self) -> str:
        context = self._decode(self._context_ids)
        return self._decode(self._context_ids + self._new_ids)[len(context) :]

    def _decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=self._skip_special_tokens)
