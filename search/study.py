"""The one door to Optuna: proposals out, outcomes in; nothing of Optuna is seen outside.

The study is an index, the ledger is the truth: a study holds points, values and a few facts, and
a resumed run recomputes whatever else it needs from item scores that are already paid for.
Departures from the usual loop: no pruner (a trial raced out is COMPLETE with its paired estimate,
since samplers learn nothing from PRUNED), the sampler is seeded from the count of finished trials
(one seed for ever would repeat the same points after every resume), a candidate that was
interrupted is enqueued again, a torn last line of the journal is cut off before it is opened
(Optuna would fail on it for ever), and three failures in a row end the run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merger.errors import SearchError, SpecError, UsageError
from merger.registry import unknown
from search.candidate import Candidate
from search.crash import alive, mend_journal, this_worker
from search.samplers import SAMPLERS, derive_seed, suited
from search.space import Choice, Params, Range, Space
from search.starts import Start
from search.trial import Evaluate, Outcome, Proposal, Trial

if TYPE_CHECKING:
    import optuna

NAME = "merge"
MAX_RETRIES = 3
MAX_FAILURES = 3


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
    ) -> None:
        """Open or create the study at a storage URL.

        `place` is `journal:///absolute/path`, `memory://` or any URL of Optuna's; `trials` is the
        number of COMPLETE trials at which it ends, `worker` tells the random streams of workers
        apart, and a storage may hold several studies by `name`.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self.budget, self.name = space, trials, name
        self._seed, self._sampler, self._directions = f"{seed}/{worker}", sampler, directions
        self._failures, self._refused, self._made = 0, 0, ""
        self._storage = _open(place, heartbeat=bool(worker))
        self._study = optuna.create_study(
            study_name=name,
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
            facts = {"source": start.source, "raced": start.raced}
            facts["candidate"] = start.candidate.to_mapping()
            self._study.enqueue_trial(
                self.space.params(start.candidate), facts, skip_if_exists=True
            )
        for point in points:
            self._study.enqueue_trial(dict(point), {"source": "sobol"}, skip_if_exists=True)

    def recover(self) -> int:
        """Fail the trials whose process is gone and enqueue them again; return how many."""
        import optuna

        count = 0
        for trial in self._study.get_trials(False, (optuna.trial.TrialState.RUNNING,)):
            if not alive(trial.user_attrs.get("worker", ""), trial.datetime_start):
                try:
                    self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                except (ValueError, RuntimeError):  # another worker was quicker
                    continue
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
        import optuna

        return len(self._study.get_trials(False, (optuna.trial.TrialState.COMPLETE,)))

    def trials(self) -> list[Trial]:
        """Return every trial that has a point, in the order of its number."""
        known = set(self.space.knobs())
        trials = self._study.get_trials(deepcopy=False)
        return [
            self._read(t) for t in trials if "candidate" in t.user_attrs or set(t.params) == known
        ]

    def run(
        self, evaluate: Evaluate, *, more: Callable[[], bool], told: Callable[[Trial], None]
    ) -> None:
        """Ask, evaluate and tell in this process until the budget is used or `more` says no."""
        while self.finished() < self.budget and self._refused < self.budget and more():
            self.recover()  # a worker that was killed leaves its candidate to the others
            self._renew()
            trial = self._study.ask()
            self._finish(trial, evaluate)
            told(self._read(self._study.trials[trial.number]))

    def work(self, evaluate: Evaluate, *, told: Callable[[Trial], None]) -> None:
        """Take trials of a shared study, through `Study.optimize` so that a heartbeat is kept."""

        def objective(trial: optuna.Trial) -> Sequence[float]:
            try:
                return self._evaluate(trial, evaluate).values
            except KeyboardInterrupt:
                self._again(
                    self._study.trials[trial.number]
                )  # others go on, and one of them takes it
                raise

        def after(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            self._count(trial.state.name, str(trial.user_attrs.get("error", "")))
            told(self._read(trial))
            self.recover()
            if self.finished() >= self.budget:
                study.stop()

        if self.finished() < self.budget:
            self._study.optimize(objective, callbacks=[after], catch=(Exception,))

    def _finish(self, trial: optuna.Trial, evaluate: Evaluate) -> None:
        import optuna

        try:
            outcome = self._evaluate(trial, evaluate)
        except SpecError:  # knobs that do not go together: the machine is sound
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            self._refused += 1
        except Exception as error:  # noqa: BLE001  a trial may fail in any way; the next may not
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            self._count("FAIL", f"{type(error).__name__}: {error}")
        else:
            self._study.tell(trial, list(outcome.values))
            self._count("COMPLETE", "")

    def _evaluate(self, trial: optuna.Trial, evaluate: Evaluate) -> Outcome:
        for name, knob in self.space.knobs().items():
            _suggest(trial, name, knob)
        facts = trial.user_attrs
        given = facts.get("candidate")
        point = Candidate.from_mapping(given) if given else self.space.candidate(trial.params)
        trial.set_user_attr("worker", this_worker())
        trial.set_user_attr("candidate", point.to_mapping())
        trial.set_user_attr("merge", point.describe())  # what a dashboard shows to people
        source = facts.get("source", self.sampler_name)
        trial.set_user_attr("source", source)
        try:
            outcome = evaluate(Proposal(trial.number, point, source, facts.get("raced", True)))
        except Exception as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}"[:500])
            raise
        for name, value in outcome.facts.items():
            trial.set_user_attr(name, value)
        for name, value in outcome.constraints.items():
            trial.set_constraint(name, value)
        return outcome

    def _count(self, state: str, error: str) -> None:
        """Stop the run when several trials in a row have failed."""
        self._failures = self._failures + 1 if state == "FAIL" else 0
        if self._failures >= MAX_FAILURES:
            raise SearchError(
                f"{MAX_FAILURES} trials in a row failed; the last: {error}",
                "Mend the cause and resume the run: every score made so far is kept.",
            )

    def _read(self, trial: optuna.trial.FrozenTrial) -> Trial:
        facts = trial.user_attrs
        given = facts.get("candidate")
        begin, end = trial.datetime_start, trial.datetime_complete
        return Trial(
            number=trial.number,
            state=trial.state.name,
            candidate=Candidate.from_mapping(given)
            if given
            else self.space.candidate(trial.params),
            source=facts.get("source", self.sampler_name),
            values=tuple(trial.values or ()),
            facts=facts,
            seconds=(end - begin).total_seconds() if begin and end else 0.0,
        )

    @property
    def sampler_name(self) -> str:
        """The sampler in use; `auto` is resolved by the size of the problem as it stands."""
        if self._sampler != "auto":
            return self._sampler
        return suited(self.space.knobs(), self.finished(), self._directions)

    def _renew(self) -> None:
        """Make the sampler in use, unless the study has it."""
        name = self.sampler_name
        if name not in SAMPLERS:
            raise unknown("sampler", name, SAMPLERS)
        if name == "cmaes" and self._directions > 1:
            raise UsageError("cmaes maximises one number, pareto has several", "Use gp or nsga.")
        if name != self._made:
            self._study.sampler = _sampler(name, derive_seed(self._seed, self.finished()))
            self._made = name


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    import optuna

    made = optuna.samplers
    if name == "gp":
        return made.GPSampler(seed=seed, n_startup_trials=10)
    if name == "tpe":
        return made.TPESampler(seed=seed, multivariate=True)
    if name == "nsga":
        return made.NSGAIISampler(seed=seed, population_size=20)
    if name == "random":
        return made.RandomSampler(seed=seed)
    if find_spec("cmaes") is None:
        raise UsageError("sampler cmaes needs the package cmaes", "pip install 'merger[cmaes]'")
    return made.CmaEsSampler(seed=seed, lr_adapt=True, warn_independent_sampling=False)


def _suggest(trial: optuna.Trial, name: str, knob: Range | Choice) -> None:
    if isinstance(knob, Choice):
        trial.suggest_categorical(name, knob.words)
    else:
        trial.suggest_float(name, knob.low, knob.high, log=knob.log)


def _open(place: str, *, heartbeat: bool) -> Any:
    """Open a storage; only workers keep a heartbeat, for only `Study.optimize` can."""
    import optuna

    scheme, _, path = place.partition("://")
    if scheme == "memory":
        return optuna.storages.InMemoryStorage()
    if scheme == "journal":
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        Path(path).parent.mkdir(parents=True, exist_ok=True)
        lock = JournalFileOpenLock(path)
        mend_journal(Path(path), lock)
        return optuna.storages.JournalStorage(JournalFileBackend(path, lock_obj=lock))
    try:
        with warnings.catch_warnings():  # the retry callback is called experimental since 2021
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            again = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)
            return optuna.storages.RDBStorage(
                place.replace("postgresql://", "postgresql+psycopg://", 1),
                heartbeat_interval=60 if heartbeat else None,
                grace_period=180 if heartbeat else None,
                heartbeat_stale_trial_callback=again,
            )
    except Exception as error:
        raise SearchError(
            f"the storage {place!r} cannot be opened: {str(error).splitlines()[0]}",
            "Give journal:///folder/study.log, sqlite:////folder/study.db or postgresql+psycopg://….",
        ) from error
