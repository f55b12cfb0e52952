"""Our line in a crontab that is somebody else's."""

import re
import shlex
import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from machine import FILE_NAMES, PRINTABLE

from cascade.production.schedule import At, Schedule, crontab
from cascade.production.schedule.quoting import for_cron, for_systemd

TWO = At(2, 0)
TEXTS = st.text(PRINTABLE, min_size=1, max_size=30)
NASTY = st.text("%\\'\"$` #a", min_size=1, max_size=12)
PATHS = (TEXTS | NASTY).map(lambda text: Path("/" + text))
TIMES = st.builds(At, st.integers(0, 23), st.integers(0, 59))
CRONTABS = st.lists(
    st.sampled_from(["# mine", "SHELL=/bin/bash", "5 4 * * * run 'it'  # daily", "", " \t", "MAILTO=me", "odd\x0cone", "é\udcff"])
    | st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))
).map(lambda lines: "".join(f"{line}\n" for line in lines))  # fmt: skip


def schedule(name: str, project: Path, at: At = TWO) -> Schedule:
    return Schedule(name, project, project / ".cascade", Path("/v/bin/python"), at)


def unescaped(command: str) -> list[str]:
    """What crons hand to the shell: Debian's drops backslashes, an old one leaves them; both stop at a bare `%`."""
    seen = []
    for drops in (True, False):
        kept, characters = "", iter(command)
        for character in characters:
            if character == "%":
                break
            follows = next(characters, "") if character == "\\" else ""
            kept += follows if drops and follows in ("%", "\\") else character + follows
        seen.append(kept)
    return seen


@settings(max_examples=60, deadline=None)
@given(TEXTS | NASTY)
def test_a_word_passes_cron_and_the_shell(word):
    for command in unescaped(rf"printf \%s {for_cron(word)} # 5\% of it"):
        assert subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True).stdout.decode() == word


@settings(deadline=None)
@given(TEXTS | NASTY)
def test_a_word_passes_systemd(word):
    quoted = for_systemd(word)
    assert not re.search(r"(?<!%)(%%)*%(?!%)|(?<!\$)(\$\$)*\$(?!\$)", quoted)
    inner = quoted[1:-1].replace("%%", "%").replace("$$", "$")
    assert re.sub(r"\\(.)", r"\1", inner) == word


@settings(deadline=None)
@given(CRONTABS, FILE_NAMES, PATHS, TIMES, TIMES)
def test_a_crontab_is_given_back_as_it_was(text, name, project, at, later):
    wanted = schedule(name, project, at)
    added = crontab.with_entry(text, wanted)
    assert added == f"{text}{crontab.line(wanted)}\n"
    assert crontab.entries(added, project) == [(name, at, crontab.line(wanted))]
    assert crontab.without(added, wanted) == text
    moved = schedule(name, project, later)
    assert crontab.with_entry(added, moved) == f"{text}{crontab.line(moved)}\n"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(FILE_NAMES, PATHS), min_size=2, max_size=5, unique=True))
def test_each_finds_its_own(pairs):
    text = ""
    for name, project in pairs:
        text = crontab.with_entry(text, schedule(name, project))
    assert len(text.splitlines()) == len(pairs)
    for name, project in pairs:
        found = [entry for entry, _, _ in crontab.entries(text, project)]
        assert sorted(found) == sorted(other for other, place in pairs if place == project)
        assert len(crontab.without(text, schedule(name, project)).splitlines()) == len(pairs) - 1


def test_names_that_read_like_marks_are_told_apart():
    one, other = schedule("a in /p", Path("/q")), schedule("a", Path("/p in /q"))
    text = crontab.with_entry(crontab.with_entry("", one), other)
    assert [name for name, _, _ in crontab.entries(text, Path("/q"))] == ["a in /p"]
    assert [name for name, _, _ in crontab.entries(text, Path("/p in /q"))] == ["a"]


def test_a_last_line_without_an_end_keeps_its_text():
    wanted = schedule("qa", Path("/p"))
    assert crontab.with_entry("0 1 * * * mine", wanted) == f"0 1 * * * mine\n{crontab.line(wanted)}\n"


def test_an_entry_that_was_commented_out_is_not_listed_and_makes_way():
    wanted = schedule("qa", Path("/p"))
    text = f"#{crontab.line(wanted)}\n"
    assert crontab.entries(text, Path("/p")) == []
    assert crontab.with_entry(text, wanted) == f"{crontab.line(wanted)}\n"


def test_the_command_is_the_script():
    wanted = schedule("qa", Path("/my 5% project"))
    (command, _) = unescaped(crontab.line(wanted).split(" ", 5)[5])
    assert shlex.split(command, comments=True) == ["/bin/sh", str(wanted.script)]
