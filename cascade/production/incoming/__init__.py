"""New rows: out of what was served and what people said of it, and into a dataset.

    harvest, personal    rows of what a person confirmed or corrected, without what may name a person
    taking, files        rows that wait beside a dataset, taken up once
    vetting              which of them may join, and why others may not

Invariant: no row joins a split that a person did not put into `incoming/`, and none that would stand in two splits.
"""
