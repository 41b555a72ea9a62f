"""Write manual pages and completion scripts: ``python tools/share.py FOLDER PROGRAM...``.

``FOLDER`` becomes ``/usr/share`` on a device. The build of the Debian package runs this.
"""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path
from typing import Any

from argparse_manpage.manpage import Manpage

import limpet.commands
import limpet_convert.commands
from limpet import __version__, command_parser, completion

PROGRAMS: dict[str, Any] = {program.PROGRAM: program for program in (limpet.commands, limpet_convert.commands)}
COMPLETIONS = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/vendor-completions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}
_MACRO = re.compile(r"\.(TH|SH|SS|TP|PP|B|I|nf|fi|UR|UE|RS|RE)( |$)")


def pages(program: Any) -> dict[str, str]:
    """Return the manual pages of a program by file name."""
    found = command_parser.modules(program)
    listed = {name: module for name, module in found.items() if module.GROUP != command_parser.INTERNAL}
    parser = command_parser.Parser(
        prog=program.PROGRAM, usage="%(prog)s COMMAND ...", description=program.DESCRIPTION
    )
    parser.add_argument("--version", action="store_true", help="Show the version.")
    rows = "\n".join(f".TP\n.B {name}\n{_text(module.HELP)}." for name, module in listed.items())
    also = ", ".join(f"{program.PROGRAM}-{name}(1)" for name in listed)
    made = {
        f"{program.PROGRAM}.1": _page(
            parser, program.DESCRIPTION.partition(".")[0], {"COMMANDS": rows, "SEE ALSO": _text(also)}
        )
    }
    for name, module in listed.items():
        parser = command_parser.of_command(program, name)
        parser.epilog = None
        examples = "\n.PP\n".join(
            f".nf\n{_text(line)}\n.fi\n.RS 4\n{_text(what)}\n.RE" for line, what in module.EXAMPLES
        )
        more = {"EXAMPLES": examples, "SEE ALSO": f"{_text(program.PROGRAM)}(1)"}
        made[f"{program.PROGRAM}-{name}.1"] = _page(parser, module.HELP, more)
    return made


def _page(parser: command_parser.Parser, what: str, more: dict[str, str]) -> str:
    data = {"project_name": "Limpet", "version": __version__, "manual_title": "Limpet"}
    page = Manpage(parser, data)
    page.prog = parser.prog.replace(" ", "-")
    page.description = what[:1].lower() + what[1:].replace("\n", " ")
    for title, content in more.items():
        page.add_section(title, "=", content)
    return "".join(f"{_line(line)}\n" for line in str(page).splitlines())


def _text(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


def _line(line: str) -> str:
    """Keep a line of text from being read as a macro, and the date of the title in the form that mandoc reads."""
    if line.startswith(".TH "):
        return line.replace("\\-", "-")
    return rf"\&{line}" if line.startswith((".", "'")) and not _MACRO.match(line) else line


def main(folder: Path, names: list[str]) -> None:
    """Write the files."""
    for program in (PROGRAMS[name] for name in names):
        for name, text in pages(program).items():
            path = folder / "man" / "man1" / f"{name}.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(text.encode(), mtime=0))
        for shell, form in COMPLETIONS.items():
            path = folder / form.format(program.PROGRAM)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(completion.script(program, shell), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
