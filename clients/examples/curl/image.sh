#!/usr/bin/env bash
# Ask about a picture with curl. The picture travels in the request, which comes from standard
# input: a command line is too short for it.
set -euo pipefail
picture=${1:-docs/examples/shapes.png}

curl -sS "$OPENAI_BASE_URL/chat/completions" \
  -H "Authorization: Bearer $OPENAI_API_KEY" -H 'Content-Type: application/json' -d @- <<EOF
{"messages": [{"role": "user", "content": [
  {"type": "image_url", "image_url": {"url": "data:image/png;base64,$(base64 -w0 "$picture")"}},
  {"type": "text", "text": "Describe the image."}]}]}
EOF
