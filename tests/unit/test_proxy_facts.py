"""What is known of models, from the real catalogue."""

import pytest

from services.proxy.domain.facts import NFC_GROWTH, NFKC_GROWTH, Declared, FactBook, ModelFacts, Sizes
from shared.catalogue import load

BOOK = FactBook(
    Sizes(model=entry.model, context_window=entry.context_window, max_output=entry.max_output) for entry in load()
)


@pytest.mark.parametrize(
    ("model", "window", "output"),
    [
        ("gpt-4o", 128_000, 16_384),
        ("azure/GPT-4o", 128_000, 16_384),
        ("gpt-5.4", 922_000, 128_000),
        ("us/gpt-4.1", 1_047_576, 32_768),
        ("eu/o1-mini", 128_000, 65_536),
        ("Phi-4", 16_384, 16_384),
        ("grok-3", None, None),
        ("no-such-model", None, None),
        (None, None, None),
    ],
)
def test_sizes(model: str | None, window: int | None, output: int | None) -> None:
    facts = BOOK.facts(model)
    assert (facts.context_window, facts.max_output) == (window, output)


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("gpt-4o", ("max_tokens", "max_completion_tokens")),
        ("gpt-35-turbo", ("max_tokens", "max_completion_tokens")),
        ("gpt-4.1-nano", ("max_tokens", "max_completion_tokens")),
        ("gpt-5-chat", ("max_tokens", "max_completion_tokens")),
        ("gpt-5", ("max_completion_tokens", "max_tokens")),
        ("eu/gpt-5.4-mini", ("max_completion_tokens", "max_tokens")),
        ("gpt-6-sol", ("max_completion_tokens", "max_tokens")),
        ("o1", ("max_completion_tokens", "max_tokens")),
        ("o4-mini-2025-04-16", ("max_completion_tokens", "max_tokens")),
        ("gpt-oss-120b", ("max_tokens",)),
        ("FW-GPT-OSS-120B", ("max_tokens",)),
        ("Phi-4", ("max_tokens",)),
        ("grok-4", ("max_tokens",)),
    ],
)
def test_the_field_that_caps_the_output(model: str, fields: tuple[str, ...]) -> None:
    assert BOOK.facts(model).cap_fields == fields


@pytest.mark.parametrize(
    ("model", "expansion"),
    [
        ("gpt-4o", 1),
        ("text-embedding-3-large", 1),
        ("Meta-Llama-3.1-70B-Instruct", 1),
        ("mistral-large-3", 1),
        ("FW-DeepSeek-V3.2", 1),
        ("cohere-command-a", NFC_GROWTH),
        ("FW-GLM-5", NFC_GROWTH),
        ("Cohere-embed-v3-multilingual", NFKC_GROWTH),
        ("embed-v-4-0", NFKC_GROWTH),
        (None, NFKC_GROWTH),
    ],
)
def test_how_a_text_may_grow(model: str | None, expansion: int) -> None:
    assert BOOK.facts(model).expansion == expansion


def test_which_models_the_catalogue_cannot_size() -> None:
    """docs/estimates.md names them; whoever adds one must say so there."""
    known = {"deepseek-r1", "deepseek-v3-0324", "deepseek-v3.1", "grok-3", "grok-3-mini"}
    known |= {"grok-4-fast-non-reasoning", "grok-4-fast-reasoning"}
    priced = [row.model for row in load() if row.price_row() is not None and row.mode in ("chat", "embedding")]
    priced.remove("container")  # the price of a code interpreter's session, and no model
    assert {model for model in priced if BOOK.facts(model).context_window is None} == known


def test_who_reasons_beside_the_answer() -> None:
    assert BOOK.facts("grok-4").reasoning_beside
    assert BOOK.facts("grok-3-mini").reasoning_beside
    assert not BOOK.facts("grok-4-fast-non-reasoning").reasoning_beside
    assert not BOOK.facts("o3").reasoning_beside


def test_who_reasons_and_who_samples() -> None:
    never = ["o1", "o3", "o3-pro", "o4-mini-2025-04-16", "gpt-5", "gpt-5-2025-08-07", "gpt-5-mini", "gpt-5-nano"]
    never += ["gpt-5-pro", "gpt-5-codex", "gpt-5.1-codex-max", "gpt-5.2-pro-2025-12-11", "gpt-5.3-codex", "codex-mini"]
    rests = ["gpt-5.1", "gpt-5.1-2025-11-13", "gpt-5.2", "gpt-5.4-mini", "gpt-5.5", "gpt-5.6-luna", "gpt-6-sol"]
    rests += ["gpt-6.1-terra", "eu/gpt-6.1-sol"]
    plain = ["gpt-35-turbo", "gpt-35-turbo-16k", "gpt-4o", "gpt-5-chat", "gpt-5.1-chat", "gpt-oss-120b", "grok-4", None]
    for names, reasons, refuses in ((never, True, True), (rests, True, False), (plain, False, False)):
        for name in names:
            facts = BOOK.facts(name)
            assert (facts.reasoning, facts.refuses_sampling) == (reasons, refuses), name
    assert BOOK.facts("prod", Declared(reasoning=True)).refuses_sampling, "nothing is known of it"
    assert not BOOK.facts("gpt-5", Declared(refuses_sampling=False)).refuses_sampling
    assert BOOK.facts("gpt-5.2", Declared(refuses_sampling=True)).refuses_sampling
    assert not BOOK.facts("gpt-5", Declared(reasoning=False)).refuses_sampling


def test_who_takes_tools_only_without_an_effort() -> None:
    for name in ("gpt-5", "gpt-5.1", "gpt-5.2", "gpt-5.3-codex", "o3", "gpt-4o", "claude-opus-5", "gpt-35-turbo", None):
        assert BOOK.facts(name).effort_with_tools, name
    for name in ("gpt-5.4", "gpt-5.4-nano-2026-03-17", "gpt-5.5", "gpt-5.6-sol", "gpt-6-astra", "us/gpt-6.1-sol"):
        assert not BOOK.facts(name).effort_with_tools, name
    assert BOOK.facts("gpt-5.4", Declared(effort_with_tools=True)).effort_with_tools


def test_who_sets_its_own_thinking_budget() -> None:
    for name in ("claude-opus-4-7", "claude-opus-4.8", "claude-opus-4-10", "claude-opus-5", "claude-sonnet-5",
                 "claude-haiku-5-5", "claude-fable-5-1", "claude-opus-5-5-fast"):  # fmt: skip
        assert BOOK.facts(name).adaptive_thinking, name
    for name in ("claude-opus-4", "claude-opus-4-20250514", "claude-opus-4-1-20250805", "claude-opus-4-6", "gpt-5",
                 "claude-sonnet-4-5", "claude-sonnet-4-20250514", "claude-3-5-sonnet", "claude-haiku-4-5"):  # fmt: skip
        assert not BOOK.facts(name).adaptive_thinking, name
    assert BOOK.facts("my-claude", Declared(adaptive_thinking=True)).adaptive_thinking


def test_images_by_family() -> None:
    assert BOOK.facts("gpt-4o").image_tokens == (85, 1_445)
    assert BOOK.facts("gpt-4o-mini-2024-07-18").image_tokens[0] == 2_833
    assert BOOK.facts("Phi-4-multimodal-instruct").image_tokens == ModelFacts().image_tokens


def test_growth_of_normal_forms_is_what_unicode_says() -> None:
    """The longest growth of any single character of Unicode, in bytes of UTF-8."""
    import unicodedata

    def growth(form: str) -> float:
        most = 0.0
        for point in range(0x110000):
            if 0xD800 <= point < 0xE000:
                continue
            char = chr(point)
            made = unicodedata.normalize(form, char)  # type: ignore[arg-type]
            if made != char:
                most = max(most, len(made.encode()) / len(char.encode()))
        return most

    assert growth("NFC") <= NFC_GROWTH
    assert growth("NFKC") <= NFKC_GROWTH
