"""The server's settings: one frozen dataclass, the single place of defaults.

Command-line flags, `INTERNVL_…` environment variables and the names in a configuration file derive
from its fields.
"""

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from model_runtime.logs import LogFormat
from model_runtime.protocol import EngineConfig
from server.admission import Quotas
from server.http.limits import HttpLimits
from server.media.settings import MediaSettings
from server.setting_files import SettingsError, read_config_file, read_key_file
from server.setting_values import MediaLimits, convert

__all__ = [
    "MediaLimits",
    "ServerSettings",
    "SettingsError",
    "add_arguments",
    "flag",
    "read_settings",
    "show_settings",
]

ENV_PREFIX = "INTERNVL_"
_ENGINE = {f: getattr(EngineConfig(checkpoint_path=""), f) for f in EngineConfig.__struct_fields__}


def _option(default: Any, help_text: str, **more: Any) -> Any:
    is_shown = not more.get("secret", False)
    return field(default=default, repr=is_shown, metadata={"help": help_text, **more})


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Everything an operator can set. Help texts are one line each."""

    config: str | None = _option(None, "TOML file with settings, named as the flags")
    model: str | None = _option(None, "hub id or local folder; without it: the embedded demo")
    host: str = _option("127.0.0.1", "address to listen on")
    port: int = _option(8000, "port to listen on; 0 takes a free one")
    api_key: tuple[str, ...] = _option((), "key that clients must send; repeatable", secret=True)
    api_key_file: str | None = _option(None, "file with more keys, one a line; # begins a comment")
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
    requests_per_minute: int | None = _option(None, "requests that a key may send in a minute")
    max_concurrent_requests_per_key: int | None = _option(
        None, "requests that a key may have under way"
    )
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
        MediaSettings().max_bytes_in_flight,
        "media held at a time, in all",
        size=True,
    )
    allowed_local_media_path: str | None = _option(None, "folder that file: URLs may read")
    seed: int = _option(0, "seeds requests that bring no seed of their own")
    max_body_bytes: int = _option(64 << 20, "largest request body, such as 64MiB", size=True)
    batch_dir: str | None = _option(None, "folder that keeps files and batches; default: neither")
    max_batch_file_bytes: int = _option(200 << 20, "largest uploaded file", size=True)
    max_batch_dir_bytes: int = _option(10 << 30, "files held before more are refused", size=True)
    max_inflight_body_bytes: int = _option(
        512 << 20, "request bodies held at a time, all requests together", size=True
    )
    max_connections: int = _option(1000, "connections at a time; more are told to come back")
    keep_alive_timeout: int = _option(65, "seconds that an idle connection is kept")
    no_ui: bool = _option(False, "do not serve the web page at /")
    root_path: str = _option("", "path prefix behind a proxy")
    ssl_keyfile: str | None = _option(None, "TLS key")
    ssl_certfile: str | None = _option(None, "TLS certificate")
    allowed_hosts: tuple[str, ...] = _option(
        (), "host name clients may use besides loopback's; repeatable; * is any"
    )
    allowed_origins: tuple[str, ...] = _option((), "origin allowed by CORS; repeatable")
    drain_delay: int = _option(0, "seconds at shutdown that it still serves, but is not ready")
    request_timeout: float = _option(
        600.0, "seconds that a request may take; X-Request-Timeout asks for less"
    )
    worker_stall_timeout: float = _option(
        60.0, "seconds without progress after which the worker is replaced"
    )
    shutdown_timeout: int = _option(30, "seconds that running requests get at shutdown")
    log_level: Literal["debug", "info", "warning", "error"] = _option("info", "least level logged")
    log_format: LogFormat = _option("text", "lines for people, or one JSON object per line")
    otlp_traces_endpoint: str | None = _option(
        None, "where traces go, by OTLP over HTTP; needs internvl-server[otel]"
    )

    def __post_init__(self) -> None:
        if (self.max_num_batched_tokens or self.max_num_seqs) < self.max_num_seqs:
            raise SettingsError("--max-num-batched-tokens must be at least --max-num-seqs.")
        if self.max_num_seqs < 1 or not 0 <= self.port < 65_536:
            raise SettingsError("--max-num-seqs must be positive and --port below 65536.")
        if self.media_decoders < 1:
            raise SettingsError("--media-decoders must be positive.")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise SettingsError("--gpu-memory-utilization must lie between 0 and 1.")
        if self.max_inflight_body_bytes < self.max_body_bytes:
            raise SettingsError("--max-inflight-body-bytes must be at least --max-body-bytes.")
        for name in ("max_connections", "requests_per_minute", "max_concurrent_requests_per_key"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise SettingsError(f"{flag(name)} must be positive.")
        for name in ("worker_stall_timeout", "request_timeout"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{flag(name)} must be positive.")

    @property
    def is_loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def engine_config(self, checkpoint_path: str) -> EngineConfig:
        """The worker's part of the settings."""
        names = EngineConfig.__struct_fields__
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name in names}
        own["quantization"] = None if self.quantization == "none" else self.quantization
        return EngineConfig(checkpoint_path=checkpoint_path, **own)

    def quotas(self) -> Quotas:
        """Admission's part of the settings."""
        return Quotas(
            requests_per_minute=self.requests_per_minute,
            max_concurrent_requests=self.max_concurrent_requests_per_key,
            num_keys=len(self.api_key),
        )

    def http_limits(self) -> HttpLimits:
        """The connections' part of the settings."""
        return HttpLimits(max_connections=self.max_connections)

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
    """Flags win over environment variables, they over the file, it over defaults.

    Raises SettingsError. Keys of the key file come on top of the others.
    """
    settings = {setting.name: setting for setting in dataclasses.fields(ServerSettings)}
    given = _from_environment(environment, settings) | _from_flags(arguments, settings)
    if "config" in given:
        path = given["config"].raw
        content = read_config_file(path, settings.keys() - {"config"})
        given = {name: _Given(raw, f"{path}: {name}") for name, raw in content.items()} | given
    values = {name: _parse(settings[name], one) for name, one in given.items()}
    if path := values.get("api_key_file"):
        values["api_key"] = values.get("api_key", ()) + read_key_file(path)
    return ServerSettings(**values)


def show_settings(settings: ServerSettings) -> str:
    """What is in effect, as a file that `--config` takes. Of secrets, only how many."""
    lines = []
    for setting in dataclasses.fields(settings):
        name, value = setting.name.replace("_", "-"), getattr(settings, setting.name)
        if setting.metadata.get("secret"):
            lines.append(f"# {name}: {len(value)} given, not shown")
        elif value is None or setting.name == "config":
            lines.append(f"# {name}: {'not set' if value is None else value}")
        else:
            shown = str(value) if isinstance(value, MediaLimits) else value
            lines.append(f"{name} = {json.dumps(shown, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Given:
    """What somebody wrote for a setting, and where."""

    raw: Any
    source: str


def _from_flags(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> dict[str, _Given]:
    return {
        name: _Given(raw, "MODEL" if name == "model" else flag(name))
        for name, raw in vars(arguments).items()
        if name in settings
    }


def _from_environment(
    environment: Mapping[str, str], settings: Mapping[str, Any]
) -> dict[str, _Given]:
    """Empty is not given: that is how compose files pass what is not set."""
    variables = {name: ENV_PREFIX + name.upper() for name in settings}
    return {
        name: _Given(environment[variable], variable)
        for name, variable in variables.items()
        if environment.get(variable)
    }


def _parse(setting: "dataclasses.Field[Any]", given: _Given) -> Any:
    try:
        return convert(setting, given.raw)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        shown = "" if setting.metadata.get("secret") else f": {given.raw!r}"
        raise SettingsError(f"{given.source} has a value that cannot be used{shown}") from error


def _shown(default: Any) -> str:
    return "none" if default in (None, (), "") else str(default)
