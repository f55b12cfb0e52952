"""Every error that cascade raises on purpose, in one tree with one root.

    CascadeError                      exit code 1: the work failed
    ├── DefinitionError               exit code 2: what the user wrote cannot be run
    │   ├── ExperimentError           the file in experiments/, its stages, its program
    │   ├── DatasetError              rows, splits, fields, fingerprints
    │   ├── MetricError               a metric that returns what is no score
    │   ├── ProgramError              steps of a program that do not fit one another
    │   └── SettingsError             pyproject.toml, environment, LMs by name, keys
    ├── EvaluationFailed              too many examples failed to be worth a score
    ├── StepFailed                    a step of a program could not do its work; a failing example is data
    ├── StageFailed                   an optimizer could not finish; the cascade goes on
    ├── LedgerError                   the ledger cannot be read or written
    ├── JournalError                  the journal cannot be written; what was answered is kept
    ├── ModelError                    embedded weights are missing, damaged or cannot be trained
    ├── TrackingError                 MLflow could not be written or read
    └── Refused                       exit code 3: a gate said no

Two things are no errors but orders to stop, and derive from `BaseException` because DSPy's
optimizers swallow every `Exception` and would return starved results as if they were real:

    Stop
    ├── BudgetSpent                   a cap of `Budget` is reached
    └── Interrupted                   Ctrl-C or SIGTERM

A message quotes the offending value, names the place and says the fix, in one line.
"""


class CascadeError(Exception):
    """Root of the tree; `exit_code` is what the command line returns."""

    exit_code = 1


class DefinitionError(CascadeError):
    """What the user wrote cannot be run. Raised before any LM call, but where only answers can show it.

    Those are a metric that returns no score, and a budget that judging turns out to exceed; what was answered is kept.
    """

    exit_code = 2


class ExperimentError(DefinitionError):
    """An experiment file, a stage or a program is wrong."""


class DatasetError(DefinitionError):
    """Data are missing, malformed or overlap."""


class MetricError(DefinitionError):
    """A metric returned something that is not a score; a check finds most of them before any LM call."""


class ProgramError(DefinitionError):
    """Steps of a program do not fit one another; raised when it is put together."""


class SettingsError(DefinitionError):
    """A setting, an LM name or a key is missing or wrong."""


class EvaluationFailed(CascadeError):
    """More examples failed than the cap allows; a score would say nothing."""


class StepFailed(CascadeError):
    """A step of a program could not do its work: an unknown route, a needed branch that failed, no majority."""


class StageFailed(CascadeError):
    """An optimizer raised; recorded as a failed stage."""


class LedgerError(CascadeError):
    """The ledger is damaged, foreign or cannot be written."""


class JournalError(CascadeError):
    """The journal cannot be written, as on a full disk; the run can be gone on with."""


class ModelError(CascadeError):
    """Embedded weights are missing, damaged or cannot be trained."""


class TrackingError(CascadeError):
    """MLflow could not be written or read."""


class Refused(CascadeError):
    """A gate, a promotion or a rollback said no."""

    exit_code = 3


class Stop(BaseException):
    """An order to stop everything; no library may swallow it."""


class BudgetSpent(Stop):
    """A cap of the budget is reached; the message names the cap."""


class Interrupted(Stop):
    """The user or the system asked to stop."""
