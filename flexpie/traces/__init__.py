"""Traces: what devices and links were measured to take, for calibration and for training estimators."""
