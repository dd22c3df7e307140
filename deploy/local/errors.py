"""The one error of the local runner."""


class UpError(Exception):
    """Something that a person must put right: the message says what is wrong and what to do."""
