"""ucspid.yaml(5): the reference of the configuration file as a manual page, in mdoc(7)."""

import re

_HEADER = """\
.\\" Made by make docs from src/ucspid/config/schema.py.
.Dd November 27, 2026
.Dt UCSPID.YAML 5
.Os ucspid
.Sh NAME
.Nm ucspid.yaml
.Nd the configuration file of ucspid
.Sh DESCRIPTION
"""
_FOOTER = """\
.Sh FILES
.Bl -tag -width Ds
.It Pa /etc/ucspid/ucspid.yaml
The file, unless
.Fl c
names another one.
.El
.Sh EXAMPLES
A service that sends back what comes:
.Bd -literal -offset indent
services:
  echo:
    listen: 127.0.0.1:7
    program: [cat]
.Ed
.Sh SEE ALSO
.Xr ucspid 8
"""


def manual(page: str) -> str:
    """Return the manual page that has what a page in Markdown has: headings, paragraphs, lists and tables.

    A table becomes a list: what stands in its first column, and below it the others.
    """
    blocks = [block for block in page.split("\n\n") if block.strip()]
    text = _HEADER + "".join(_block(block.strip("\n").split("\n")) for block in blocks) + _FOOTER
    return re.sub(r"^(\.S[hs] .+\n)\.Pp\n", r"\1", text, flags=re.MULTILINE)


def _block(lines: list[str]) -> str:
    if lines[0].startswith("#"):
        return f".Ss {_text(lines[0].lstrip('# '))}\n"
    if lines[0].startswith("| "):
        return _table(lines)
    first = next((number for number, line in enumerate(lines) if line.startswith("- ")), len(lines))
    said = "".join(f"{_text(line)}\n" for line in lines[:first])
    return (f".Pp\n{said}" if said else "") + (_bullets(lines[first:]) if first < len(lines) else "")


def _bullets(lines: list[str]) -> str:
    items = "".join(
        f".It\n{_text(line[2:])}\n" if line.startswith("- ") else f"{_text(line.strip())}\n" for line in lines
    )
    return f".Bl -bullet\n{items}.El\n"


def _table(lines: list[str]) -> str:
    heads, _, *rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    items = "".join(_row(heads, [*row, *[""] * (len(heads) - len(row))]) for row in rows)
    return f".Bl -tag -width Ds\n{items}.El\n"


def _row(heads: list[str], cells: list[str]) -> str:
    named = dict(zip(heads, cells, strict=True))
    first = cells[0]
    if named.keys() != {"key", "value", "default", "meaning"}:
        return f'.It "{_text(first)}"\n{_text("; ".join(cells[1:]))}\n'
    default = named["default"]
    preset = f" ({default})" if default == "required" else f" (default: {default})" if default else ""
    return f'.It "{_text(first)}"\n{_text(named["meaning"])}\n.br\nValue: {_text(named["value"] + preset)}\n'


def _text(line: str) -> str:
    """Return a line of Markdown as lines of roff, one for each sentence, of which none is a request."""
    plain = re.sub(r"\[([^]`]+)\]\([^)]+\)", r"\1", line).replace("\\", "\\e").replace('"', "\\(dq")
    bold = re.sub(r"`([^`]+)`", _bold, plain)
    return re.sub(r"^(?=[.'])", r"\\&", re.sub(r"(?<=[.?!]) (?=\S)", "\n", bold), flags=re.MULTILINE)


def _bold(code: re.Match[str]) -> str:
    return "\\fB" + code[1].replace("-", "\\-") + "\\fR"
