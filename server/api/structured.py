"""Structured outputs: what the client wants the answer to look like → one grammar.

OpenAI's `response_format` and vLLM's `structured_outputs`. The grammars are llguidance's; it
checks them here, without a vocabulary, so that a bad one is a 400 before anything else is done.
"""

import json
from collections.abc import Iterator
from typing import Any

from llguidance import LLMatcher
from llguidance.gbnf_to_lark import any_to_lark

from server.api.schemas import (
    MAX_GRAMMAR_CHARS,
    ChatCompletionRequest,
    ResponseFormat,
    SamplingFields,
    StructuredOutputs,
    Tool,
)
from server.api.tool_grammar import JSON_STYLE, tool_grammar
from server.errors import InvalidRequestError

_MAX_PROBLEM_CHARS = 200
_ANY_OBJECT = {"type": "object"}

Wanted = tuple[str, str]  # (the field, llguidance's grammar)


def is_structured(request: SamplingFields) -> bool:
    wishes = (request.response_format, request.structured_outputs, _tools(request))
    return any(wish is not None for wish in wishes)


def find_grammar(request: SamplingFields, marks_are_tokens: bool) -> str:
    """The grammar that the answer must obey; empty for none. Raises InvalidRequestError.

    `marks_are_tokens`: the vocabulary has the marks of tool calls.

    Takes milliseconds for large schemas: call it off the event loop.
    """
    wanted = [
        *_of_format(request.response_format),
        *_of_outputs(request.structured_outputs),
        *_of_tools(request, marks_are_tokens),
    ]
    if len(wanted) > 1:
        raise InvalidRequestError(
            f"{wanted[0][0]} and {wanted[1][0]} exclude each other; send one of them.",
            param=wanted[1][0],
            code="invalid_parameter_combination",
        )
    for param, grammar in wanted:
        _check(param, grammar)
        return grammar
    return ""


def _of_format(wish: ResponseFormat | None) -> Iterator[Wanted]:
    if wish is None or wish.type == "text":
        return
    if wish.type == "json_object":
        yield "response_format", _json(_ANY_OBJECT, "response_format")
    elif wish.json_schema is None:
        raise InvalidRequestError(
            "Field required.",
            param="response_format.json_schema",
            code="missing_required_parameter",
        )
    else:
        param = "response_format.json_schema.schema"
        yield param, _json(wish.json_schema.json_schema, param)


def _of_outputs(wish: StructuredOutputs | None) -> Iterator[Wanted]:
    if wish is None:
        return
    param = "structured_outputs"
    if wish.json_ is not None:
        yield f"{param}.json", _json(_parsed(wish.json_, f"{param}.json"), f"{param}.json")
    if wish.json_object:
        yield f"{param}.json_object", _json(_ANY_OBJECT, param)
    if wish.regex is not None:
        yield f"{param}.regex", LLMatcher.grammar_from_regex(wish.regex)
    if wish.choice is not None:
        yield f"{param}.choice", _one_of(wish.choice)
    if wish.grammar is not None:
        yield f"{param}.grammar", _lark(wish.grammar, f"{param}.grammar")


def _tools(request: SamplingFields) -> list[Tool] | None:
    return request.tools if isinstance(request, ChatCompletionRequest) else None


def _of_tools(request: SamplingFields, marks_are_tokens: bool) -> Iterator[Wanted]:
    """What the model may call freely is only checked, as far as schemas go."""
    if not isinstance(request, ChatCompletionRequest):
        return
    for index, tool in enumerate(request.tools or ()):
        schema = {**_ANY_OBJECT, **(tool.function.parameters or {})}
        param = f"tools[{index}].function.parameters"
        _check(param, _json(schema, param, is_lenient=not tool.function.strict))
    if grammar := tool_grammar(request, marks_are_tokens):
        yield "tool_choice", LLMatcher.grammar_from_lark(grammar)


def _parsed(schema: dict[str, Any] | str, param: str) -> Any:
    """vLLM takes a schema as text too."""
    if isinstance(schema, dict):
        return schema
    try:
        return json.loads(schema)
    except (ValueError, RecursionError):
        raise _refusal(param, "The schema is not valid JSON.") from None


def _json(schema: Any, param: str, *, is_lenient: bool = False) -> str:
    """`is_lenient`: keywords that cannot be enforced are left out."""
    if len(json.dumps(schema)) > MAX_GRAMMAR_CHARS:
        raise _refusal(param, f"The schema is longer than {MAX_GRAMMAR_CHARS} characters.")
    options: Any = JSON_STYLE | {"lenient": is_lenient}
    return LLMatcher.grammar_from_json_schema(schema, overrides=options)


def _one_of(choices: list[str]) -> str:
    """JSON's strings are Lark's."""
    quoted = (json.dumps(choice, ensure_ascii=False) for choice in choices)
    return LLMatcher.grammar_from_lark(f"start: {' | '.join(quoted)}")


def _lark(text: str, param: str) -> str:
    """Lark, or the GBNF that llama.cpp and xgrammar speak."""
    try:
        return LLMatcher.grammar_from_lark(any_to_lark(text))
    except Exception:  # a converter of few words: ValueError, IndexError, RecursionError, ...
        raise _refusal(param, "This is neither a Lark grammar nor GBNF.") from None


def _check(param: str, grammar: str) -> None:
    problem: str = LLMatcher.validate_grammar(grammar)
    if problem:
        first_line = problem.splitlines()[0]
        raise _refusal(param, f"This cannot be enforced: {first_line[:_MAX_PROBLEM_CHARS]}")


def _refusal(param: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param=param, code="invalid_value")
