"""Reports a run as one HTML page: curves, the localizer against the oracle, and every rollout; offline or live."""
