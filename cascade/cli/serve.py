"""`cascade serve`: an experiment's champion over HTTP.

Invariant: a token comes from a file or the environment, never from the command line, where everybody on the machine
reads it.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.parts import Json, parts_of, print_json
from cascade.errors import SettingsError

Name = Annotated[str, typer.Argument(metavar="NAME", help="An experiment of which a version serves.")]
Host = Annotated[str, typer.Option("--host", help="Where the server listens.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help="Holds the bearer token; default: CASCADE_TOKEN.")
]  # fmt: skip
Challenger = Annotated[
    str, typer.Option("--challenger", metavar="SHARE", help="Share of the keys that the challenger answers, as 10%.")
]
Trace = Annotated[str, typer.Option("--trace", metavar="SHARE", help="Share of the requests traced in MLflow, as 1%.")]
Remember = Annotated[int, typer.Option("--remember", min=1, help="Last requests that feedback may come to.")]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, help="Program calls at once; more get 503.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds in which an answer must come, else 504.")]
Body = Annotated[int, typer.Option("--max-body", min=1, metavar="BYTES", help="Longest request; longer ones get 413.")]
Refresh = Annotated[float, typer.Option("--refresh", min=0.1, help="Seconds between looks at which version serves.")]
Grace = Annotated[float, typer.Option("--grace", min=0, help="Seconds for what is in flight when it is told to end.")]


def serve(  # noqa: PLR0913, PLR0917 - one an option
    context: typer.Context,
    name: Name,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    challenger: Challenger = "0%",
    trace: Trace = "0%",
    token_file: TokenFile = None,
    concurrency: Concurrency = 32,
    timeout: Timeout = 60.0,
    max_body: Body = 1_000_000,
    refresh: Refresh = 30.0,
    grace: Grace = 30.0,
    remember: Remember = 100_000,
    as_json: Json = False,
) -> None:
    """Serve an experiment's champion over HTTP, and a challenger beside it, until Ctrl-C.

    Example: cascade serve qa --challenger 10% --trace 1%
    """
    from cascade.lm.lms import LMs
    from cascade.production.live import Target
    from cascade.production.serving.assembly import Plan
    from cascade.production.serving.server import serve as serving
    from cascade.production.serving.server import token_from
    from cascade.production.serving.service import Limits
    from cascade.settings import TOKEN, load_settings

    settings = load_settings()
    target = Target(name, settings, lms=parts_of(context).lms or LMs)
    limits = Limits(concurrency, timeout, max_body, grace)
    token = token_from(os.environ.get(TOKEN), token_file)

    def announce(url: str, version: str) -> None:
        if as_json:
            print_json({"url": url, "experiment": name, "version": version, "pid": os.getpid()})
        else:
            print(f"Version {version} of {name} serves at {url}; {url}/docs says what it takes. Ctrl-C ends it.")
        sys.stdout.flush()

    shares = {"share": _share("--challenger", challenger), "sampled": _share("--trace", trace)}
    cut = serving(Plan(target, host, port, token, limits, refresh, remembered=remember, **shares), announce, _warn)
    if cut:  # threads that a model holds would be torn down with Python under their feet
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _share(option: str, text: str) -> float:
    """A fraction out of `10%` or `0.1`."""
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1:
        raise SettingsError(f"{option} {text!r} is no share from 0% to below 100%. Write one, such as 10%.")
    return found


def _warn(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr, flush=True)
