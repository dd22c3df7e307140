"""What a realtime response counts: text, sound and images, new or seen before."""

import msgspec

from deploy.simulator.usage import Steering, Usage, text_tokens

USER_AUDIO_MS_PER_TOKEN = 100
OWN_AUDIO_MS_PER_TOKEN = 50
BYTES_PER_MS = 48
"""Of 24 kHz, 16 bit, one channel."""
TOKENS_PER_IMAGE = 255
TOKENS_PER_ITEM = 4
CACHE_STEP = 64
DEFAULT_TEXT = 16
DEFAULT_AUDIO = 32


BY_SECOND = ("gpt-live", "gpt-realtime-translate", "gpt-realtime-whisper")
"""Beginnings of models that are billed by the second of the caller's sound, not by the token."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a piece of conversation, by kind."""

    text: int = 0
    audio: int = 0
    image: int = 0

    def __add__(self, other: "Size") -> "Size":
        return Size(text=self.text + other.text, audio=self.audio + other.audio, image=self.image + other.image)

    @property
    def total(self) -> int:
        """Of all kinds."""
        return self.text + self.audio + self.image


def text_size(chars: int) -> Size:
    """Of an item with so many characters."""
    return Size(text=text_tokens(chars) + TOKENS_PER_ITEM)


def audio_ms(size: int) -> int:
    """The length of so many bytes of PCM sound."""
    return size // BYTES_PER_MS


def user_audio(milliseconds: int) -> Size:
    """Of a caller's sound."""
    return Size(audio=-(-milliseconds // USER_AUDIO_MS_PER_TOKEN))


def plan_by_second(steer: Steering, heard_ms: int) -> Usage:
    """What a response of a model that is billed by the second counts: the sound since the response before."""
    return Usage(prompt=0, milliseconds=heard_ms if steer.milliseconds is None else steer.milliseconds)


def plan(steer: Steering, context: Size, seen: Size, with_audio: bool, cap: int | None) -> tuple[Usage, bool]:
    """What a response will count when it runs to its end, and whether the cap cuts it.

    `context` is everything it reads, `seen` the part that the response before it read too: that part is
    cached, in whole steps.
    """
    prompt = max(1, context.total) if steer.prompt is None else steer.prompt
    audio_in = min(steer.audio_prompt or (context.audio if steer.prompt is None else 0), prompt)
    image_in = min(steer.image_prompt or (context.image if steer.prompt is None else 0), prompt - audio_in)
    cached = steer.cached
    audio_cached = steer.audio_cached
    if not cached and steer.prompt is None:
        both = (min(seen.text, context.text), min(seen.audio, context.audio))
        text, audio_cached = (part // CACHE_STEP * CACHE_STEP for part in both)
        cached = text + audio_cached
    cached = min(cached, prompt - image_in)
    audio_cached = max(min(audio_cached, audio_in, cached), cached - (prompt - audio_in - image_in))
    wanted, spoken = _output(steer, with_audio)
    total = wanted if cap is None else min(wanted, cap)
    usage = Usage(
        prompt=prompt,
        cached=cached,
        audio_prompt=audio_in,
        audio_cached=audio_cached,
        image_prompt=image_in,
        completion=total,
        audio_completion=min(spoken, total),
    )
    return usage, total < wanted


def _output(steer: Steering, with_audio: bool) -> tuple[int, int]:
    """All tokens that come out, and those of sound among them."""
    if not with_audio:
        return (DEFAULT_TEXT if steer.completion is None else steer.completion), 0
    if steer.completion is None:
        spoken = steer.audio_completion or DEFAULT_AUDIO
        return DEFAULT_TEXT + spoken, spoken
    return steer.completion, min(steer.audio_completion or steer.completion * 2 // 3, steer.completion)


def part_of(usage: Usage, done: int, of: int) -> Usage:
    """What a response counts that ended after so many of its pieces."""
    if done >= of:
        return usage
    text = usage.completion - usage.audio_completion
    audio = usage.audio_completion * done // of
    return msgspec.structs.replace(usage, completion=text * done // of + audio, audio_completion=audio)


def usage_json(usage: Usage) -> dict[str, object]:
    """The `usage` object of `response.done`; seconds are told as a transcription tells them."""
    if usage.milliseconds:
        return {"type": "duration", "seconds": usage.milliseconds / 1000}
    audio_cached = usage.audio_cached
    return {
        "total_tokens": usage.prompt + usage.completion,
        "input_tokens": usage.prompt,
        "output_tokens": usage.completion,
        "input_token_details": {
            "text_tokens": usage.prompt - usage.audio_prompt - usage.image_prompt,
            "audio_tokens": usage.audio_prompt,
            "image_tokens": usage.image_prompt,
            "cached_tokens": usage.cached,
            "cached_tokens_details": {
                "text_tokens": usage.cached - audio_cached,
                "audio_tokens": audio_cached,
                "image_tokens": 0,
            },
        },
        "output_token_details": {
            "text_tokens": usage.completion - usage.audio_completion,
            "audio_tokens": usage.audio_completion,
        },
    }
