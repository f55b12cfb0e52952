"""Words for shells, cron, systemd and YAML, so that each reads back what was written.

Invariant: text may hold anything but line breaks and control characters, which `Schedule` refuses.
"""

import json
import re
import shlex
from collections.abc import Iterable


def for_cron(word: str) -> str:
    """A word for the shell in a crontab.

    cron takes `%` for the end of the command, quoted or not, unless a backslash precedes it. Some crons drop that
    backslash and one of every two, some leave them. So `%` stands outside quotes, where the shell drops what cron left,
    and no two backslashes meet.

    >>> print(for_cron("/my 50% project"))
    '/my 50'\\%' project'
    """
    special = {"%": r"\%", "'": r"\'", "\\": r"'\'"}
    return "".join(special.get(part) or shlex.quote(part) for part in re.findall(r"[%'\\]|[^%'\\]+", word))


def for_systemd(word: str) -> str:
    """A word of `ExecStart`, in which systemd resolves `%` and `$` and reads escapes as C does.

    >>> print(for_systemd("/my 50% project"))
    "/my 50%% project"
    """
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def for_yaml(value: str | Iterable[str]) -> str:
    """A double-quoted scalar, or a sequence of them, which JSON writes as YAML reads it.

    >>> for_yaml("it's: 1")
    '"it\\'s: 1"'
    """
    return json.dumps(value if isinstance(value, str) else list(value), ensure_ascii=False)


def for_github(text: str) -> str:
    """Text in a workflow, in which GitHub resolves `${{ … }}` before anything else.

    >>> for_github("a ${{ b")
    "a ${{ '${{' }} b"
    """
    return text.replace("${{", "${{ '${{' }}")


def for_kubernetes(word: str) -> str:
    """A word of a container's command, in which Kubernetes resolves `$(NAME)`.

    >>> for_kubernetes("a$(b)")
    'a$$(b)'
    """
    return word.replace("$(", "$$(")
