"""A plan of a run, made from the data and this machine: settings, reasons, time and memory."""
