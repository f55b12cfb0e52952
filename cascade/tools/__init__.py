"""Parts that a program uses beside LMs: each a file of its own, usable without the rest of cascade.

Invariant: what a tool needs of other packages is imported when it is first used.
"""
