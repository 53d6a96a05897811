"""The ten features by text, and the text without comments and docstrings that they look at."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.exams.todo.features import FEATURES, features, has_code
from runners.exams.todo.source import read_source


def shown(program: str) -> set[str]:
    return {name for name, there in features(read_source(program)).items() if there}


def test_there_are_ten() -> None:
    assert len(FEATURES) == 10


@pytest.mark.parametrize(
    ("feature", "program"),
    [
        ("sqlite", "import sqlite3\nc = sqlite3.connect('x')"),
        ("sqlite", "import sys, sqlite3\nc = sqlite3.connect('x')"),
        ("sqlite", "from sqlite3 import connect\nc = connect('x')"),
        ("add", "def add_todo(title): ..."),
        ("add", "def cmdAdd(title): ..."),
        ("add", "if command == 'add': pass"),
        ("add", 'if sys.argv[1].lower() == "add": pass'),
        ("add", "subparsers.add_parser('add', help='x')"),
        ("add", "COMMANDS = {'add': create, 'list': show}"),
        ("add", "match command:\n    case 'add':\n        pass"),
        ("add", "parser.add_argument('command', choices=['list', 'add'])"),
        ("add", "match sys.argv[1:]:\n    case ['add', *rest] if rest:\n        pass"),
        ("add", "match command:\n    case 'a' | 'add':\n        pass"),
        ("delete", "elif cmd in ('complete', 'delete'):\n    pass"),
        ("delete", "COMMANDS = ['add', 'delete']"),
        ("delete", "for name in ('complete', 'delete'):\n    sub.add_parser(name)"),
        ("list", "@cli.command()\ndef list():\n    pass"),
        ("complete", "def mark_complete(id): ..."),
        ("delete", "async def delete(self, id): ..."),
        ("timestamp", "now = datetime.now()"),
        ("timestamp", "now = datetime.datetime.utcnow().isoformat()"),
        ("timestamp", "now = time.strftime('%Y')"),
        ("timestamp", "db.execute('CREATE TABLE t (c TEXT DEFAULT CURRENT_TIMESTAMP)')"),
        ("timestamp", "db.execute(\"INSERT INTO t VALUES (datetime('now'))\")"),
        ("timestamp", "values = (f'{datetime.now():%Y-%m-%d}',)"),
        ("timestamp", "from time import strftime\nnow = strftime('%F')"),
        ("timestamp", "db.execute('INSERT INTO t VALUES (datetime(\"now\"))')"),
        ("completion tracking", "db.execute('CREATE TABLE t (id INTEGER, completed_on TEXT)')"),
        ("completion tracking", "todo['completed'] = True"),
        ("completion tracking", "db.execute('CREATE TABLE t (id INTEGER, completed BOOLEAN)')"),
        ("completion tracking", "db.execute('CREATE TABLE t (id INTEGER,\\n is_done INTEGER)')"),
        ("completion tracking", "db.execute('UPDATE t SET status = ? WHERE id = ?')"),
        ("completion tracking", "todo.completed = True"),
        ("error handling", "try:\n    x()\nexcept ValueError:\n    pass"),
        ("__main__", "if __name__ == '__main__':\n    main()"),
        ("pretty output", "print(f'{id:<5} {title}')"),
        ("pretty output", "print('-' * 40)"),
        ("pretty output", "print('%-5s' % x)"),
        ("pretty output", "print(title.ljust(20))"),
        ("pretty output", "print('✓ done')"),
        ("pretty output", "print('[x]' if done else '[ ]')"),
        ("pretty output", "from rich.table import Table"),
        ("pretty output", "print(f'{id}. {title}')"),
        ("pretty output", "print('{}. {}'.format(id, title))"),
        ("pretty output", "print('%d. %s (%s)' % row)"),
        ("pretty output", "print(*row, sep=' | ')"),
    ],
)
def test_feature_is_seen(feature: str, program: str) -> None:
    assert feature in shown(program)


@pytest.mark.parametrize(
    ("feature", "program"),
    [
        ("sqlite", "import sqlite3"),
        ("sqlite", "print('import sqlite3; sqlite3.connect()')"),
        ("add", "def address(): ..."),
        ("add", "print('add')"),
        ("add", "names.add(x)"),
        ("add", "# def add(): ..."),
        ("add", "parser.add_argument('title')"),
        ("add", "print('commands:', 'add')"),
        ("list", "names = list(rows)\ndef listen(): ..."),
        ("list", "from typing import List"),
        ("complete", "def completed(): ..."),
        ("complete", "if row['completed'] == 'completed': pass"),
        ("complete", "subparsers.add_parser('completed')"),
        ("delete", "db.execute('DELETE FROM todos')"),
        ("timestamp", "from datetime import datetime"),
        ("timestamp", "db.execute('CREATE TABLE t (created_at TEXT)')"),
        ("completion tracking", "db.execute('CREATE TABLE t (id INTEGER, title TEXT)')"),
        ("completion tracking", "print('completed')"),
        ("error handling", "try:\n    x()\nfinally:\n    pass"),
        ("error handling", "print('except')"),
        ("__main__", "main()"),
        ("__main__", "# if __name__ == '__main__':"),
        ("pretty output", "print(row)"),
        ("pretty output", "print('done')"),
        ("pretty output", "print('added %s' % title)"),
        ("pretty output", "print(f'added {title}')"),
    ],
)
def test_feature_is_not_seen(feature: str, program: str) -> None:
    assert feature not in shown(program)


def test_docstrings_and_comments_show_nothing() -> None:
    program = (
        '"""def add, if command == "add", try:\nexcept:\nif __name__ == "__main__": [x] -----"""\n'
        "# import sqlite3; sqlite3.connect('x'); def add(): datetime.now()\n"
        "def run():\n    'def delete(): CURRENT_TIMESTAMP CREATE TABLE t (completed)'\n    return 1\n"
    )
    assert shown(program) == set()


def test_text_cut_off_in_a_string_is_read_to_its_end() -> None:
    program = 'import sqlite3\ndb = sqlite3.connect("x")\ndef list_todos():\n    print(f"{id:<5} {\n'
    assert shown(program) == {"sqlite", "list", "pretty output"}


def test_strings_that_code_uses_are_kept() -> None:
    source = read_source('x = """a\nb"""  # c\nf(\n    "d"\n)\n"e"\n')
    assert source.strings == ("a\nb", "d")
    assert "c" not in source.text
    assert '"e"' not in source.text
    assert source.code == 'x = ""  \nf(\n    ""\n)\n\n'


@pytest.mark.parametrize("text", ["", "Hello", "42", "I use import statements and def.", "pass", "print('add')"])
def test_prose_is_no_code(text: str) -> None:
    assert not has_code(read_source(text))


@pytest.mark.parametrize("text", ["import os", "x = 1\nfrom a.b import c", "    def f(x):", "async def f(x): pass"])
def test_one_line_of_python_is_code(text: str) -> None:
    assert has_code(read_source(text))


@given(st.text(max_size=300) | st.text("'\"#\\\n(){}[] abfdef:=", max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_can_be_read(text: str) -> None:
    source = read_source(text)
    assert all(string in text for string in source.strings)
    assert len(source.text) <= len(text)
    assert set(features(source)) == set(FEATURES)
