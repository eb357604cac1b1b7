"""The commands of `python -m clients`, one a module with `add_command`; shared are the options."""
