"""No release with a known hole is asked for, or installed: the lower bounds of pyproject.toml against advisories.

What is new is asked of a database, with a network: see .github/CONTRIBUTING.md.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


class Hole(NamedTuple):
    """From which release on it is closed, who says so, and what it is."""

    closed: str
    advisory: str
    what: str


HOLES: dict[str, list[Hole]] = {
    "torch": [
        Hole("2.6.0", "CVE-2025-32434", "weights_only=True ran code"),
        Hole("2.10.0", "CVE-2026-24747, GHSA-63cw-57p8-fm3p", "weights_only=True corrupted memory"),
    ],
    "lightning": [
        Hole("2.3.3", "CVE-2024-5452", "code by way of deepdiff"),
        Hole("2.6.4", "GHSA-w37p-236h-pfx3", "2.6.2 and 2.6.3 were uploads of a thief's"),
        Hole("2.6.6", "CVE-2026-58659, GHSA-qqmf-gpg7-g8gw", "checkpoints that ran code"),
    ],
    "hydra-core": [Hole("1.3.6", "hydra-ecosystem/hydra#3410", "ways around what instantiate refuses to call")],
    "pillow": [
        Hole("10.0.1", "CVE-2023-4863", "libwebp wrote beyond its memory"),
        Hole("10.2.0", "CVE-2023-50447", "ImageMath.eval"),
        Hole("10.3.0", "CVE-2024-28219", "ImageCms wrote beyond its memory"),
        Hole("11.3.0", "CVE-2025-48379", "DDS wrote beyond its memory"),
        Hole("12.1.1", "CVE-2026-25990", "PSD wrote beyond its memory"),
    ],
    "jinja2": [
        Hole("3.1.5", "CVE-2024-56201, CVE-2024-56326", "ways out of the sandbox"),
        Hole("3.1.6", "CVE-2025-27516", "a way out of the sandbox"),
    ],
    "filelock": [
        Hole("3.20.1", "CVE-2025-68146", "a link in place of a lock was followed"),
        Hole("3.20.3", "CVE-2026-22701", "likewise, SoftFileLock"),
    ],
    "scikit-learn": [Hole("1.5.0", "CVE-2024-5206", "TfidfVectorizer kept what it had read")],
    "scipy": [Hole("1.10.0", "CVE-2023-25399", "memory that was not freed")],
    "pyyaml": [Hole("5.4", "CVE-2020-14343", "full_load ran code")],
    "onnx": [
        Hole("1.17.0", "CVE-2024-7776, CVE-2024-5187", "archives wrote outside of their folder"),
        Hole("1.19.0", "CVE-2025-51480", "save_external_data wrote outside of its folder"),
        Hole("1.21.0", "CVE-2026-28500", "onnx.hub.load took what nobody had vouched for"),
    ],
    "gradio": [
        Hole("5.31.0", "CVE-2025-48889", "a flagged file was copied from anywhere"),
        Hole("6.6.0", "CVE-2026-28416, CVE-2026-28415", "requests and redirections to anywhere"),
        Hole("6.7.0", "CVE-2026-28414", "files were read from anywhere, on Windows"),
    ],
    "starlette": [
        Hole("0.47.2", "CVE-2025-54121", "a large upload stopped the server"),
        Hole("0.49.1", "CVE-2025-62727", "a Range header stopped the server"),
    ],
    "python-multipart": [
        Hole("0.0.18", "CVE-2024-53981", "a boundary stopped the server"),
        Hole("0.0.22", "CVE-2026-24486", "an upload wrote outside of its folder"),
    ],
    "h11": [Hole("0.16.0", "CVE-2025-43859", "requests in requests")],
    "protobuf": [
        Hole("6.31.1", "CVE-2025-4565", "nesting without an end"),
        Hole("6.33.5", "CVE-2026-0994", "likewise, in JSON"),
    ],
    "werkzeug": [
        Hole("3.0.3", "CVE-2024-34069", "the debugger ran code for others"),
        Hole("3.0.6", "CVE-2024-49766, CVE-2024-49767", "paths of Windows; memory"),
        Hole("3.1.6", "CVE-2025-66221, CVE-2026-21860, CVE-2026-27199", "devices of Windows"),
    ],
    "aiohttp": [
        Hole("3.12.14", "CVE-2025-53643", "requests in requests"),
        Hole("3.13.3", "CVE-2025-69223", "few bytes became gigabytes"),
    ],
    "fonttools": [Hole("4.60.2", "CVE-2025-66034", "varLib wrote outside of its folder")],
    "joblib": [Hole("1.2.0", "CVE-2022-21797", "pre_dispatch ran code")],
    "setuptools": [Hole("78.1.1", "CVE-2025-47273", "a download wrote outside of its folder")],
    "pytest": [Hole("9.0.3", "CVE-2025-71176", "a folder in /tmp that others may have made")],
}


def requirements() -> list[Requirement]:
    """Everything that pyproject.toml asks for, of others."""
    texts = [*PROJECT["dependencies"], *(t for extra in PROJECT["optional-dependencies"].values() for t in extra)]
    return [r for r in map(Requirement, texts) if canonicalize_name(r.name) != PROJECT["name"]]


def lower(requirement: Requirement) -> Version | None:
    """The oldest release that will do."""
    found = [Version(s.version) for s in requirement.specifier if s.operator in (">=", "==", "~=")]
    return max(found, default=None)


def below(name: str, bound: Version | None) -> list[Hole]:
    """The holes that a release has."""
    return [hole for hole in HOLES.get(canonicalize_name(name), []) if bound is None or bound < Version(hole.closed)]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_no_release_with_a_known_hole_is_asked_for(requirement: Requirement) -> None:
    assert below(requirement.name, lower(requirement)) == []


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_what_is_installed_is_what_is_asked_for(requirement: Requirement) -> None:
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        pytest.skip(f"{requirement.name} is not installed")
    assert requirement.specifier.contains(found, prereleases=True)


@pytest.mark.parametrize("name", HOLES)
def test_nothing_with_a_known_hole_is_installed(name: str) -> None:
    try:
        found = version(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    assert below(name, Version(found)) == []


def test_the_laws_can_be_broken() -> None:
    for name, old in (("torch", "2.9.1"), ("lightning", "2.6.3"), ("Pillow", "12.1.0"), ("jinja2", "3.1.5")):
        assert below(name, Version(old))
        assert below(name, lower(Requirement(f"{name}>={old}")))
        assert below(name, lower(Requirement(name)))
    assert all(re.search(r"CVE-\d{4}-\d+|GHSA-|#\d+", hole.advisory) for holes in HOLES.values() for hole in holes)
