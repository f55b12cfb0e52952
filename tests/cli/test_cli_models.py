import json

from cascade.lm.embedded.models import Models, sha256, write_json


def _there(folder):
    store = Models(folder / ".cascade")
    store.folder.mkdir(parents=True)
    for name, facts in {"smollm2-135m": {"source": "x==1"}, "smollm2-135m-abc": {"base": "0123456789abcdef"}}.items():
        file = store.folder / f"{name}.gguf"
        file.write_text(name)
        write_json(store.folder / f"{name}.json", {"sha256": sha256(file), "created": "2026-01-01T00:00:00Z", **facts})


def test_models_are_listed_and_removed(project):
    _there(project.folder)
    rows = json.loads(project.cascade("models", "list", "--json").out)
    assert [(row["name"], row["origin"]) for row in rows] == [
        ("smollm2-135m", "x==1"),
        ("smollm2-135m-abc", "trained from 0123456789ab"),
    ]
    done = project.cascade("models", "remove", "embedded/smollm2-135m-abc")
    assert (done.code, done.out) == (0, "Removed smollm2-135m-abc.\n")
    assert project.cascade("models", "list").out.splitlines() == ["smollm2-135m  0 MB  x==1  2026-01-01T00:00:00Z"]


def test_what_is_not_there_is_one_line(project):
    done = project.cascade("models", "remove", "smollm3")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("cascade: No embedded model 'smollm3' in ")
    assert "Run `cascade models prepare`." in project.cascade("models", "list").out


def test_prepare_does_nothing_when_the_model_is_there(project):
    _there(project.folder)
    done = project.cascade("models", "prepare", "--json")
    assert (done.code, done.err, json.loads(done.out)["name"]) == (0, "", "smollm2-135m")
