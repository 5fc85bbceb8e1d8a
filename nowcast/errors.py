"""The one error that a wrong input raises, so that every command can say it in one line."""


class InputError(ValueError):
    """A wrong input: the message names the file or value, what was found and what was expected.

    The message is one line and is shown to the user as it is, without a traceback.
    """
