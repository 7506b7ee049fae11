"""A Markdown file that grows row by row and is valid after each of them, so that a run that is cut short leaves one.

`python -m benchmarks.markdown FIRST SECOND ... > JOINED` joins the files of runs that had different rows to measure.
"""

import os
import re
import sys
from functools import reduce
from pathlib import Path


class Table:
    """One table under its heading; `text` stands between the two. Rows go in by `add`."""

    def __init__(self, document: "Document", title: str, text: str, columns: tuple[str, ...]):
        self._document, self._title, self._text, self._columns = document, title, text, columns
        self._rows: list[tuple[str, ...]] = []

    def add(self, *cells: str) -> None:
        """One row, written at once. Raises ValueError unless there is a cell for every column."""
        if len(cells) != len(self._columns):
            raise ValueError(f"Table: cells must be {len(self._columns)}, got {len(cells)}")
        self._rows.append(tuple(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells))
        self._document.write()

    def markdown(self) -> str:
        """Heading, text and table; empty while there is no row."""
        if not self._rows:
            return ""
        lines = [_line(self._columns), "|" + "---|" * len(self._columns), *map(_line, self._rows)]
        return f"## {self._title}\n\n{self._text}\n\n" + "\n".join(lines) + "\n"


class Document:
    """Introduction, tables in the order they were made, and notes. Written to `path` whole or not at all."""

    def __init__(self, path: Path, introduction: str):
        self._path, self._introduction = path, introduction
        self._tables: list[Table] = []
        self._notes: list[str] = []

    def table(self, title: str, text: str, *columns: str) -> Table:
        self._tables.append(Table(self, title, text, columns))
        return self._tables[-1]

    def note(self, text: str) -> None:
        """A line at the end; said twice it stands once."""
        if text not in self._notes:
            self._notes.append(text)
            self.write()

    def write(self) -> None:
        parts = [self._introduction + "\n", *filter(None, (table.markdown() for table in self._tables))]
        if self._notes:
            parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in self._notes) + "\n")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(self._path.name + ".partial")
        partial.write_text("\n".join(parts))
        os.replace(partial, self._path)


def joined(first: str, second: str) -> str:
    """The text of a Document with the tables, rows, notes and commands that another one has and it has not."""
    sections, others = _sections(first), _sections(second)
    notes = sections.pop("Notes", None)
    for title, lines in others.items():
        if title == "Notes" and notes is None:
            notes = lines
            continue
        own = notes if title == "Notes" else sections.setdefault(title, lines)
        last = max((i for i, line in enumerate(own) if _is_item(line)), default=len(own) - 1)
        own[last + 1 : last + 1] = [line for line in lines if _is_item(line) and line not in own]
    if notes is not None:
        sections["Notes"] = notes
    return "\n".join(line for lines in sections.values() for line in lines) + "\n"


def _sections(text: str) -> dict[str, list[str]]:
    """Title -> its lines, the heading among them; the introduction's title is empty."""
    parts = re.split(r"^(?=## )", text.rstrip("\n") + "\n", flags=re.MULTILINE)
    titles = ["", *(part.partition("\n")[0].removeprefix("## ") for part in parts[1:])]
    return {title: part.split("\n")[:-1] for title, part in zip(titles, parts, strict=True)}


def _is_item(line: str) -> bool:
    """A row, a note, or a command."""
    return line.startswith(("| ", "- ", "    "))


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(reduce(joined, (Path(name).read_text() for name in sys.argv[1:])))
