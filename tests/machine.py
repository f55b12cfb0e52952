"""A machine for tests: `crontab`, `systemctl` and `loginctl` of its own, so that no test reaches those of who runs it."""

import shutil
from pathlib import Path

import pytest
from hypothesis import strategies as st

_UNPRINTABLE = ["Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"]
PRINTABLE = st.characters(exclude_categories=_UNPRINTABLE, include_characters=" ")
"""What a name or a path that can be scheduled is made of."""
FILE_NAMES = st.text(
    st.characters(exclude_categories=_UNPRINTABLE, include_characters=" ", exclude_characters="/"),
    min_size=1,
    max_size=15,
).filter(lambda name: name not in (".", ".."))
_CRONTAB = """#!/bin/sh
case "$1" in
  -l) [ -f "{store}" ] && exec cat "{store}"; echo 'no crontab for me' >&2; exit 1 ;;
  -r) exec rm "{store}" ;;
  -) if [ -f "{store}.refuses" ]; then echo 'bad minute' >&2; exit 1; fi; exec cat >"{store}" ;;
esac
"""
_SYSTEMCTL = """#!/bin/sh
echo "$*" >>"{folder}/systemctl.calls"
case "$*" in
  '--user is-system-running') cat "{folder}/manager"; [ "$(cat "{folder}/manager")" = running ]; exit ;;
esac
if [ "$(cat "{folder}/manager")" = offline ]; then echo 'Failed to connect to bus' >&2; exit 1; fi
"""
_LOGINCTL = """#!/bin/sh
cat "{folder}/linger"
"""


class Machine:
    """Fakes on a PATH that has nothing else but what the fakes need."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self.store = folder / "crontab"
        for name in ("sh", "cat", "rm", "flock"):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        for name, text in [("crontab", _CRONTAB), ("systemctl", _SYSTEMCTL), ("loginctl", _LOGINCTL)]:
            (self.bin / name).write_text(text.format(folder=folder, store=self.store))
            (self.bin / name).chmod(0o755)
        self.manager("offline")
        self.lingers(False)
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))

    def manager(self, state: str) -> None:
        """What the user's systemd says of itself."""
        (self.folder / "manager").write_text(f"{state}\n")

    def lingers(self, whether: bool) -> None:
        (self.folder / "linger").write_text("yes\n" if whether else "no\n")

    def lacks(self, command: str) -> None:
        (self.bin / command).unlink()

    def refuses(self) -> None:
        """cron does not take what it is given."""
        (self.folder / "crontab.refuses").touch()

    @property
    def crontab(self) -> bytes | None:
        return self.store.read_bytes() if self.store.exists() else None

    @property
    def systemctl_calls(self) -> list[str]:
        path = self.folder / "systemctl.calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def units(self) -> dict[str, str]:
        folder = self.folder / "config" / "systemd" / "user"
        return {path.name: path.read_text() for path in sorted(folder.glob("*"))}
