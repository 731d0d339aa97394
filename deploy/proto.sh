#!/usr/bin/env bash
# Generate shared/palimpsest/api from protos/. `deploy/proto.sh --check` changes nothing and fails on drift;
# `--install` only sets the generator up.
# The generator is pinned and deliberately old: generated code refuses to run with a protobuf older than the
# one it was made with, and that floor would reach everyone who installs the client.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${PROTO_VENV:-.venv/proto}
if [ ! -x "$tools/bin/python" ] || ! "$tools/bin/python" -c 'import grpc_tools, google.api' 2>/dev/null; then
  "${PYTHON:-python3}" -m venv "$tools"
  "$tools/bin/pip" install -q grpcio-tools==1.74.0 googleapis-common-protos==1.70.0
fi
[ "${1:-}" = --install ] || "$tools/bin/python" deploy/proto.py "$@"
