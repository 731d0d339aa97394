#!/usr/bin/env bash
# Build the images, bring compose.yaml up with its profile gpu, run the integration suite against it, and take it down.
# Needs a Docker engine that answers and Compose (the plugin, or docker-compose 1.29 or newer). It needs no GPU: the
# worker of the profile runs on the processor, with the CPU image.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
docker info >/dev/null 2>&1 || { echo "no Docker engine answers; start one, then run this again" >&2; exit 2; }
if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi

files=$(mktemp -d /tmp/palimpsest-compose.XXXXXX)
export PALIMPSEST_TEST_FILES=$files/run PALIMPSEST_SECRETS=$files/secrets
export PALIMPSEST_BUILD_NETWORK=${PALIMPSEST_BUILD_NETWORK:-host} PALIMPSEST_THREADS=1
port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
PALIMPSEST_REGISTRY_PORT=$(port) PALIMPSEST_DECODING_PORT=$(port) PALIMPSEST_CODEC_PORT=$(port)
PALIMPSEST_DATASTORE_PORT=$(port) PALIMPSEST_UNLEARNING_PORT=$(port) PALIMPSEST_GRAFTING_PORT=$(port)
PALIMPSEST_GATEWAY_PORT=$(port)
export PALIMPSEST_REGISTRY_PORT PALIMPSEST_DECODING_PORT PALIMPSEST_CODEC_PORT PALIMPSEST_DATASTORE_PORT
export PALIMPSEST_UNLEARNING_PORT PALIMPSEST_GRAFTING_PORT PALIMPSEST_GATEWAY_PORT
export PALIMPSEST_TEST_GATEWAY="http://127.0.0.1:$PALIMPSEST_GATEWAY_PORT"
mkdir -p "$PALIMPSEST_TEST_FILES"
chmod 0755 "$files" "$PALIMPSEST_TEST_FILES"
deploy/secrets.sh
# Two callers beside the owner, who reaches everything.
PALIMPSEST_TEST_TOKENS=$("$python" -m tests.compose.callers "$PALIMPSEST_SECRETS/tokens.json")
export PALIMPSEST_TEST_TOKENS
# No overriding file can take the reservation of devices out of a service.
"$python" -m tests.compose.without_devices compose.yaml > "$files/compose.yaml"
export PALIMPSEST_GPU_IMAGE=${PALIMPSEST_IMAGE:-palimpsest:cpu}
export PALIMPSEST_TEST_PROJECT=palimpsest-test
compose+=(-p "$PALIMPSEST_TEST_PROJECT" --project-directory . --profile gpu)
compose+=(-f "$files/compose.yaml" -f tests/compose/override.yaml)
end() {
  code=$?
  [ "$code" = 0 ] || "${compose[@]}" logs --tail 60 || true
  "${compose[@]}" down -v --timeout 10 || true
  rm -rf "$files"
  exit "$code"
}
trap end EXIT
"${compose[@]}" build registry
"${compose[@]}" up -d
PALIMPSEST_TEST_SERVER="127.0.0.1:$PALIMPSEST_REGISTRY_PORT,decoding=127.0.0.1:$PALIMPSEST_DECODING_PORT"
export PALIMPSEST_TEST_SERVER="$PALIMPSEST_TEST_SERVER,codec=127.0.0.1:$PALIMPSEST_CODEC_PORT"
PALIMPSEST_TEST_SERVER="$PALIMPSEST_TEST_SERVER,datastore=127.0.0.1:$PALIMPSEST_DATASTORE_PORT"
PALIMPSEST_TEST_SERVER="$PALIMPSEST_TEST_SERVER,unlearning=127.0.0.1:$PALIMPSEST_UNLEARNING_PORT"
PALIMPSEST_TEST_SERVER="$PALIMPSEST_TEST_SERVER,grafting=127.0.0.1:$PALIMPSEST_GRAFTING_PORT"
PALIMPSEST_TEST_TOKEN=$(cat "$PALIMPSEST_SECRETS/token")
export PALIMPSEST_TEST_TOKEN
for _ in $(seq 120); do
  "$(dirname "$python")/palimpsest" health --server "$PALIMPSEST_TEST_SERVER" --token "$PALIMPSEST_TEST_TOKEN" && break
  sleep 1
done
"$python" -m pytest --basetemp "$PALIMPSEST_TEST_FILES/tests" \
  ${PALIMPSEST_COMPOSE_TESTS:-tests/integration/client tests/integration/gateway/test_completions.py tests/integration/gateway/test_chat.py tests/integration/cli/test_commands.py tests/integration/cli/test_corpus.py tests/integration/cli/test_unlearn.py tests/integration/unlearning/test_stack.py tests/compose} "$@"
