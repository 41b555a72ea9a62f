"""A virtual machine that runs Debian's own kernel on this machine's files: real drivers, without their hardware.

It needs no KVM and no network. Emulated, it is about ten times slower than this machine.
"""

from __future__ import annotations

import gzip
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
"""What the machine needs before it has this machine's files."""
_FOLDERS = ("bin", "modules", "proc", "sys", "dev", "host", "changes", "new")
_QEMU = (
    *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"),
    *("-nographic", "-no-reboot", "-net", "none"),
)


class Machine:
    """``folder`` is ``/lab`` in the machine, the only place where what is written stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._kernel = self.folder / "kernel"

    def prepare(self) -> None:
        """Fetch the kernel's package, unless it is there, and make the file that the machine starts from."""
        if not self._kernel.exists():
            _unpack_kernel(self._kernel)
        root = self.folder / "initial"
        shutil.rmtree(root, ignore_errors=True)
        for name in _FOLDERS:
            (root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin")
        shutil.copy(HERE / "init.sh", root / "init")
        (root / "init").chmod(0o755)
        modules = self._in_order(_MODULES)
        for module in modules:
            shutil.copy(module, root / "modules")
        (root / "modules" / "order").write_text("".join(f"{module.name}\n" for module in modules))
        names = b"\0".join(str(path.relative_to(root)).encode() for path in sorted(root.rglob("*")))
        archive = subprocess.run(
            ["cpio", "--quiet", "--null", "--create", "--format=newc"],
            cwd=root,
            input=names,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        (self.folder / "initial.gz").write_bytes(gzip.compress(archive, 1))

    def run(self, command: Sequence[str], environment: dict[str, str], seconds: float) -> None:
        """Boot, run a command as root, and power off. What it prints is in ``console.log``.

        ``subprocess.TimeoutExpired`` if that takes longer than ``seconds``.
        """
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
        (self.folder / "command").write_text(f"{exports}exec {shlex.join(command)}\n")
        with (self.folder / "console.log").open("wb") as console:
            subprocess.run(
                [
                    *_QEMU,
                    *("-kernel", str(next((self._kernel / "boot").glob("vmlinuz-*")))),
                    *("-initrd", str(self.folder / "initial.gz"), "-append", "console=ttyS0 quiet panic=-1"),
                    "-virtfs",
                    "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
                    "-virtfs",
                    f"local,path={self.folder},mount_tag=lab,security_model=none",
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=True,
            )

    def _in_order(self, names: Sequence[str]) -> list[Path]:
        """Return the files of modules and of all that they depend on, in the order in which they are loaded."""
        (version,) = (path.name for path in (self._kernel / "lib" / "modules").iterdir())
        said = subprocess.run(
            ["modprobe", "--dirname", self._kernel, "--set-version", version, "--show-depends", "--all", *names],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        files = [line.split()[1] for line in said.splitlines() if line.startswith("insmod ")]
        return [Path(file) for file in dict.fromkeys(files)]


def _unpack_kernel(into: Path) -> None:
    """Download the package of Debian's kernel for this release and unpack it. It is not installed."""
    new = into.with_name("kernel.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    described = subprocess.run(
        ["apt-cache", "depends", "linux-image-amd64"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    package = next(line.split()[1] for line in described.splitlines() if line.strip().startswith("Depends:"))
    subprocess.run(["apt-get", "download", "--quiet", package], cwd=new, stdout=subprocess.DEVNULL, check=True)
    (archive,) = new.glob("*.deb")
    subprocess.run(["dpkg-deb", "--extract", archive, new], check=True)
    archive.unlink()
    (version,) = (path.name for path in (new / "lib" / "modules").iterdir())
    subprocess.run(["depmod", "--basedir", new, version], check=True)
    new.rename(into)
