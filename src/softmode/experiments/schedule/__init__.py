"""Schedules of guidance: at which noise levels a budget is spent best, searched by reverse sweeps, tested afresh."""
