"""Evaluation of a checkpoint: test cases, the reader network that measures frames, metrics and the report.

To add a metric: write its function in `metrics.py`, add a `Figure` to the list that the module of its subject returns
(`lips.py`, `emotions.py`, `motion_statistics.py`, ...), and give its bound in `targets.py`, if it has one.
"""
