"""Markets: constructed ones say so, a live one fails in one line and in bounded time."""

import copy
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cascade.errors import StepFailed
from cascade.tools.market import Live, Snapshots, snapshots

ACME = {"symbol": "ACM", "name": "Acme & Sons", "currency": "USD", "price": 41.2, "previous_close": 40.0,
        "earnings": None, "headlines": ["Anvils sell", "Roadrunner sues"]}  # fmt: skip


@pytest.fixture
def market(tmp_path: Path) -> Snapshots:
    file = tmp_path / "snapshots.json"
    file.write_text(json.dumps([ACME]))
    return Snapshots(file)


@pytest.mark.parametrize("asked", ["ACM", "acm", "Acme & Sons", " acme  sons ", "Acme & Sons."])
def test_a_company_is_found_by_symbol_and_name(market: Snapshots, asked: str) -> None:
    quote = market.quote(asked)
    assert (quote.symbol, quote.price, quote.source) == ("ACM", 41.2, "constructed")
    assert str(quote) == "price 41.20, previous close 40.00, earnings per share unknown"
    assert market.news(asked) == ("Anvils sell", "Roadrunner sues")


def test_an_unknown_company_a_missing_and_a_damaged_file_are_one_line(market: Snapshots, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="No company is called 'Umbrella'"):
        market.quote("Umbrella")
    with pytest.raises(StepFailed, match=r"There is no .*none.json"):
        Snapshots(tmp_path / "none.json").quote("ACM")
    (tmp_path / "bad.json").write_text('[{"symbol": 1}]')
    with pytest.raises(StepFailed, match="is no list of companies: KeyError"):
        Snapshots(tmp_path / "bad.json").quote("ACM")


def test_a_market_by_dataset_is_read_when_it_is_asked_and_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = snapshots("toys")
    (tmp_path / "datasets/toys").mkdir(parents=True)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "datasets/toys/snapshots.json").write_text(json.dumps([ACME]))
    monkeypatch.chdir(tmp_path)
    assert copy.deepcopy(market) is market
    assert market.quote("ACM").price == 41.2


@dataclass
class FakeTicker:
    ticker: str
    fast_info: dict[str, Any] = field(default_factory=lambda: {"currency": "USD", "lastPrice": 3, "previousClose": 2})
    info: dict[str, Any] = field(default_factory=lambda: {"shortName": "Found Inc.", "trailingEps": 0.5})

    def get_news(self, count: int) -> list[dict[str, Any]]:
        return [{"content": {"title": f"Headline {number}"}} for number in range(count)]


class FakeYahoo:
    """The part of yfinance that is used."""

    Ticker = FakeTicker

    class Search:
        def __init__(self, text: str, **_options: Any) -> None:
            self.quotes = [] if "nobody" in text else [{"symbol": "FND"}]


class Slow(FakeYahoo):
    class Ticker(FakeTicker):
        def get_news(self, count: int) -> Any:
            time.sleep(2)


class Broken(FakeYahoo):
    class Ticker(FakeTicker):
        def get_news(self, count: int) -> Any:
            raise ConnectionError("Could not resolve host:\nquery2.example")


def test_a_live_quote_by_symbol_and_by_name() -> None:
    assert Live(yahoo=FakeYahoo).quote("BRK-B").symbol == "BRK-B"
    quote = Live(yahoo=FakeYahoo).quote("Found Incorporated")
    assert (quote.symbol, quote.name, quote.price, quote.previous_close, quote.earnings, quote.source) == (
        "FND", "Found Inc.", 3.0, 2.0, 0.5, "Yahoo Finance"
    )  # fmt: skip
    assert Live(yahoo=FakeYahoo).news("FND") == ("Headline 0", "Headline 1", "Headline 2")


@pytest.mark.parametrize(
    ("yahoo", "company", "told"),
    [
        (Slow, "FND", "did not answer for 'FND' within 0.1 s"),
        (Broken, "FND", "could not be asked for 'FND' (ConnectionError: Could not resolve host: query2.example)"),
        (FakeYahoo, "nobody at all", "knows no company 'nobody at all'"),
    ],
)
def test_what_a_live_market_cannot_do_is_one_line_in_bounded_time(yahoo: Any, company: str, told: str) -> None:
    began = time.monotonic()
    with pytest.raises(StepFailed) as error:
        Live(timeout=0.1, yahoo=yahoo).news(company)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 1.5


@pytest.mark.slow
def test_yfinance_without_a_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real package, behind a proxy that nobody listens on."""
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(StepFailed, match="Yahoo Finance could not be asked for 'MSFT'"):
        Live(timeout=20).quote("MSFT")
    assert (tmp_path / ".cascade/yfinance").is_dir()
