"""Fields that change the answer's meaning and are not supported: refused by name.

Each table maps a name to the values that ask for nothing and are therefore fine; null always is.
"""

from typing import Any

from server.errors import UnsupportedParameterError

_REQUEST: dict[str, tuple[Any, ...]] = {
    "api_base": (),
    "audio": (),
    "base_url": (),
    "best_of": (1,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "documents": ([],),
    "echo": (False,),
    "function_call": ("none",),
    "functions": ([],),
    "grammar": (),
    "guided_choice": (),
    "guided_decoding_backend": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "image_embeds": (),
    "kv_transfer_params": (),
    "length_penalty": (1, 1.0),
    "logits_processors": ([],),
    "lora_request": (),
    "mm_hashes": (),
    "modalities": (["text"],),
    "prediction": (),
    "prompt_embeds": (),
    "prompt_token_ids": (),
    "reasoning_effort": ("none",),
    "return_tokens_as_token_ids": (False,),
    "revision": (),
    "truncate_prompt_tokens": (),
    "trust_remote_code": (False,),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
_COMPLETION: dict[str, tuple[Any, ...]] = {
    **{name: fine for name, fine in _REQUEST.items() if name not in ("best_of", "echo")},
    "add_generation_prompt": (),
    "continue_final_message": (False,),
    "max_completion_tokens": (),
    "media_io_kwargs": ({},),
    "messages": (),
    "mm_processor_kwargs": ({},),
    "suffix": ("",),
    "tool_choice": ("none",),
    "tools": ([],),
    "top_logprobs": (),
}
_MESSAGE: dict[str, tuple[Any, ...]] = {"audio": (), "function_call": ()}
_MEDIA: dict[str, tuple[Any, ...]] = {
    "file_id": (),
    "max_frames": (),
    "max_pixels": (),
    "min_dynamic_patch": (1,),
    "min_pixels": (),
}
_BOUNDS = {"max_dynamic_patch", "max_patches", "num_frames", "fps", "video"}
_VIDEO_BOUNDS = {"num_frames", "fps"}


def refuse_unsupported(content: dict[str, Any]) -> None:
    """Raises UnsupportedParameterError. Shapes are not checked here: anything may be anything."""
    _check(content, _REQUEST, "")
    for name in ("mm_processor_kwargs", "media_io_kwargs"):
        _check_bounds(content.get(name), name)
    messages = content.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else []):
        _check_message(message, f"messages[{index}].")


def without_idle(content: dict[str, Any], table: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """The content without the table's names. Raises UnsupportedParameterError for those of them
    that ask for something."""
    _check(content, table, "")
    return {name: value for name, value in content.items() if name not in table}


def refuse_unsupported_completion(content: dict[str, Any]) -> None:
    """The same for a text completion. Raises UnsupportedParameterError."""
    _check(content, _COMPLETION, "")


def _check_message(message: Any, path: str) -> None:
    _check(message, _MESSAGE, path)
    content = message.get("content") if isinstance(message, dict) else None
    for index, part in enumerate(content if isinstance(content, list) else []):
        if isinstance(part, dict):
            part_path = f"{path}content[{index}]."
            _check(part, _MEDIA, part_path)
            for name in ("image_url", "video_url"):
                _check(part.get(name), _MEDIA, f"{part_path}{name}.")


def _check_bounds(bounds: Any, path: str) -> None:
    """Only the closed set of names; their values are checked with the other types."""
    if not isinstance(bounds, dict):
        return
    video = bounds.get("video")
    for name in bounds.keys() - _BOUNDS:
        raise _refusal(path, f"{path} takes only {', '.join(sorted(_BOUNDS))}; not {name[:64]!a}.")
    for name in (video.keys() if isinstance(video, dict) else set()) - _VIDEO_BOUNDS:
        raise _refusal(
            f"{path}.video", f"{path}.video takes only fps, num_frames; not {name[:64]!a}."
        )


def _check(value: Any, table: dict[str, tuple[Any, ...]], path: str) -> None:
    if not isinstance(value, dict):
        return
    for name in sorted(value.keys() & table.keys()):
        given = value[name]
        if given is not None and not any(_is_same(given, fine) for fine in table[name]):
            raise _refusal(path + name, f"{path}{name} is not supported by this server yet.")


def _is_same(value: Any, fine: Any) -> bool:
    """Equal, and a boolean only to a boolean (in Python True == 1)."""
    return bool(value == fine) and isinstance(value, bool) == isinstance(fine, bool)


def _refusal(param: str, message: str) -> UnsupportedParameterError:
    return UnsupportedParameterError(message, param=param)
