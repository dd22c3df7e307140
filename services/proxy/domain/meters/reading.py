"""What a meter finds out, and the rules that all of them share: what is believed, what is kept, which class is which.

Counts are taken as Foundry reports them. Missing usage is not zero usage: it is None, so that it is estimated and
marked. A count that is absurd or negative is not believed, and a part that is larger than its whole is cut to it.
"""

import msgspec

from shared.pricing import BATCH, FLEX, PRIORITY, STANDARD, Usage

RAW_BYTES_MAX = 4_096
RAW_NESTING_MAX = 64
MODEL_NAME_MAX = 200
TOKENS_MAX = 10**9
"""More tokens than any call can have: such a count is not believed."""
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
BYTES_PER_TOKEN = 4
"""The common rule of thumb, for estimates only."""
EMPTY = (b"", b"null")
TIERS = {b'"flex"': FLEX, b'"priority"': PRIORITY, b'"batch"': BATCH}
"""Service tiers as replies name them; all others (`default`, `standard`, `auto`, `scale`) are the standard one."""


class Reading(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a reply said of itself; `usage` is None when it did not say.

    `counted`: the reply did not say so, but holds as many pieces, or is as long, or was asked for so many characters.
    That is the bill of a model that is billed so, and no measure of one that is billed by tokens.
    `partial`: what a stream without usage has said all the same, which is the least that it has used.
    """

    usage: Usage | None = None
    raw: bytes = b"null"
    served_model: str | None = None
    counted: bool = False
    partial: Usage | None = None


NOTHING = Reading()


class PromptDetails(msgspec.Struct, gc=False):
    """Parts of a prompt, as OpenAI's dialects name them."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class OutputDetails(msgspec.Struct, gc=False):
    """Parts of an output, as OpenAI's dialects name them."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class Tokens(msgspec.Struct, kw_only=True, gc=False):
    """Counts as dialects give them: totals, and parts that lie inside them.

    `cached`, `write`, `audio` and `image` are parts of `prompt`; `cached_audio` and `cached_image` parts of `cached`
    (None: not said); `reasoning`, `audio_out` and `image_out` parts of `output`. `write_1h` is a part of `write`.
    """

    prompt: int
    output: int = 0
    cached: int | None = None
    cached_audio: int | None = None
    cached_image: int | None = None
    write: int | None = None
    write_1h: int | None = None
    audio: int | None = None
    image: int | None = None
    reasoning: int | None = None
    audio_out: int | None = None
    image_out: int | None = None

    def usage(self, tier: str = STANDARD) -> Usage | None:
        """The classes that are billed, none inside another; None for totals that cannot be."""
        if not (0 <= self.prompt <= TOKENS_MAX and 0 <= self.output <= TOKENS_MAX):
            return None
        if self.audio or self.image or self.audio_out or self.image_out:
            return self._mixed(tier)
        cached = _part(self.cached, self.prompt)
        write = _part(self.write, self.prompt - cached)
        hour = _part(self.write_1h, write)
        return Usage(
            input=self.prompt - cached - write,
            cached=cached,
            cache_write=write - hour,
            cache_write_1h=hour,
            output=self.output,
            reasoning=_part(self.reasoning, self.output),
            tier=tier,
        )

    def _mixed(self, tier: str) -> Usage:
        """Calls with sound or images in them.

        Where the cached part is not divided, it is text first, then images (billed as cached text), then sound.
        """
        audio = _part(self.audio, self.prompt)
        image = _part(self.image, self.prompt - audio)
        text = self.prompt - audio - image
        cached = _part(self.cached, self.prompt)
        if self.cached_audio is not None or self.cached_image is not None:
            audio_cached = _part(self.cached_audio, min(audio, cached))
            image_cached = _part(self.cached_image, min(image, cached - audio_cached))
            cached_text = min(text, cached - audio_cached - image_cached)
            image -= image_cached
        else:
            cached_text = min(cached, text + image)
            audio_cached, image_cached = min(audio, cached - cached_text), 0
        from_image = max(0, cached_text - text)
        text, image = max(0, text - cached_text), image - from_image
        audio -= audio_cached
        write = _part(self.write, text + image)
        hour = _part(self.write_1h, write)
        image -= max(0, write - text)
        audio_out = _part(self.audio_out, self.output)
        image_out = _part(self.image_out, self.output - audio_out)
        output = self.output - audio_out - image_out
        return Usage(
            input=max(0, text - write),
            cached=cached_text,
            cache_write=write - hour,
            cache_write_1h=hour,
            output=output,
            reasoning=_part(self.reasoning, output),
            audio_input=audio,
            audio_cached=audio_cached,
            audio_output=audio_out,
            image_input=image,
            image_cached=image_cached,
            image_output=image_out,
            tier=tier,
        )


def _part(count: int | None, whole: int) -> int:
    return min(count, whole) if count is not None and count > 0 else 0


def tier_of(said: msgspec.Raw | bytes, asked: str) -> str:
    """The service tier that served, as the reply names it. One that says nothing is billed as asked where that is
    the dearer one."""
    word = bytes(said)
    if word in EMPTY:
        return PRIORITY if asked == PRIORITY else STANDARD
    return TIERS.get(word, STANDARD)


def units(count: int | None) -> int | None:
    """A number of pieces, None for one that cannot be."""
    return count if count is not None and 0 <= count <= TOKENS_MAX else None


def bounded(raw: bytes) -> bytes:
    """A usage object that every reader of the log can decode and store, else null."""
    if len(raw) > RAW_BYTES_MAX or raw.count(b"{") + raw.count(b"[") > RAW_NESTING_MAX or b"\\u" in raw:
        return b"null"
    try:
        raw.decode()
    except UnicodeDecodeError:
        return b"null"
    return raw


def model_name(model: str | None) -> str | None:
    """A model's name as a reply gives it, None for what is none."""
    return model if model and len(model) <= MODEL_NAME_MAX and model.isprintable() else None


def text_tokens(size: int) -> int:
    """What so many characters look like in tokens."""
    return -(-size // BYTES_PER_TOKEN)
