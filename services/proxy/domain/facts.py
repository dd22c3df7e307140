"""What is known of a model beside its price: how much it takes and gives at most, and how it counts tokens."""

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

Family = Literal["openai", "claude", "cohere", "mistral_ocr", "flux", "mai", "open", "unknown"]
"""Kinds of models that Foundry serves in different ways; `open` are those of all other makers that chat and embed."""

CapField = str
"""`max_tokens` or `max_completion_tokens`."""
CAP_FIELDS: tuple[CapField, ...] = ("max_tokens", "max_completion_tokens")

OPENAI = ("gpt-", "o1", "o3", "o4", "codex-", "chat-latest", "computer-use", "text-embedding-", "ada", "chatgpt-")
OPEN_WEIGHTS = ("gpt-oss",)
"""Models with OpenAI's name that are served as everybody else's."""
OLDER_CAP = ("gpt-3", "gpt-4", "gpt-5-chat")
"""OpenAI's models that are capped by `max_tokens`; all later ones want `max_completion_tokens`."""
BYTEWISE = ("llama", "meta-llama", "mistral", "ministral", "codestral", "phi-", "deepseek", "grok", "kimi", "gpt-oss")
"""Models beside OpenAI's whose tokenizers take the bytes of a text as they are."""
REASONING_BESIDE = ("grok",)
"""Models whose reasoning is not part of `completion_tokens`, so that a cap is not proven to hold it."""
SERVED_BY = ("fw-", "azureml-")
FAMILY_BEGINNINGS: tuple[tuple[Family, tuple[str, ...]], ...] = (
    ("claude", ("claude",)),
    ("mistral_ocr", ("mistral-ocr", "mistral-document")),
    ("flux", ("flux",)),
    ("mai", ("mai-image",)),
    ("cohere", ("cohere", "command-", "embed-v-", "rerank-")),
    ("open", OPEN_WEIGHTS),
    ("openai", (*OPENAI, "dall-e", "whisper", "tts-", "sora", "davinci", "babbage", "model-router", "model_router")),
    ("open", (
        *BYTEWISE, "mai-", "qwen", "glm", "minimax", "nemotron", "jais", "jamba", "inkling", "gemma", "microsoft-",
    )),
)  # fmt: skip
REASONING = re.compile(r"(?:o[1-9](?:-|\Z)|codex-mini|gpt-(?:[5-9]|1\d)(?![0-9]))")
"""OpenAI's models that think before they answer, unless their name has one of PLAIN in it."""
PLAIN = re.compile(r"-chat(?:-|\Z)|gpt-chat|-(?:image|audio|realtime|tts|transcribe)")
RESTS = re.compile(r"gpt-(?:5\.[1-9]|[6-9]|1\d)(?!.*(?:codex|-pro(?:-|\Z)))")
"""Reasoning models that can run with reasoning off, and sample then: gpt-5.1 and later, but for those that always
reason."""
TOOLS_WITHOUT_EFFORT = re.compile(r"gpt-(?:5\.(?:[4-9]|[1-9]\d)|[6-9]|1\d)(?!\d)")
"""Models that take tools over chat completions only while they do not reason: gpt-5.4 and later."""
ADAPTIVE = re.compile(r"claude-(?:opus-4[-.](?:[7-9]|[1-9]\d)|(?:[a-z]+-)?(?:[5-9]|[1-9]\d))(?!\d)")
"""Claude's models that set their own thinking budget, and refuse one: Opus 4.7, all of 5, and later."""
ROUTERS = ("model-router", "model_router")
"""Deployments that have another model answer each time, so that no answer teaches anything about them."""

OPENAI_TEMPLATE_TOKENS = 64
OTHER_TEMPLATE_TOKENS = 2_048
NFC_GROWTH, NFKC_GROWTH = 3, 11
"""How much longer a text may get, in bytes of UTF-8, when a tokenizer brings it to a normal form first."""

IMAGE_TOKENS = (85, 1_445)
IMAGE_TOKENS_BY_NAME = (
    ("gpt-4o-mini", (2_833, 48_169)),
    ("o4-mini", (2_700, 2_700)),
    ("gpt-4.1-mini", (2_500, 2_500)),
    ("gpt-4.1-nano", (3_800, 3_800)),
    ("gpt-5-mini", (2_500, 2_500)),
    ("gpt-5-nano", (3_800, 3_800)),
)
OTHER_IMAGE_TOKENS = (4_100, 4_100)
"""Tokens of one image in low and in any other detail: the most that the published formulas give for each family."""


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about the model behind a deployment; the defaults are those of a model nobody knows.

    `context_window` and `max_output` are tokens (None: not known). `cap_fields` are the fields by which a call's
    output is capped or refused, the preferred one first. `template_tokens` bounds what a chat template adds of its
    own; `expansion` how many tokens one byte of a text can become. `reasoning`: OpenAI's rules for reasoning models
    hold (`max_completion_tokens` for `max_tokens`). `refuses_sampling`: a reasoning model that takes no `temperature`
    and the like whatever its effort is. `effort_with_tools` is False for one that takes tools over chat completions
    only with the effort `none`. `adaptive_thinking`: a Claude that is asked for an effort and not for a thinking
    budget. `mode` is what the model does, in the catalogue's words (empty: not known).
    """

    context_window: int | None = None
    max_output: int | None = None
    cap_fields: tuple[CapField, ...] = ("max_tokens",)
    template_tokens: int = OTHER_TEMPLATE_TOKENS
    expansion: int = NFKC_GROWTH
    reasoning_beside: bool = False
    image_tokens: tuple[int, int] = OTHER_IMAGE_TOKENS
    reasoning: bool = False
    refuses_sampling: bool = False
    effort_with_tools: bool = True
    adaptive_thinking: bool = False
    mode: str = ""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """One model in a catalogue: tokens of the longest prompt and of the longest completion, and what it does."""

    model: str
    context_window: int | None
    max_output: int | None
    mode: str = ""


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says of a model's facts; None where it says nothing."""

    context_window: int | None = None
    max_output: int | None = None
    cap_field: CapField | None = None
    mode: str | None = None
    reasoning: bool | None = None
    refuses_sampling: bool | None = None
    effort_with_tools: bool | None = None
    adaptive_thinking: bool | None = None


SAYS_NOTHING = Declared()


class FactBook:
    """Facts by model name, whatever its letter case. A model of a zone (`eu/…`) is as large as everywhere else."""

    def __init__(self, sizes: Iterable[Sizes]) -> None:
        self._sizes: dict[str, Sizes] = {}
        for size in sizes:
            name = size.model.lower()
            for key in dict.fromkeys((name, name.rpartition("/")[2])):
                known = self._sizes.get(key)
                if known is None or (known.context_window is None and (size.context_window or key == name)):
                    self._sizes[key] = size

    def facts(self, model: str | None, told: Declared = SAYS_NOTHING) -> ModelFacts:
        """What is known of a catalogue's model; what the configuration says of it (`told`) stands."""
        key = (model or "").lower().removeprefix("azure/").removeprefix("azure_ai/")
        bare = key.rpartition("/")[2]
        window, most = told.context_window, told.max_output
        for name in (key, bare):
            size = self._sizes.get(name)
            if size is not None and (size.context_window or size.max_output):
                window, most = window or size.context_window, most or size.max_output
                break
        facts = _declared(_of_family(bare, window, most, told.cap_field), _bare(bare), told)
        return msgspec.structs.replace(facts, mode=told.mode or self.mode(model))

    def mode(self, model: str | None) -> str:
        """What a catalogue's model does; empty when it is in none."""
        key = (model or "").lower().removeprefix("azure/").removeprefix("azure_ai/")
        for name in (key, key.rpartition("/")[2]):
            size = self._sizes.get(name)
            if size is not None and size.mode:
                return size.mode
        return ""


def family_of(model: str | None) -> Family:
    """The family of a model by its name in a catalogue or in an answer."""
    name = _bare(model)
    for family, words in FAMILY_BEGINNINGS:
        if name.startswith(words):
            return family
    return "unknown"


def _bare(model: str | None) -> str:
    name = (model or "").lower().rpartition("/")[2]
    for server in SERVED_BY:
        name = name.removeprefix(server)
    return name


def _declared(facts: ModelFacts, name: str, told: Declared) -> ModelFacts:
    """The facts of a name, and what the configuration says against it."""
    if told.reasoning and not facts.reasoning:
        facts = msgspec.structs.replace(
            facts,
            cap_fields=facts.cap_fields if told.cap_field else CAP_FIELDS[::-1],
            template_tokens=max(facts.template_tokens, OPENAI_TEMPLATE_TOKENS),
        )
    reasoning = facts.reasoning if told.reasoning is None else told.reasoning
    refuses, with_tools, adaptive = told.refuses_sampling, told.effort_with_tools, told.adaptive_thinking
    return msgspec.structs.replace(
        facts,
        reasoning=reasoning,
        refuses_sampling=reasoning and (RESTS.match(name) is None if refuses is None else refuses),
        effort_with_tools=TOOLS_WITHOUT_EFFORT.match(name) is None if with_tools is None else with_tools,
        adaptive_thinking=ADAPTIVE.match(name) is not None if adaptive is None else adaptive,
    )


def _of_family(name: str, window: int | None, most: int | None, cap_field: CapField | None) -> ModelFacts:
    name = _bare(name)
    openai = name.startswith(OPENAI) and not name.startswith(OPEN_WEIGHTS)
    embeds = "embed" in name
    fields: tuple[CapField, ...] = ("max_tokens",)
    if openai:
        fields = CAP_FIELDS if name.startswith(OLDER_CAP) else CAP_FIELDS[::-1]
    if cap_field is not None:
        fields = (cap_field, *(field for field in fields if field != cap_field and openai))
    growth = 1 if openai or name.startswith(BYTEWISE) else NFKC_GROWTH if embeds or not name else NFC_GROWTH
    return ModelFacts(
        context_window=window,
        max_output=most,
        cap_fields=fields,
        template_tokens=OPENAI_TEMPLATE_TOKENS if openai else OTHER_TEMPLATE_TOKENS,
        expansion=growth,
        reasoning_beside=name.startswith(REASONING_BESIDE) and "non-reasoning" not in name,
        image_tokens=_image_tokens(name, openai),
        reasoning=openai and REASONING.match(name) is not None and PLAIN.search(name) is None,
    )


def _image_tokens(name: str, openai: bool) -> tuple[int, int]:
    for beginning, tokens in IMAGE_TOKENS_BY_NAME:
        if name.startswith(beginning):
            return tokens
    return IMAGE_TOKENS if openai else OTHER_IMAGE_TOKENS
