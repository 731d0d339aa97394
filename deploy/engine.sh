#!/usr/bin/env bash
# Run a command beside a container engine that has the base images of deploy/Dockerfile and compose.yaml: an engine
# that answers already, or one started for as long as the command runs.
#
#   deploy/engine.sh make test-compose
#
# An engine is started only by root and only where dockerd is installed, and it is stopped at the end. The exit status
# is the command's; or 75, with the reason on stderr, where engine, Compose or images cannot be had. No single wait is
# longer than two minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

unavailable() { echo "no containers here: $1" >&2; exit 75; }
answers() { timeout 10 docker info >/dev/null 2>&1; }

start() {
  command -v dockerd >/dev/null || unavailable "no engine answers, and dockerd is not installed"
  [ "$(id -u)" = 0 ] || unavailable "no engine answers, and only root can start dockerd"
  log=$(mktemp /tmp/palimpsest-engine.XXXXXX)
  # A session of its own: a Ctrl-C is for the command, which still needs the engine to tidy up.
  setsid dockerd >"$log" 2>&1 </dev/null &
  engine=$!
  trap stop EXIT
  local deadline=$((SECONDS + 60))
  until answers; do
    kill -0 "$engine" 2>/dev/null || unavailable "dockerd does not run: $(tail -n 1 "$log")"
    [ "$SECONDS" -lt "$deadline" ] || unavailable "dockerd did not answer within a minute: $(tail -n 1 "$log")"
    sleep 0.5
  done
}

stop() {
  kill "$engine" 2>/dev/null || true
  for _ in $(seq 100); do
    kill -0 "$engine" 2>/dev/null || break
    sleep 0.2
  done
  kill -KILL "$engine" 2>/dev/null || true
  rm -f "$log"
}

command -v docker >/dev/null || unavailable "the docker command is not installed"
answers || start
docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null || unavailable "Compose is not installed"
python=$(sed -n 's/^ARG PYTHON_IMAGE=//p' deploy/Dockerfile)
redis=$(sed -n 's/.*{REDIS_IMAGE:-\(.*\)}.*/\1/p' compose.yaml)
for image in "$python" "${REDIS_IMAGE:-$redis}"; do
  docker image inspect "$image" >/dev/null 2>&1 || timeout 120 docker pull -q "$image" >/dev/null 2>&1 \
    || unavailable "the base image $image is not here and cannot be pulled"
done
"$@"
