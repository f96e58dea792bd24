"""Renders the checkpoint's own chat template, sandboxed. Knows Jinja; no tokens, no pixels.

The environment is that of transformers' `apply_chat_template`, so templates mean the same.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import meta
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from server.errors import InvalidRequestError

MAX_RENDERED_CHARS = 64_000_000  # user text is not in it: placeholders stand for it


class ChatTemplate:
    """A compiled chat template."""

    def __init__(self, source: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        self._template = environment.from_string(source)
        names = meta.find_undeclared_variables(environment.parse(source))
        self.knows_tools = "tools" in names

    def render(
        self,
        messages: list[dict[str, Any]],
        *,
        add_generation_prompt: bool,
        tools: Sequence[dict[str, Any]] = (),
    ) -> str:
        """Raises InvalidRequestError when the template refuses the conversation."""
        try:
            text = self._template.render(
                messages=messages, add_generation_prompt=add_generation_prompt, tools=tools or None
            )
        except jinja2.TemplateError as error:
            raise InvalidRequestError(
                "The model's chat template does not accept this conversation: check the roles "
                "and their order.",
                param="messages",
            ) from error
        if len(text) > MAX_RENDERED_CHARS:
            raise InvalidRequestError("The conversation is too large.", param="messages")
        return text


def _to_json(value: Any, indent: int | None = None) -> str:
    """Like transformers' filter: plain JSON, not escaped for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
