"""What is printed to find a run."""

import subprocess
import sys

import pytest

from cascade.mlflow_store import links, store
from cascade.redaction import plain_source


@pytest.mark.parametrize(
    ("uri_", "link"),
    [
        ("http://localhost:5000/", "http://localhost:5000/#/experiments/1/runs/ab?workflowType=machine_learning"),
        ("https://me:canary@host", "https://host/#/experiments/1/runs/ab?workflowType=machine_learning"),
        ("sqlite:///mlflow.db", "cascade ui, then /#/experiments/1/runs/ab?workflowType=machine_learning"),
        ("postgresql://me:canary@db/x", "cascade ui, then /#/experiments/1/runs/ab?workflowType=machine_learning"),
    ],
)
def test_links_open_the_classic_view(uri_: str, link: str) -> None:
    assert links.run_link(uri_, "1", "ab") == link
    assert "workflowType=machine_learning" in links.view_path("1", "stages")


def test_no_password_is_shown() -> None:
    assert store.redact("see mysql+pymysql://me:canary@db/x.") == "see mysql+pymysql://***@db/x."
    assert plain_source("s3://key:canary@bucket/dev.csv?X-Signature=canary") == "s3://bucket/dev.csv"
    assert plain_source("datasets/qa/dev.jsonl") == "datasets/qa/dev.jsonl"


def test_importing_is_cheap() -> None:
    code = "import sys, cascade.mlflow_store; print({'mlflow', 'dspy', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
