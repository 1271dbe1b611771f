"""One workload, two targets, one report: traces and workloads, and the simulator that runs the real scheduler.

It sees kvstore, scheduler and engine.costs, and meets services only over HTTP.
"""
