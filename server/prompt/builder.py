"""From a conversation to token ids and media spans: template, control tokens, expansion.

Equal, token for token, to transformers' `InternVLProcessor`, except that user text can never
become a control token: the template is rendered with stand-ins for user text, split at the
control tokens that it wrote itself, and only then is the user's text put back. Each run
between two control tokens is encoded as one string, so merges across the borders are kept.
"""

import asyncio
from collections.abc import Iterator, Sequence

from model_runtime.checkpoint import Checkpoint
from model_runtime.protocol import MediaSpan
from server.errors import ContextLengthError
from server.media.types import PlannedMedia, PlannedTiles
from server.prompt.detokenizer import IncrementalDetokenizer
from server.prompt.stand_ins import StandIns
from server.prompt.template import ChatTemplate
from server.prompt.tokens import PromptTokenizer
from server.prompt.tools import Tools, with_tools
from server.prompt.types import ChatMessage, Ending, MediaPart, PreparedPrompt, TextPart

LONG_TEXT_CHARS = 8_000  # beyond this, tokenising takes milliseconds: off the event loop


class PromptBuilder:
    """Builds prompts for one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, max_model_len: int) -> None:
        self._tokens = PromptTokenizer(checkpoint.path, checkpoint.special_tokens)
        self._template = ChatTemplate(checkpoint.chat_template)
        self._context_id = checkpoint.image_token_id
        self._tokens_per_tile = checkpoint.tiles.tokens_per_tile
        self.max_model_len = max_model_len
        self.num_neutralised = 0  # control tokens that users typed and that stayed text

    async def prepare(
        self,
        messages: Sequence[ChatMessage],
        ending: Ending = "generation_prompt",
        tools: Tools = (),
    ) -> PreparedPrompt:
        """`build`, off the event loop when the text is long."""
        if tools or sum(map(len, _texts(messages))) > LONG_TEXT_CHARS:
            return await asyncio.to_thread(self.build, messages, ending, tools)
        return self.build(messages, ending)

    def build(
        self,
        messages: Sequence[ChatMessage],
        ending: Ending = "generation_prompt",
        tools: Tools = (),
    ) -> PreparedPrompt:
        """Raises ContextLengthError or InvalidRequestError; both name `messages`.

        `tools`: functions that the model may call, as the client wrote them.
        """
        if not self._template.knows_tools:
            messages, tools = with_tools(messages, tools), ()
        self._refuse_hopeless(messages)
        stand_ins = StandIns()
        rendered = self._template.render(
            stand_ins.in_messages(messages),
            add_generation_prompt=ending == "generation_prompt",
            tools=[stand_ins.in_json(tool) for tool in tools],
        )
        if ending == "open":
            rendered = stand_ins.cut_after_last(rendered)
        assembly = _Assembly(self._tokens, self._context_id, self._tokens_per_tile)
        self._assemble(assembly, stand_ins.split(rendered), _media(messages))
        prompt = assembly.finish()
        self._refuse_long(len(prompt.token_ids))
        self.num_neutralised += sum(map(self._tokens.count_control, stand_ins.texts))
        return prompt

    def detokenizer(self, skip_special_tokens: bool = True) -> IncrementalDetokenizer:
        """A fresh detokenizer for one answer."""
        return IncrementalDetokenizer(
            self._tokens.tokenizer, skip_special_tokens=skip_special_tokens
        )

    def token_bytes(self, token_id: int) -> bytes:
        """What a token stands for; of a control token, its name."""
        return self._tokens.token_bytes(token_id)

    def has_token(self, text: str) -> bool:
        """One token of the vocabulary is this text."""
        return self._tokens.tokenizer.token_to_id(text) is not None

    async def encode(self, text: str) -> list[int]:
        """Ids of plain text, in which nothing becomes a control token."""
        if len(text) > LONG_TEXT_CHARS:
            return await asyncio.to_thread(self._tokens.encode, text)
        return self._tokens.encode(text)

    async def plain(self, text: str) -> list[int]:
        """`encode` of a prompt: control tokens that it spells are counted."""
        self.num_neutralised += self._tokens.count_control(text)
        return await self.encode(text)

    def least_tokens(self, num_chars: int) -> int:
        """Text of this length has at least so many; takes no work."""
        return num_chars // self._tokens.longest_token_chars

    async def decode(self, token_ids: list[int]) -> str:
        """The text of tokens, control tokens included."""
        return await asyncio.to_thread(
            self._tokens.tokenizer.decode, token_ids, skip_special_tokens=False
        )

    def bad_word_ids(self, word: str) -> list[tuple[int, ...]]:
        """The token sequences that write `word`: at a text's beginning, and after a space."""
        plain, spaced = (self._tokens.encode(text) for text in (word, " " + word.lstrip()))
        found = [tuple(plain)] if plain else []
        # As in vLLM: the spaced form counts when it differs in its first token only.
        if spaced and len(spaced) == len(plain) and spaced[0] != plain[0]:
            found.append(tuple(spaced))
        return found

    def _assemble(
        self,
        assembly: "_Assembly",
        pieces: list[tuple[str, bool]],
        media: Iterator[PlannedMedia],
    ) -> None:
        special = self._tokens.special_tokens
        for piece, is_user_text in pieces:
            if is_user_text:
                assembly.add_text(piece)
                continue
            for text, is_control in self._tokens.split_control(piece):
                if text in (special.image_context, special.video):
                    assembly.add_media(next(media))
                elif is_control:
                    assembly.add_token(self._tokens.control_id(text))
                else:
                    assembly.add_text(text)
        assert next(media, None) is None, "the template dropped a media part. This is a bug."

    def _refuse_hopeless(self, messages: Sequence[ChatMessage]) -> None:
        """Text so long that it cannot fit is refused before any work on it."""
        num_chars = sum(map(len, _texts(messages)))
        self._refuse_long(self.least_tokens(num_chars), at_least_word="at least ")

    def _refuse_long(self, num_tokens: int, at_least_word: str = "") -> None:
        if num_tokens >= self.max_model_len:
            raise ContextLengthError(
                f"The prompt has {at_least_word}{num_tokens} tokens, but the model's context "
                f"holds {self.max_model_len} including the answer. Shorten the messages or send "
                "fewer or smaller media.",
                param="messages",
            )


class _Assembly:
    """A prompt under construction: ids so far, and the plain run that is not encoded yet."""

    def __init__(self, tokens: PromptTokenizer, context_id: int, tokens_per_tile: int) -> None:
        self._tokens = tokens
        self._context_id = context_id
        self._tokens_per_tile = tokens_per_tile
        self._token_ids: list[int] = []
        self._run: list[str] = []
        self._spans: list[MediaSpan] = []
        self._media: list[PlannedMedia] = []

    def add_text(self, text: str) -> None:
        self._run.append(text)

    def add_token(self, token_id: int) -> None:
        self._end_run()
        self._token_ids.append(token_id)

    def add_media(self, media: PlannedMedia) -> None:
        """An image is one run of placeholders, a video one labelled line per frame."""
        self._media.append(media)
        for index, tiles in enumerate(media.tile_sets):
            if media.kind == "video":
                self.add_text(f"{chr(10) if index else ''}Frame{index + 1}: ")
            self._add_tiles(tiles)

    def finish(self) -> PreparedPrompt:
        self._end_run()
        num_tiles = {
            kind: sum(media.num_tiles for media in self._media if media.kind == kind)
            for kind in ("image", "video")
        }
        return PreparedPrompt(
            token_ids=self._token_ids,
            spans=self._spans,
            num_media=len(self._media),
            num_image_tokens=num_tiles["image"] * self._tokens_per_tile,
            num_video_tokens=num_tiles["video"] * self._tokens_per_tile,
            num_image_tiles=num_tiles["image"],
            num_video_frames=num_tiles["video"],
        )

    def _add_tiles(self, tiles: PlannedTiles) -> None:
        """`<img>`, the placeholders, `</img>`."""
        self.add_token(self._tokens.image_start_id)
        num_tokens = tiles.num_tiles * self._tokens_per_tile
        self._spans.append(MediaSpan(len(self._token_ids), num_tokens, tiles.content_hash))
        self._token_ids += [self._context_id] * num_tokens
        self.add_token(self._tokens.image_end_id)

    def _end_run(self) -> None:
        if self._run:
            self._token_ids += self._tokens.encode("".join(self._run))
            self._run.clear()


def _texts(messages: Sequence[ChatMessage]) -> Iterator[str]:
    return (part.text for m in messages for part in m.parts if isinstance(part, TextPart))


def _media(messages: Sequence[ChatMessage]) -> Iterator[PlannedMedia]:
    return (part.media for m in messages for part in m.parts if isinstance(part, MediaPart))
