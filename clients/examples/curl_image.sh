#!/usr/bin/env bash
# Ask about a picture with curl.   usage: curl_image.sh [PICTURE] [QUESTION]
set -euo pipefail
base_url=${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}
picture=${1:-docs/examples/shapes.png}
question=${2:-Describe the image.}

curl --silent --show-error "$base_url/chat/completions" -H 'Content-Type: application/json' -d @- <<EOF
{"messages": [{"role": "user", "content": [
  {"type": "image_url", "image_url": {"url": "data:image/png;base64,$(base64 -w0 "$picture")"}},
  {"type": "text", "text": "$question"}]}]}
EOF
