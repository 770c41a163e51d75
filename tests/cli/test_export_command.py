"""What `sit-keras export` says when the export is there."""

import pathlib

import pytest

from sit_keras.cli.main import call
from sit_keras.serving import export


@pytest.mark.parametrize(
    ("number", "note"), [("1", ""), ("2", "  # 2 when serving/models.config names it")]
)
def test_a_version_that_the_servers_settings_do_not_name_is_said(
    number, note, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(export, "export", lambda **_: pathlib.Path(number))
    call("export", ["--run=r", f"--output={tmp_path}"])
    serve = next(line for line in capsys.readouterr().out.splitlines() if "Serve:" in line)
    assert serve.split("compose.yml up")[1] == note
