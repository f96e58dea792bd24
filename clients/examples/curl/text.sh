#!/usr/bin/env bash
# Ask something with curl.
set -euo pipefail

curl -sS "$OPENAI_BASE_URL/chat/completions" \
  -H "Authorization: Bearer $OPENAI_API_KEY" -H 'Content-Type: application/json' \
  -d '{"messages": [{"role": "user", "content": "Who are you?"}]}'
