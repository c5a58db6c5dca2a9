#!/usr/bin/env python3
"""Fetch the front-end libraries of static/vendor again, from their npm packages (`make vendor`).

Nothing but the standard library and the `npm` command. Only the files that pages load are kept, each
library in its own folder with its version and licence. Icons become one sprite of those that
templates and tasks name, and of SPARE. Source map comments go, since the maps do: Django's manifest
storage refuses a file that names one that is not there.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "static" / "vendor"


@dataclass(frozen=True)
class Library:
    """An npm package and the files of it that pages load: {file in the package: name here}."""

    folder: str
    package: str
    version: str
    files: dict[str, str]


LIBRARIES = (
    Library("tabler", "@tabler/core", "1.6.1", {"dist/css/tabler.min.css": "tabler.min.css"}),
    Library(
        "uplot",
        "uplot",
        "1.6.32",
        {"dist/uPlot.iife.min.js": "uPlot.iife.min.js", "dist/uPlot.min.css": "uPlot.min.css"},
    ),
    Library("tus", "tus-js-client", "4.3.1", {"dist/tus.min.js": "tus.min.js"}),
    Library("tabler-icons", "@tabler/icons", "3.51.0", {}),
)
ICONS = LIBRARIES[-1]
# Icons that no page names yet and that the next ones are likely to.
SPARE = """
    adjustments alert-circle alert-triangle api archive arrow-back-up arrow-down arrow-left arrow-right
    arrow-up arrows-sort article ban bell bolt book box brain brand-github brand-python bug building
    bulb calendar camera category chart-bar chart-dots chart-line check checks chevron-down
    chevron-left chevron-right chevron-up circle circle-check circle-dashed circle-x clipboard
    clipboard-check clock clock-pause cloud cloud-download cloud-off code columns copy cpu cube database
    database-plus database-off device-desktop device-floppy dots dots-vertical download edit external-link
    eye eye-off file file-download file-spreadsheet file-text file-type-csv file-zip files filter flag
    flask folder folder-open gauge git-branch git-compare hash help help-circle history home hourglass
    inbox info-circle key language layers-intersect layout-dashboard license link list list-details loader
    loader-2 lock login logout mail menu-2 message message-chatbot messages microphone minus mood-empty
    moon movie music network notes package percentage photo player-pause player-play player-stop plug plus
    point printer puzzle question-mark refresh replace robot rocket rotate ruler scale school search select
    send server server-off settings shield shield-check shield-lock sparkles square stack-2 star sun
    switch-horizontal table table-export tag target terminal-2 text-recognition thumb-up tool topology-star
    transform trash trending-down trending-up trophy typography upload user user-circle user-plus users
    vector-triangle volume wand wifi-off world world-off x zoom-in zoom-question
"""


def fetch(library: Library, into: Path) -> Path:
    """Download and unpack a package; npm itself checks it against the digest that its index states."""
    if shutil.which("npm") is None:
        raise SystemExit("`make vendor` needs the npm command (it comes with Node.js).")
    done = subprocess.run(
        ["npm", "pack", "--silent", f"{library.package}@{library.version}", "--pack-destination", into],
        check=True,
        capture_output=True,
        text=True,
    )
    folder = into / library.folder
    with tarfile.open(into / done.stdout.strip().splitlines()[-1]) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"


def without_source_map(text: str) -> str:
    text = re.sub(r"\n?/\*# sourceMappingURL=.*?\*/", "", text)
    return re.sub(r"\n?//# sourceMappingURL=.*", "", text)


def licence_of(package: Path) -> str:
    """The package's licence file, or the MIT licence with its copyright line where it ships none."""
    for name in ("LICENSE", "LICENSE.md", "LICENCE"):
        if (package / name).is_file():
            return (package / name).read_text()
    described = json.loads((package / "package.json").read_text())
    if described["license"] != "MIT":
        raise SystemExit(f"{package}: no licence file, and its licence is {described['license']}.")
    return MIT.format(holder=f"The authors of {described['name']} ({described.get('homepage', '')})")


def named_icons() -> set[str]:
    """Icon names in templates (`icon "name"`, `icon="name"`) and in Python (`icon = "name"`)."""
    found: set[str] = set()
    for folder, suffix in (("templates", "html"), ("runs", "py"), ("webapp", "py")):
        for path in (ROOT / folder).rglob(f"*.{suffix}"):
            found |= set(
                re.findall(
                    r"\bicon(?:\s|\s?=\s?|: ClassVar\[str\] = )[\"']([a-z0-9-]+)[\"']", path.read_text()
                )
            )
    return found


def sprite(package: Path, names: set[str]) -> str:
    """One SVG with a symbol an icon; stroke and size come from the page's CSS."""
    symbols = []
    for name in sorted(names):
        source = package / "icons" / "outline" / f"{name}.svg"
        if not source.is_file():
            raise SystemExit(f"There is no Tabler icon called {name!r}.")
        shapes = re.sub(r"\s+", " ", source.read_text().split(">", 1)[1].rsplit("</svg>", 1)[0]).strip()
        shapes = shapes.replace('<path stroke="none" d="M0 0h24v24H0z" fill="none" />', "").strip()
        symbols.append(f'<symbol id="{name}" viewBox="0 0 24 24">{shapes}</symbol>')
    body = "\n".join(symbols)
    return f'<svg xmlns="http://www.w3.org/2000/svg">\n{body}\n</svg>\n'


def install(library: Library, package: Path) -> None:
    target = VENDOR / library.folder
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for inside, name in library.files.items():
        (target / name).write_text(without_source_map((package / inside).read_text()))
    if library is ICONS:
        (target / "sprite.svg").write_text(sprite(package, named_icons() | set(SPARE.split())))
    (target / "LICENSE").write_text(licence_of(package))
    (target / "VERSION").write_text(f"{library.package} {library.version}\n")


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        for library in LIBRARIES:
            install(library, fetch(library, Path(scratch)))
            print(f"static/vendor/{library.folder}: {library.package} {library.version}")
    return 0


MIT = """MIT License

Copyright (c) {holder}

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""

if __name__ == "__main__":
    sys.exit(main())
