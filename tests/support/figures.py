"""Figures of a device as the gateway gets them."""

from __future__ import annotations

from datetime import datetime, timezone

from limpet.contracts.accuracy import AccuracyHealth, RightShare
from limpet.contracts.adaptation import AdaptationsHealth
from limpet.contracts.captures import CaptureHealth
from limpet.contracts.drift import MonitorHealth, MonitorsHealth
from limpet.contracts.messages import (
    AcceleratorHealth,
    AuditHealth,
    DeviceHealth,
    ModelReported,
    PipelineHealth,
    SnapshotFigures,
)
from limpet.contracts.savings import Saving
from limpet.contracts.uncertainty import UncertaintyHealth
from limpet.contracts.updates import UpdateReport
from limpet.gateway.open_inference.statistics import ModelStatistics, Times
from limpet.wire.gateway_records import CpuTime, Figures

SHARE = RightShare(answers=40, right=36, low=0.78, high=0.97)
NOW = datetime(2026, 11, 28, 12, tzinfo=timezone.utc)


def pipeline_health(name: str = "motion", **values: object) -> PipelineHealth:
    """Return the health of a pipeline that runs; ``values`` replace some of it."""
    found = {
        "device": "press-07",
        "pipeline": name,
        "time": NOW,
        "state": "running",
        "reason": "",
        "model": "gesture",
        "version": 3,
        "delegate": "cpu",
        "delegate_share": 1.0,
        "degraded": False,
        "results": 1200,
        "errors": 2,
        "restarts": 1,
        "clipped": 0.25,
        "dropped": {"queue": 7},
        "snapshots": SnapshotFigures(taken=3),
        "uncertainty": UncertaintyHealth(windows=1200, abstained=60, set_sizes={"1": 900, "2": 240}),
        "accuracy": AccuracyHealth(all=SHARE, recent=SHARE, slices={"shift=night": SHARE}),
        "adaptations": AdaptationsHealth(in_force={"threshold": 2}, last=2),
        "monitors": MonitorsHealth(windows=9, cost=0.01, monitors={"univariate": MonitorHealth(level=0.5)}),
        "captures": CaptureHealth(count=2, bytes=900, most_bytes=1000, kept={"audit": 2}, lost={"hour": 1}),
        "savings": {"gate": Saving(windows=36_000, spared=33_120, saved_s=298.1, cost_s=2.2)},
        "latency_us": {},
    }
    return PipelineHealth(**{**found, **values})


def device_health(**values: object) -> DeviceHealth:
    """Return the health of a device that can measure all; ``values`` replace some of it."""
    found = {
        "device": "press-07",
        "boot": "1-abc",
        "version": "0.1.0",
        "time": NOW,
        "uptime_s": 100.0,
        "cpu_share": 0.5,
        "load_1m": 0.75,
        "pss_mb": 80.5,
        "memory_available_mb": 500.0,
        "temperature_c": 61.5,
        "throttled": False,
        "disk_free_mb": 9000.0,
        "clock_synchronised": True,
        "accelerators": [
            AcceleratorHealth(name="Coral", where="usb 2-1", delegate="edgetpu", usable=True, why_not=[])
        ],
        "pipelines": {"motion": "running"},
        "reporters": {
            "mqtt": {
                "kind": "mqtt",
                "connected": True,
                "reconnects": 2,
                "waiting": 0,
                "missed": 4,
                "published": 50,
                "acknowledged": 48,
                "outbox_depth": 12,
                "outbox_bytes": 3400,
                "outbox_oldest_s": 1.5,
                "shed": {"size": 5},
                "refused": {},
                "broker": "broker.example.com",
            },
            "jsonl": {"kind": "jsonl", "written": 60, "failed": 1, "waiting": 3, "missed": 0},
        },
        "audit": AuditHealth(seq=9, sha256="0" * 64, lost=1),
    }
    return DeviceHealth(**{**found, **values})


def served() -> dict[tuple[str, str], ModelStatistics]:
    """Return what clients had a model do."""
    return {
        ("gesture", "3"): ModelStatistics(
            success=Times(8, 4_000_000),
            fail=Times(1, 0),
            queue=Times(8, 1_000_000),
            run=Times(8, 2_000_000),
            windows=16,
            runs=2.5,
        )
    }


def figures(pipelines: int = 1, **device: object) -> Figures:
    """Return figures of a device with so many pipelines, ``motion`` the first."""
    names = ["motion", *(f"motion-{number}" for number in range(2, pipelines + 1))]
    updates = [
        ModelReported(
            device="press-07",
            pipeline=name,
            time=NOW,
            model="gesture",
            version=3,
            state="running",
            reason="",
            delegate="cpu",
            degraded=False,
            update=UpdateReport(stage="trial", since=NOW),
        )
        for name in names
    ]
    stages = {
        "queue": {250: 10, 300: 3},
        "transform": {100: 13},
        "invoke": {320: 12, 420: 1},
        "decode": {90: 13},
    }
    return Figures(
        number=1,
        device=device_health(**device),
        pipelines=[pipeline_health(name) for name in names],
        models=updates,
        latency=dict.fromkeys(names, stages),
        started=1_795_000_000.5,
        cpu=CpuTime(busy_s=40.0, all_s=400.0),
    )
