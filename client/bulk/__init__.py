"""Bulk rendering: every row of a table becomes one video, exactly once, or a failed row with a reason."""
