"""Messages of a device as they are received."""

from __future__ import annotations

import json
from typing import Any

NOON = "2026-11-28T12:00:00Z"


def payload(**fields: Any) -> bytes:
    return json.dumps({"device": "press-07", **fields}).encode()


def status(**fields: Any) -> bytes:
    return payload(**{"boot": "4-abc", "version": "1.0", "status": "online", **fields})


def result(number: int, output: Any, **fields: Any) -> bytes:
    return payload(
        **{
            "id": f"press-07/motion/4-abc/{number}", "pipeline": "motion", "boot": "4-abc", "sequence": number,
            "time": NOON, "monotonic_ns": number, "sample": number, "model": "motion", "version": 3,
            "delegate": "cpu", "degraded": False, "latency_us": 1500.0, "output": output, **fields,
        }
    )  # fmt: skip


def pipeline_health(**fields: Any) -> bytes:
    stage = {"count": 9, "p50": 100.0, "p95": 2000.0, "p99": 3000.0, "buckets": {"5": 9}}
    return payload(
        **{
            "pipeline": "motion", "time": NOON, "state": "running", "reason": "", "model": "motion", "version": 3,
            "delegate": "cpu", "delegate_share": 1.0, "degraded": False, "results": 7, "errors": 0, "restarts": 0,
            "dropped": {"queue": 3}, "latency_us": {"queue": stage, "invoke": stage}, **fields,
        }
    )  # fmt: skip


def device_health(**fields: Any) -> bytes:
    mqtt = {"kind": "mqtt", "outbox_depth": 12, "connected": False}
    return payload(
        **{
            "boot": "4-abc", "version": "1.0", "time": NOON, "uptime_s": 1.0, "cpu_share": 0.25, "load_1m": 0.5,
            "pss_mb": 57.0, "memory_available_mb": 100.0, "temperature_c": 51.0, "throttled": False,
            "disk_free_mb": 1.0, "clock_synchronised": True, "pipelines": {}, "reporters": {"mqtt": mqtt},
            **fields,
        }
    )  # fmt: skip


def event(name: str, **fields: Any) -> bytes:
    return payload(**{"boot": "4-abc", "time": NOON, "event": name, "pipeline": "motion", **fields})


def inputs(*values: list[float | None], **fields: Any) -> bytes:
    return payload(
        **{
            "source": "board", "pipelines": ["motion"], "time": NOON, "rate": 99.6, "shape": [2],
            "channels": ["ax", "ay"], "values": values, **fields,
        }
    )  # fmt: skip


def log_line(text: str, **fields: Any) -> bytes:
    return payload(
        **{"time": NOON, "level": "INFO", "process": "worker imu", "logger": "limpet.part", "text": text, **fields}
    )
