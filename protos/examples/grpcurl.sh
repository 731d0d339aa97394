#!/usr/bin/env bash
# Text from a model, with grpcurl: grpcurl.sh HOST:PORT MODEL PROMPT. PALIMPSEST_TOKEN is sent where it is set.
set -euo pipefail
target=$1 model=$2 prompt=$3
protos=$(cd "$(dirname "$0")/.." && pwd)
call=(grpcurl -plaintext -import-path "$protos" -import-path "$protos/third_party"
  -proto palimpsest/api/decoding/v1/decoding.proto -proto palimpsest/api/models/v1/models.proto)
[ -z "${PALIMPSEST_TOKEN:-}" ] || call+=(-H "authorization: Bearer $PALIMPSEST_TOKEN")

# A call that answers once.
"${call[@]}" -d "{\"model_id\": \"$model\"}" "$target" palimpsest.api.models.v1.ModelService/GetModel

# A call that answers with a stream; the prompt is written into JSON by a program that knows how to quote it.
request=$(python3 -c 'import json, sys; print(json.dumps({"model": sys.argv[1], "prompt": sys.argv[2], "max_tokens": 16}))' \
  "$model" "$prompt")
"${call[@]}" -d "$request" "$target" palimpsest.api.decoding.v1.DecodingService/Generate
