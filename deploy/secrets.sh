#!/usr/bin/env bash
# Make the secrets compose.yaml hands out: a Redis password, its URL, and a bearer token that reaches everything.
# Keeps what is there. The token itself is written once, to the file `token`; servers get only its hash.
set -euo pipefail
cd "$(dirname "$0")"
folder=${PALIMPSEST_SECRETS:-secrets}
mkdir -p "$folder"
chmod 0755 "$folder"
random() { head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
if [ ! -f "$folder/redis_password" ]; then
  random > "$folder/redis_password"
  printf 'redis://:%s@redis:6379/0' "$(cat "$folder/redis_password")" > "$folder/redis_url"
fi
if [ ! -f "$folder/tokens.json" ]; then
  (umask 077; random > "$folder/token")
  hash=$(tr -d '\n' < "$folder/token" | sha256sum | cut -d' ' -f1)
  printf '{"tokens": [{"name": "owner", "sha256": "%s", "scopes": ["*"]}]}\n' "$hash" > "$folder/tokens.json"
fi
# compose mounts secret files as they are, and the containers run as another user.
chmod 0644 "$folder/redis_password" "$folder/redis_url" "$folder/tokens.json"
echo "secrets are in $(cd "$folder" && pwd); the bearer token is the file 'token' there"
