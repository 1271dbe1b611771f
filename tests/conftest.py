"""What holds for all tests."""

from hypothesis import settings

# Timings never decide a test. All else as it is, also where Hypothesis finds that it runs in CI.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")
