#!/usr/bin/env bash
# Make the secrets of compose.yaml: a Redis password and its URL, a bearer token that reaches everything, and the service
# token with which jobs call rooms for the callers they work for. Keeps what exists.
# The bearer token is written once, to the file `token`; servers read only the hashes of tokens.
set -euo pipefail
cd "$(dirname "$0")"
folder=${PALIMPSEST_SECRETS:-secrets}
mkdir -p "$folder"
chmod 0755 "$folder"
random() { head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
hash() { tr -d '\n' < "$1" | sha256sum | cut -d' ' -f1; }
if [ ! -f "$folder/redis_password" ]; then
  random > "$folder/redis_password"
  printf 'redis://:%s@redis:6379/0' "$(cat "$folder/redis_password")" > "$folder/redis_url"
fi
if [ ! -f "$folder/tokens.json" ]; then
  (umask 077; random > "$folder/token")
  printf '{"tokens": [{"name": "owner", "sha256": "%s", "scopes": ["*"]}]}\n' "$(hash "$folder/token")" > "$folder/tokens.json"
fi
if [ ! -f "$folder/service_token" ]; then
  grep -q '"tokens": *\[' "$folder/tokens.json" || { echo "$folder/tokens.json has no list of tokens" >&2; exit 1; }
  random > "$folder/service_token"
  # Its only scope: by itself it reaches nothing, and on behalf of a caller what that caller reaches.
  entry=$(printf '{"name": "jobs", "sha256": "%s", "scopes": ["impersonate"]}' "$(hash "$folder/service_token")")
  empty='s/"tokens": *\[[[:space:]]*\]/"tokens": ['"$entry"']/' full='s/"tokens": *\[/"tokens": ['"$entry"', /'
  if grep -q '"tokens": *\[[[:space:]]*\]' "$folder/tokens.json"; then edit=$empty; else edit=$full; fi
  sed "$edit" "$folder/tokens.json" > "$folder/tokens.json.new"
  mv "$folder/tokens.json.new" "$folder/tokens.json"
fi
# compose mounts secret files unchanged, and the containers run as another user.
chmod 0644 "$folder/redis_password" "$folder/redis_url" "$folder/tokens.json" "$folder/service_token"
echo "secrets are in $(cd "$folder" && pwd); the bearer token is the file 'token' there"
