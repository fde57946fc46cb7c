"""What stops a command of the labs."""


class LabError(Exception):
    """A command cannot be done; the message is one sentence that says why, and what to do."""


class CommandFailed(LabError):
    """A program ended with an error; the message is what it said."""
