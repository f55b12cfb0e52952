"""Every night: by cron or systemd on this machine, or by a file for GitHub Actions or Kubernetes.

Invariant: texts are made by pure functions of a `Schedule`; what is put on the machine is found again by its mark
alone, and holds no value of the environment.
"""

from cascade.production.schedule.entry import At, Schedule
from cascade.production.schedule.installing import Scheduled, contents, found, install, remove
from cascade.production.schedule.kinds import Kind, kind_here

__all__ = ["At", "Kind", "Schedule", "Scheduled", "contents", "found", "install", "kind_here", "remove"]
