"""An experiment's champion over HTTP, and a challenger beside it.

Invariant: what is kept beside an answer (log, traces, recent requests) waits in bounded queues of its own and never
makes the answer wait.
"""
