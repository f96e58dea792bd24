"""`internvl-server chat`: talk to any OpenAI-compatible server from a terminal.

Speaks HTTP only; imports neither the server nor the runtime.
"""

import sys

from clients.chat.conversation import Conversation
from clients.chat.options import Options, read_options
from clients.chat.screen import Screen
from clients.chat.session import interact, turn
from clients.chat.wire import Client
from clients.target import ClientError


def main(argv: list[str]) -> int:
    """Entry point. 0: answered, or left; 1: it failed, and standard error says why."""
    screen = Screen()
    try:
        _run(read_options(argv), screen)
    except ClientError as error:
        screen.complain(error)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(options: Options, screen: Screen) -> None:
    conversation = Conversation(options.system, options.num_frames)
    for medium in options.media:
        conversation.attach(medium)
    target = (options.base_url, options.api_key, options.model)
    with Client(*target, options.sampling) as client:
        if options.prompt is None:
            interact(client, conversation, screen)
        else:
            conversation.ask(options.prompt)
            turn(client, conversation, screen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
