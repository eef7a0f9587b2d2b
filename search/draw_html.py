"""The report as one offline page: sortable tables, inline figures, a browser of items.

Nothing is fetched: style, script, figures and data stand in the file. What a model wrote enters as
JSON whose angle brackets are escaped, and the script puts it on the page as text, never as markup;
all else is escaped here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from search.draw_figures import draw
from search.draw_shapes import STYLE, svg
from search.format import Column, Document, Section, cell
from search.tables import sections


def html(document: Document) -> str:
    """Return the report as an HTML page."""
    found = sections(document)
    links = "".join(f'<a href="#{n}">{escape(s["title"])}</a>' for n, s in found.items())
    body = "".join(_section(name, s) for name, s in found.items())
    items = [i for s in found.values() for i in s.get("items", ())]
    data = json.dumps(items, ensure_ascii=False)
    for sign in "<>&\u2028\u2029":  # nothing in the data can end or open an element
        data = data.replace(sign, f"\\u{ord(sign):04x}")
    page = files("search").joinpath("page.html").read_text(encoding="utf-8")
    parts = {"TITLE": escape(document["run"]), "OBJECTIVE": escape(document["objective"]),
             "SCHEMA": escape(document["schema"]), "STYLE": STYLE, "LINKS": links, "BODY": body,
             "DATA": data}  # fmt: skip
    head, *rest = page.split("{{")
    pieces = [head]
    for piece in rest:  # one pass: what is put in is never read again
        name, _, tail = piece.partition("}}")
        pieces += [parts[name], tail]
    return "".join(pieces)


def _section(name: str, found: Section) -> str:
    notes = "".join(f"<p>{escape(n)}</p>" for n in found["notes"])
    tables = "".join(map(_table, found["tables"]))
    drawn = "".join(
        f"<figure><figcaption>{escape(f['title'])}</figcaption>{svg(draw(f), f['title'])}</figure>"
        for f in found["figures"]
    )
    browser = '<div class="browser"></div>' if found.get("items") else ""
    head = f'<section id="{escape(name)}"><h2>{escape(found["title"])}</h2>'
    return f"{head}{notes}{tables}{drawn}{browser}</section>"


def _table(table: Section) -> str:
    columns: Sequence[Column] = table["columns"]
    title = f"<caption>{escape(table['title'])}</caption>" if table["title"] else ""
    heads = "".join(
        f'<th scope="col"{_right(kind)}><button type="button">{escape(label)}</button></th>'
        for _, label, kind, _ in columns
    )
    rows = "".join(
        "<tr>" + "".join(_cell(row, key, kind) for key, _, kind, _ in columns) + "</tr>"
        for row in table["rows"]
    )
    return (
        f'<div class="wide"><table>{title}<thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cell(row: Mapping[str, Any], key: str, kind: str) -> str:
    value = row.get(key)
    first = value[0] if isinstance(value, list) and value else value
    sort = "" if first is None else f' data-v="{escape(str(first))}"'
    return f"<td{_right(kind)}{sort}>{escape(cell(kind, value))}</td>"


def _right(kind: str) -> str:
    return "" if kind == "text" else ' class="n"'
