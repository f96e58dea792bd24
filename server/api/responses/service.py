"""POST /v1/responses, and what was answered there before: read, listed, deleted, gone on from."""

import re
import uuid
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from server.api.answer import Answer
from server.api.answering import Answering, Work
from server.api.batches.execute import behind_all
from server.api.conversation import Translated
from server.api.parts import Parts
from server.api.prepare import ChatPreparation
from server.api.responses.form import ResponsesFormat
from server.api.responses.output import is_json
from server.api.responses.schemas import InputItem, ResponsesRequest
from server.api.responses.store import ResponseStore, StoredResponse
from server.api.responses.translate import Asked, parse_responses_request, responses_request
from server.api.schemas import FUNCTION_NAME, Message
from server.api.translate import check_model
from server.api.wire import dumps
from server.errors import InvalidRequestError, UnsupportedParameterError

MAX_LISTED = 100
_ANSWER_BYTES = 1 << 20  # room for what will be said
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco"}


class ResponsesService:
    """Owns the store."""

    def __init__(self, parts: Parts, answering: Answering, preparation: ChatPreparation) -> None:
        self._parts = parts
        self._answering = answering
        self._preparation = preparation
        self._store = ResponseStore(parts.settings.response_store_bytes)

    async def create(self, http: Request) -> Response:
        """Answer input items, or go on from an earlier answer."""
        asked = await self._answering.read(http, parse_responses_request)
        check_model(asked.wire.model, self._parts.model_name)
        work = self._work(asked, http.state.request_id)
        is_streamed = bool(asked.wire.stream)
        return await self._answering.respond(http, work.begin, work.form, is_streamed=is_streamed)

    def of_batch(self, content: dict[str, Any], request_id: str) -> Work:
        """A line of a batch: stored only if it says so, as many lines would displace the others.

        Raises ApiError.
        """
        store = content.get("store") or False
        asked = responses_request(content | {"store": store})
        request = behind_all(asked.translated.request, self._parts.model_name)
        translated = replace(asked.translated, request=request)
        return self._work(replace(asked, translated=translated), request_id)

    def _work(self, asked: Asked, request_id: str) -> Work:
        translated = self._with_history(asked)
        items = [_with_id(item) for item in asked.wire.input]
        is_stored = self._is_stored(asked.wire, items, translated)

        def keep(body: dict[str, Any]) -> None:
            if is_stored:
                turns = [*translated.turns, *_answer_turn(body["output"])]
                self._store.put(body["id"], StoredResponse(body, items, turns))

        async def begin(answer: Answer) -> None:
            with translated.paths.restored():
                await self._preparation.begin(translated.request, answer)

        form = ResponsesFormat(
            asked.wire,
            self._parts,
            request_id,
            with_calls=bool(translated.request.usable_tools),
            is_stored=is_stored,
            on_end=keep,
        )
        return Work(begin, form)

    async def retrieve(self, http: Request) -> Response:
        """A response that was stored."""
        _check_query(http, {"include": "", "stream": "false"})
        return _json(self._store.get(http.path_params["response_id"]).body)

    async def delete(self, http: Request) -> Response:
        """Forget a response; those that went on from it stay."""
        response_id = http.path_params["response_id"]
        self._store.delete(response_id)
        return _json({"id": response_id, "object": "response", "deleted": True})

    async def input_items(self, http: Request) -> Response:
        """What a stored response was asked."""
        _check_query(http, {"include": "", "limit": None, "order": None, "after": None})
        items = self._store.get(http.path_params["response_id"]).input_items
        return _json(_page(items, http))

    def _with_history(self, asked: Asked) -> Translated:
        translated, previous = asked.translated, asked.wire.previous_response_id
        if previous is not None:
            history = self._store.previous(previous)
            translated = translated.after(history, "previous_response_id")
        translated.check_results()
        return translated

    def _is_stored(
        self, wire: ResponsesRequest, items: list[dict[str, Any]], translated: Translated
    ) -> bool:
        """Raises InvalidRequestError for what would not be there when it is asked for."""
        max_bytes = self._store.max_bytes
        if wire.store is False or (wire.store is None and not max_bytes):
            return False
        settings = wire.model_dump(exclude={"input"})
        known = StoredResponse(settings, items, translated.turns)
        if known.num_bytes + _ANSWER_BYTES > max_bytes:
            raise InvalidRequestError(
                "The conversation is too large to be stored; send store as false.",
                param="store",
                code="invalid_value",
            )
        return True


def _answer_turn(output: list[dict[str, Any]]) -> list[Message]:
    """The answer as a turn to go on from. Calls that were cut off are no part of it."""
    texts = [item["content"][0]["text"] for item in output if item["type"] == "message"]
    calls = [
        {
            "id": item["call_id"],
            "type": "function",
            "function": {"name": item["name"], "arguments": item["arguments"]},
        }
        for item in output
        if item["type"] == "function_call"
        and is_json(item["arguments"])
        and re.match(FUNCTION_NAME, item["name"])
    ]
    turn = {"role": "assistant", "content": "".join(texts), "tool_calls": calls or None}
    return [Message.model_validate(turn)] if calls or any(texts) else []


def _with_id(item: InputItem) -> dict[str, Any]:
    kind = item.type or "message"
    head = {"id": f"{_PREFIXES[kind]}_{uuid.uuid4().hex}", "type": kind, "status": "completed"}
    return head | item.model_dump(exclude_none=True)


def _page(items: list[dict[str, Any]], http: Request) -> dict[str, Any]:
    """OpenAI's lists: the newest first, after a cursor."""
    order = http.query_params.get("order", "desc")
    limit = http.query_params.get("limit", "20")
    after = http.query_params.get("after")
    if order not in ("asc", "desc"):
        raise _bad_query("order", "order is asc or desc.")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_LISTED):
        raise _bad_query("limit", f"limit lies between 1 and {MAX_LISTED}.")
    ordered = items if order == "asc" else items[::-1]
    ids = [item["id"] for item in ordered]
    if after is not None and after not in ids:
        raise _bad_query("after", "There is no such item.")
    rest = ordered[ids.index(after) + 1 :] if after is not None else ordered
    shown = rest[: int(limit)]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(rest) > len(shown),
    }


def _check_query(http: Request, known: dict[str, str | None]) -> None:
    """Raises UnsupportedParameterError. `known`: the only value of each; None: any."""
    for name, value in http.query_params.multi_items():
        if name not in known or known[name] not in (None, value):
            name = ascii(name[:64])[1:-1]
            raise UnsupportedParameterError("This parameter is not supported.", param=name)


def _bad_query(name: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param=name, code="invalid_value")


def _json(content: dict[str, Any]) -> Response:
    return Response(dumps(content), media_type="application/json")
