"""The command `trambien`. The service starts from here without a command-line or terminal library."""

import io
import sys


def main() -> None:
    """Run the service directly, and every other command through the command-line library."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter shows its number
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"] and "--help" not in arguments:
        from agent.aside import Worker  # noqa: PLC0415 - each way imports only what it needs

        worker = Worker("read")  # it gets ready to read the configuration while the service is loaded
        from agent.service import main as run  # noqa: PLC0415

        sys.exit(run(arguments[1:], worker))
    from agent.cli import app  # noqa: PLC0415

    app()


if __name__ == "__main__":
    main()
