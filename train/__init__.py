"""Training: `Trainer` (fit, evaluate, predict), its callbacks, and `train.metrics`. See docs/train.md.

>>> accuracy = torch.train.metrics.Accuracy()
>>> accuracy.update(torch.tensor([[2.0, 1.0], [0.5, 3.0]]), torch.tensor([0, 0]))
>>> accuracy.compute()
0.5
"""

from . import callbacks as callbacks
from . import metrics as metrics
from .callbacks import Callback as Callback
from .history import History as History
from .trainer import Trainer as Trainer
