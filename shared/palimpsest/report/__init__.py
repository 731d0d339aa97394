"""Reports: figures as plots and pages. Drawing needs the extra ``plots``; importing this needs nothing."""

from palimpsest.report.figures import Curve, LevelPoint

__all__ = ["Curve", "LevelPoint"]
