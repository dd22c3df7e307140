"""What calls are likely to use that are no conversations: pictures, sound, speech, search units, pages.

The price of the model decides by what it is billed: by the piece, by time, by characters, or by tokens.
"""

from services.proxy.domain.asked import Asked
from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.requests.images import AUTO
from shared.pricing import PriceRow, Usage, price

IMAGE_TOKENS_PER_MEGAPIXEL = {"low": 272, "medium": 1_056, "high": 4_160}
"""Tokens of a picture of 1024x1024 that is made, by quality; `auto` and all other words count as `high`.
Other sizes have as many tokens for their pixels, or fewer."""
SQUARE = 1_024 * 1_024
AUTO_PIXELS = 1_024 * 1_536
"""The largest size that a model chooses itself."""
SOUND_MS_PER_TOKEN = 100
WORDS_MS_PER_TOKEN = 200
"""A token of sound is a tenth of a second; speech has at most five tokens of text a second."""
SPOKEN_TOKENS_PER_CHAR = 2
"""A character is spoken in a fifteenth of a second, slowly in a tenth, at twenty tokens of sound a second."""


def billed_so(usage: Usage, row: PriceRow) -> bool:
    """Whether what was counted is what a model is billed by, and not its tokens.

    Prices by quality and size alone, beside those of tokens, say what a picture's tokens usually come to.
    """
    rates = row.rates
    if usage.images:
        return rates.images is not None or not rates.rate("image_output")
    if usage.milliseconds:
        return rates.milliseconds is not None or rates.rate("audio_input") is None
    if usage.characters:
        return rates.characters is not None or rates.rate("audio_output") is None
    return True


def likely_images(asked: Asked, row: PriceRow) -> Usage:
    """Pictures by the piece or by tokens, whichever has a price; the dearer where both have."""
    units, guess = asked.units, asked.guess
    pieces = units
    tokens = Usage(
        input=guess.input,
        image_input=guess.image_input,
        image_output=units.images * tokens_of_image(units.kind) + guess.image_output,
    )
    cost = 0 if row.missing(tokens) is not None else price(tokens, row)
    if cost and (row.missing(pieces) is not None or cost > price(pieces, row)):
        return tokens
    return pieces


def tokens_of_image(kind: str) -> int:
    """Tokens of one picture that is made, by quality and size (`high/1024-x-1536`)."""
    quality, _, size = kind.partition("/")
    square = IMAGE_TOKENS_PER_MEGAPIXEL.get(quality, IMAGE_TOKENS_PER_MEGAPIXEL["high"])
    pixels = AUTO_PIXELS
    if size != AUTO:
        width, _, height = size.partition("-x-")
        pixels = int(width) * int(height)
    return -(-square * pixels // SQUARE)


def likely_sound(asked: Asked, facts: ModelFacts, row: PriceRow) -> Usage:
    """A transcription by time or by tokens, as its price is."""
    length = asked.guess.milliseconds
    if row.rates.milliseconds is not None or row.rates.rate("audio_input") is None:
        return Usage(milliseconds=length)
    sound = -(-length // SOUND_MS_PER_TOKEN)
    words = -(-length // WORDS_MS_PER_TOKEN)
    if facts.context_window is not None:
        sound = min(sound, facts.context_window)
    if facts.max_output is not None:
        words = min(words, facts.max_output)
    return Usage(input=asked.guess.input, audio_input=sound, output=words)


def likely_speech(asked: Asked, row: PriceRow) -> Usage:
    """A text that is spoken: by its characters, or by tokens where those have a price and characters have none."""
    characters = asked.units.characters
    if row.rates.characters is not None or row.rates.rate("audio_output") is None:
        return Usage(characters=characters)
    return Usage(input=asked.guess.input, audio_output=characters * SPOKEN_TOKENS_PER_CHAR)
