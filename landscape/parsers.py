"""One command's arguments: defaults < TOML file < LANDSCAPE_<COMMAND>_* < flags."""

import re
import typing
from argparse import ArgumentError, HelpFormatter
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonargparse
from jsonargparse import set_parsing_settings

from landscape.terminal import near

set_parsing_settings(docstring_parse_style=None, docstring_parse_attribute_docstrings=False)


class _Help(jsonargparse.DefaultHelpFormatter):
    """Options as they are typed, with their defaults and without their environment names."""

    def _format_action_invocation(self, action: Any) -> str:
        told = HelpFormatter._format_action_invocation(self, action).replace("_", "-")
        return told.removesuffix(" {true,false}")

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = [
            HelpFormatter._fill_text(self, part, width, indent) for part in text.split("\n\n")
        ]
        return "\n\n".join(filled)

    def _get_help_string(self, action: Any) -> str:
        text = action.help or ""
        silent = action.default is None or action.default is False
        shown = action.option_strings and not silent and action.default != "==SUPPRESS=="
        return f"{text} (default: %(default)s)" if shown else text


class Parser:
    """Reads one command's arguments; every mistake becomes a ValueError that says what to do."""

    def __init__(self, command: str, about: str, example: str) -> None:
        self._command = command
        self._parser = jsonargparse.ArgumentParser(
            prog=f"landscape {command}",
            usage=f"landscape {command} [options]",
            description=f"{about[0].upper()}{about[1:]}.\n\nexample: {example}",
            epilog=f"Options may also stand in a TOML file (--config FILE) or in the environment "
            f"(LANDSCAPE_{command.upper()}_<OPTION>); flags win over the environment, that over "
            "the file.",
            env_prefix=f"LANDSCAPE_{command.upper()}",
            default_env=True,
            parser_mode="toml",
            exit_on_error=False,
            formatter_class=_Help,
        )
        self._types: dict[str, Any] = {}

    def add_argument(self, *names: str, **settings: Any) -> None:
        """Add one argument, as in argparse."""
        self._parser.add_argument(*names, **settings)

    def add_options(self, options: type) -> None:
        """Add a flag for every field of a dataclass, described in its docstring."""
        self._types |= typing.get_type_hints(options)
        self._parser.add_class_arguments(options, as_group=False)

    def set_defaults(self, values: dict[str, Any]) -> None:
        """Replace defaults, e.g. by those of a preset."""
        self._parser.set_defaults(values)

    @staticmethod
    def peek(argv: list[str], flag: str) -> str | None:
        """The value of one flag, before the rest can be read."""
        for i, word in enumerate(argv):
            if word.startswith(f"{flag}="):
                return word.partition("=")[2]
            if word == flag and i + 1 < len(argv):
                return argv[i + 1]
        return None

    def read(self, argv: list[str]) -> Any:
        """Parse.

        Raises:
            ValueError: For an unknown flag (with the nearest known one), a value of the wrong
                kind, or a config file that is missing or holds unknown keys.
        """
        if any(word in ("-h", "--help") for word in argv):
            self._parser.print_help()
            raise SystemExit(0)
        argv = self._switched_on([_underscored(word) for word in argv])
        file = self.peek(argv, "--config")
        if file is not None:
            if not Path(file).is_file():
                raise ValueError(f"--config must name a TOML file, got {file}, which is no file")
            self._parser.default_config_files = [file]
            argv = _without(argv, "--config", file)
        try:
            return self._parser.parse_args(argv)
        except ArgumentError as error:
            raise ValueError(self._explain(str(error))) from None

    def _switched_on(self, argv: list[str]) -> list[str]:
        """Let a bare --flag of a yes-or-no option mean yes; "--flag false" is still a no."""
        after = [*argv[1:], ""]
        return [
            f"{word}=true"
            if self._types.get(word.removeprefix("--")) is bool
            and word.startswith("--")
            and following.lower() not in ("true", "false", "yes", "no")
            else word
            for word, following in zip(argv, after, strict=False)
        ]

    def options(self, options: type, args: Any) -> Any:
        """Build the dataclass from what was parsed."""
        return options(**{item.name: _tuple(args[item.name]) for item in fields(options)})

    def _explain(self, message: str) -> str:
        flags = [flag for action in self._parser._actions for flag in action.option_strings]
        known = sorted({flag.replace("_", "-") for flag in flags} | {"--config"})
        more = f"see `landscape {self._command} --help`"
        if unknown := re.match(r"unrecognized arguments: (\S+)", message):
            word = unknown[1].partition("=")[0].replace("_", "-")
            return f"no option {word!r}{near(word, known)}; {more}"
        if unknown := re.match(r"Option '(\S+)' is not accepted", message):
            names = [flag.lstrip("-") for flag in known]
            return f"the config file has no option {unknown[1]!r}{near(unknown[1], names)}; {more}"
        wrong = re.match(
            r'Parser key "(\w+)":\s*(.*?)(?:Got|Given) value: (.*)', message, re.DOTALL
        )
        if wrong:
            name, value = wrong[1], wrong[3].strip()
            allowed = typing.get_args(self._types.get(name))
            if typing.get_origin(self._types.get(name)) is typing.Literal:
                hint = near(value, allowed)
                return f"--{name} must be one of {', '.join(allowed)}, got {value!r}{hint}"
            expected = _plainly(self._types.get(name))
            return f"--{name.replace('_', '-')} must be {expected}, got {value!r}; {more}"
        return f"{message}; {more}"


def _underscored(word: str) -> str:
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value


def _without(argv: list[str], flag: str, value: str) -> list[str]:
    joined = f"{flag}={value}"
    kept = [word for word in argv if word != joined]
    if flag in kept:
        place = kept.index(flag)
        del kept[place : place + 2]
    return kept


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plainly(kind: Any) -> str:
    """A type in words: "a whole number", "a number", "numbers in brackets"."""
    kinds = [part for part in typing.get_args(kind) or (kind,) if part is not type(None)]
    if typing.get_origin(kind) is tuple:
        return "a list in brackets, as [0.3,0.6]"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return " or ".join(words.get(part, str(part)) for part in kinds)
