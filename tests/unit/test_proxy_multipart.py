"""Forms: what stands where, the model exchanged, and every other byte as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests import read_request
from services.proxy.domain.requests.multipart import (
    BOUNDARY_MAX,
    PARTS_MAX,
    content_type_of,
    form_of,
    is_form,
    number_of,
    text_of,
    with_model,
)

TYPE = "multipart/form-data; boundary=b0"


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    return f'--b0\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b0--\r\n"


RAW = body(part("file", b"\x00\r\n--b\r\n\xff", "a.mp3"), part("model", b"public"), part("n", b"3"))


def test_parts_and_their_places() -> None:
    form = form_of(RAW, TYPE)
    assert [(one.name, one.filename) for one in form.parts] == [("file", "a.mp3"), ("model", None), ("n", None)]
    assert [RAW[one.start : one.end] for one in form.parts] == [b"\x00\r\n--b\r\n\xff", b"public", b"3"]
    assert (text_of(form, RAW, "model"), text_of(form, RAW, "x"), number_of(form, RAW, "n")) == ("public", None, 3)


def test_another_model_and_nothing_else() -> None:
    form = form_of(RAW, TYPE)
    assert with_model(form, RAW, "deployment-7") == RAW.replace(b"public", b"deployment-7")


def test_a_model_where_there_was_none() -> None:
    raw = b"\r\n" + body(part("file", b"x", "a.mp3"))
    out = with_model(form_of(raw, TYPE), raw, "d")
    assert out == b"\r\n" + body(part("model", b"d"), part("file", b"x", "a.mp3"))
    assert text_of(form_of(out, TYPE), out, "model") == "d"


@pytest.mark.parametrize(
    ("boundary", "written"),
    [("b0", "b0"), ('"b0"', "b0"), ('"a b:c"', '"a b:c"'), ("x; charset=utf-8", "x")],
)
def test_the_content_type_is_written_anew(boundary: str, written: str) -> None:
    name = written.strip('"')
    raw = RAW.replace(b"--b0", b"--" + name.encode())
    form = form_of(raw, f"Multipart/Form-Data; boundary={boundary}")
    assert content_type_of(form) == f"multipart/form-data; boundary={written}"


def test_what_is_a_form() -> None:
    assert is_form(TYPE)
    assert is_form("MULTIPART/form-data ;boundary=x")
    assert not is_form("application/json")
    assert not is_form("multipart/mixed; boundary=x")


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=",
     "multipart/form-data; boundary=\n",
     'multipart/form-data; boundary="\x7f"', f"multipart/form-data; boundary={'b' * (BOUNDARY_MAX + 1)}"],
)  # fmt: skip
def test_content_types_that_are_no_forms(content_type: str) -> None:
    with pytest.raises(BadRequest) as refused:
        form_of(RAW, content_type)
    assert refused.value.code == "invalid_content_type"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"--b0--",
        RAW[:-8],
        RAW[:40],
        b"x" + RAW,
        b"--b0\r\n\r\n\r\n--b0--",
        b"--b0\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b0--",
        b'--b0\r\nContent-Disposition: form-data; name=""\r\n\r\nx\r\n--b0--',
        b'--b0\r\nContent-Disposition: attachment; name="x"\r\n\r\nx\r\n--b0--',
        b'--b0\nContent-Disposition: form-data; name="x"\n\nx\n--b0--',
        b'--b0\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--b0--',
        b'--b0\r\nContent-Disposition: form-data; name="x"\r\nContent-Length: 9\r\n\r\nx\r\n--b0--',
        b"--b0\r\nX: " + b"y" * 5_000 + b"\r\n\r\nx\r\n--b0--",
        body(*[part("x", b"y")] * (PARTS_MAX + 1)),
    ],
)
def test_bodies_that_are_no_forms(raw: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        form = form_of(raw, TYPE)
        assert not form.parts
        raise BadRequest("no parts", code="invalid_form")
    assert refused.value.code == "invalid_form"


MODELS = [
    [("model[]", None, b"other"), ("model", None, b"public")],
    [("model", None, b"public"), ("model[]", None, b"other")],
    [("model[0]", None, b"other")],
    [("model", None, b"public"), ("model", None, b"other")],
    [("Model", None, b"other")],
    [("MODEL[]", None, b"other"), ("model", None, b"public")],
    [("model", "a.bin", b"other")],
]


@pytest.mark.parametrize("parts", MODELS)
@pytest.mark.parametrize("endpoint", [Endpoint.TRANSCRIPTIONS, Endpoint.TRANSLATIONS, Endpoint.IMAGE_EDITS])
@pytest.mark.parametrize("path_model", [None, "public"])
def test_a_model_that_another_reader_may_find_is_refused(
    endpoint: Endpoint, parts: list[tuple[str, str | None, bytes]], path_model: str | None
) -> None:
    files = part("file", b"x", "a.wav") + part("image", b"x", "a.png")
    raw = body(files, *(part(name, data, filename) for name, filename, data in parts))
    with pytest.raises(BadRequest) as refused:
        read_request(raw, endpoint, path_model, TYPE)
    assert refused.value.param == "model"


@pytest.mark.parametrize("name", ["n[]", "N", "n[0]"])
def test_a_field_that_decides_a_price_has_one_name(name: str) -> None:
    raw = body(part("image", b"x", "a.png"), part("prompt", b"x"), part("model", b"m"), part(name, b"9"))
    with pytest.raises(BadRequest) as refused:
        read_request(raw, Endpoint.IMAGE_EDITS, None, TYPE)
    assert refused.value.param == "n"


@pytest.mark.parametrize(
    "head",
    [
        'form-data; name="zz"; name="model"',
        'form-data; name="model"; name="zz"',
        "form-data; name=\"zz\"; name*=utf-8''model",
        'form-data; name="zz"\r\nContent-Disposition: form-data; name="model"',
        'form-data; name="zz"\tname="model"',
        'form-data; name="zz"; x="; name=model"',
        'form-data; name="zz"; filename="a\\"; name=\\"model"',
        'form-data; name="file"; filename="C:\\x\\"; name="model"',
        'form-data; name="zz";; name=model',
        'form-data; x; name="model"',
        "form-data; name='model'",
        'form-data; name=" model"',
        'form-data; name="mo\\del"',
        'form-data; name="m%6fdel"',
        'form-data; name="mod\u00e9l"',
    ],
)
def test_a_part_whose_name_can_be_read_in_two_ways_is_refused(head: str) -> None:
    raw = body(f"--b0\r\nContent-Disposition: {head}\r\n\r\nx\r\n".encode())
    with pytest.raises(BadRequest) as refused:
        form_of(raw, TYPE)
    assert refused.value.code == "invalid_form"


@pytest.mark.parametrize(
    ("head", "name", "filename"),
    [
        ("form-data;name=file;filename=a.wav", "file", "a.wav"),
        ('Form-Data; filename="a; b=c \u6f22.wav"; name="file"', "file", "a; b=c \u6f22.wav"),
        ('form-data; name="file"; filename="a.wav"; filename*=utf-8\'\'a.wav', "file", "a.wav"),
        ('form-data; name="timestamp_granularities[]"', "timestamp_granularities[]", None),
        ('form-data; name="chunking_strategy[type]"', "chunking_strategy[type]", None),
    ],
)
def test_what_programs_send_is_read(head: str, name: str, filename: str | None) -> None:
    raw = body(f"--b0\r\nContent-Disposition: {head}\r\n\r\nx\r\n".encode())
    (found,) = form_of(raw, TYPE).parts
    assert (found.name, found.filename) == (name, filename)


contents = st.binary(max_size=60).filter(lambda data: b"\r\n--b0" not in b"\r\n" + data + b"\r")
names = st.sampled_from(["file", "prompt", "image[]", "n"])


@given(st.lists(st.tuples(names, contents, st.booleans()), max_size=5), st.integers(0, 5), contents)
def test_any_form_keeps_its_bytes(given_parts: list[tuple[str, bytes, bool]], at: int, model: bytes) -> None:
    parts = [part(name, data, "f.bin" if file else None) for name, data, file in given_parts]
    parts.insert(at, part("model", model))
    raw = body(*parts)
    form = form_of(raw, TYPE)
    found = [(one.name, raw[one.start : one.end]) for one in form.parts if one.name != "model"]
    assert found == [(name, data) for name, data, _ in given_parts]
    parts[min(at, len(given_parts))] = part("model", b"other")
    assert with_model(form, raw, "other") == body(*parts)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_form_or_refused(data: bytes) -> None:
    for raw in (data, b"--b0\r\n" + data, RAW[:60] + data + RAW[60:], RAW + data):
        try:
            form = form_of(raw, TYPE)
        except BadRequest:
            continue
        for one in form.parts:
            assert 0 < one.start <= one.end <= len(raw)
