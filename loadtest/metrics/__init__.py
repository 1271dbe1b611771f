"""What records amount to, pure: every figure that is printed or plotted is computed here, from records alone."""

from loadtest.metrics.slo import Slo, SloError
from loadtest.metrics.summary import Facts, summary

__all__ = ["Facts", "Slo", "SloError", "summary"]
