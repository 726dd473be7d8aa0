"""A run as one page: curves, the localizer against the oracle, and every rollout to look at, offline or while it goes on."""
