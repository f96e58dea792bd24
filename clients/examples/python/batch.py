"""Have many requests answered behind the live traffic. Needs a server with `--batch-dir`."""

import json
import time

from openai import OpenAI

client = OpenAI()
lines = [
    {
        "custom_id": f"count-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"messages": [{"role": "user", "content": f"Count to {number}."}]},
    }
    for number in (5, 10, 20)
]
text = "\n".join(json.dumps(line) for line in lines)
file = client.files.create(file=("questions.jsonl", text.encode()), purpose="batch")
batch = client.batches.create(
    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
)
while batch.status not in ("completed", "failed", "expired", "cancelled"):
    time.sleep(0.2)
    batch = client.batches.retrieve(batch.id)

for line in client.files.content(batch.output_file_id or "").text.splitlines():
    result = json.loads(line)
    message = result["response"]["body"]["choices"][0]["message"]
    print(result["custom_id"], message["content"])
