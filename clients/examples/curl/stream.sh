#!/usr/bin/env bash
# Watch an answer grow with curl: one event a line, `data: [DONE]` at the end.
set -euo pipefail

curl -sSN "$OPENAI_BASE_URL/chat/completions" \
  -H "Authorization: Bearer $OPENAI_API_KEY" -H 'Content-Type: application/json' \
  -d '{"messages": [{"role": "user", "content": "Count to 10."}], "stream": true}'
