#!/usr/bin/env bash
# Gives the login that every new Cassandra is born with (cassandra, password cassandra) the password in
# HEADRACE_CASSANDRA_PASSWORD. Where it has that already, nothing happens.
#
# A dedicated node needs no second login. Passwords go through files and standard input, since everybody on
# the host can read a command line.
set -euo pipefail
umask 077

login() { printf '[PlainTextAuthProvider]\nusername = cassandra\npassword = %s\n' "$1"; }
quoted=${HEADRACE_CASSANDRA_PASSWORD//\'/\'\'}
files=$(mktemp -d)
trap 'rm -r "$files"' EXIT
login "$HEADRACE_CASSANDRA_PASSWORD" >"$files/ours"
login cassandra >"$files/born"

for _ in {1..12}; do
  cqlsh "$@" --credentials "$files/ours" -e 'SHOW HOST' 2>/dev/null && exit
  printf "ALTER ROLE cassandra WITH PASSWORD = '%s';\n" "$quoted" |
    cqlsh "$@" --credentials "$files/born" 2>/dev/null || true
  sleep 5  # a new node makes the login some seconds after it answers, and remembers passwords for two
done
echo "Cassandra takes neither the password in HEADRACE_CASSANDRA_PASSWORD nor the one it is born with" >&2
exit 1
