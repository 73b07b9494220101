"""The error tree: every error says what was wrong, with which input and limit, and what to do about it."""


class EmotiveTalkError(Exception):
    """What can go wrong at run time.

    Args:
        code: stable name for machines, subject first: "audio_silent", "image_too_large".
        message: what is wrong, naming the input and the limit. No full stop at its end.
        remedy: what the user can do, a sentence or more.
    """

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(code, message, remedy)
        self.code = code
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}"


class InputError(EmotiveTalkError):
    """What the user gave cannot be used (the command's exit code 2)."""


class OutputError(EmotiveTalkError):
    """A result could not be written although the place looked fine before the work began (disk full, folder gone)."""
