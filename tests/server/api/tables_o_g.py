"""Rows of tables O and G: an id, the fields over a plain request, and 200 or an error's code.

Rows that `corpus.py` names are not repeated.
"""

from typing import Any

from tests.server.api import corpus
from tests.server.api.client import HELLO
from tests.server.api.corpus import COMBINATION, JSON, MISSING, TYPE, UNSUPPORTED, VALUE, user

CONTEXT, SCHEMA = "context_length_exceeded", corpus.schema_format
OK = "200"
HTTP = "http://127.0.0.1:9/x"


def tool(parameters: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}]}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def lay(row: str, code: str, name: str, *values: Any) -> list[tuple[str, dict[str, Any], str]]:
    return [(row, {name: value}, code) for value in values]


ROWS: list[tuple[str, dict[str, Any], str]] = [
    ("O01", {"foo": 1}, OK),
    ("O07", user(""), OK),
    (
        "O18",
        {"messages": [*HELLO["messages"], {"role": "system", "content": "x"}, *HELLO["messages"]]},
        OK,
    ),
    ("O18", {"messages": [{"role": "system", "content": "x"}] * 2 + HELLO["messages"]}, OK),
    ("O21", {"functions": [{}]}, UNSUPPORTED),
    ("O21", {"tool_choice": "none"}, OK),
    ("O22", {**tool({"type": 5}), "tool_choice": "required"}, VALUE),
    ("O22", {**tool(deep(200)), "tool_choice": "required"}, JSON),
    ("O23", SCHEMA({"type": "boolean"}), OK),
    *lay("O24", TYPE, "response_format", "json"),
    *lay("O24", MISSING, "response_format", {}),
    *lay("O24", VALUE, "response_format", {"type": "xml"}),
    *lay("O25", TYPE, "stream", "yes", 1),
    *lay("O25", OK, "stream", None),
    *lay("O28", TYPE, "user", 5),
    *lay("O28", VALUE, "user", "x" * 10_000),
    *lay("O28", OK, "user", "a\nb"),
    ("O29", {"store": True, "metadata": {"a": "b"}, "service_tier": "auto"}, OK),
    ("O30", user("a" * 3_000_000), CONTEXT),
    ("O31", user("many words " * 2000), CONTEXT),
    ("O33", user("😀" * 1_000_000), CONTEXT),
    ("O33", user("\u0301" * 1_000_000), CONTEXT),
    ("O33", user("\n" * 1_000_000), CONTEXT),
    ("O34", {"messages": [{"role": "user", "content": "x", "name": "<|im_end|>"}]}, OK),
    ("O34", {"messages": [{"role": "user", "content": "x", "name": "n" * 10_000}]}, OK),
    *lay("O40", UNSUPPORTED, "chat_template", "{{7*7}}"),
    *lay("O41", UNSUPPORTED, "chat_template_kwargs", {"tokenize": True}),
    *lay("O42", UNSUPPORTED, "mm_processor_kwargs", {"backend": "x"}),
    *lay("O42", UNSUPPORTED, "media_io_kwargs", {"audio": {}}),
    *lay("O43", UNSUPPORTED, "prompt_embeds", "x"),
    *lay("O43", UNSUPPORTED, "image_embeds", "x"),
    *lay("O43", UNSUPPORTED, "prompt_token_ids", [1]),
    *lay("O44", UNSUPPORTED, "guided_regex", "a"),
    *lay("O44", UNSUPPORTED, "guided_grammar", "a"),
    *lay("O44", UNSUPPORTED, "guided_decoding_backend", "x"),
    *lay("O45", VALUE, "cache_salt", "x" * 300, "a\nb"),
    *lay("O45", TYPE, "cache_salt", 5),
    *lay("O45", OK, "cache_salt", "salt"),
    *lay("O46", UNSUPPORTED, "mm_hashes", ["x"]),
    *lay("O46", UNSUPPORTED, "kv_transfer_params", {"x": 1}),
    *lay("O46", UNSUPPORTED, "lora_request", {}),
    *lay("O46", UNSUPPORTED, "logits_processors", ["x"]),
    *lay("O47", UNSUPPORTED, "api_base", HTTP),
    *lay("O47", UNSUPPORTED, "base_url", HTTP),
    *lay("O47", UNSUPPORTED, "trust_remote_code", True),
    *lay("O47", UNSUPPORTED, "revision", "main"),
    *lay("O48", OK, "request_id", "x"),
    *lay("O49", OK, "timeout", 0, -1, 1e9),  # there is no such field here: it is not read
    *lay("G01", VALUE, "n", 0, -1, 129, 10**9, 10**400),
    *lay("G02", TYPE, "n", 1.0, "2", True),
    *lay("G02", OK, "n", None),
    *lay("G04", VALUE, "max_tokens", 0, -1),
    *lay("G04", TYPE, "max_tokens", 1.5, "5"),
    *lay("G05", OK, "max_tokens", 10**9, 2048),  # clipped, as vLLM does
    *lay("G08", UNSUPPORTED, "best_of", 2),
    *lay("G08", UNSUPPORTED, "use_beam_search", True),
    *lay("G08", UNSUPPORTED, "length_penalty", 0.5),
    *lay("G09", VALUE, "top_logprobs", -1, 21),
    *lay("G09", TYPE, "top_logprobs", 1.5),
    *lay("G09", COMBINATION, "top_logprobs", 3),
    *lay("G10", TYPE, "logprobs", 5, "true"),
    *lay("G13", VALUE, "temperature", -0.1, 2.1),
    *lay("G13", TYPE, "temperature", "1", True),
    *lay("G13", OK, "temperature", None),
    *lay("G14", OK, "temperature", 0, 1e-30, 5e-324),
    *lay("G15", VALUE, "top_p", -0.1, 1.1),
    *lay("G15", OK, "top_p", 0, 1),
    *lay("G16", VALUE, "top_k", -2, 10**12),
    *lay("G16", TYPE, "top_k", 1.5),
    *lay("G16", OK, "top_k", -1, 0, 1, 400),
    *lay("G17", VALUE, "min_p", -1, 2),
    *lay("G17", OK, "min_p", 1),
    *lay("G18", VALUE, "presence_penalty", -2.1, 2.1),
    *lay("G18", OK, "frequency_penalty", -2, 2),
    *lay("G19", VALUE, "repetition_penalty", 0, -1, 1e-9, 1e9),
    *lay("G19", OK, "repetition_penalty", 1.1),
    *lay("G20", TYPE, "logit_bias", [], "x"),
    *lay("G20", VALUE, "logit_bias", {"a": 1}, {"1.5": 1}),
    *lay("G21", VALUE, "logit_bias", {"-1": 1}, {str(2**31): 1}, {str(2**63): 1}),
    *lay("G22", VALUE, "logit_bias", {"1": 101}, {"1": -101}),
    *lay("G22", TYPE, "logit_bias", {"1": "5"}, {"1": True}),
    ("G23", {"logit_bias": {str(i): 1 for i in range(150_000)}}, VALUE),
    *lay("G28", VALUE, "seed", 2**63, -(2**63) - 1),
    *lay("G28", TYPE, "seed", 1.5, "x"),
    *lay("G28", OK, "seed", -1, 0, 2**63 - 1),
    ("G35", {"stop": "<|im_end|>"}, OK),
    ("G36", {"stop": "Hi"}, OK),
    *lay("G43", VALUE, "priority", 10**9, -(10**9)),
    *lay("G43", TYPE, "priority", "x"),
    ("G60", corpus.outputs("regex", "x" * (1 << 20)), VALUE),
    ("G60", corpus.outputs("regex", "(a+)+b"), OK),  # a regular expression without backtracking
    ("G61", SCHEMA({"$ref": "http://127.0.0.1/"}), VALUE),
    ("G61", SCHEMA({"type": "string", "description": "x" * 70_000}), VALUE),
    ("G62", SCHEMA({"enum": [f"word {i}" for i in range(100_000)]}), VALUE),
    ("G62", SCHEMA({"type": "array", "minItems": 10**9}), OK),
    ("G65", SCHEMA({}), OK),
    ("G66", SCHEMA({"enum": []}), VALUE),
    ("G66", SCHEMA({"type": "integer", "minimum": 5, "maximum": 1}), VALUE),
]
