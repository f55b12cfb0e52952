"""Fine-tuning of embedded models behind DSPy's provider interface.

It exists so that `BootstrapFinetune` and `BetterTogether` train real weights without a key. Invariant: a training
job always ends with a model or an exception; DSPy waits for ever for one that ends with neither.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspy.clients.provider import Provider, TrainingJob

from cascade.errors import CascadeError, ModelError
from cascade.lm.embedded.checkpoint import EVERY, Checkpoint
from cascade.lm.embedded.engine import EmbeddedEngine
from cascade.lm.embedded.gguf_file import GgufModel, write_trained
from cascade.lm.embedded.models import PREFIX, file_lock
from cascade.lm.embedded.training import OnStep, TrainingOptions, finetune

_RECIPE = "top-layers-2"
"""Part of a recipe's hash: change it when training changes, or old weights are taken for new ones."""


class EmbeddedJob(TrainingJob):  # type: ignore[misc]
    """A training job that can be asked to stop; it ends with a `ModelError` then."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stop = threading.Event()
        self.stage = "pending"

    def cancel(self) -> bool:
        """Stop before the next step; False if the job is done. The future is not cancelled: its result tells why."""
        self.stop.set()
        return not self.done()

    def status(self) -> str:
        """`pending`, `running`, `succeeded` or `failed`."""
        return self.stage


class EmbeddedProvider(Provider):  # type: ignore[misc]
    """Trains embedded weights in this process, one training at a time for a home.

    Args:
        engine: serves what is trained; its store takes the new weights.
        on_step: told of each training step.
        should_stop: asked before each step, besides the job's own `cancel`.
        checkpoint_every: seconds of training after which it is noted where it stands.
    """

    def __init__(
        self,
        engine: EmbeddedEngine,
        *,
        on_step: OnStep | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        checkpoint_every: float = EVERY,
    ) -> None:
        super().__init__()
        self.finetunable = True
        self.TrainingJob = EmbeddedJob
        self.engine = engine
        self.on_step = on_step
        self.should_stop = should_stop
        self.checkpoint_every = checkpoint_every

    @staticmethod
    def is_provider_model(model: str) -> bool:
        """Whether the model's name starts with `embedded/`."""
        return model.startswith(PREFIX)

    def launch(self, lm: Any, launch_kwargs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Load the LM's weights; nothing happens if they are there."""
        self.engine.launch(lm.model)

    def kill(self, lm: Any, launch_kwargs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Free the LM's weights; nothing happens if they are not there. They load again on use."""
        self.engine.kill(lm.model)

    def finetune(
        self,
        job: EmbeddedJob,
        model: str,
        train_data: Sequence[Mapping[str, Any]],
        train_data_format: Any,  # noqa: ARG002
        train_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Train `model` on chat rows; returns the new model's name, `embedded/…`.

        The same rows and options on the same weights are trained once: then the stored weights are returned. A
        training that was killed or stopped goes on from its last checkpoint.

        Raises:
            ModelError: zero or malformed rows, unknown weights, or the training was stopped.
            DefinitionError: an unknown training option or data in another format.
        """
        job.stage = "running"
        try:
            name = self._finetune(job, model, train_data, TrainingOptions.parse(train_kwargs))
        except Exception:
            job.stage = "failed"
            raise
        except BaseException as error:
            # DSPy ends the job on `Exception` only; anything else would leave its caller waiting for ever.
            job.stage = "failed"
            raise ModelError(f"Training of {model} was stopped by {type(error).__name__}: {error}") from error
        job.stage = "succeeded"
        return PREFIX + name

    def __deepcopy__(self, memo: dict[int, Any]) -> "EmbeddedProvider":
        return self

    def _finetune(
        self, job: EmbeddedJob, model: str, rows: Sequence[Mapping[str, Any]], options: TrainingOptions
    ) -> str:
        if not rows:
            raise ModelError(
                f"No rows to train {model} on: no example passed the metric while bootstrapping. Put a prompt stage "
                "before this one, use a stronger teacher, or lower the metric's threshold."
            )
        models, recipe = self.engine.models, recipe_hash(self.engine.models.identity(model), rows, options)

        def stop() -> bool:
            return job.stop.is_set() or self.should_stop()

        with file_lock(models.folder / ".training.lock", stop):
            if known := models.find_trained(recipe):
                return known
            base, draft = GgufModel(models.path(model)), models.folder / ".trained.gguf"
            checkpoint = Checkpoint(models.folder / ".checkpoints", recipe, every=self.checkpoint_every)
            state = finetune(base, rows, options, on_step=self.on_step, should_stop=stop, checkpoint=checkpoint)
            try:
                name = models.add(write_trained(base, state, draft), base=model, recipe=recipe)
            finally:
                draft.unlink(missing_ok=True)  # what a killed process leaves is written over by the next training
            checkpoint.remove()
            return name


def recipe_hash(base: str, rows: Sequence[Mapping[str, Any]], options: TrainingOptions) -> str:
    """SHA-256 over everything that determines trained weights; raises `CascadeError` if rows are no JSON.

    Args:
        base: identity of the weights that training starts from.
        rows: in order, which matters.
        options: all of them.
    """
    try:
        text = json.dumps([_RECIPE, base, list(rows), vars(options)], sort_keys=True, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise CascadeError(f"Training rows must be JSON values: {error}.") from None
    return hashlib.sha256(text.encode()).hexdigest()
