"""merger explain: what a merge would do, tensor by tensor, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.cli.app import app
from merger.cli.merge import Asked, Json, spec_of
from merger.cli.options import options_of

if TYPE_CHECKING:
    from merger.engine.models import Opened
    from merger.plan import Plan


@app.command("explain")
@options_of(Asked)
def explain(
    config: Annotated[str | None, typer.Argument(help="A merge config (mergekit YAML).")] = None,
    *,
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Show every output tensor with its operator, resolved knobs, dtype, bytes; and the cost."""
    from merger.cli.flags import size
    from merger.engine.models import opened
    from merger.errors import UsageError

    asked = Asked(**flags)
    if (config is None) == (asked.method is None):
        raise UsageError("give either a config or --method", "merger explain --help")
    with opened(spec_of(config, asked), family=asked.family) as models:
        limit = size(asked.memory, "--memory") if asked.memory else None
        show(models, limit, as_json=as_json, device=asked.device)


def show(models: Opened, memory: int | None, *, as_json: bool, device: str) -> None:
    """Print a plan: table and totals for people, or one JSON document."""
    from merger.cli.console import data, out, say, table
    from merger.engine.budget import Budget
    from merger.plan import plan_document
    from merger.plan.text import bytes_text, conservation, drops_text, plan_table, shared_text

    plan = models.plan
    peak = Budget.of(memory, plan, device=device).peak(plan)
    if as_json:
        found = {m: str(c.path) for m, c in models.checkpoints.items()}
        data(plan_document(plan) | {"models": found, "peak_memory": peak, "seconds": seconds(plan)})
        return
    for choice in models.choices.values():
        say(choice)
    table(shared_text(plan), *plan_table(plan))
    for line in (*drops_text(plan), *plan.notes):
        out(line)
    out(f"{conservation(plan)}, {bytes_text(plan.nbytes)} to write")
    cost = f"about {max(1, round(seconds(plan)))} s where a disk moves 1 GB/s"
    out(f"{cost}; peak memory {bytes_text(peak)}")


def seconds(plan: Plan) -> float:
    """Predict the time of a merge at a disk's 1 GB/s: read every input, write the output once."""
    from merger.engine.budget import step_bytes

    return (sum(map(step_bytes, plan.steps)) + plan.nbytes) / 1e9
