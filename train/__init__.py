"""Training: `train.metrics`, numbers accumulated over batches.

>>> accuracy = torch.train.metrics.Accuracy()
>>> accuracy.update(torch.tensor([[2.0, 1.0], [0.5, 3.0]]), torch.tensor([0, 0]))
>>> accuracy.compute()
0.5
"""

from . import metrics as metrics
