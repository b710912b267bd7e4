"""Reports of evaluations: what they say (`model`), figures in words (`text`), how they are written (`folder`)."""

from facedecode.report.model import Column, Headline, Picture, Report, Section, Table

__all__ = ["Column", "Headline", "Picture", "Report", "Section", "Table"]
