"""The `blobtide` command. Every sub-command is a module that is loaded only when it is called."""
