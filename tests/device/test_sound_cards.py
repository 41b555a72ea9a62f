"""Sound inputs as the kernel lists them, and how ``limpet devices`` shows them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from accelerators.test_devices import limpet
from limpet.device.machine import Machine
from limpet.device.microphones import Microphone, microphones

if TYPE_CHECKING:
    from pathlib import Path

CARDS = """\
 0 [vc4hdmi0       ]: vc4-hdmi - vc4-hdmi-0
                      vc4-hdmi-0
 1 [Device         ]: USB-Audio - USB PnP Sound Device
                      C-Media Electronics Inc. USB PnP Sound Device at usb-0000:01:00.0-1.3, full speed
"""
INPUTS = """\
00-00: MAI PCM i2s-hifi-0 : MAI PCM i2s-hifi-0 : playback 1
01-00: USB Audio : USB Audio : playback 1 : capture 1
01-01: USB Audio #1 : USB Audio #1 : capture 1
"""
STREAM = """\
C-Media at usb : USB Audio
Playback:
  Interface 1
    Rates: 22050
Capture:
  Interface 2
    Altset 1
    Format: S16_LE
    Channels: 1
    Rates: 44100, 48000
"""


def laid(root: Path) -> Path:
    folder = root / "proc" / "asound"
    for device in (0, 1):
        (folder / "card1" / f"pcm{device}c" / "sub0").mkdir(parents=True)
        (folder / "card1" / f"pcm{device}c" / "sub0" / "status").write_text("closed\n")
    (folder / "card1" / "pcm1c" / "sub0" / "status").write_text("state: RUNNING\nowner_pid   : 1234\n")
    (folder / "cards").write_text(CARDS)
    (folder / "pcm").write_text(INPUTS)
    (folder / "card1" / "stream0").write_text(STREAM)
    nodes = root / "dev" / "snd"
    nodes.mkdir(parents=True)
    (nodes / "pcmC1D0c").touch(mode=0o666)
    return root


def test_each_input_of_each_card_is_found_with_its_stable_name(tmp_path: Path) -> None:
    name = "USB PnP Sound Device"
    assert microphones(Machine(laid(tmp_path))) == [
        Microphone("hw:CARD=Device,DEV=0", name, "/dev/snd/pcmC1D0c", "44100, 48000", 0),
        Microphone("hw:CARD=Device,DEV=1", name, "/dev/snd/pcmC1D1c", "", 1234),
    ]


def test_a_machine_without_sound_has_none(tmp_path: Path) -> None:
    assert microphones(Machine(tmp_path)) == []


def test_the_command_shows_them_with_what_to_write(tmp_path: Path) -> None:
    lines = limpet("--root", laid(tmp_path)).splitlines()
    at = lines.index("USB PnP Sound Device, microphone")
    assert lines[at + 1 : at + 3] == [
        '  kind = "audio", device = "hw:CARD=Device,DEV=0"',
        "  rates: 44100, 48000 Hz",
    ]
    assert "  in use by process 1234; one program at a time can read it" in lines
    assert "  - /dev/snd/pcmC1D1c does not exist" in lines
    first, second = json.loads(limpet("--json", "--root", tmp_path))["microphones"]
    assert (first["device"], second["used_by"]) == ("hw:CARD=Device,DEV=0", 1234)
