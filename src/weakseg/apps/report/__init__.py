"""The report of a run: one page that needs no network, `RUN/report.html`."""

from weakseg.apps.report.page import write_report

__all__ = ["write_report"]
