"""When a secret that somebody chose could be guessed."""

STRONG_CHARS_MIN = 20
STRONG_DIFFERENT_MIN = 8


def guessable(secret: str) -> bool:
    """Whether a secret is too short, or too uniform, to guard anything that administers."""
    return len(secret) < STRONG_CHARS_MIN or len(set(secret)) < STRONG_DIFFERENT_MIN
