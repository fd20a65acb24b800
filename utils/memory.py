"""Too little memory, which every library says in its own way."""

from collections.abc import Iterator
from contextlib import contextmanager

from .options import InputError

_TOO_LITTLE = ("out of memory", "not enough memory", "allocate memory", "bad allocation")
_TOO_LITTLE += ("failed to allocate", "bad_alloc", "alloc_failed", "insufficient memory")


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turns the libraries' own errors of too little memory into MemoryError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # by words: types differ from version to version, cv2 has but one
        reason = str(error).lower()
        if not any(words in reason for words in _TOO_LITTLE):
            raise
        raise MemoryError(reason.splitlines()[0][:120] if reason else "") from error
