"""What a command can end with, beside success."""


class ConfigError(Exception):
    """The configuration or the call is wrong: exit status 2."""


class FailedError(Exception):
    """What was asked for could not be done: exit status 1."""
