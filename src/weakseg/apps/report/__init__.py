"""The report of a run: a page that needs no network, `RUN/report.html`."""

from weakseg.apps.report.page import write_report

__all__ = ["write_report"]
