"""The rows of the bad-input corpus that belong to the chat request's JSON and fields.

Each row: id, body (bytes, or fields laid over a valid request), code, param.
"""

from typing import Any

from tests.server.api.client import HELLO

JSON, TYPE, VALUE = "invalid_json", "invalid_type", "invalid_value"
MISSING, UNSUPPORTED = "missing_required_parameter", "unsupported_parameter"
COMBINATION = "invalid_parameter_combination"
FIRST = "messages[0].content[0]"
Row = tuple[str, Any, str, str | None]


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def part(**fields: Any) -> dict[str, Any]:
    return user([fields])


def raw(fields: bytes) -> bytes:
    return b'{"messages":[{"role":"user","content":"x"}],' + fields + b"}"


JSON_ROWS: list[Row] = [
    ("H20", b"", JSON, None),
    ("H21", b'{"model":', JSON, None),
    ("H22", raw(b'"n":1') + b" x", JSON, None),
    ("H22-two", raw(b'"n":1') * 2, JSON, None),
    ("H23-comment", raw(b'"n":1 /* one */'), JSON, None),
    ("H23-quotes", b"{'messages': []}", JSON, None),
    ("H23-comma", raw(b'"n":1,'), JSON, None),
    ("H24-null", b"null", TYPE, None),
    ("H24-list", b"[]", TYPE, None),
    ("H24-string", b'"x"', TYPE, None),
    ("H24-number", b"1", TYPE, None),
    ("H25", raw(b'"temperature":NaN'), JSON, None),
    ("H25-inf", raw(b'"temperature":-Infinity'), JSON, None),
    ("H26", raw(b'"temperature":1e400'), VALUE, "temperature"),
    ("H27", raw(b'"seed":' + b"9" * 5000), JSON, None),
    ("H28", b'{"messages":[{"role":"user","content":"\\ud800"}]}', JSON, None),
    ("H29", b'{"messages":[{"role":"user","content":"\xff"}]}', JSON, None),
    ("H29-overlong", b'{"messages":[{"role":"user","content":"\xc0\xaf"}]}', JSON, None),
    ("H29-utf16", '{"messages":[]}'.encode("utf-16"), JSON, None),
    ("H29-bom", b"\xef\xbb\xbf{}", JSON, None),
    ("H32-65", raw(b'"x":' + b"[" * 65 + b"]" * 65), JSON, None),
    ("H32-201", raw(b'"x":' + b"[" * 201 + b"]" * 201), JSON, None),
    ("H32-objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, JSON, None),
    ("H33", raw(b'"n":1,"n":9'), JSON, None),
    ("H33-inner", b'{"messages":[{"role":"user","role":"system","content":"x"}]}', JSON, None),
    ("H34", raw(b",".join(b'"k%d":0' % i for i in range(20_000))), VALUE, None),
]

MESSAGE_ROWS: list[Row] = [
    ("O02-type", {"model": 5}, TYPE, "model"),
    ("O03-missing", b"{}", MISSING, "messages"),
    ("O03-null", {"messages": None}, TYPE, "messages"),
    ("O03-empty", {"messages": []}, VALUE, "messages"),
    ("O03-object", {"messages": {}}, TYPE, "messages"),
    ("O03-string", {"messages": "hi"}, TYPE, "messages"),
    ("O04", {"messages": HELLO["messages"] * 513}, VALUE, "messages"),
    ("O05-string", {"messages": ["hi"]}, TYPE, "messages[0]"),
    ("O05-no-role", {"messages": [{"content": "x"}]}, MISSING, "messages[0].role"),
    ("O05-root", {"messages": [{"role": "root", "content": "x"}]}, VALUE, "messages[0].role"),
    (
        "O20",
        {"messages": [{"role": "tool", "content": "x"}]},
        MISSING,
        "messages[0].tool_call_id",
    ),
    ("O06-missing", {"messages": [{"role": "user"}]}, MISSING, "messages[0].content"),
    ("O06-null", user(None), TYPE, "messages[0].content"),
    ("O06-number", user(5), TYPE, "messages[0].content"),
    ("O06-object", user({}), TYPE, "messages[0].content"),
    ("O08", user([]), VALUE, "messages[0].content"),
    ("O09-missing", part(text="x"), MISSING, f"{FIRST}.type"),
    ("O09-foo", part(type="foo"), VALUE, f"{FIRST}.type"),
    ("O09-case", part(type="Image_URL"), VALUE, f"{FIRST}.type"),
    ("O10-missing", part(type="text"), MISSING, f"{FIRST}.text"),
    ("O10-null", part(type="text", text=None), TYPE, f"{FIRST}.text"),
    ("O12-empty", part(type="image_url", image_url={}), MISSING, f"{FIRST}.image_url.url"),
    ("O12-null", part(type="image_url", image_url={"url": None}), TYPE, f"{FIRST}.image_url.url"),
    ("O12-none", part(type="image_url"), MISSING, f"{FIRST}.image_url"),
    ("O13-other", part(type="image_url", video_url="http://h/"), MISSING, f"{FIRST}.image_url"),
    ("O13-both", part(type="image_url", image_url="http://h/", video_url="x"), VALUE, FIRST),
    (
        "O14",
        part(type="image_url", image_url={"url": "http://h/", "detail": "ultra"}),
        VALUE,
        f"{FIRST}.image_url.detail",
    ),
    ("O16", part(type="input_audio", input_audio={}), VALUE, f"{FIRST}.type"),
    ("O17-parts", user([{"type": "text", "text": "x"}] * 129), VALUE, "messages[0].content"),
    (
        "O17-images",
        user([{"type": "image_url", "image_url": "http://h/"}] * 17),
        "media_too_many",
        "messages",
    ),
    (
        "O17-videos",
        user([{"type": "video_url", "video_url": "http://h/"}] * 5),
        "media_too_many",
        "messages",
    ),
    ("O19", {"messages": [{"role": "assistant", "content": None}]}, VALUE, "messages[0].content"),
    (
        "video-both",
        part(type="video_url", video_url={"url": "http://h/", "fps": 1, "num_frames": 2}),
        COMBINATION,
        f"{FIRST}.video_url.fps",
    ),
    (
        "video-tiles",
        part(type="video_url", video_url={"url": "http://h/", "max_dynamic_patch": 2}),
        VALUE,
        f"{FIRST}.video_url.max_dynamic_patch",
    ),
    (
        "video-end-before-start",
        part(type="video_url", video_url={"url": "http://h/", "start": 2, "end": 2}),
        VALUE,
        f"{FIRST}.video_url.end",
    ),
    *(
        (
            f"O15-{role}",
            {
                "messages": [
                    {"role": role, "content": [{"type": "image_url", "image_url": "http://h/"}]}
                ]
            },
            VALUE,
            FIRST,
        )
        for role in ("system", "developer", "assistant")
    ),
]

_BAD_TYPES: dict[str, list[Any]] = {
    "stream": ["yes", 1],
    "user": [5],
    "cache_salt": [5],
    "max_tokens": [1.5, "5", True],
    "min_tokens": ["1"],
    "temperature": ["1", True],
    "top_p": ["1", [0.5]],
    "top_k": [1.5, "5"],
    "seed": [1.5, "x"],
    "stop": [5, {}],
    "priority": ["x"],
    "stop_token_ids": [5, "x"],
    "metadata": ["x"],
    "ignore_eos": ["no", 0],
    "n": ["2", True, 1.5],
    "logprobs": [5, "yes"],
    "top_logprobs": ["3", True],
    "prompt_logprobs": [1.5],
    "logit_bias": [[], {"1": "5"}, {"1": None}],
    "bad_words": ["x"],
    "allowed_token_ids": [5],
    "include_stop_str_in_output": [1],
    "skip_special_tokens": [0],
    "continue_final_message": ["yes"],
    "return_token_ids": [1],
    "response_format": ["json"],
    "structured_outputs": ["x"],
}
_BAD_VALUES: dict[str, list[Any]] = {
    "user": ["x" * 10_000],
    "cache_salt": ["x" * 300, "a\nb"],
    "max_tokens": [0, -1],
    "max_completion_tokens": [0],
    "min_tokens": [-1],
    "temperature": [-0.1, 2.1],
    "top_p": [-0.1, 1.1],
    "top_k": [-2, 10**12],
    "min_p": [-1, 2],
    "presence_penalty": [-2.1, 2.1],
    "frequency_penalty": [-2.1, 2.1],
    "repetition_penalty": [0, -1, 1e-9, 1e9],
    "seed": [2**63, -(2**63) - 1],
    "stop": [["x"] * 17],
    "priority": [10**9, -(10**9)],
    "stop_token_ids": [list(range(65))],
    "n": [0, -1, 129, 10**9],
    "top_logprobs": [-1, 21],
    "prompt_logprobs": [-1, 21],
    "logit_bias": [{"x": 5}, {"-1": 5}, {"1": 101}, {"1": -100.5}, {"1" * 5000: 1}, {"9" * 9: 1}],
    "bad_words": [["x"] * 65],
    "allowed_token_ids": [[]],
}
_UNSUPPORTED: dict[str, list[Any]] = {
    "functions": [[{}]],
    "guided_json": [{}],
    "guided_regex": ["a"],
    "best_of": [2],
    "use_beam_search": [True],
    "length_penalty": [0.5],
    "echo": [True],
    "audio": [{}],
    "modalities": [["text", "audio"]],
    "prediction": [{}],
    "web_search_options": [{}],
    "chat_template": ["{{7*7}}"],
    "chat_template_kwargs": [{"tokenize": True}],
    "prompt_embeds": ["x"],
    "mm_hashes": [["x"]],
    "lora_request": [{}],
    "trust_remote_code": [True],
    "mm_processor_kwargs": [{"backend": "x"}],
    "media_io_kwargs": [{"image": {}}],
}


CHOICE = "structured_outputs.choice"
BAD_SCHEMAS: list[dict[str, Any]] = [
    {"type": "foo"},
    {"$ref": "http://127.0.0.1/x"},
    {"$ref": "file:///etc/passwd"},
    {"$ref": "#/nowhere"},
    {"type": "string", "pattern": "(a"},
    {"type": "object", "properties": {"a": {"uniqueItems": True, "type": "array"}}},
    {"enum": ["x" * 70_000]},
]
BAD_OUTPUTS: dict[str, list[Any]] = {
    "regex": ["(a", "", "x" * 70_000],
    "choice": [[], ["x"] * 1025],
    "json": ["{", {"type": 5}],
    "grammar": ["start: (", "root ::= (", "x"],
}


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    json_schema = {"name": "it", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": json_schema}}


def outputs(name: str, value: Any) -> dict[str, Any]:
    return {"structured_outputs": {name: value}}


def _rows(table: dict[str, list[Any]], code: str) -> list[Row]:
    return [
        (f"{name}-{code}-{index}", {name: value}, code, name)
        for name, values in table.items()
        for index, value in enumerate(values)
    ]


FIELD_ROWS: list[Row] = [
    *_rows(_BAD_TYPES, TYPE),
    *_rows(_BAD_VALUES, VALUE),
    *_rows(_UNSUPPORTED, UNSUPPORTED),
    ("G06", {"max_tokens": 2, "max_completion_tokens": 3}, COMBINATION, "max_completion_tokens"),
    ("G07", {"max_tokens": 2, "min_tokens": 3}, VALUE, "min_tokens"),
    ("G27", {"stop_token_ids": [1, -1]}, VALUE, "stop_token_ids[1]"),
    ("G27-vocab", {"stop_token_ids": [2**31]}, VALUE, "stop_token_ids[0]"),
    ("G27-allowed", {"allowed_token_ids": [1, 2**31]}, VALUE, "allowed_token_ids[1]"),
    ("bad-word", {"bad_words": [""]}, VALUE, "bad_words[0]"),
    ("top-alone", {"top_logprobs": 3}, COMBINATION, "top_logprobs"),
    ("prompt-stream", {"prompt_logprobs": 1, "stream": True}, COMBINATION, "prompt_logprobs"),
    ("format-type", {"response_format": {}}, MISSING, "response_format.type"),
    ("format-other", {"response_format": {"type": "xml"}}, VALUE, "response_format.type"),
    (
        "format-none",
        {"response_format": {"type": "json_schema"}},
        MISSING,
        "response_format.json_schema",
    ),
    (
        "format-empty",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
        MISSING,
        "response_format.json_schema.schema",
    ),
    *(
        (f"schema-{index}", schema_format(schema), VALUE, "response_format.json_schema.schema")
        for index, schema in enumerate(BAD_SCHEMAS)
    ),
    (
        "schema-type",
        {"response_format": {"type": "json_schema", "json_schema": {"schema": "x"}}},
        TYPE,
        "response_format.json_schema.schema",
    ),
    *(
        (f"outputs-{name}-{index}", outputs(name, value), VALUE, f"structured_outputs.{name}")
        for name, values in BAD_OUTPUTS.items()
        for index, value in enumerate(values)
    ),
    (
        "outputs-unknown",
        outputs("structural_tag", "x"),
        UNSUPPORTED,
        "structured_outputs.structural_tag",
    ),
    ("outputs-two", {"structured_outputs": {"regex": "a", "choice": ["b"]}}, COMBINATION, CHOICE),
    (
        "outputs-and-format",
        {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
        COMBINATION,
        "structured_outputs.regex",
    ),
    ("G30", {"stop": ""}, VALUE, "stop[0]"),
    ("G30-null", {"stop": [None]}, TYPE, "stop[0]"),
    ("G30-nested", {"stop": [[]]}, TYPE, "stop[0]"),
    ("G31", {"stop": "x" * 257}, VALUE, "stop[0]"),
    ("G32", raw(b'"stop":"\\ud800"'), JSON, None),
    ("O26", {"stream_options": {"include_usage": True}}, COMBINATION, "stream_options"),
    (
        "O27",
        {"stream": True, "stream_options": {"include_usage": "x"}},
        TYPE,
        "stream_options.include_usage",
    ),
    ("continue-user", {"continue_final_message": True}, VALUE, "continue_final_message"),
    (
        "continue-both",
        {"continue_final_message": True, "add_generation_prompt": True},
        COMBINATION,
        "continue_final_message",
    ),
    (
        "frames",
        {"media_io_kwargs": {"video": {"num_frames": 10**6}}},
        VALUE,
        "media_io_kwargs.video.num_frames",
    ),
    (
        "frames-name",
        {"media_io_kwargs": {"video": {"backend": "x"}}},
        UNSUPPORTED,
        "media_io_kwargs.video",
    ),
]

FINE_FIELDS: list[dict[str, Any]] = [
    {"foo": 1, "__proto__": {}, "model_config": 1},
    {"n": None, "temperature": None, "stream": None, "max_tokens": None, "stop": None},
    {"store": True, "metadata": {"a": "b"}, "service_tier": "auto", "parallel_tool_calls": True},
    {"tool_choice": "auto", "parallel_tool_calls": False},
    {"n": 1, "logprobs": False, "tools": [], "tool_choice": "none", "logit_bias": {}},
    {"n": 2, "logprobs": True, "top_logprobs": 20, "logit_bias": {"7": -100, "08": 0.5}},
    {"prompt_logprobs": 0, "bad_words": ["no", " "], "allowed_token_ids": [1], "logprobs": False},
    {"top_logprobs": 0, "include_stop_str_in_output": True, "stop": "x"},
    {"response_format": {"type": "json_object"}, "structured_outputs": {}},
    schema_format({"type": "object", "properties": {"a": {"type": "integer"}}}),
    outputs("regex", "[a-z]+"),
    outputs("choice", ["a", 'b"\n']),
    outputs("json", '{"type": "array"}'),
    outputs("grammar", 'start: "a" | "b"'),
    outputs("grammar", 'root ::= "a" | "b"'),
    {"stream": True, "stream_options": {"continuous_usage_stats": True}},
    {"add_generation_prompt": False, "skip_special_tokens": False, "return_token_ids": True},
    {"response_format": {"type": "text"}, "modalities": ["text"], "chat_template_kwargs": {}},
    {"temperature": 0, "top_p": 0, "top_k": 0, "min_p": 1, "seed": -(2**63)},
    {"temperature": 5e-324, "top_p": 1, "top_k": -1, "seed": 2**63 - 1},
    {"presence_penalty": -2, "frequency_penalty": 2, "repetition_penalty": 1.1},
    {"max_tokens": 5, "max_completion_tokens": 5, "min_tokens": 5, "priority": -3},
    {"user": "a\nb", "cache_salt": "salt", "request_id": "x"},
    {"mm_processor_kwargs": {"max_dynamic_patch": 1, "video": {"fps": 1.0}}},
    user(""),
    user("a\u0000b"),
    user([{"type": "text", "text": ""}, {"type": "input_text", "text": "x"}]),
    {"messages": [{"role": "developer", "content": "be kind"}, *HELLO["messages"]]},
    {"messages": [{"role": "user", "content": "x", "name": "<|im_end|>"}]},
]
