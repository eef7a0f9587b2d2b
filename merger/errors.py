"""What a user can cause: one base class, two lines on the screen.

Every mistake that a person can mend is raised as a child of `MergerError`. The command prints its
two lines (the law with the value and the place; the remedy) and exits with 2. Anything else is a
bug of ours and keeps its traceback.
"""


class MergerError(Exception):
    """A mistake the user can mend: `law` says what is wrong and where, `remedy` what to do."""

    def __init__(self, law: str, remedy: str = "") -> None:
        super().__init__(law if not remedy else f"{law}\n{remedy}")
        self.law = law
        self.remedy = remedy


class UsageError(MergerError):
    """Options of a command, or arguments of a call, that cannot go together."""


class UnknownNameError(MergerError):
    """A name that is in no table; the remedy suggests the nearest known one."""


class SpecError(MergerError):
    """A merge config or recipe that breaks its schema."""


class CheckpointError(MergerError):
    """A checkpoint folder or file that is missing, broken or of a kind we do not read."""


class MismatchError(MergerError):
    """Checkpoints that cannot be merged with each other."""


class OutputError(MergerError):
    """A place that cannot be written: it exists, it is full, or it is not ours."""


class EvalError(MergerError):
    """A task, item file, ledger or model that cannot be evaluated as asked."""


class SearchError(MergerError):
    """A search, its run folder or its storage that cannot go on."""


class RecipeError(MergerError):
    """A recipe or one of its stages that cannot be run as written."""


def interrupted(error: BaseException | None) -> bool:
    """Say whether Ctrl-C is at the root: half-done imports raise errors of their own from it."""
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
