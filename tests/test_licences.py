"""The licences of all packages that the project needs, directly or not, from the metadata of what is installed."""

import re
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_packaging import PROJECT

# SPDX identifiers of licences that allow any use and ask for no more than notices, and MPL, which asks for changes of its
# own files alone
ALLOWED = {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "HPND", "ISC", "LLVM-exception", "MIT"}
ALLOWED |= {"MIT-CMU", "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib"}
# how packages without an SPDX expression say it, in classifiers or in the free text of `License`
SPELLINGS = {
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# CUDA's libraries, which PyTorch's wheels for Linux need: not open, but free to use and to pass on with an application
PROPRIETARY = re.compile(r"nvidia-.*|cuda-toolkit")


def licences(package: metadata.PackageMetadata) -> list[str]:
    """The SPDX identifiers, or the words for which there is none."""
    if expression := package.get("License-Expression"):
        return [word for word in re.split(r"[\s()]+", expression) if word not in ("", "AND", "OR", "WITH")]
    classifiers = [line.split(" :: ")[-1] for line in package.get_all("Classifier") or [] if line.startswith("License ::")]
    found = classifiers or (package.get("License") or "no licence given").splitlines()[:1]
    return [SPELLINGS.get(words, words) for words in found]


def needed() -> dict[str, metadata.PackageMetadata]:
    """The installed ones of the project's dependencies, with all extras, and of theirs."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    waiting = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]
    found: dict[str, metadata.PackageMetadata] = {}
    asked: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = Requirement(waiting.pop())
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in asked:
            continue
        asked.add(key)
        try:
            distribution = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:  # an extra that is not installed here
            continue
        found[key[0]] = distribution.metadata
        for line in distribution.requires or []:
            marker = Requirement(line).marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)):
                waiting.append(line)
    return found


def test_every_licence_is_one_that_is_allowed():
    found = needed()
    assert {"torch", "numpy", "sympy"} <= found.keys()  # the last is torch's
    others = {
        name: bad
        for name, package in found.items()
        if not PROPRIETARY.fullmatch(name) and (bad := [one for one in licences(package) if one not in ALLOWED])
    }
    assert not others


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({"License-Expression": "MIT AND (Apache-2.0 OR GPL-3.0-only)"}, ["MIT", "Apache-2.0", "GPL-3.0-only"]),
        ({"Classifier": "License :: OSI Approved :: BSD License"}, ["BSD-3-Clause"]),
        ({"License": "GNU GPL\nlong text"}, ["GNU GPL"]),
        ({}, ["no licence given"]),
    ],
)
def test_licences_are_read_however_they_are_given(lines, expected):
    package = metadata.PathDistribution.__new__(metadata.PathDistribution)
    package.read_text = lambda name: "".join(f"{key}: {value}\n" for key, value in lines.items()) + "\n"
    assert licences(package.metadata) == expected
