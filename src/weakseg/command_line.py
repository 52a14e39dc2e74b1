"""How a command line is read: a slip of the keys gets the nearest word, a shell can complete."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

SHELLS = ("bash", "zsh", "fish")
"""Shells that `completion` writes a script for."""

USER_ERROR = 2
"""Exit code for what the user can mend."""

_CHOICE = re.compile(r"invalid choice: '(.*)' \(choose from (.*)\)")


def complain(text: str) -> None:
    """Prints a line on standard error, behind the program's name."""
    sys.stderr.write(f"weakseg: {' '.join(text.split())}\n")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with the nearest known word."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse's, but nothing unknown is left over: it is an error of this very command."""
        options, rest = super().parse_known_args(args, namespace)
        if rest:
            hints = [self._nearest_option(word) for word in rest if word.startswith("--")]
            known = ", ".join(hint for hint in hints if hint)
            hint = f"; did you mean {known}?" if known else ""
            self.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
        return options, rest

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with 2."""
        if found := _CHOICE.search(message):
            near = nearest(found[1], re.findall(r"[\w.+-]+", found[2]))
            message += f"; did you mean {near}?" if near else ""
        complain(f"error: {message}; see {self.prog} --help")
        raise SystemExit(USER_ERROR)

    def _nearest_option(self, word: str) -> str | None:
        known = [name for action in self._actions for name in action.option_strings]
        return nearest(word.partition("=")[0], known)


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that is spelt most alike, or None.

    Example:
        >>> nearest("--forse", ["--force", "--log"])
        '--force'
    """
    close = difflib.get_close_matches(word, known, n=1)
    return close[0] if close else None


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """A script by which a shell completes a parser's commands, options, choices and files.

    Args:
        parser: The program's.
        shell: One of `SHELLS`.
    """
    import shtab  # noqa: PLC0415

    for action in _actions(parser):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell=shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)
