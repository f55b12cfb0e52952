"""Quotes and headlines of companies: today's from Yahoo Finance, or made-up ones from a file that always says the same.

Invariant: a market says where its figures come from. A constructed one says in every quote that it is, and what cannot
be had is one line of a `StepFailed`, in bounded time.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from cascade.errors import StepFailed

T = TypeVar("T")
_SYMBOL = re.compile(r"[A-Z0-9.^=-]{1,12}")


@dataclass(frozen=True)
class Quote:
    """A company's figures, per share.

    Args:
        earnings: of the last four quarters; None where not known.
        source: where the figures come from; `constructed` if nobody should believe them.
    """

    symbol: str
    name: str
    currency: str
    price: float
    previous_close: float
    earnings: float | None
    source: str

    def __str__(self) -> str:
        earned = "unknown" if self.earnings is None else f"{self.earnings:.2f}"
        return f"price {self.price:.2f}, previous close {self.previous_close:.2f}, earnings per share {earned}"


class Market(Protocol):
    """Where quotes come from."""

    def quote(self, company: str) -> Quote:
        """The figures of a company, by its symbol or name; raises `StepFailed`."""

    def news(self, company: str) -> tuple[str, ...]:
        """The latest headlines, newest first; raises `StepFailed`."""


class Snapshots:
    """Constructed companies out of `datasets/NAME/snapshots.json`, for tests and evaluations that must repeat.

    The file is a list of tables with `symbol`, `name`, `currency`, `price`, `previous_close`, `earnings`, `headlines`.

    Args:
        file: read when it is first asked for something.
    """

    def __init__(self, file: Path | Callable[[], Path]) -> None:
        self._file = file

    def __deepcopy__(self, memo: dict[int, Any]) -> "Snapshots":
        return self

    def quote(self, company: str) -> Quote:
        """As constructed."""
        row = self._row(company)
        figures = {name: row[name] for name in ("symbol", "name", "currency", "price", "previous_close", "earnings")}
        return Quote(**figures, source="constructed")

    def news(self, company: str) -> tuple[str, ...]:
        """As constructed."""
        return tuple(self._row(company)["headlines"])

    def _row(self, company: str) -> Mapping[str, Any]:
        file = self._file if isinstance(self._file, Path) else self._file()
        rows = _read(file)
        if (found := rows.get(_key(company))) is None:
            raise StepFailed(f"No company is called {company[:60]!r}. Give the name or symbol of one of {file.name}.")
        return found


def snapshots(dataset: str) -> Snapshots:
    """The constructed companies that lie beside a dataset of the project."""

    def file() -> Path:
        from cascade.settings import load_settings

        return load_settings().project / "datasets" / dataset / "snapshots.json"

    return Snapshots(file)


class Live:
    """Yahoo Finance through yfinance, for people who look at it themselves; Yahoo's terms hold.

    Args:
        timeout: seconds after which a question counts as failed.
        yahoo: a module with the `Ticker` and `Search` of yfinance.
    """

    def __init__(self, timeout: float = 15.0, yahoo: Any = None) -> None:
        self.timeout = timeout
        self._given = yahoo

    def __deepcopy__(self, memo: dict[int, Any]) -> "Live":
        return self

    def quote(self, company: str) -> Quote:
        """As of now, or of the last close."""
        quote: Quote = self._within(company, self._quote)
        return quote

    def news(self, company: str) -> tuple[str, ...]:
        """Up to three headlines."""
        headlines: tuple[str, ...] = self._within(company, self._news)
        return headlines

    def _quote(self, company: str) -> Quote:
        ticker = self._ticker(company)
        fast, info = ticker.fast_info, ticker.info or {}
        earnings = info.get("trailingEps")
        return Quote(
            symbol=ticker.ticker,
            name=str(info.get("shortName") or ticker.ticker),
            currency=str(fast["currency"]),
            price=float(fast["lastPrice"]),
            previous_close=float(fast["previousClose"]),
            earnings=None if earnings is None else float(earnings),
            source="Yahoo Finance",
        )

    def _news(self, company: str) -> tuple[str, ...]:
        items = self._ticker(company).get_news(count=3) or []
        return tuple(str(item["content"]["title"]) for item in items)

    def _ticker(self, company: str) -> Any:
        yahoo, text = self._yahoo(), company.strip()
        if _SYMBOL.fullmatch(text):
            return yahoo.Ticker(text)
        found = yahoo.Search(text, max_results=1, news_count=0, timeout=self.timeout).quotes
        if not found:
            raise StepFailed(f"Yahoo Finance knows no company {company[:60]!r}. Give its symbol, as in MSFT.")
        return yahoo.Ticker(found[0]["symbol"])

    def _yahoo(self) -> Any:
        if self._given is None:
            self._given = _yfinance()
        return self._given

    def _within(self, company: str, ask: Callable[[str], T]) -> T:
        """Ask in a thread, because yfinance has no time-out of its own for most of what it asks."""
        told: Future[T] = Future()
        threading.Thread(target=_answering, args=(told, ask, company), name="market", daemon=True).start()
        try:
            return told.result(self.timeout)
        except StepFailed:
            raise
        except Late:
            raise StepFailed(
                f"Yahoo Finance did not answer for {company[:60]!r} within {self.timeout:g} s. Try again, or raise "
                "timeout."
            ) from None
        except Exception as error:
            kind = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise StepFailed(
                f"Yahoo Finance could not be asked for {company[:60]!r} ({kind}). Check the connection and the symbol, "
                "or use snapshots(…), which need none."
            ) from None


def _answering(told: "Future[Any]", ask: Callable[[str], Any], company: str) -> None:
    try:
        told.set_result(ask(company))
    except BaseException as error:
        told.set_exception(error)


def _yfinance() -> Any:
    import logging

    from cascade.settings import load_settings

    try:
        import yfinance
    except ImportError:
        raise StepFailed("yfinance is not installed. Run `pip install 'dspy-cascade[experiments]'`.") from None
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # what it logs is raised, in one line
    place = load_settings().home / "yfinance"
    place.mkdir(parents=True, exist_ok=True)
    yfinance.set_tz_cache_location(str(place))  # else it writes into the user's home
    return yfinance


@lru_cache(maxsize=8)
def _read(file: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        rows = json.loads(file.read_text("utf-8"))
        return {_key(row[name]): row for row in rows for name in ("symbol", "name")}
    except FileNotFoundError:
        raise StepFailed(f"There is no {file}. Snapshots lie beside their dataset, as snapshots.json.") from None
    except (ValueError, TypeError, KeyError) as error:
        raise StepFailed(f"{file} is no list of companies: {type(error).__name__}: {error}.") from None


def _key(text: str) -> str:
    return " ".join(re.sub(r"[^\w ]", " ", str(text)).lower().split())
