"""Fetches what a request names: from one source after the other, until a file is here that is right.

What came from one source is kept for the next one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from limpet.deployer.attempts import PAUSES, Attempts
from limpet.deployer.failures import GivenUpError, SourceFailedError
from limpet.deployer.gathering import Gathering
from limpet.deployer.meter import Meter
from limpet.deployer.part import Files, Part
from limpet.wire.border import cleaned
from limpet.wire.deploy_records import Ended

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limpet.backoff import Backoff
    from limpet.contracts.updates import BundleSource
    from limpet.deployer.web import Web
    from limpet.wire.channel import Channel
    from limpet.wire.deploy_records import Chunk, Deploy

BUNDLE, PATCH = "bundle", "patch"
"""How the names of the files begin in the folder of downloads."""
MOST_WRONG = 2
"""Wrong files after which a source is given up."""


class Opened(NamedTuple):
    """What was opened before the sandbox was entered.

    ``files``: for ``BUNDLE``, and ``PATCH`` if a source has one. ``bases``: descriptors of deployed bundles by
    their SHA-256. ``web``: ``None`` if no source has a URL. ``no_web``: why there is none although one has.
    """

    files: Mapping[str, Files]
    bases: Mapping[str, int]
    web: Web | None
    no_web: str = ""


class Fetching:
    """One request, and how far it is."""

    def __init__(self, task: Deploy, opened: Opened, supervisor: Channel[Chunk], pauses: Backoff = PAUSES) -> None:
        self._request = task.request
        self._opened = opened
        self._supervisor = supervisor
        self._pauses = pauses
        self._meter = Meter(supervisor, task.most_bytes, task.seconds)
        self._parts: list[Part] = []

    def run(self) -> Ended:
        """Return how it ended. ``EOFError`` or ``OSError`` if the supervisor is gone."""
        try:
            failures = self._try_sources(self._open(BUNDLE, self._request.sha256, self._request.length))
        except GivenUpError as error:
            for part in self._parts:
                with suppress(GivenUpError):
                    part.save()
            return self._ended(str(error), final=False)
        except MemoryError:
            return self._ended("there is not enough memory", final=False)
        if failures is None:
            return Ended("fetched", received=self._meter.received)
        reasons = "; then ".join(failure.reason for failure in failures)
        return self._ended(reasons or "the request names no source", final=all(each.final for each in failures))

    def _ended(self, reason: str, *, final: bool) -> Ended:
        return Ended("failed", cleaned(reason), final, self._meter.received)

    def _open(self, stem: str, sha256: str, length: int) -> Part:
        part = Part(self._opened.files[stem], sha256, length)
        self._parts.append(part)
        return part

    def _try_sources(self, bundle: Part) -> list[SourceFailedError] | None:
        """Return why no source had the bundle; ``None`` if it is here."""
        if bundle.complete or not bundle.ranges:
            if bundle.is_right():
                return None
            bundle.forget()
        failures = []
        for source in self._request.sources:
            try:
                if source.patch_of:
                    self._fetch_patch(source, bundle)
                else:
                    self._fetch(source, bundle)
            except SourceFailedError as failure:
                failures.append(failure)
                bundle.save()
            else:
                return None
        return failures

    def _fetch(self, source: BundleSource, part: Part) -> None:
        """Fetch a file until its SHA-256 is right. A wrong one is thrown away, and fetched again once."""
        name = source.url or source.chunks
        while part.blamed(name) < MOST_WRONG:
            if source.url:
                self._download(source.url, part)
            elif source.chunks:
                Gathering(self._supervisor, source.chunks, part, self._meter).run()
            else:
                raise SourceFailedError("a source names neither a URL nor chunks", final=True)
            part.save()
            if part.is_right():
                return
            part.blame(name)
            if not source.url:
                break  # Each chunk is as its list says. So it is the list of another file.
        raise SourceFailedError("the file has another SHA-256 than the request", final=True)

    def _download(self, url: str, part: Part) -> None:
        if self._opened.web is None:
            raise SourceFailedError(self._opened.no_web)
        attempts, whole = Attempts(part.present, self._pauses), False
        while not part.complete:
            fetch = self._opened.web.fetch_whole if whole else self._opened.web.fetch
            try:
                fetch(url, part, self._meter)
            except SourceFailedError as failure:
                if failure.afresh:
                    part.forget()
                    whole = True
                pause = attempts.pause(failure, part.present)
                if pause is None:
                    raise
                part.save()
                self._meter.check_budget()
                self._meter.sleep(pause)

    def _fetch_patch(self, source: BundleSource, bundle: Part) -> None:
        try:
            from limpet.deployer import patching
        except ImportError as error:
            raise SourceFailedError(
                "patches need zstandard; run: pip install 'zstandard>=0.23'", final=True
            ) from error
        if source.patch_of not in self._opened.bases:
            raise SourceFailedError("the bundle that the patch is for is not on this device", final=True)
        if not (source.sha256 and 0 < source.length < bundle.length):
            raise SourceFailedError("a patch needs a sha256, and a length below the bundle's", final=True)
        patch = self._open(PATCH, source.sha256, source.length)
        base = patching.read_base(self._opened.bases[source.patch_of], source.patch_of)
        self._fetch(source, patch)
        try:
            patching.apply(base, patch, bundle)
        except SourceFailedError:
            bundle.forget()
            raise
        if not bundle.is_right():
            bundle.forget()
            raise SourceFailedError("the patch leads to a file with another SHA-256 than the request", final=True)
        bundle.save()
        self._parts.remove(patch)
        patch.delete_content()
