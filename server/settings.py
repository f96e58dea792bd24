"""The server's settings: one frozen dataclass, the single place of defaults.

Command-line flags and `INTERNVL_…` environment variables derive from its fields.
"""

import argparse
import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from model_runtime.protocol import EngineConfig
from server.media.settings import MediaSettings

ENV_PREFIX = "INTERNVL_"
_SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_ENGINE = {f: getattr(EngineConfig(checkpoint_path=""), f) for f in EngineConfig.__struct_fields__}


class SettingsError(Exception):
    """A flag or variable has a value that cannot be used; the message names it."""


def _option(default: Any, help_text: str, **more: Any) -> Any:
    is_shown = not more.get("secret", False)
    return field(default=default, repr=is_shown, metadata={"help": help_text, **more})


@dataclass(frozen=True)
class MediaLimits:
    """Media parts that one request may have."""

    image: int = 16
    video: int = 4

    def __str__(self) -> str:
        return f"image={self.image},video={self.video}"


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Everything an operator can set. Help texts are one line each."""

    model: str | None = _option(None, "hub id or local folder; without it: the embedded demo")
    host: str = _option("127.0.0.1", "address to listen on")
    port: int = _option(8000, "port to listen on; 0 takes a free one")
    api_key: tuple[str, ...] = _option((), "key that clients must send; repeatable", secret=True)
    require_api_key: bool = _option(False, "refuse to start without --api-key off loopback")
    served_model_name: str | None = _option(None, "model name in the API; default: as given")
    revision: str | None = _option(None, "branch, tag or commit of the hub repository")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = _option(
        "auto", "weights' type; auto takes the checkpoint's"
    )
    device: str = _option("auto", "auto, cpu, cuda or cuda:N")
    model_impl: Literal["auto", "native", "transformers"] = _option(
        "auto", "auto takes native when it knows the checkpoint, else transformers"
    )
    quantization: Literal["none", "int8", "bitsandbytes", "bitsandbytes-8bit"] = _option(
        "none", "int8: faster decoding on CPUs; bitsandbytes: 4-bit weights"
    )
    max_model_len: int | None = _option(None, "context length; default: the checkpoint's")
    max_num_seqs: int = _option(_ENGINE["max_num_seqs"], "sequences computed at a time")
    max_num_batched_tokens: int | None = _option(
        None, "token budget of one step; default: 512 on CPUs, 2048 on GPUs"
    )
    mm_embedding_cache_bytes: int = _option(
        _ENGINE["mm_embedding_cache_bytes"], "memory for embeddings of media seen lately", size=True
    )
    mm_processor_cache_bytes: int = _option(
        MediaSettings().tile_cache_bytes, "memory for decoded media seen lately", size=True
    )
    response_store_bytes: int = _option(
        256 << 20, "memory for answers of /v1/responses to go on from; 0: none", size=True
    )
    max_waiting_requests: int = _option(256, "requests that may wait beyond --max-num-seqs")
    gpu_memory_utilization: float = _option(
        _ENGINE["gpu_memory_utilization"], "share of GPU memory to use"
    )
    kv_cache_memory_bytes: int | None = _option(
        None, "memory of the KV cache, such as 4GiB; default: by device", size=True
    )
    limit_mm_per_prompt: MediaLimits = _option(
        MediaLimits(), "media per request, as image=N,video=M or JSON"
    )
    allowed_media_domains: tuple[str, ...] = _option(
        (), "only fetch media from this host; repeatable"
    )
    allowed_media_networks: tuple[str, ...] = _option(
        (), "also fetch from this private network (CIDR); repeatable"
    )
    allow_avif: bool = _option(False, "also take AVIF images")
    exact_resize: bool = _option(
        False, "cut JPEGs to tiles pixel for pixel as transformers does, in twice the time"
    )
    media_decoders: int = _option(
        MediaSettings().num_decoders, "processes that decode images and videos"
    )
    media_bytes_in_flight: int = _option(
        MediaSettings().max_bytes_in_flight, "media and bodies held at a time", size=True
    )
    allowed_local_media_path: str | None = _option(None, "folder that file: URLs may read")
    seed: int = _option(0, "seeds requests that bring no seed of their own")
    max_body_bytes: int = _option(64 << 20, "largest request body, such as 64MiB", size=True)
    root_path: str = _option("", "path prefix behind a proxy")
    ssl_keyfile: str | None = _option(None, "TLS key")
    ssl_certfile: str | None = _option(None, "TLS certificate")
    allowed_origins: tuple[str, ...] = _option((), "origin allowed by CORS; repeatable")
    worker_stall_timeout: float = _option(
        60.0, "seconds without progress after which the worker is replaced"
    )
    shutdown_timeout: int = _option(30, "seconds that running requests get at shutdown")
    log_level: Literal["debug", "info", "warning", "error"] = _option("info", "least level logged")

    def __post_init__(self) -> None:
        if (self.max_num_batched_tokens or self.max_num_seqs) < self.max_num_seqs:
            raise SettingsError("--max-num-batched-tokens must be at least --max-num-seqs.")
        if self.max_num_seqs < 1 or not 0 <= self.port < 65_536:
            raise SettingsError("--max-num-seqs must be positive and --port below 65536.")
        if self.media_decoders < 1:
            raise SettingsError("--media-decoders must be positive.")
        if not self.worker_stall_timeout > 0:
            raise SettingsError("--worker-stall-timeout must be positive.")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise SettingsError("--gpu-memory-utilization must lie between 0 and 1.")

    @property
    def is_loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def engine_config(self, checkpoint_path: str) -> EngineConfig:
        """The worker's part of the settings."""
        names = EngineConfig.__struct_fields__
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name in names}
        own["quantization"] = None if self.quantization == "none" else self.quantization
        return EngineConfig(checkpoint_path=checkpoint_path, **own)

    def media_settings(self) -> MediaSettings:
        """The media path's part of the settings."""
        return MediaSettings(
            allowed_media_domains=self.allowed_media_domains,
            allowed_media_networks=self.allowed_media_networks,
            allowed_local_media_path=self.allowed_local_media_path,
            allow_avif=self.allow_avif,
            exact_resize=self.exact_resize,
            num_decoders=self.media_decoders,
            max_bytes_in_flight=self.media_bytes_in_flight,
            tile_cache_bytes=self.mm_processor_cache_bytes,
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag per field; a flag that was not given is absent from the result."""
    for setting in dataclasses.fields(ServerSettings):
        help_text = f"{setting.metadata['help']} (default: {_shown(setting.default)})"
        help_text = help_text.replace("%", "%%")
        if setting.name == "model":
            parser.add_argument("model", nargs="?", default=argparse.SUPPRESS, help=help_text)
            continue
        options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": help_text}
        if setting.type is bool:
            options["action"] = "store_true"
        elif get_origin(setting.type) is tuple:
            options |= {"action": "append", "metavar": "VALUE"}
        elif get_origin(setting.type) is Literal:
            options["choices"] = get_args(setting.type)
        else:
            options["metavar"] = "VALUE"
        parser.add_argument(flag(setting.name), **options)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def read_settings(
    arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ
) -> ServerSettings:
    """Flags win over environment variables, which win over defaults. Raises SettingsError."""
    values: dict[str, Any] = {}
    for setting in dataclasses.fields(ServerSettings):
        variable = ENV_PREFIX + setting.name.upper()
        if hasattr(arguments, setting.name):
            values[setting.name] = _parse(
                setting, getattr(arguments, setting.name), flag(setting.name)
            )
        elif environment.get(variable):
            values[setting.name] = _parse(setting, environment[variable], variable)
    return ServerSettings(**values)


def _parse(setting: "dataclasses.Field[Any]", raw: Any, source: str) -> Any:
    try:
        if setting.metadata.get("size"):
            return parse_size(raw)
        return _convert(setting, raw)
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{source} has a value that cannot be used: {raw!r}") from error


def _convert(setting: "dataclasses.Field[Any]", raw: Any) -> Any:
    kind = setting.type
    if kind is bool:
        return raw if isinstance(raw, bool) else raw.lower() in ("1", "true", "yes", "on")
    if get_origin(kind) is tuple:
        parts = raw.split(",") if isinstance(raw, str) else raw
        return tuple(part.strip() for part in parts if part.strip())
    if kind is MediaLimits:
        return _parse_limits(raw)
    if get_origin(kind) is Literal:
        if raw not in get_args(kind):
            raise ValueError(raw)
        return raw
    if kind in (int, int | None):
        return int(raw)
    return float(raw) if kind is float else raw


def _parse_limits(raw: str) -> MediaLimits:
    """`{"image": 4}` or `image=4,video=1`; what is not named keeps its default."""
    if raw.lstrip().startswith("{"):
        given = json.loads(raw)
    else:
        given = dict(part.strip().split("=") for part in raw.split(","))
    limits = MediaLimits(**{kind: int(count) for kind, count in given.items()})
    if min(limits.image, limits.video) < 0:
        raise ValueError(raw)
    return limits


def parse_size(text: str) -> int:
    """`4GiB`, `512m`, `1000` → bytes; units are powers of 1024."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?)(i?b)?\s*", str(text).lower())
    if not match:
        raise ValueError(text)
    return int(float(match[1]) * _SIZE_UNITS[match[2]])


def _shown(default: Any) -> str:
    return "none" if default in (None, (), "") else str(default)
