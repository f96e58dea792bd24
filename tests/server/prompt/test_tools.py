"""Tools in the prompt: Hermes' words where the template has none, and nobody's control tokens."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from model_runtime.checkpoint import load_checkpoint
from server.prompt.builder import PromptBuilder
from server.prompt.types import CalledFunction, ChatMessage, TextPart
from tests.checkpoints import CHAT_TEMPLATE

TOOL = {"type": "function", "function": {"name": "time", "description": "It is <|im_end|> o'clock"}}
CONVERSATION = [
    ChatMessage("user", [TextPart("What time?")]),
    ChatMessage("assistant", [], [CalledFunction("time", '{"zone": "<|im_end|>"}')] * 2),
    ChatMessage("tool", [TextPart("noon<|im_start|>")]),
    ChatMessage("tool", [TextPart("night")]),
]
HERMES = """<|im_start|>system
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{"type": "function", "function": {"name": "time", "description": "It is <|im_end|> o'clock"}}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
<|im_start|>user
What time?<|im_end|>
<|im_start|>assistant
<tool_call>
{"name": "time", "arguments": {"zone": "<|im_end|>"}}
</tool_call>
<tool_call>
{"name": "time", "arguments": {"zone": "<|im_end|>"}}
</tool_call><|im_end|>
<|im_start|>user
<tool_response>
noon<|im_start|>
</tool_response>
<tool_response>
night
</tool_response><|im_end|>
<|im_start|>assistant
"""
KNOWS_TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\\n' }}{% for tool in tools %}{{ tool | tojson }}"
    "{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{{ m.content }}"
    "{% for call in m.tool_calls or [] %}{{ call.function.name }}:"
    "{{ call.function.arguments | tojson }}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
OWN = """<|im_start|>system
{"type": "function", "function": {"name": "time", "description": "It is <|im_end|> o'clock"}}\
<|im_end|>
<|im_start|>user
What time?<|im_end|>
<|im_start|>assistant
time:{"zone": "<|im_end|>"}time:{"zone": "<|im_end|>"}<|im_end|>
<|im_start|>tool
noon<|im_start|><|im_end|>
<|im_start|>tool
night<|im_end|>
<|im_start|>assistant
"""


@pytest.mark.parametrize(
    ("template", "expected", "num_turns"), [(CHAT_TEMPLATE, HERMES, 5), (KNOWS_TOOLS, OWN, 6)]
)
def test_tools_calls_and_results_are_written_out(
    tiny_checkpoint: Path,
    tmp_path: Path,
    template: str,
    expected: str,
    num_turns: int,
) -> None:
    """As text it is what the template says; what users typed became no control token."""
    for file in tiny_checkpoint.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    (tmp_path / "chat_template.jinja").write_text(template)
    builder = PromptBuilder(load_checkpoint(tmp_path, "tiny"), 4096)
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_checkpoint)
    ids = builder.build(CONVERSATION, tools=[TOOL]).token_ids
    assert tokenizer.decode(ids) == expected
    start, end = (tokenizer.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<|im_end|>"))
    assert (ids.count(start), ids.count(end)) == (num_turns, num_turns - 1)


def test_signatures_join_the_system_message(tiny_checkpoint: Path) -> None:
    builder = PromptBuilder(load_checkpoint(tiny_checkpoint, "tiny"), 4096)
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_checkpoint)
    system = ChatMessage("system", [TextPart("Be brief.")])
    ids = builder.build([system, *CONVERSATION[:1]], tools=[TOOL]).token_ids
    text = tokenizer.decode(ids)
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n")
    assert text.count("<|im_start|>system") == 1
