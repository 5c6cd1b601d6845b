"""Every error that genmed raises on purpose; caught in one place, `genmed.cli.main`.

GenmedError                 exit 1   what went wrong, and how to mend it
|-- RunError                exit 1   a training that began could not go on
|   |-- TraceError                   recomputed steps are not the recorded ones
|   `-- Interrupted         exit 130 stopped by a signal, the state is safe
`-- RequestError            exit 2   the request is wrong; nothing was begun
    |-- ConfigError                  a value, a key or a combination
    |-- DataError                    files, tables, images
    |-- DeterminismError             strict mode cannot be kept
    |-- EnvironmentMismatch          what is here is not what was recorded
    |-- RunNotFoundError             no such run, or more than one
    |-- RecordError                  a run's own files: missing, edited, unreadable
    `-- StorageError                 disk full, registry or folder not usable
"""


class GenmedError(Exception):
    """What went wrong (`message`, one line) and how to mend it (`hint`, one line or empty)."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """So that it travels between processes with its hint."""
        return type(self), (self.message, self.hint)

    def say(self) -> str:
        """Both, in one line."""
        return f"{self.message} ({self.hint})" if self.hint else self.message

    @property
    def kind(self) -> str:
        """The class's name, as `--json` reports it."""
        return type(self).__name__


class RunError(GenmedError):
    """A training that had begun could not go on."""


class TraceError(RunError):
    """A step computed again is not the step that was recorded."""


class Interrupted(RunError):
    """Stopped by a signal after the state was made safe."""

    exit_code = 130


class RequestError(GenmedError):
    """The request is wrong; nothing was begun and nothing is left behind."""

    exit_code = 2


class ConfigError(RequestError):
    """A value, a key or a combination of them is wrong."""


class DataError(RequestError):
    """Files, tables or images are missing, broken or of another layout."""


class DeterminismError(RequestError):
    """Strict mode cannot be kept by what was asked for."""


class EnvironmentMismatch(RequestError):
    """Config, data, code or environment differ from the record in what can change bits."""


class RunNotFoundError(RequestError):
    """No run goes by that name, or more than one does."""


class RecordError(RequestError):
    """A run's own files are missing, edited or unreadable."""


class StorageError(RequestError):
    """The disk is full, or the registry or a folder cannot be used."""
