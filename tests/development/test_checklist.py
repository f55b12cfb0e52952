"""The seven steps: a table of facts and what they mean."""

import pytest

from cascade.development.checklist import Facts, checklist

ROWS = {"train": 40, "dev": 60, "test": 60}
WRITTEN = dict(name="x", metric=("success", True), programs=("Plain",))
FILLED = dict(**WRITTEN, units=ROWS)
RUN = dict(**FILLED, baseline=0.4)
CASES = [
    (Facts("x", broken="line 3: SyntaxError"), "", 1, "Mend experiments/x.py."),
    (Facts("x", metric=("success", False)), "", 1, "Write success in experiments/x.py."),
    (Facts("x", metric=("success", False), units=ROWS), "2", 1, "Write success in experiments/x.py."),
    (Facts(**WRITTEN, no_data="no split 'train'"), "1", 2, "Fill datasets/x/, or: cascade new x --from ROWS"),
    (Facts(**WRITTEN, units={**ROWS, "dev": 19}), "13", 2, "Add rows: dev and test need 20 each."),
    (Facts(**WRITTEN, units={**ROWS, "test": 3}, grouped=True), "13", 2, "Add groups: dev and test need 20 each."),
    (Facts(**FILLED, no_program="cannot be built"), "12", 3, "cascade check x"),
    (Facts(**FILLED, errors=["Metric: wrong"]), "12", 3, "cascade check x"),
    (Facts(**FILLED), "123", 4, "cascade run x"),
    (Facts(**RUN), "1234", 5, "cascade run x"),
    (Facts(**RUN, best=0.5), "12345", 6, "Write another program beside Plain."),
    (Facts(**{**RUN, "programs": ("Plain", "b")}, best=0.5), "123456", 7, "cascade compare x --program Plain --program b"),
    (Facts(**RUN, best=0.5, compared="On dev …"), "123457", 6, "Write another program beside Plain."),
    (Facts(**{**RUN, "programs": ("Plain", "b")}, best=0.5, compared="On dev …"), "1234567", None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "done", "following", "todo"), CASES)
def test_cases(facts, done, following, todo):
    items = checklist(facts)
    assert [item.number for item in items] == [1, 2, 3, 4, 5, 6, 7]
    assert "".join(str(item.number) for item in items if item.state == "done") == done
    found = [item for item in items if item.state == "next"]
    assert [(item.number, item.todo) for item in found] == ([(following, todo)] if following else [])
