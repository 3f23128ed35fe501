"""The command `trambien`: one file a command."""
