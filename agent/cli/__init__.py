"""The command `trambien`: one file a command, each with a function `command` that says what it takes.

To add a command: write its file, enter it here, and add it to the README.

What is always true here: a command ends with one of the exit codes of `agent.errors.Exit`, and what a person can mend
is told in one line with its cure (`agent.failures`), never with a traceback.
"""

import typer

from agent.cli import check, demo, export, importing, init, key, reload, run, schema, status, verify

app = typer.Typer(
    name="trambien",
    help="Trambien, the edge station: polls instruments, keeps and signs every reading, carries it to the platform.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run.command)
app.command("init")(init.command)
app.command("check")(check.command)
app.command("demo")(demo.command)
app.command("verify")(verify.command)
app.command("export")(export.command)
app.command("import")(importing.command)
app.command("status")(status.command)
app.command("reload")(reload.command)
app.command("schema")(schema.command)
app.add_typer(key.app, name="key")
