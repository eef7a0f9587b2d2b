"""`merger experts`: every model that has a name here, and where the name leads."""

from __future__ import annotations

from typing import Annotated

import typer

from merger.cli.app import app


@app.command("experts")
def experts(
    family: Annotated[str | None, typer.Option(help="Family whose aliases are meant.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List aliases: those of ./experts.yaml, of the family in use, of every bundled family."""
    from merger.cli.console import data, table
    from merger.experts import families, known_aliases

    found = [
        {"alias": alias, "from": source, "target": target, "here": (root / target).exists()}
        for alias, (source, target, root) in known_aliases(family=family).items()
    ]
    told = [{"name": f.name, "description": f.description} for f in families().values()]
    if json_:
        data({"aliases": found, "families": told})
        return
    head = ["alias", "from", "target", "here"]
    rows = [[*(str(f[k]) for k in head[:3]), "yes" if f["here"] else "Hub"] for f in found]
    table("models by name", head, rows)
    table("families", ["name", "description"], [[t["name"], t["description"]] for t in told])
