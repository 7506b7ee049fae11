"""A Markdown file that grows row by row and is valid after each of them, so that a run that is cut short leaves one."""

import os
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


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"
