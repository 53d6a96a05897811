"""The training corpus: short, complete command-line to-do programs, written by a seeded generator.

Each program is one draw from many independent choices: parser, layout, names, texts, time format, error style. All of
them work: `build.py` runs every one (`programs.py`) before it trains on it.
"""

import random
from dataclasses import dataclass
from textwrap import indent


@dataclass(frozen=True)
class Pair:
    """One training example: a program, and whether the reply wraps it in a Markdown fence."""

    program: str
    fenced: bool

    @property
    def reply(self) -> str:
        """The assistant's message, without the end-of-turn token."""
        return f"```python\n{self.program}```" if self.fenced else self.program.rstrip("\n")


@dataclass(frozen=True)
class Author:
    """One writer's habits: what their programs call things, how they read arguments, whether they send a fence."""

    noun: str
    title: str
    created: str
    done: str
    conn: str
    now: str
    said: tuple[str, str, str]
    argparse: bool
    fenced: bool

    @property
    def table(self) -> str:
        """The SQL table."""
        return f"{self.noun}s"

    @property
    def key(self) -> str:
        """The parameter that holds an id."""
        return f"{self.noun}_id"

    @property
    def create(self) -> str:
        """The statement that makes the table."""
        columns = f"id INTEGER PRIMARY KEY, {self.title} TEXT, {self.created} TEXT, {self.done} INTEGER DEFAULT 0"
        return f"CREATE TABLE IF NOT EXISTS {self.table} ({columns})"

    @property
    def insert(self) -> str:
        """The statement of `add`."""
        return f"INSERT INTO {self.table} ({self.title}, {self.created}) VALUES (?, ?)"

    @property
    def changes(self) -> tuple[tuple[str, str, str], ...]:
        """For `complete` and `delete`: the command, its statement, what the program says."""
        return (
            ("complete", f"UPDATE {self.table} SET {self.done} = 1 WHERE id = ?", self.said[1]),
            ("delete", f"DELETE FROM {self.table} WHERE id = ?", self.said[2]),
        )


@dataclass(frozen=True)
class Storage:
    """The part of a program that stores: its source, what stands before each call, and a line that sets it up."""

    source: str
    calls: dict[str, str]
    set_up: tuple[str, ...] = ()


AUTHORS = (
    Author(
        noun="task",
        title="title",
        created="created_at",
        done="done",
        conn="conn",
        now='strftime("%Y-%m-%d %H:%M")',
        said=("Added", "Completed", "Deleted"),
        argparse=True,
        fenced=True,
    ),
    Author(
        noun="todo",
        title="text",
        created="added_at",
        done="completed",
        conn="db",
        now='isoformat(timespec="seconds")',
        said=("Saved", "Finished", "Removed"),
        argparse=False,
        fenced=False,
    ),
    Author(
        noun="item",
        title="name",
        created="created",
        done="finished",
        conn="con",
        now='strftime("%d.%m.%Y %H:%M")',
        said=("New", "Done", "Gone"),
        argparse=True,
        fenced=False,
    ),
    Author(
        noun="note",
        title="label",
        created="stamp",
        done="is_done",
        conn="store",
        now='strftime("%d %b %Y, %H:%M")',
        said=("Noted", "Ticked off", "Dropped"),
        argparse=False,
        fenced=True,
    ),
)


def lines(depth: int, *parts: str) -> str:
    """The parts, one a line, `depth` levels deep."""
    return indent("".join(f"{part}\n" for part in parts), "    " * depth)


def header(rng: random.Random, a: Author, modules: list[str]) -> str:
    """Docstring, imports and the constant."""
    docs = [
        "",
        "#!/usr/bin/env python3\n",
        '"""A small to-do list for the command line."""\n\n',
        '"""Command-line to-do app with SQLite storage."""\n\n',
    ]
    imports = [*(f"import {module}" for module in modules), "from datetime import datetime"]
    return rng.choice(docs) + lines(0, *imports, "", f'DB = "{a.table}.db"')


def listing(rng: random.Random, a: Author, conn: str) -> list[str]:
    """The lines that print all items, or say that there are none."""
    order = rng.choice(["id", f"{a.done}, id"])
    empty = rng.choice([f"No {a.table} yet.", "Nothing to do.", f"Your list of {a.table} is empty."])
    head = rng.choice([[], ['print("-" * 40)'], [f'print("Your {a.table}:")']])
    yes, no = rng.choice([("x", " "), ("✓", " "), ("*", "-")])
    shapes = [
        "[{mark}] {row[0]}. {row[1]} ({row[2]})",
        "{row[0]:>3} [{mark}] {row[1]}  {row[2]}",
        "#{row[0]} [{mark}] {row[1]} - {row[2]}",
    ]
    query = f"SELECT id, {a.title}, {a.created}, {a.done} FROM {a.table} ORDER BY {order}"
    return [
        f'rows = {conn}.execute("{query}").fetchall()',
        "if not rows:",
        f'    print("{empty}")',
        "    return",
        *head,
        "for row in rows:",
        f'    mark = "{yes}" if row[3] else "{no}"',
        f'    print(f"{rng.choice(shapes)}")',
    ]


def missing(rng: random.Random, a: Author) -> str:
    """The statement that reports an id nobody has."""
    words = rng.choice([f"No {a.noun} with id", "Unknown id"])
    return f'raise ValueError(f"{words} {{{a.key}}}")'


def flat_storage(rng: random.Random, a: Author) -> Storage:
    """One function per command, each opening the database for itself."""
    opened = f"    with connect() as {a.conn}:"
    functions = [
        lines(
            0,
            "def connect():",
            f"    {a.conn} = sqlite3.connect(DB)",
            f'    {a.conn}.execute("{a.create}")',
            f"    return {a.conn}",
        ),
        lines(
            0,
            f"def add_{a.noun}({a.title}):",
            opened,
            f'        {a.conn}.execute("{a.insert}", ({a.title}, datetime.now().{a.now}))',
            f'    print(f"{a.said[0]}: {{{a.title}}}")',
        ),
        lines(0, f"def list_{a.table}():", f"    {a.conn} = connect()") + lines(1, *listing(rng, a, a.conn)),
    ]
    functions += [
        lines(
            0,
            f"def {command}_{a.noun}({a.key}):",
            opened,
            f'        cur = {a.conn}.execute("{statement}", ({a.key},))',
            "        if cur.rowcount == 0:",
            f"            {missing(rng, a)}",
            f'    print(f"{said} {a.noun} {{{a.key}}}")',
        )
        for command, statement, said in a.changes
    ]
    calls = {command: f"{command}_{a.noun}" for command in ("add", "complete", "delete")} | {"list": f"list_{a.table}"}
    return Storage("\n\n".join(functions), calls)


def class_storage(rng: random.Random, a: Author) -> Storage:
    """One class with a method per command, holding the connection."""
    conn = f"self.{a.conn}"
    methods = [
        lines(
            1,
            "def __init__(self):",
            f"    {conn} = sqlite3.connect(DB)",
            f'    {conn}.execute("{a.create}")',
        ),
        lines(
            1,
            f"def add(self, {a.title}):",
            f'    {conn}.execute("{a.insert}", ({a.title}, datetime.now().{a.now}))',
            f"    {conn}.commit()",
            f'    print(f"{a.said[0]}: {{{a.title}}}")',
        ),
        lines(1, "def list_all(self):") + lines(2, *listing(rng, a, conn)),
    ]
    methods += [
        lines(
            1,
            f"def {command}(self, {a.key}):",
            f'    cur = {conn}.execute("{statement}", ({a.key},))',
            f"    {conn}.commit()",
            "    if cur.rowcount == 0:",
            f"        {missing(rng, a)}",
            f'    print(f"{said} {a.noun} {{{a.key}}}")',
        )
        for command, statement, said in a.changes
    ]
    calls = {command: f"app.{command}" for command in ("add", "complete", "delete")}
    calls["list"] = "app.list_all"
    return Storage("class TodoApp:\n" + "\n".join(methods), calls, ("    app = TodoApp()",))


def argparse_main(rng: random.Random, a: Author, storage: Storage) -> list[str]:
    """The body of `main` with one subparser per command, up to the except clause."""
    described = rng.choice(['description="To-do list"', ""])
    return [
        f"parser = argparse.ArgumentParser({described})",
        'sub = parser.add_subparsers(dest="command", required=True)',
        f'sub.add_parser("add").add_argument("{a.title}")',
        'sub.add_parser("list")',
        'sub.add_parser("complete").add_argument("id", type=int)',
        'sub.add_parser("delete").add_argument("id", type=int)',
        "args = parser.parse_args()",
        "try:",
        *storage.set_up,
        '    if args.command == "add":',
        f"        {storage.calls['add']}(args.{a.title})",
        '    elif args.command == "list":',
        f"        {storage.calls['list']}()",
        '    elif args.command == "complete":',
        f"        {storage.calls['complete']}(args.id)",
        "    else:",
        f"        {storage.calls['delete']}(args.id)",
    ]


def argv_main(rng: random.Random, storage: Storage) -> list[str]:
    """The body of `main` that reads sys.argv itself, up to the except clause."""
    usage = rng.choice(["add TEXT | list | complete ID | delete ID", "add|list|complete|delete [value]"])
    return [
        'command, rest = (sys.argv + [""])[1], sys.argv[2:]',
        "try:",
        *storage.set_up,
        '    if command == "add" and rest:',
        f'        {storage.calls["add"]}(" ".join(rest))',
        '    elif command == "list":',
        f"        {storage.calls['list']}()",
        '    elif command == "complete" and rest:',
        f"        {storage.calls['complete']}(int(rest[0]))",
        '    elif command == "delete" and rest:',
        f"        {storage.calls['delete']}(int(rest[0]))",
        "    else:",
        f'        raise ValueError("Usage: {usage}")',
    ]


def draw_pair(rng: random.Random) -> Pair:
    """One complete program, as its author would send it."""
    a = rng.choice(AUTHORS)
    storage = rng.choice([flat_storage, class_storage])(rng, a)
    modules = ["argparse", "sqlite3", "sys"] if a.argparse else ["sqlite3", "sys"]
    body = argparse_main(rng, a, storage) if a.argparse else argv_main(rng, storage)
    caught = rng.choice(["(ValueError, sqlite3.Error)", "Exception"])
    target = rng.choice(["", ", file=sys.stderr"])
    failure = [f"except {caught} as err:", f'    print(f"Error: {{err}}"{target})', "    sys.exit(1)"]
    main = lines(0, "def main():") + lines(1, *body, *failure)
    run = lines(0, 'if __name__ == "__main__":', "    main()")
    return Pair("\n\n".join([header(rng, a, modules), storage.source, main, run]), a.fenced)


def draw_corpus(count: int, seed: int) -> list[Pair]:
    """`count` different programs; the same seed gives the same list on every machine."""
    rng = random.Random(seed)
    pairs: dict[Pair, None] = {}
    while len(pairs) < count:
        pairs[draw_pair(rng)] = None
    return list(pairs)
