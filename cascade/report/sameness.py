"""Whether two runs were judged by the same code.

Invariant: layout, comments and docstrings are no difference.
"""

from cascade.journal import RunRecord
from cascade.sources import code_of

CODE = "metric_code"


def other_code(before: RunRecord, after: RunRecord, sources: tuple[str, str]) -> str:
    """How runs of one metric's name were judged where it was not by the same code; "" where it was.

    Args:
        sources: the programs' files, which are looked at where a journal has no hash of its metric.
    """
    name, (one, other) = before.params.get("metric", ""), sources
    different = f"were judged by different code of the metric {name!r}"
    codes = [record.parts.get(CODE) for record in (before, after)]
    if None not in codes:
        return "" if codes[0] == codes[1] else different
    if one == other:
        return ""
    found = code_of(one, name), code_of(other, name)
    if not any(found):
        return f"may have been judged by different code of the metric {name!r}, which their journals do not tell"
    return "" if found[0] == found[1] else different
