"""The checkpoint's tokenizer, with control tokens that only we can write.

Text from users is encoded with `encode_special_tokens`: a typed `<IMG_CONTEXT>` or
`<|im_end|>` stays the characters it is. Control tokens enter a prompt by their id. The marks of
grounding (`<ref>cat</ref><box>[[…]]</box>`) are the exception: they are part of what people ask,
and can neither end a turn nor stand for a picture.
"""

import json
import re
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from model_runtime.checkpoint import CheckpointError, SpecialTokens

_GROUNDING = ("<ref>", "</ref>", "<box>", "</box>")
_GROUNDING_PATTERN = re.compile(f"({'|'.join(_GROUNDING)})")


class TokenizerError(Exception):
    """A text that the tokenizer cannot bear."""


class PromptTokenizer:
    """Encodes plain runs of text, and knows the ids of the control tokens."""

    def __init__(self, folder: Path, special_tokens: SpecialTokens) -> None:
        self.tokenizer = _load(folder, special_tokens)
        self.tokenizer.encode_special_tokens = True
        added = self.tokenizer.get_added_tokens_decoder()
        self._added_text = {i: t.content for i, t in added.items()}
        self._control_ids = {t.content: i for i, t in added.items() if t.special}
        self.special_tokens = special_tokens
        self.image_start_id = self._control_ids[special_tokens.image_start]
        self.image_end_id = self._control_ids[special_tokens.image_end]
        longest_first = sorted(self._control_ids, key=len, reverse=True)
        self._control_pattern = re.compile("|".join(map(re.escape, longest_first)))
        self._grounding_ids = {t: i for t, i in self._control_ids.items() if t in _GROUNDING}
        self.longest_token_chars = max(map(len, self.tokenizer.get_vocab()))

    def encode(self, text: str) -> list[int]:
        """Ids of users' text. Raises TokenizerError."""
        ids: list[int] = []
        for piece in _GROUNDING_PATTERN.split(text):
            known = self._grounding_ids.get(piece)
            ids += [known] if known is not None else self._plain(piece)
        return ids

    def _plain(self, text: str) -> list[int]:
        try:
            ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # Rust's, which is no Exception
                raise
            raise TokenizerError("The tokenizer panicked.") from error
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes behind an id; empty for an id without a token (padding of the vocabulary)."""
        added = self._added_text.get(token_id)
        if added is not None:
            return added.encode()
        token = self.tokenizer.id_to_token(token_id) or ""
        return bytes(_BYTE_OF[char] for char in token if char in _BYTE_OF)

    def control_id(self, token: str) -> int:
        return self._control_ids[token]

    def split_control(self, text: str) -> list[tuple[str, bool]]:
        """Pieces of template text, each with whether it is a control token."""
        pieces, position = [], 0
        for match in self._control_pattern.finditer(text):
            pieces.append((text[position : match.start()], False))
            pieces.append((match.group(), True))
            position = match.end()
        pieces.append((text[position:], False))
        return [(piece, is_control) for piece, is_control in pieces if piece]

    def count_control(self, text: str) -> int:
        """How often user text spells a control token that stays text."""
        found = self._control_pattern.finditer(text)
        return sum(1 for match in found if match.group() not in self._grounding_ids)


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE (GPT-2, Radford et al., 2019) writes printable bytes as themselves and the
    others as the characters from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    as_themselves = {chr(byte): byte for byte in printable}
    return as_themselves | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()


def _load(folder: Path, special_tokens: SpecialTokens) -> Tokenizer:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise CheckpointError(f"There is no tokenizer.json in {folder}.")
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    media = {
        special_tokens.image_start,
        special_tokens.image_end,
        special_tokens.image_context,
        special_tokens.video,
    }
    for token in content["added_tokens"]:
        token["special"] = token["special"] or token["content"] in media
    missing = media - {token["content"] for token in content["added_tokens"]}
    if missing:
        raise CheckpointError(f"The tokenizer lacks the media tokens {sorted(missing)}.")
    return Tokenizer.from_str(json.dumps(content))
