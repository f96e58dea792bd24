"""What the log says when the server is ready: what is served, and how to try it."""

import logging

from server.engine.types import EngineInfo
from server.settings import ServerSettings

logger = logging.getLogger("server")


def announce(settings: ServerSettings, model_name: str, info: EngineInfo, port: int) -> None:
    """For people a table, for machines the same as fields; then a command to try."""
    facts = _facts(settings, model_name, info)
    table = "".join(f"\n  {name:9}{text}" for name, text in facts.items())
    logger.info("ready%s", table, extra={"fields": {"event": "ready", **facts}})
    if not settings.no_ui:
        logger.info("open: %s/", base_url(settings, port))
    logger.info(
        "try: curl %s/v1/chat/completions -H 'Content-Type: application/json' -d "
        '\'{"messages": [{"role": "user", "content": "Who are you?"}]}\'',
        base_url(settings, port),
    )


def base_url(settings: ServerSettings, port: int) -> str:
    scheme = "https" if settings.ssl_certfile else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{port}{settings.root_path}"


def _facts(settings: ServerSettings, model_name: str, info: EngineInfo) -> dict[str, str]:
    media = settings.limit_mm_per_prompt
    return {
        "model": f"{model_name} ({info.model_impl}, {info.dtype}, {info.device})",
        "context": f"{info.max_model_len} tokens a request, {info.num_kv_tokens} in the KV cache",
        "requests": f"{settings.max_num_seqs} computed at a time, "
        f"{settings.max_waiting_requests} waiting, {settings.request_timeout:g} s each",
        "media": f"{media.image} images and {media.video} videos a request, "
        f"{settings.media_decoders} decoders",
        "keys": f"{len(settings.api_key)}" if settings.api_key else "none: open to who reaches it",
    }
