"""PyTorch's own databases of operators, modules and optimizers, replayed on tapegrad.

`python -m parity` in the folder tests/ replays them (`make parity` does so and writes docs/parity.md). The files:

    translate.py    values and functions of torch -> the same of tapegrad
    compare.py      two results side by side: the first difference, in words
    operators.py    torch.testing._internal's op_db
    modules.py      module_db
    optimizers.py   optim_db;  schedulers.py  every lr_scheduler
    signatures.py   the parameters of public functions
    table.py        table.json, the committed score, and what a run is held against
    reasons.py      where we differ on purpose
    report.py       docs/parity.md
"""
