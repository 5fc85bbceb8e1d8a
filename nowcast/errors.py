"""What every command can say in one line: a wrong input, and a stop that was asked for."""


class InputError(ValueError):
    """A wrong input: the message names the file or value, what was found and what was expected.

    The message is one line and is shown to the user as it is, without a traceback.
    """


class NotFinite(InputError):
    """A forecast holds NaN or infinity."""


class Stopped(Exception):
    """Work was asked to stop and has saved what is done; the message says where it stands."""
