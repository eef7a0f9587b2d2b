"""The report as one offline page: sortable tables, inline figures, a browser of items.

Nothing is fetched: style, script, figures and data stand in the file. What a model wrote enters as
JSON whose angle brackets are escaped, and the script puts it on the page as text, never as markup;
all else is escaped here.
"""

import json
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

from search.draw import STYLE, draw, svg
from search.tables import Document, Section, cell, sections


def html(document: Document) -> str:
    """Return the report as an HTML page."""
    found = sections(document)
    items = [i for s in found.values() for i in s.get("items", ())]
    data = re.sub(
        "[<>&\u2028\u2029]",
        lambda sign: f"\\u{ord(sign[0]):04x}",
        json.dumps(items, ensure_ascii=False),
    )
    parts = {
        "TITLE": escape(document["run"]),
        "OBJECTIVE": escape(document["objective"]),
        "SCHEMA": escape(document["schema"]),
        "STYLE": STYLE,
        "LINKS": "".join(f'<a href="#{n}">{escape(n.replace("_", " "))}</a>' for n in found),
        "BODY": "".join(_section(name, s) for name, s in found.items()),
        "DATA": data,  # nothing in it can end or open an element
    }
    page = files("search").joinpath("page.html").read_text(encoding="utf-8")
    # One pass: what is put in is never read again.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], page)


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
    columns = [(key, label, kind) for key, label, kind, _ in table["columns"]]
    title = f"<caption>{escape(table['title'])}</caption>" if table["title"] else ""
    heads = "".join(
        f'<th scope="col"{_right(kind)}><button type="button">{escape(label)}</button></th>'
        for _, label, kind in columns
    )
    rows = "".join(
        f"<tr>{''.join(_cell(row, key, kind) for key, _, kind in columns)}</tr>"
        for row in table["rows"]
    )
    head = f'<div class="wide"><table>{title}<thead><tr>{heads}</tr></thead>'
    return f"{head}<tbody>{rows}</tbody></table></div>"


def _cell(row: Mapping[str, Any], key: str, kind: str) -> str:
    value = row.get(key)
    first = value[0] if isinstance(value, list) and value else value
    sort = "" if first is None else f' data-v="{escape(str(first))}"'
    return f"<td{_right(kind)}{sort}>{escape(cell(kind, value))}</td>"


def _right(kind: str) -> str:
    return "" if kind == "text" else ' class="n"'
