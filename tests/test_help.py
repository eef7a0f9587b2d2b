"""Every --help: each option says what it is, and common options are everywhere the same."""

import pytest
import typer

from merger.cli import app

LONG = ("merge", "search", "ablate", "eval", "run", "align", "domain")  # may be watched or repeated


def commands(group, path=()):
    """Yield (path, command) of every command under a group."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(typer.main.get_command(app)))


def flags(command):
    """Return option -> help of a command, its arguments under their names."""
    found = {}
    for one in command.params:
        for name in one.opts if one.param_type_name == "option" else [one.name]:
            found[name] = getattr(one, "help", None)
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_word_has_its_help(name):
    """A command says what it does; each argument and option what it is, in a sentence."""
    command = COMMANDS[name]
    assert command.help
    assert command.help.split("\n")[0].rstrip(".:")
    for flag, told in flags(command).items():
        assert told, f"{name} {flag}"
        assert told.rstrip().endswith((".", ")", "…")), f"{name} {flag}: {told}"
        assert len(told) < 160, f"{name} {flag}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_command(name):
    """Each --help ends with an example, whose words the command takes."""
    lines = COMMANDS[name].help.split("\n\n")
    (words,) = (line.split() for line in lines if line.startswith("Example: merger "))
    path = name.split()
    assert words[2 : 2 + len(path)] == path
    assert COMMANDS[name].make_context(name, words[2 + len(path) :]).params


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"worker", "tasks lm-eval-path"}))
def test_every_result_can_be_json(name):
    """--json gives one document on stdout."""
    assert "--json" in flags(COMMANDS[name])


@pytest.mark.parametrize("name", LONG)
def test_what_computes_takes_a_seed(name):
    """Commands that draw take --seed; those that compute on a device take --device."""
    found = flags(COMMANDS[name])
    assert "--seed" in found
    assert "--device" in found or name == "run"  # of each stage: --set KIND.device=cuda


def test_one_idea_has_one_name():
    """An option has one long name; in all commands that have it, it takes a value, or in none."""
    kinds = {}
    for name, command in COMMANDS.items():
        for one in command.params:
            assert sum(flag.startswith("--") for flag in one.opts) <= 1
            for flag in one.opts if one.param_type_name == "option" else []:
                kinds.setdefault(flag, {}).setdefault(one.is_flag, []).append(name)
    # `merge --resume` goes on with OUT, `search --resume RUN` names what to go on with.
    assert [flag for flag, found in kinds.items() if len(found) > 1] == ["--resume"]
