"""Settings of all tests."""

import importlib.util

if importlib.util.find_spec("hypothesis"):  # The converters' environment does not have it.
    from hypothesis import HealthCheck, settings

    # How fast a machine is, or what else it does, is no fault of the code. Each run draws the same examples,
    # so a change passes or fails by itself. `pytest --hypothesis-seed=N` draws others.
    settings.register_profile(
        "limpet", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("limpet")
