"""The command line, and the place where all parts meet (the composition root)."""

import argparse
import importlib.metadata
import logging
import sys
from pathlib import Path
from typing import Any

import uvicorn

from model_runtime.checkpoint import (
    DEMO_MODEL_ID,
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    resolve_checkpoint,
)
from server.app import create_app
from server.engine.client import WorkerEngine
from server.media.loader import MediaLoader
from server.metrics import Metrics
from server.prompt.builder import PromptBuilder
from server.settings import ServerSettings, SettingsError, add_arguments, read_settings

logger = logging.getLogger("server")


def main(argv: list[str] | None = None) -> int:
    """Entry point of `internvl-server`. Returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["chat"]:
        from clients.chat import main as chat  # the clients stand alone

        return chat(arguments[1:])
    try:
        settings = read_settings(_parser().parse_args(arguments))
        return serve(settings)
    except (CheckpointError, SettingsError, ValueError) as error:
        sys.stderr.write(f"internvl-server: {error}\n")
        return 2


def serve(settings: ServerSettings) -> int:
    """Serve until stopped. 0: ended as asked; 1: the model could not be loaded."""
    _log_setup(settings)
    _check_key(settings)
    checkpoint = _checkpoint(settings)
    metrics = Metrics()
    prompts = PromptBuilder(checkpoint, settings.max_model_len or checkpoint.context_len)
    engine = WorkerEngine(
        settings.engine_config(str(checkpoint.path)),
        model_id=checkpoint.model_id,
        make_detokenizer=prompts.detokenizer,
        on_step=metrics.on_step,
        stall_timeout_s=settings.worker_stall_timeout,
    )
    failures: list[Exception] = []

    def stop_after(failure: Exception) -> None:
        failures.append(failure)
        server.should_exit = True

    app = create_app(
        engine=engine,
        media=MediaLoader(settings.media_settings(), checkpoint.tiles, metrics),
        prompts=prompts,
        checkpoint=checkpoint,
        settings=settings,
        metrics=metrics,
        on_ready=lambda: _announce(settings, checkpoint, engine, _port(server)),
        on_load_failure=stop_after,
    )
    server = uvicorn.Server(uvicorn.Config(app, **_uvicorn_options(settings)))
    logger.info("loading %s", checkpoint.model_id)
    server.run()
    if failures or not server.started:
        sys.stderr.write(f"internvl-server: {failures[0] if failures else 'could not start'}\n")
        return 1
    return 0


def _checkpoint(settings: ServerSettings) -> Checkpoint:
    """Raises CheckpointError. A folder is named by its last part: paths stay inside."""
    name = settings.model or DEMO_MODEL_ID
    path = resolve_checkpoint(settings.model, settings.revision)
    return load_checkpoint(path, Path(name).resolve().name if Path(name).is_dir() else name)


def _port(server: uvicorn.Server) -> int:
    """The one that was taken, also when it was asked to be any free one."""
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


def _uvicorn_options(settings: ServerSettings) -> dict[str, Any]:
    return {
        "host": settings.host,
        "port": settings.port,
        "ssl_keyfile": settings.ssl_keyfile,
        "ssl_certfile": settings.ssl_certfile,
        "timeout_graceful_shutdown": settings.shutdown_timeout,
        "access_log": False,  # ours has tokens and no query strings
        "server_header": False,
        "log_config": None,
        "http": "httptools",
        "ws": "none",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="internvl-server", description="Serve InternVL3 models behind OpenAI's API."
    )
    version = importlib.metadata.version("internvl-server")
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_arguments(commands.add_parser("serve", help="serve a model"))
    commands.add_parser("chat", help="talk to a server", add_help=False)
    return parser


def _log_setup(settings: ServerSettings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpcore").setLevel(logging.WARNING)


def _check_key(settings: ServerSettings) -> None:
    if settings.api_key or settings.is_loopback:
        return
    if settings.require_api_key:
        raise SettingsError(f"--host {settings.host} needs --api-key, as --require-api-key says.")
    logger.warning(
        "ANYONE who reaches %s:%d can use this server: set --api-key", settings.host, settings.port
    )


def _announce(
    settings: ServerSettings, checkpoint: Checkpoint, engine: WorkerEngine, port: int
) -> None:
    scheme = "https" if settings.ssl_certfile else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = f"{scheme}://{host}:{port}{settings.root_path}/v1"
    name = settings.served_model_name or checkpoint.model_id
    info = engine.info
    logger.info(
        "ready: %s on %s (%s, %s), context %d tokens",
        name,
        info.device,
        info.dtype,
        info.model_impl,
        info.max_model_len,
    )
    logger.info(
        "try: curl %s/chat/completions -H 'Content-Type: application/json' -d "
        '\'{"messages": [{"role": "user", "content": "Who are you?"}]}\'',
        base,
    )


if __name__ == "__main__":
    sys.exit(main())
