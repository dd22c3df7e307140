"""Heads of answers: which headers they have, which of Foundry's pass, and which content types exist."""

import pytest

from services.proxy.answers import answer_headers, attachment, dollars_of, head, passed_on, safe_type


class Reply:
    """A reply of Foundry that is only headers."""

    status = 200

    def __init__(self, **headers: str) -> None:
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def header(self, name: str) -> str | None:
        return self._headers.get(name)

    async def chunk(self) -> bytes | None:
        return None


def test_every_metered_answer_names_its_call() -> None:
    headers = dict(
        answer_headers(
            call_id="c1",
            model="gpt-4o",
            deployment="0123456789ab",
            cost_nusd=1_234_500,
            key_spend_nusd=2_000_000_000,
            budget_left_nusd=-5,
            retries=2,
            overhead_ns=1_234_567,
        )
    )
    assert headers == {
        b"x-tundish-call-id": b"c1",
        b"x-litellm-call-id": b"c1",
        b"x-tundish-model": b"gpt-4o",
        b"x-tundish-deployment": b"0123456789ab",
        b"x-litellm-model-id": b"0123456789ab",
        b"x-tundish-retries": b"2",
        b"x-tundish-cost-nusd": b"1234500",
        b"x-tundish-cost": b"0.0012345",
        b"x-litellm-response-cost": b"0.0012345",
        b"x-tundish-key-spend": b"2",
        b"x-litellm-key-spend": b"2",
        b"x-tundish-budget-left": b"-0.000000005",
        b"x-tundish-overhead-ms": b"1.23",
    }


def test_figures_that_are_not_known_are_left_out() -> None:
    names = {name for name, _ in answer_headers(call_id="c", model="m", deployment="d")}
    assert not {name for name in names if b"cost" in name or b"spend" in name or b"left" in name}


def test_names_of_any_letters_make_headers() -> None:
    headers = dict(answer_headers(call_id="c", model="modèle\r\nx: y", deployment="d"))
    assert headers[b"x-tundish-model"] == b"mod%C3%A8le%0D%0Ax: y"


@pytest.mark.parametrize(
    ("nusd", "text"), [(0, b"0"), (1, b"0.000000001"), (10**9, b"1"), (12 * 10**8, b"1.2"), (-15 * 10**8, b"-1.5")]
)
def test_dollars(nusd: int, text: bytes) -> None:
    assert dollars_of(nusd) == text


def test_what_passes_of_foundrys_headers() -> None:
    reply = Reply(
        apim_request_id="a", x_request_id="b", request_id="req_1", x_ms_region="East US 2", x_ms_served_model="gpt",
        openai_processing_ms="12", set_cookie="c=d", x_ms_deployment_name="secret", x_ms_rai_invoked="a\r\nb: c",
        retry_after="é",
    )  # fmt: skip
    assert passed_on(reply) == [
        (b"apim-request-id", b"a"), (b"x-request-id", b"b"), (b"request-id", b"req_1"), (b"x-ms-region", b"East US 2"),
        (b"x-ms-served-model", b"gpt"), (b"openai-processing-ms", b"12"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("application/json; charset=utf-8", b"application/json"),
        ("Text/Event-Stream", b"text/event-stream; charset=utf-8"),
        ("audio/mpeg", b"audio/mpeg"),
        ("text/plain", b"text/plain; charset=utf-8"),
        ("text/vtt", b"text/plain; charset=utf-8"),
        ("application/x-ndjson", b"application/jsonl"),
        ("image/png", b"image/png"),
        ("text/html", None),
        ("image/svg+xml", None),
        ("application/javascript", None),
        ("", None),
        (None, None),
    ],
)
def test_only_harmless_content_types_exist(given: str | None, told: bytes | None) -> None:
    assert safe_type(given) == told


def test_no_answer_can_act_on_a_page() -> None:
    headers = dict(head(200, b"application/json", [])["headers"])
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"content-security-policy"] == b"sandbox"


@pytest.mark.parametrize(
    ("name", "told"), [("out.jsonl", b"out.jsonl"), ('a"\r\nb/../c', b"a___b_.._c"), ("", b"file"), ("é", b"_")]
)
def test_files_are_downloads(name: str, told: bytes) -> None:
    assert attachment(name) == (b"content-disposition", b'attachment; filename="' + told + b'"')
