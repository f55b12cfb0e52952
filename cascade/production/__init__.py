"""From a run's best program to the one that serves, and back.

    promoting/   the gate, the log of who served when, and the aliases that follow it
    incoming/    new rows: out of what was served, and into a dataset
    night/       every night an attempt to beat what serves
    schedule/    who starts the nights
    champion     what serves, inside a service of your own; `live` keeps it up to date
    serving/     what serves, over HTTP
    ab/          a challenger beside it, and what people's outcomes say of the two
    lines        files that are only added to

Invariant: what serves is what the promotion log says; aliases in MLflow follow it.
"""
