"""Callbacks of `Trainer.fit`: what happens beside the training."""

from __future__ import annotations

from .base import Callback as Callback
from .checkpoints import BestCheckpoint as BestCheckpoint
from .checkpoints import ModelCheckpoint as ModelCheckpoint
from .logs import CSVLogger as CSVLogger
from .logs import LearningRateMonitor as LearningRateMonitor
from .logs import TensorBoard as TensorBoard
from .plots import LivePlot as LivePlot
from .stopping import EarlyStopping as EarlyStopping
