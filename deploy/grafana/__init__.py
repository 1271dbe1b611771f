"""Grafana's dashboards, as a table of panels that ``python -m deploy.grafana`` turns into its JSON.

A page is a module with one ``DASHBOARD``; ``panel.py`` knows what Grafana wants of it.
"""

from deploy.grafana.disaggregation import DASHBOARD as DISAGGREGATION
from deploy.grafana.overview import DASHBOARD as OVERVIEW
from deploy.grafana.panel import Dashboard
from deploy.grafana.scheduler import DASHBOARD as SCHEDULER
from deploy.grafana.workers import DASHBOARD as WORKERS

DASHBOARDS: tuple[Dashboard, ...] = (OVERVIEW, DISAGGREGATION, SCHEDULER, WORKERS)
