"""The `blobtide` command. Every subcommand is a module that is loaded only when called."""
