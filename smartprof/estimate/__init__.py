"""Profiles of devices from their data sheets; docs/estimate.md has the formulas."""
