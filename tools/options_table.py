# SPDX-License-Identifier: Apache-2.0
"""Write the table of keys in docs/configuration.md from `swd.proto.options.TABLE`, between its two marks."""

from __future__ import annotations

from pathlib import Path

from swd.proto.options import TABLE, Row

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
BEGIN = "<!-- keys: written by tools/options_table.py -->"
END = "<!-- end of keys -->"
_TAKES = {
    "bool": "yes or no",
    "isid": "12 hex digits",
    "name": "an iSCSI name",
    "digests": "`crc32c`, `none`, both as a list, or `crc32c!`",
}


def table() -> str:
    """The rows as Markdown."""
    lines = ["| key | takes | default | what |", "| --- | --- | --- | --- |"]
    lines += [f"| `{row.name}` | {_takes(row)} | {_default(row)} | {row.help}{_built(row)} |" for row in TABLE]
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with the table of now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _takes(row: Row) -> str:
    if row.words:
        words = ", ".join(f"`{word}`" for word in row.words)
        return f"a list of {words}" if row.kind == "words" else words
    if row.kind == "text":
        return f"text, at most {row.high:g} characters"
    if row.kind in _TAKES:
        return _TAKES[row.kind]
    unit = {"seconds": " s", "size": " bytes"}.get(row.kind, "")
    return f"{row.low:g} to {row.high:.16g}{unit}"


def _default(row: Row) -> str:
    value = row.default
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`"
    return f"{value:g}" if isinstance(value, float) else f"`{value}`" if isinstance(value, str) else str(value)


def _built(row: Row) -> str:
    if row.built is None:
        return ""
    if isinstance(row.built, tuple):
        words = ["yes" if word is True else f"`{word}`" for word in row.built]
        return f" (so far only {' and '.join(words)})"
    return f" (so far only {row.built})" if row.built >= row.low else " (to come)"


def main() -> None:
    PAGE.write_text(page(PAGE.read_text()))


if __name__ == "__main__":
    main()
