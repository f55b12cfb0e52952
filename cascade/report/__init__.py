"""The words and pictures of a run, made from its journal alone.

    reading   a journal → a `Run` that was checked
    pairing   two programs on the same examples: won, lost, level
    comparing runs side by side: verdicts, what differs, score against serving cost
    story     a run in sentences
    stage_chart, cost_chart: places of points and whiskers
    page      HTML; `markdown`: Markdown; `document`: JSON

Invariant: nothing is measured or decided here, and what a model wrote is shown as text, never as markup.
"""
