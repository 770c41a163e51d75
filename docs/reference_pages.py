"""The reference pages of the documentation site, made from the code: commands, settings, names."""

import dataclasses
import inspect
import re

import sit_keras
from sit_keras.cli.command import Command
from sit_keras.cli.main import PROGRAM, VERBS, command
from sit_keras.config.execution import Execution
from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.network import NetworkConfig
from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.config.settings import CorruptionConfig, RunConfig, ViewConfig

# Each dataclass of settings, and what is typed before the names of its fields.
SETTINGS = {
    RunConfig: "--set=",
    NetworkConfig: "--set=model.",
    ViewConfig: "--set=views.",
    CorruptionConfig: "--set=corruption.",
    PreprocessingConfig: "--set=preprocessing.",
    Execution: "",
    FinetuneConfig: "--training=",
}
SIGNATURES = "sit_keras.serving.servable.Servable"


def pages() -> dict[str, str]:
    """Returns the Markdown of each page by its name."""
    return {
        "api.md": api_page(),
        "commands.md": commands_page(),
        "settings.md": settings_page(),
        "signatures.md": signatures_page(),
    }


def api_page() -> str:
    """Returns the page of the public names, whose docstrings mkdocstrings fills in."""
    lines = ["# Python API", "", "Every name is imported from `sit_keras`.", ""]
    names = sorted(sit_keras.__all__, key=lambda name: (name[0].islower(), name.lower()))
    for title, of_kind in (("Classes", str.isupper), ("Functions", str.islower)):
        lines += [f"## {title}", ""]
        for name in filter(lambda name, of_kind=of_kind: of_kind(name[0]), names):
            lines += [f"::: sit_keras.{sit_keras._HOMES[name]}.{name}", ""]
    return "\n".join(lines)


def commands_page() -> str:
    """Returns the page of all commands with their flags."""
    lines = ["# Commands and flags", "", f"`{PROGRAM} COMMAND --help` prints the same.", ""]
    for verb in VERBS:
        lines += _command(verb, command(verb))
    return "\n".join(lines)


def settings_page() -> str:
    """Returns the page of the fields of all settings."""
    lines = [
        "# Settings",
        "",
        "The settings are the fields of frozen dataclasses. `sit-keras train --set=NAME=VALUE` "
        "sets one that has no flag of its own, and `config.json` of a run has them all. The "
        "defaults are those of the classes; presets and recipes change some of them.",
        "",
    ]
    for cls, before in SETTINGS.items():
        texts = field_texts(cls)
        lines += [f"## {cls.__name__}", "", inspect.getdoc(cls).splitlines()[0], ""]
        for field in dataclasses.fields(cls):
            kind = re.sub(r"(\w+\.)+", "", inspect.formatannotation(field.type))
            about = f"`{kind}`, default {_shown(field.default)}"
            lines += [f"- `{before}{field.name}` ({about}): {texts[field.name]}"]
        lines += [""]
    return "\n".join(lines)


def signatures_page() -> str:
    """Returns the page of the signatures of an export, from the class that has them."""
    return "\n".join(
        [
            "# Signatures of an export",
            "",
            "A SavedModel has the signatures that [the table](../serving.md) lists. What each "
            "returns is described at the method that computes it; `serving_default` and "
            "`serving_bytes` return what `embed_views` does, `classify` and `classify_bytes` what "
            "`classify_views` does, and the formats for other runtimes what `portable` does. The "
            "exact types and shapes of one export are in its `assets/contract.json`, under "
            "`signatures`.",
            "",
            f"::: {SIGNATURES}",
            "",
        ]
    )


def field_texts(cls: type) -> dict[str, str]:
    """Returns what the docstring of a dataclass says about each field.

    An entry such as `brightness, contrast: float. ...` is about each of its names.
    """
    section = inspect.getdoc(cls).partition("Args:\n")[2].partition("\n\n")[0]
    texts = {}
    for entry in re.split(r"\n(?= {4}\S)", section):
        names, _, text = " ".join(entry.split()).partition(": ")
        texts |= dict.fromkeys(names.split(", "), text or names)
    return texts


def _command(verb: str, chosen: Command) -> list[str]:
    lines = [f"## {PROGRAM} {verb}", "", chosen.sentence, ""]
    for argument in filter(None, (chosen.first, chosen.argument)):
        several = " (one or several)" if argument.many else ""
        lines += [f"- `{argument.name.upper()}`{several}: {argument.text}", ""]
    lines += ["```bash"]
    lines += [f"{PROGRAM} {verb} {typed}".rstrip() + f"  # {x}" for typed, x in chosen.examples]
    lines += ["```", ""]
    for title, group in chosen.flags(f"{PROGRAM} {verb}").groups.items():
        lines += [f"**{title}**", ""]
        lines += [f"- `{flag.usage}`: {_plain(flag.text)}" for flag in group]
        lines += [""]
    return lines


def _plain(text: str) -> str:
    """Keeps Markdown from reading signs of a help text, which is no Markdown."""
    return re.sub(r"([*_<\[])", r"\\\1", text)


def _shown(default: object) -> str:
    if dataclasses.is_dataclass(default):
        name = type(default).__name__
        return f"that of [{name}](#{name.lower()})"
    return f"`{default!r}`"
