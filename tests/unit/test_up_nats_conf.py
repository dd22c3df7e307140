"""`nats.conf` as it is generated from the permission table."""

import subprocess
from pathlib import Path

import pytest

from deploy.local.errors import UpError
from deploy.local.nats import file_store_bytes, quoted, render_config, server_binary, user_passwords, write_config
from shared.topology import BUCKETS, PERMISSIONS, STREAMS, Permissions

CHECK_LIMIT_S = 20


def check(config: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Ask the server what it thinks of a configuration."""
    return subprocess.run(
        [str(server_binary()), "-t", "-c", str(config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=CHECK_LIMIT_S,
        env=env,
    )


def rendered(rights: dict[str, Permissions], passwords: dict[str, str], store: Path) -> str:
    return render_config(
        rights, passwords=passwords, name="test", host="127.0.0.1", port=1, store=str(store), sync="always"
    )


@pytest.mark.parametrize(("sync", "monitor_port"), [("always", None), ("2m", 8222)])
def test_the_server_accepts_it(sync: str, monitor_port: int | None, tmp_path: Path) -> None:
    passwords = user_passwords(tmp_path)
    assert len(set(passwords.values())) == len(PERMISSIONS)
    path = write_config(tmp_path, port=24_222, passwords=passwords, sync=sync, monitor_port=monitor_port)
    done = check(path)
    assert done.returncode == 0, done.stderr
    assert "is valid" in done.stdout + done.stderr
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert f'sync_interval: "{sync}"' in text
    assert "js_ack_fc_v2: false" in text
    assert 'host: "127.0.0.1"' in text
    assert ("http:" in text) is (monitor_port is not None)
    assert all(f'user: "{user}"' in text for user in PERMISSIONS)


def test_rights_stand_as_in_the_table_and_nothing_is_implied(tmp_path: Path) -> None:
    rights = {
        "asks": Permissions(publish=("a.*", "$JS.API.INFO"), subscribe=("_INBOX_asks.>",)),
        "answers": Permissions(publish=(), subscribe=("a.*",), respond=True),
    }
    text = rendered(rights, {"asks": quoted('p"1\\'), "answers": "$SECRET_OF_ANSWERS"}, tmp_path / 'a "b"')
    asks, answers = text.split('user: "answers"')
    assert 'publish { allow: ["a.*", "$JS.API.INFO"] }' in asks
    assert 'subscribe { allow: ["_INBOX_asks.>"] }' in asks
    assert "allow_responses" not in asks
    assert 'publish { deny: [">"] }' in answers
    assert "allow_responses: { max: 1" in answers
    assert "password: $SECRET_OF_ANSWERS" in answers
    config = tmp_path / "nats.conf"
    config.write_text(text)
    assert check(config).returncode != 0  # the variable is not set
    done = check(config, SECRET_OF_ANSWERS="s3cret")
    assert done.returncode == 0, done.stderr


def test_a_line_break_cannot_smuggle_in_a_setting(tmp_path: Path) -> None:
    with pytest.raises(UpError, match="control character"):
        rendered({}, {}, tmp_path / "a\nport: 2")


def test_every_stream_and_bucket_fits() -> None:
    wanted = sum(stream.max_bytes for stream in STREAMS) + sum(bucket.max_bytes for bucket in BUCKETS)
    assert file_store_bytes() > wanted * 1.2
