"""The `emotivetalk` command.

Commands import heavy modules inside their function, so that `--help` and wrong options answer at once. An error is one
line on stderr. The exit status is 2 for wrong input, 1 for other failures and 130 for Ctrl-C.
"""

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from emotivetalk import __version__
from emotivetalk.commands.ablate import ablate
from emotivetalk.commands.adopt import adopt
from emotivetalk.commands.avatar import avatar
from emotivetalk.commands.doctor import doctor
from emotivetalk.commands.evaluate import evaluate
from emotivetalk.commands.export import export
from emotivetalk.commands.generate import generate
from emotivetalk.commands.jobs import jobs
from emotivetalk.commands.prepare import prepare
from emotivetalk.commands.render import render
from emotivetalk.commands.serve import serve
from emotivetalk.commands.synthesize import synthesize
from emotivetalk.commands.train import train
from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.output import say

INTERRUPTED = 130  # the shells' status for a process ended by Ctrl-C

app = typer.Typer(
    name="emotivetalk",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
for command in (generate, render, avatar, synthesize, prepare, adopt, train, export, evaluate, ablate, serve, doctor):
    app.command()(command)
app.add_typer(jobs)


def _show_version(is_given: bool) -> None:
    if is_given:
        say(f"emotivetalk {__version__}", is_result=True)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def emotivetalk(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Make a talking head from one portrait, speech and an emotion.

    \b
    Example:
      emotivetalk generate --portrait me.png --audio hello.wav --emotion happy:0.8 -o hello.mp4
    """
    if context.invoked_subcommand is None:
        say(context.get_help(), is_result=True)


def run(arguments: Sequence[str]) -> int:
    """Run one command line, without the program's name. Returns the exit status and raises nothing."""
    debug = "--debug" in arguments[:1]
    try:
        status = app(args=list(arguments), prog_name="emotivetalk", standalone_mode=False)
    except typer.TyperException as error:
        return _fail(error.format_message(), error.exit_code, debug)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED, debug)
    except InputError as error:
        return _fail(str(error), 2, debug)
    except EmotiveTalkError as error:
        return _fail(str(error), 1, debug)
    except ModuleNotFoundError as error:
        missing = f"this command needs the package {error.name}, which is not installed"
        return _fail(f"{missing}. pip install 'emotivetalk[text,train,serve,prepare]'", 1, debug)
    except Exception as error:  # noqa: BLE001 the edge of the program: one line for any error
        text = " ".join(str(error).split())
        return _fail(f"{type(error).__name__}: {text}. `emotivetalk --debug ...` shows the traceback", 1, debug)
    return status or 0


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    say(f"error: {' '.join(message.split())}", err=True)
    return status


def main() -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:]))
