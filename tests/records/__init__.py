"""The table of records, one file per family of ops."""

from __future__ import annotations

import importlib
import pkgutil

from tapegrad.autograd.op import load_late

from .base import Record

load_late()  # records are of all ops

RECORDS: dict[str, Record] = {}
for _module in pkgutil.iter_modules(__path__):
    for _record in getattr(importlib.import_module(f"{__name__}.{_module.name}"), "RECORDS", []):
        if _record.op in RECORDS:
            raise ValueError(f"two records for op {_record.op}")
        RECORDS[_record.op] = _record
