"""The one door to Optuna: proposals out, outcomes in; nothing of Optuna is seen outside.

The study is an index, the ledger is the truth: a study holds points, values and a few facts, and
a resumed run recomputes whatever else it needs from item scores that are already paid for.
Departures from the usual loop: no pruner (a trial raced out is COMPLETE with its paired estimate,
since samplers learn nothing from PRUNED), the sampler is seeded from the count of finished trials
(one seed would repeat its points after every resume), a candidate that was interrupted is enqueued
again, a torn last line of the journal is cut off first, and three failures in a row end the run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from merger.errors import SearchError, SpecError, interrupted
from search.candidate import Candidate
from search.crash import JournalLock, alive, mend_journal, this_worker
from search.samplers import derive_seed, sampler_of, suited
from search.space import Choice, Params, Space
from search.starts import Start
from search.trial import Evaluate, Trial

if TYPE_CHECKING:
    import optuna

NAME = "merge"
MAX_RETRIES = MAX_FAILURES = 3


class Study:
    """An Optuna study over a space; open it once in each process."""

    def __init__(
        self,
        place: str,
        space: Space,
        *,
        directions: int = 1,
        sampler: str = "auto",
        trials: int = 60,
        seed: int = 0,
        worker: str = "",
        name: str = NAME,
        owner: str = "",
    ) -> None:
        """Open or create the study at a storage URL.

        `place` is `journal:///absolute/path`, `memory://` or any URL of Optuna's; `trials` is the
        number of COMPLETE trials at which it ends, `worker` tells the random streams of workers
        apart, and a storage may hold several studies by `name`, of several runs by `owner`.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # So are called the heartbeat's callback, since 2021, and what CMA-ES does about noise.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self.space, self.budget, self.name = space, trials, name
        self._seed, self._sampler, self._directions = f"{seed}/{worker}", sampler, directions
        self._failures, self._made = 0, ""
        self._refused: set[int] = set()  # trials whose knobs do not go together
        self._storage = _open(place)
        self._study = optuna.create_study(
            study_name=f"{owner} {name}".strip(),
            storage=self._storage,
            directions=["maximize"] * directions,
            pruner=optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        self._renew()

    def close(self) -> None:
        """Give back the connections to a database."""
        if engine := getattr(self._storage, "engine", None):
            engine.dispose()

    def enqueue(self, starts: Sequence[Start], points: Sequence[Params] = ()) -> None:
        """Queue warm starts, then further points; what is known already is passed over."""
        for start in starts:
            facts: dict[str, Any] = {"source": start.source, "raced": start.raced}
            facts["candidate"] = start.candidate.to_mapping()
            point = self.space.params(start.candidate)
            self._study.enqueue_trial(point, facts, skip_if_exists=True)
        for point in points:
            self._study.enqueue_trial(point, {"source": "sobol"}, skip_if_exists=True)

    def recover(self) -> int:
        """Fail the trials whose process is gone and enqueue them again; return how many."""
        from optuna.trial import TrialState

        count = 0
        for trial in self._in("RUNNING"):
            if not alive(trial.user_attrs.get("worker", ""), trial.datetime_start):
                with suppress(ValueError, RuntimeError):  # another worker was quicker
                    self._study.tell(trial.number, state=TrialState.FAIL)
                    count += self._again(trial)
        return count

    def _again(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Enqueue the candidate of a trial that was cut off, unless it was so too often."""
        retries = int(trial.user_attrs.get("retries", 0)) + 1
        params = trial.system_attrs.get("fixed_params") or trial.params
        if set(params) != set(self.space.knobs()) or retries > MAX_RETRIES:
            return False
        kept = {k: v for k, v in trial.user_attrs.items() if k not in ("worker", "error")}
        facts = kept | {"retries": retries, "retry_of": trial.number}
        self._study.enqueue_trial(params, facts)
        return True

    def finished(self) -> int:
        """Return the number of COMPLETE trials, those of other workers included."""
        return len(self._in("COMPLETE"))

    def trials(self) -> list[Trial]:
        """Return every trial that has a point, in the order of its number."""
        known = set(self.space.knobs())
        return [
            self._read(t)
            for t in self._study.get_trials(deepcopy=False)
            if "candidate" in t.user_attrs or set(t.params) == known
        ]

    def run(
        self,
        evaluate: Evaluate,
        *,
        more: Callable[[], bool] = lambda: True,
        told: Callable[[Trial], None] = lambda trial: None,
    ) -> None:
        """Ask, evaluate and tell in this process until the budget is used or `more` says no.

        Several processes may run one study. It is `Study.optimize` that keeps the heartbeat by
        which a database knows that a host is gone.
        """

        def goes_on() -> bool:
            self.recover()  # a worker that was killed leaves its candidate to the others
            self._renew()
            used = max(self.finished(), len(self._refused)) >= self.budget
            return not used and more()

        def after(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            told(self._read(trial))
            self._count_failures(trial)
            if not goes_on():
                study.stop()

        if goes_on():
            evaluated = partial(self._evaluate, evaluate)
            self._study.optimize(evaluated, callbacks=[after], catch=(Exception,))

    def _count_failures(self, trial: optuna.trial.FrozenTrial) -> None:
        """End the run where too many trials in a row failed; one that was refused is no failure."""
        if trial.number not in self._refused:
            self._failures = self._failures + 1 if trial.state.name == "FAIL" else 0
        if self._failures >= MAX_FAILURES:
            why = trial.user_attrs.get("error", "its score is no number")
            law = f"{MAX_FAILURES} trials in a row failed; the last: {why}"
            remedy = "Mend the cause and resume the run: every score made so far is kept."
            raise SearchError(law, remedy)

    def _evaluate(self, evaluate: Evaluate, trial: optuna.Trial) -> tuple[float, ...]:
        for name, knob in self.space.knobs().items():
            if isinstance(knob, Choice):
                trial.suggest_categorical(name, knob.words)
            else:
                trial.suggest_float(name, knob.low, knob.high, log=knob.log)
        proposal = self._read(self._frozen(trial))
        point = proposal.candidate
        facts: dict[str, Any] = {"worker": this_worker(), "source": proposal.source}
        facts |= {"merge": point.describe(), "candidate": point.to_mapping()}
        facts |= {f"share {name}": share for name, share in point.shares.items()}
        try:
            for name, value in facts.items():  # told at once: a killed trial keeps them
                trial.set_user_attr(name, value)
            values, found = evaluate(proposal)
        except BaseException as error:
            if interrupted(error):  # others may go on, and one of them takes it
                self._again(self._frozen(trial))
                raise KeyboardInterrupt from error
            why = getattr(error, "law", error)
            trial.set_user_attr("error", f"{type(error).__name__}: {why}"[:500])
            self._refused |= {trial.number} if isinstance(error, SpecError) else set()
            raise
        for name, value in found.items():
            trial.set_user_attr(name, value)
        for name, value in found.get("floors", {}).items():
            trial.set_constraint(name, value)
        return values

    def _in(self, state: str) -> list[optuna.trial.FrozenTrial]:
        return [t for t in self._study.get_trials(deepcopy=False) if t.state.name == state]

    def _frozen(self, trial: optuna.Trial) -> optuna.trial.FrozenTrial:
        return self._study.get_trials(deepcopy=False)[trial.number]

    def _read(self, trial: optuna.trial.FrozenTrial) -> Trial:
        facts = trial.user_attrs
        given = facts.get("candidate")
        begin, end = trial.datetime_start, trial.datetime_complete
        point = Candidate.from_mapping(given) if given else self.space.candidate(trial.params)
        return Trial(
            number=trial.number,
            state=trial.state.name,
            candidate=point,
            source=facts.get("source", self.sampler_name),
            values=tuple(trial.values or ()),
            facts=facts,
            seconds=(end - begin).total_seconds() if begin and end else 0.0,
            begun=begin.timestamp() if begin else 0.0,
            study=self.name,
        )

    @property
    def sampler_name(self) -> str:
        """The sampler in use; `auto` is resolved by the size of the problem as it stands."""
        if self._sampler != "auto":
            return self._sampler
        return suited(self.space.knobs(), self.finished(), self._directions)

    def _renew(self) -> None:
        """Make the sampler in use, unless the study has it."""
        if (name := self.sampler_name) == self._made:
            return
        import optuna

        kind, told = sampler_of(name, self._directions)
        seed = derive_seed(self._seed, self.finished())
        self._study.sampler = getattr(optuna.samplers, kind)(seed=seed, **told)
        self._made = name


def _open(place: str) -> Any:
    """Open a storage; a database knows by a heartbeat which trials still run."""
    import optuna

    scheme, _, path = place.partition("://")
    if scheme == "memory":
        return optuna.storages.InMemoryStorage()
    if scheme == "journal":
        from optuna.storages.journal import JournalFileBackend

        Path(path).parent.mkdir(parents=True, exist_ok=True)
        lock = JournalLock(Path(path))
        mend_journal(Path(path), lock)
        return optuna.storages.JournalStorage(JournalFileBackend(path, lock_obj=cast(Any, lock)))
    try:
        again = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)
        storage = optuna.storages.RDBStorage(
            place.replace("postgresql://", "postgresql+psycopg://", 1),
            heartbeat_interval=60,
            grace_period=180,
            heartbeat_stale_trial_callback=again,
        )
        if storage.engine.dialect.name == "sqlite":
            _take_turns(storage.engine)
    except Exception as error:
        law = f"the storage {place!r} cannot be opened: {str(error).splitlines()[0]}"
        known = "journal:///folder/study.log, sqlite:////folder/study.db or postgresql+psycopg://…."
        raise SearchError(law, f"Give {known}") from error
    return storage


def _take_turns(engine: Any) -> None:
    """Lock SQLite where a transaction begins, not where it writes: two would read a trial as free.

    So SQLAlchemy says: https://docs.sqlalchemy.org/en/20/dialects/sqlite.html
    """
    import sqlalchemy as sa

    def plain(raw: Any, _: Any) -> None:
        raw.isolation_level = None
        raw.execute("PRAGMA busy_timeout = 60000")  # ms: a worker waits for its turn

    sa.event.listen(engine, "connect", plain)
    sa.event.listen(engine, "begin", lambda db: db.exec_driver_sql("BEGIN IMMEDIATE"))
    engine.dispose()  # of the connections made before
