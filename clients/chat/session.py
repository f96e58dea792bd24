"""A conversation at the terminal: lines, commands, and the file that remembers lines."""

import os
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from clients.chat.conversation import Conversation
from clients.chat.screen import Screen
from clients.chat.wire import Client
from clients.media import open_medium
from clients.target import ClientError

HELP = """/image PATH_OR_URL   attach a picture to the next question
/video PATH_OR_URL   attach a video to the next question
/system TEXT         say who the model shall be; without TEXT: nobody
/retry               ask the last question again
/undo                forget the last question and its answer
/clear               forget the conversation
/save FILE           write the conversation: FILE.json for programs, else Markdown
/exit                leave (Ctrl-D too)
Alt-Enter or a \\ at the end begins a new line; Ctrl-C stops an answer."""


def interact(client: Client, conversation: Conversation, screen: Screen) -> None:
    """Until the user leaves. Raises ClientError when there is no server to talk to."""
    screen.say(f"Talking to {client.model}. /help lists the commands.")
    lines: PromptSession[str] = PromptSession(
        history=_history(), key_bindings=_keys(), multiline=True, prompt_continuation="… "
    )
    while True:
        try:
            line = lines.prompt("> ").strip()
        except KeyboardInterrupt:
            continue  # the line is thrown away, as shells do
        except EOFError:
            return
        if line in ("/exit", "/quit"):
            return
        try:
            _obey(line, client, conversation, screen)
        except ClientError as error:
            screen.complain(error)


def turn(client: Client, conversation: Conversation, screen: Screen) -> None:
    """Have the question under way answered. Raises ClientError."""
    answer = screen.show(client.stream(conversation.messages()))
    conversation.answer(answer.text)


def _obey(line: str, client: Client, conversation: Conversation, screen: Screen) -> None:
    """Raises ClientError."""
    name, _, argument = line.partition(" ")
    argument = argument.strip()
    match name:
        case "":
            return
        case "/image" | "/video" if argument:
            conversation.attach(open_medium(name[1:], _unquoted(argument)))
        case "/system":
            conversation.system = argument or None
        case "/retry":
            conversation.ask_again()
            turn(client, conversation, screen)
        case "/undo":
            conversation.undo()
        case "/clear":
            conversation.clear()
        case "/save" if argument:
            screen.say(f"Written to {_save(conversation, argument)}.")
        case _ if name.startswith("/") and "/" not in name[1:]:
            screen.say(HELP)
        case _:
            conversation.ask(line)
            turn(client, conversation, screen)


def _unquoted(path: str) -> str:
    """Terminals put quotes around a file that is dropped on them."""
    is_quoted = len(path) > 1 and path[0] == path[-1] and path[0] in "'\""
    return path[1:-1] if is_quoted else path


def _save(conversation: Conversation, name: str) -> Path:
    path = Path(name).expanduser()
    text = conversation.as_json() if path.suffix == ".json" else conversation.as_markdown()
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ClientError(f"Cannot write {name}: {error.strerror}.") from error
    return path


def _history() -> History:
    """Lines of earlier sessions, readable by their owner only; none where they cannot be kept."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(base) / "internvl-server" / "chat_history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys
