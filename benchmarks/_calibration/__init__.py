"""What calibration.py simulates: worlds with a known truth, what our methods say of them, and the page of it."""
