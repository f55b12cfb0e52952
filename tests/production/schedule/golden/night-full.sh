#!/bin/sh
# cascade schedule: qa in /home/me/help desk (68cbce29)
# `cascade schedule` writes this file and takes it away: what is changed here is lost.
umask 077
log='/home/me/help desk/.cascade/schedule/qa-68cbce29.log'

say() {
  printf '%s %s\n' "$(date '+%Y-%m-%d %H:%M:%S %z')" "$1"
}

# Who started this is told too, with a mail or in the journal, for the log is seldom read.
fail() {
  say "$1"
  printf 'cascade: %s\n' "$1" >&3
  exit "$2"
}

exec 3>&2 9>>'/home/me/help desk/.cascade/schedule/qa-68cbce29.lock'
if ! /usr/bin/flock -n 9; then
  exec >>"$log"
  fail 'the night before still runs: qa is not started' 0
fi
if [ -n "$(find "$log" -size +1953 2>/dev/null)" ]; then
  mv -f "$log" "$log.1"
fi
exec >>"$log" 2>&1
cd '/home/me/help desk' || fail 'the folder /home/me/help desk is gone' 1

env_file=/home/me/.config/cascade.env
case "$(stat -L -c %a:%u "$env_file" 2>/dev/null)" in
  "600:$(id -u)" | "400:$(id -u)") ;;
  *) fail "$env_file must be yours and nobody else's to read: chmod 600" 2 ;;
esac
set -a
. "$env_file"
set +a

PATH='/home/me/help desk/.venv/bin':"$PATH"
export PATH
# This shell waits for the end of a night that is told to stop.
trap : HUP INT TERM
say 'begins: cascade nightly --promote qa'
'/home/me/help desk/.venv/bin/python' -P -m cascade nightly --promote qa
code=$?
[ "$code" = 0 ] || fail "ended with code $code; $log says why" "$code"
say 'ended with code 0'
