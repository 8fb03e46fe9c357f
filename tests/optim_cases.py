"""Options and wrong options of every optimizer, for the tests without and with PyTorch."""

from __future__ import annotations

# name -> sets of options that together pass through every branch of the formula
CASES = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
    ],
    "Adam": [
        {},
        {"lr": 0.1, "weight_decay": 0.1},
        {"lr": 0.05, "amsgrad": True, "maximize": True},
        {"betas": (0.3, 0.5), "eps": 1e-3},
        {"decoupled_weight_decay": True, "weight_decay": 0.2},
    ],
    "AdamW": [{}, {"lr": 0.1, "amsgrad": True, "weight_decay": 0.3}, {"maximize": True}],
    "RMSprop": [
        {},
        {"momentum": 0.9},
        {"centered": True, "weight_decay": 0.1},
        {"centered": True, "momentum": 0.5, "alpha": 0.4, "maximize": True},
    ],
    "Adagrad": [
        {},
        {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.3},
        {"maximize": True, "eps": 0.1},
    ],
    "Adadelta": [{}, {"rho": 0.5, "weight_decay": 0.1, "lr": 0.3}, {"maximize": True}],
    "Adamax": [{}, {"weight_decay": 0.1, "betas": (0.2, 0.4)}, {"maximize": True}],
    "NAdam": [
        {},
        {"weight_decay": 0.1, "momentum_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
    ],
    "RAdam": [
        {},
        {"weight_decay": 0.1, "betas": (0.5, 0.9)},
        {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
    ],
    "ASGD": [
        {},
        {"lambd": 0.1, "alpha": 0.5, "t0": 3, "weight_decay": 0.1},
        {"maximize": True, "t0": 0},
    ],
    "Rprop": [{}, {"lr": 0.1, "etas": (0.3, 1.5), "step_sizes": (0.01, 0.3)}, {"maximize": True}],
    "Adafactor": [
        {},
        {"lr": 0.1, "weight_decay": 0.1, "d": 1.5, "eps": (1e-6, 1e-2)},
        {"maximize": True, "beta2_decay": -0.3},
    ],
}
EACH = [(name, options) for name, sets in CASES.items() for options in sets]
WITH_COMPLEX = [(name, options) for name, options in EACH if name != "Adafactor"]
IDS = [f"{name}-{i}" for name, sets in CASES.items() for i in range(len(sets))]

# name of the state, in order, of one parameter after a step, for the options given
STATE = [
    ("SGD", {"momentum": 0.9}, ["momentum_buffer"]),
    ("SGD", {}, []),
    ("Adam", {}, ["step", "exp_avg", "exp_avg_sq"]),
    ("Adam", {"amsgrad": True}, ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]),
    ("AdamW", {}, ["step", "exp_avg", "exp_avg_sq"]),
    ("RMSprop", {}, ["step", "square_avg"]),
    ("RMSprop", {"momentum": 0.1, "centered": True}, ["step", "square_avg", "momentum_buffer", "grad_avg"]),
    ("Adagrad", {}, ["step", "sum"]),
    ("Adadelta", {}, ["step", "square_avg", "acc_delta"]),
    ("Adamax", {}, ["step", "exp_avg", "exp_inf"]),
    ("NAdam", {}, ["step", "mu_product", "exp_avg", "exp_avg_sq"]),
    ("RAdam", {}, ["step", "exp_avg", "exp_avg_sq"]),
    ("ASGD", {}, ["step", "eta", "mu", "ax"]),
    ("Rprop", {}, ["step", "prev", "step_size"]),
    ("Adafactor", {}, ["step", "row_var", "col_var"]),
]

# (optimizer, wrong options, text of the ValueError)
WRONG_OPTIONS = [
    ("SGD", {"lr": -1}, "Invalid learning rate: -1"),
    ("SGD", {"momentum": -0.5}, "Invalid momentum value: -0.5"),
    ("SGD", {"weight_decay": -1}, "Invalid weight_decay value: -1"),
    ("SGD", {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
    ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "Nesterov momentum requires a momentum"),
    ("Adam", {"lr": -0.1}, "Invalid learning rate: -0.1"),
    ("Adam", {"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
    ("Adam", {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
    ("Adam", {"betas": (0.9, -0.1)}, "Invalid beta parameter at index 1: -0.1"),
    ("Adam", {"weight_decay": -1}, "Invalid weight_decay value: -1"),
    ("Adam", {"betas": (0, 0.9)}, "betas must be either both floats or both Tensors"),
    ("AdamW", {"lr": -2}, "Invalid learning rate: -2"),
    ("AdamW", {"betas": (0.9, 1.0)}, "Invalid beta parameter at index 1: 1.0"),
    ("RMSprop", {"lr": -1}, "Invalid learning rate: -1"),
    ("RMSprop", {"eps": -1}, "Invalid epsilon value: -1"),
    ("RMSprop", {"momentum": -1}, "Invalid momentum value: -1"),
    ("RMSprop", {"weight_decay": -1}, "Invalid weight_decay value: -1"),
    ("RMSprop", {"alpha": -1}, "Invalid alpha value: -1"),
    ("Adagrad", {"lr": -1}, "Invalid learning rate: -1"),
    ("Adagrad", {"lr_decay": -0.5}, "Invalid lr_decay value: -0.5"),
    ("Adagrad", {"weight_decay": -1}, "Invalid weight_decay value: -1"),
    ("Adagrad", {"initial_accumulator_value": -1}, "Invalid initial_accumulator_value value: -1"),
    ("Adagrad", {"eps": -1}, "Invalid epsilon value: -1"),
    ("Adadelta", {"lr": -1}, "Invalid learning rate: -1"),
    ("Adadelta", {"rho": 1.1}, "Invalid rho value: 1.1"),
    ("Adadelta", {"eps": -1}, "Invalid epsilon value: -1"),
    ("Adadelta", {"weight_decay": -1}, "Invalid weight_decay value: -1"),
    ("Adamax", {"lr": -1}, "Invalid learning rate: -1"),
    ("Adamax", {"eps": -1}, "Invalid epsilon value: -1"),
    ("Adamax", {"betas": (0.0, 1.0)}, "Invalid beta parameter at index 1: 1.0"),
    ("Adamax", {"weight_decay": -1}, "Invalid weight_decay value: -1"),
    ("NAdam", {"lr": -1}, "Invalid learning rate: -1"),
    ("NAdam", {"betas": (1.0, 0.0)}, "Invalid beta parameter at index 0: 1.0"),
    ("NAdam", {"momentum_decay": -0.2}, "Invalid momentum_decay value: -0.2"),
    ("RAdam", {"lr": -1}, "Invalid learning rate: -1"),
    ("RAdam", {"betas": (0.5, 1.5)}, "Invalid beta parameter at index 1: 1.5"),
    ("RAdam", {"weight_decay": -1}, "Invalid weight_decay value: -1"),
    ("ASGD", {"lr": -1}, "Invalid learning rate: -1"),
    ("ASGD", {"weight_decay": -0.5}, "Invalid weight_decay value: -0.5"),
    ("Rprop", {"lr": -1}, "Invalid learning rate: -1"),
    ("Rprop", {"etas": (1.0, 0.5)}, "Invalid eta values: 1.0, 0.5"),
    ("LBFGS", {"lr": -1}, "Invalid learning rate: -1"),
    ("Adafactor", {"lr": -1}, "Learning rate should be >= 0 but is: -1"),
    ("Adafactor", {"beta2_decay": 0.8}, "beta2_decay should be <= 0 but is: 0.8"),
    ("Adafactor", {"eps": (-1e-30, 0.001)}, "epsilon1 should be >= 0 but is: -1e-30"),
    ("Adafactor", {"eps": (None, -1)}, "epsilon2 should be >= 0 but is: -1"),
    ("Adafactor", {"d": 0.0}, "Clipping threshold d should be >= 1 but is: 0.0"),
    ("Adafactor", {"weight_decay": -1}, "weight_decay should be >= 0 but is: -1"),
]

# (call on (library, tensor p), exception, its text)
WRONG_CALLS = [
    (lambda L, p: L.optim.SGD(p), TypeError, "params argument given to the optimizer should be an iterable of Tensors"),
    (lambda L, p: L.optim.SGD([]), ValueError, "optimizer got an empty parameter list"),
    (lambda L, p: L.optim.SGD(3), TypeError, "'int' object is not iterable"),
    (lambda L, p: L.optim.SGD([3.0]), TypeError, "optimizer can only optimize Tensors, but one of the params is float"),
    (lambda L, p: L.optim.SGD([p * 2]), ValueError, "can't optimize a non-leaf Tensor"),
    (lambda L, p: L.optim.SGD([{"params": {p}}]), TypeError, "organized in ordered collections, but the ordering"),
    (lambda L, p: L.optim.SGD([{"params": [p]}, {"params": p}]), ValueError, "appear in more than one parameter group"),
    (
        lambda L, p: L.optim.SGD([p]).add_param_group([p]),
        TypeError,
        "param_group must be a dict, but got <class 'list'>",
    ),
    (
        lambda L, p: L.optim.SGD([("w", p), L.zeros(1)]),
        ValueError,
        "all optimizer params should be with/without names. Some param names are missing",
    ),
    (
        lambda L, p: L.optim.SGD([p]).add_param_group({"params": [("w", L.zeros(1))]}),
        ValueError,
        "should be with/without names. cannot add param group with names to the optimizer",
    ),
    (
        lambda L, p: L.optim.SGD([("w", p)]).add_param_group({"params": [L.zeros(1)]}),
        ValueError,
        "should be with/without names. cannot add param group without names to the optimizer",
    ),
    (lambda L, p: L.optim.SGD([p, p]), UserWarning, "optimizer contains a parameter group with duplicate parameters"),
    (lambda L, p: L.optim.SGD([p], lr=L.zeros(2)), ValueError, "Tensor lr must be 1-element"),
    (
        lambda L, p: L.optim.Adam([p], lr=L.tensor(0.1), foreach=True),
        ValueError,
        "lr as a Tensor is not supported for capturable=False and foreach=True",
    ),
    (
        lambda L, p: L.optim.Adam([p], betas=(L.tensor(0.9), 0.99)),
        ValueError,
        "betas must be either both floats or both Tensors",
    ),
    (
        lambda L, p: L.optim.Adam([p], betas=(L.tensor(0.9), L.tensor(0.9)), foreach=True),
        ValueError,
        "betas[0] as a Tensor is not supported for capturable=False and foreach=True",
    ),
    (
        lambda L, p: L.optim.SGD([p], fused=True, foreach=True),
        RuntimeError,
        "`fused` and `foreach` cannot be `True` together.",
    ),
    (
        lambda L, p: L.optim.Adam([p], fused=True, differentiable=True),
        RuntimeError,
        "`fused` does not support `differentiable`",
    ),
    (
        lambda L, p: L.optim.LBFGS([{"params": [p]}, {"params": [L.zeros(1)]}]),
        ValueError,
        "LBFGS doesn't support per-parameter options (parameter groups)",
    ),
    (
        lambda L, p: L.optim.SGD([p]).load_state_dict({"state": {}, "param_groups": []}),
        ValueError,
        "loaded state dict has a different number of parameter groups",
    ),
    (
        lambda L, p: L.optim.SGD([p]).load_state_dict({"state": {}, "param_groups": [{"params": [0, 1]}]}),
        ValueError,
        "loaded state dict contains a parameter group that doesn't match the size of optimizer's group",
    ),
]
