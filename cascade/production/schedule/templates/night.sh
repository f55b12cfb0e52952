#!/bin/sh
<< schedule.mark >>
# `cascade schedule` writes this file and takes it away: what is changed here is lost.
umask 077
log=<< schedule.log | sh >>

say() {
  printf '%s %s\n' "$(date '+%Y-%m-%d %H:%M:%S %z')" "$1"
}

# Who started this is told too, with a mail or in the journal, for the log is seldom read.
fail() {
  say "$1"
  printf 'cascade: %s\n' "$1" >&3
  exit "$2"
}

exec 3>&2 9>><< schedule.script.with_suffix(".lock") | sh >>
if ! << flock | sh >> -n 9; then
  exec >>"$log"
  fail << ("the night before still runs: " ~ schedule.name ~ " is not started") | sh >> 0
fi
if [ -n "$(find "$log" -size +<< log_blocks >> 2>/dev/null)" ]; then
  mv -f "$log" "$log.1"
fi
exec >>"$log" 2>&1
cd << schedule.project | sh >> || fail << ("the folder " ~ schedule.project ~ " is gone") | sh >> 1
<% if schedule.env_file %>

env_file=<< schedule.env_file | sh >>
case "$(stat -L -c %a:%u "$env_file" 2>/dev/null)" in
  "600:$(id -u)" | "400:$(id -u)") ;;
  *) fail "$env_file must be yours and nobody else's to read: chmod 600" 2 ;;
esac
set -a
. "$env_file"
set +a
<% endif %>

PATH=<< schedule.python.parent | sh >>:"$PATH"
export PATH
# This shell waits for the end of a night that is told to stop.
trap : HUP INT TERM
say << ("begins: cascade " ~ schedule.arguments | words) | sh >>
<< schedule.python | sh >> -P -m cascade << schedule.arguments | words >>
code=$?
[ "$code" = 0 ] || fail "ended with code $code; $log says why" "$code"
say 'ended with code 0'
