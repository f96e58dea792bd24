"""The command line, and the place where all parts meet (the composition root)."""

import argparse
import functools
import importlib.metadata
import logging
import resource
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
from model_runtime.logs import set_up_logging
from server.app import create_app
from server.banner import announce
from server.doctor import run_doctor
from server.engine.client import WorkerEngine
from server.http.protocol import GuardedProtocol
from server.lifecycle import Lifecycle
from server.media.loader import MediaLoader
from server.metrics import Metrics
from server.prompt.builder import PromptBuilder
from server.serving import DrainingServer
from server.settings import (
    ServerSettings,
    SettingsError,
    add_arguments,
    read_settings,
    show_settings,
)
from server.tracing import TracingError, make_tracer

logger = logging.getLogger("server")


def main(argv: list[str] | None = None) -> int:
    """Entry point of `internvl-server`. Returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["chat"]:
        from clients.chat.command import main as chat  # the clients stand alone

        return chat(arguments[1:])
    if arguments[:1] == ["bench"]:
        from clients.bench.command import main as bench

        return bench(arguments[1:])
    if arguments[:1] == ["batch"]:
        from clients.batch.command import main as batch

        return batch(arguments[1:])
    try:
        parsed = _parser().parse_args(arguments)
        settings = read_settings(parsed)
        if parsed.command == "doctor":
            return run_doctor(settings, is_json=parsed.json)
        if parsed.print_config:
            sys.stdout.write(show_settings(settings))
            return 0
        return serve(settings)
    except (CheckpointError, SettingsError, TracingError, ValueError) as error:
        sys.stderr.write(f"internvl-server: {error}\n")
        return 2


def serve(settings: ServerSettings) -> int:
    """Serve until stopped. 0: ended as asked; 1: the model could not be loaded."""
    _log_setup(settings)
    _check_key(settings)
    _raise_descriptor_limit(settings.max_connections)
    tracer = make_tracer(settings.otlp_traces_endpoint, _version())
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
    model_name = settings.served_model_name or checkpoint.model_id
    failures: list[Exception] = []
    lifecycle = Lifecycle()

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
        lifecycle=lifecycle,
        tracer=tracer,
        on_ready=lambda: announce(settings, model_name, engine.info, _port(server)),
        on_load_failure=stop_after,
    )
    server = DrainingServer(
        uvicorn.Config(app, **_uvicorn_options(settings)),
        lifecycle,
        drain_delay=settings.drain_delay,
        shutdown_timeout=settings.shutdown_timeout,
    )
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
        "timeout_graceful_shutdown": 1,  # of connections without a request: ours came before
        "access_log": False,  # ours has tokens and no query strings
        "server_header": False,
        "log_config": None,
        "http": functools.partial(GuardedProtocol, limits=settings.http_limits()),
        "timeout_keep_alive": settings.keep_alive_timeout,
        "proxy_headers": False,  # nothing here asks who the client is
        "ws": "none",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="internvl-server", description="Serve InternVL3 models behind OpenAI's API."
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    serve_command = commands.add_parser("serve", help="serve a model")
    add_arguments(serve_command)
    serve_command.add_argument(
        "--print-config", action="store_true", help="show the settings in effect, and end"
    )
    doctor = commands.add_parser("doctor", help="tell whether these settings can be served here")
    add_arguments(doctor)
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    commands.add_parser("chat", help="talk to a server", add_help=False)
    commands.add_parser("bench", help="measure a server", add_help=False)
    commands.add_parser("batch", help="ask a server every line of a file", add_help=False)
    return parser


def _version() -> str:
    return importlib.metadata.version("internvl-server")


def _log_setup(settings: ServerSettings) -> None:
    set_up_logging(settings.log_level, settings.log_format)
    logging.getLogger("httpcore").setLevel(logging.WARNING)


def _check_key(settings: ServerSettings) -> None:
    if settings.api_key or settings.is_loopback:
        return
    if settings.require_api_key:
        raise SettingsError(f"--host {settings.host} needs --api-key, as --require-api-key says.")
    logger.warning(
        "ANYONE who reaches %s:%d can use this server: set --api-key", settings.host, settings.port
    )


def _raise_descriptor_limit(max_connections: int) -> None:
    """Each connection is one, and shells allow 1024; some more for refusals, media and workers."""
    wanted = 2 * max_connections + 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
    if ceiling < wanted:
        logger.warning("only %d files may be open: --max-connections is too high", ceiling)


if __name__ == "__main__":
    sys.exit(main())
