"""`cascade harvest`: new rows out of what was served and what people said of it.

Invariant: nothing is written into a split; figures and reasons come from `cascade.production.incoming.harvest`.
"""

import time
from collections import Counter
from typing import Annotated

import typer

from cascade.cli.parts import Json, experiment_named, parts_of, print_json, stdout_kept

Name = Annotated[str, typer.Argument(metavar="NAME", help="An experiment that is served.")]
Test = Annotated[bool, typer.Option("--to-test", help="For test instead of train.")]
Enough = Annotated[
    float,
    typer.Option("--min-outcome", min=0.0, max=1.0, help="Outcome from which an uncorrected answer counts as right."),
]
Personal = Annotated[bool, typer.Option("--keep-personal", help="Keep addresses, telephone, card and account numbers.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the rows and write nothing.")]


def harvest(  # noqa: PLR0913, PLR0917 - one an option
    context: typer.Context,
    name: Name,
    to_test: Test = False,
    min_outcome: Enough = 1.0,
    keep_personal: Personal = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Make new rows of served requests that people confirmed or corrected; they wait in the data set's `incoming/`.

    Example: cascade harvest qa --dry-run
    """
    from cascade.check import prepare
    from cascade.mlflow_store.names import Names
    from cascade.mlflow_store.served import reviewed
    from cascade.mlflow_store.store import connect, reaching
    from cascade.production.incoming.harvest import gather, store, waiting_rows
    from cascade.settings import load_settings

    with stdout_kept():
        settings, parts = load_settings(), parts_of(context)
        experiment = experiment_named(name, settings.project)
        prepared = prepare(experiment, settings, parts.lms(settings) if parts.lms else None)
        folder = settings.project / "datasets" / experiment.dataset.name
        with reaching(settings.tracking_uri, "could not be read", "Nothing was harvested."):
            shown_as = Names(settings.experiment_prefix).experiment(name)
            found = reviewed(connect(settings.tracking_uri), settings.tracking_uri, shown_as)
        done = gather(found, prepared, waiting=waiting_rows(folder), enough=min_outcome, personal=keep_personal)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = None if dry_run else store(done, folder, test=to_test, stamp=stamp)
    if as_json:
        left = [{"trace": trace, "why": why} for trace, why in done.left_out]
        print_json({"rows": list(done.rows), "left_out": left, "file": str(path) if path else None})
        return
    for row in done.rows if dry_run else ():
        print_json(row)
    print(f"{len(found)} reviewed requests: {len(done.rows)} new rows{f' in {path}' if path else ''}.")
    for why, count in Counter(why for _, why in done.left_out).most_common():
        print(f"  {count} left out: {why}")
