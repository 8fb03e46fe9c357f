"""nn.utils.prune: every method, alone and after another, beside torch."""

from importlib import import_module

import pytest
from both import Programs, kind, said

program = Programs()


def linear(T):
    T.manual_seed(0)
    return T.nn.Linear(4, 3)


def pruning(T):
    return import_module(f"{T.__name__}.nn.utils.prune")


def seen(T, module):
    """State, output, gradients, hooks; and what is left when the pruning is made permanent."""
    prune = pruning(T)
    y = module(T.ones(2, 4))
    y.sum().backward()
    found = [dict(module.state_dict()), y, {name: p.grad for name, p in module.named_parameters()}]
    found += [prune.is_pruned(module), [type(hook).__name__ for hook in module._forward_pre_hooks.values()]]
    for name in ("weight", "bias"):
        if hasattr(module, name + "_orig"):
            original = getattr(module, name + "_orig")
            prune.remove(module, name)
            found.append(getattr(module, name) is original)
    return [*found, dict(module.state_dict()), prune.is_pruned(module)]


CALLS = {
    "identity": lambda T, P, m: P.identity(m, "bias"),
    "random": lambda T, P, m: P.random_unstructured(m, "weight", 0.3),
    "random_number": lambda T, P, m: P.random_unstructured(m, "weight", 5),
    "l1": lambda T, P, m: P.l1_unstructured(m, "weight", 5),
    "l1_of_nothing": lambda T, P, m: P.l1_unstructured(m, "bias", 0),
    "l1_of_all": lambda T, P, m: P.l1_unstructured(m, "bias", 1.0),
    "l1_by_scores": lambda T, P, m: P.l1_unstructured(m, "weight", 4, T.arange(12.0).reshape(3, 4)),
    "random_channels": lambda T, P, m: P.random_structured(m, "weight", 2, 1),
    "no_channels": lambda T, P, m: P.random_structured(m, "weight", 0, 0),
    "norm": lambda T, P, m: P.ln_structured(m, "weight", 0.5, 2, 0),
    "smallest": lambda T, P, m: P.ln_structured(m, "weight", 1, float("-inf"), -1),
    "norm_by_scores": lambda T, P, m: P.ln_structured(m, "weight", 1, 1, 1, -T.arange(12.0).reshape(3, 4)),
    "mask": lambda T, P, m: P.custom_from_mask(m, "bias", T.tensor([1.0, 0, 1])),
    "twice": lambda T, P, m: P.l1_unstructured(P.random_unstructured(m, "weight", 0.3), "weight", 0.5),
    "channels_twice": lambda T, P, m: P.ln_structured(P.random_structured(m, "weight", 1, 0), "weight", 1, 1, 1),
    "thrice": lambda T, P, m: P.custom_from_mask(
        P.identity(P.random_structured(m, "weight", 1, 0), "weight"), "weight", T.eye(3, 4)
    ),
    "both": lambda T, P, m: P.l1_unstructured(P.l1_unstructured(m, "weight", 2), "bias", 1),
}
for call_name, call in CALLS.items():

    def run(T, call=call):
        return seen(T, call(T, pruning(T), linear(T)))

    program[call_name] = run


@program
def refused(T):
    P, found = pruning(T), []
    for call in (
        lambda m: P.l1_unstructured(m, "weight", 40),
        lambda m: P.l1_unstructured(m, "weight", 1.4),
        lambda m: P.l1_unstructured(m, "weight", -1),
        lambda m: P.l1_unstructured(m, "weight", "a"),
        lambda m: P.l1_unstructured(m, "none", 1),
        lambda m: P.l1_unstructured(m, "weight", 4, importance_scores=T.arange(3.0)),
        lambda m: P.random_structured(m, "bias", 1, 0),
        lambda m: P.random_structured(m, "weight", 1, 5),
        lambda m: P.custom_from_mask(m, "weight", T.ones(2)),
        lambda m: P.remove(m, "weight"),
        lambda m: P.global_unstructured(3, P.L1Unstructured),
        lambda m: P.global_unstructured([(m, "weight")], P.LnStructured, amount=1, n=1),
        lambda m: P.global_unstructured([(m, "weight")], P.L1Unstructured, importance_scores=[1], amount=1),
        lambda m: P.Identity().remove(m),
    ):
        module = linear(T)
        found.append([said(call, module, length=30), list(module.state_dict())])
    return [*found, kind(P.BasePruningMethod)]


@program
def several_parameters_at_once(T):
    T.manual_seed(0)
    P, found = pruning(T), []
    model = T.nn.Sequential(T.nn.Linear(4, 3), T.nn.ReLU(), T.nn.Linear(3, 2))
    both = [(model[0], "weight"), (model[2], "weight")]
    for method, options in ((P.L1Unstructured, {"amount": 0.4}), (P.RandomUnstructured, {"amount": 5})):
        P.global_unstructured(both, pruning_method=method, **options)
        found.append({k: v.clone() for k, v in model.state_dict().items()})
    P.global_unstructured(both[:1], P.L1Unstructured, {both[0]: T.arange(12.0).reshape(3, 4)}, amount=0)
    return [*found, model(T.ones(1, 4)), P.is_pruned(model), P.is_pruned(model[1])]


@program
def a_method_of_ones_own(T):
    P = pruning(T)

    class EverySecond(P.BasePruningMethod):
        PRUNING_TYPE = "unstructured"

        def compute_mask(self, t, default_mask):
            mask = default_mask.clone()
            mask.view(-1)[::2] = 0
            return mask

    class Odd(EverySecond):
        PRUNING_TYPE = "odd"

    module = linear(T)
    EverySecond.apply(module, "weight")
    method = EverySecond.apply(module, "weight")
    found = [len(method), type(method).__name__, module.weight, EverySecond().prune(T.arange(5.0))]
    found += [said(method.add_pruning_method, 3), said(method.add_pruning_method, P.Identity(), length=30)]
    other = linear(T)
    P.identity(other, "weight")
    return [*found, said(Odd.apply, other, "weight"), [type(m).__name__ for m in method], type(method[0]).__name__]


@program
def loaded(T):
    P = pruning(T)
    one, two = P.l1_unstructured(linear(T), "weight", 6), P.identity(T.nn.Linear(4, 3), "weight")
    result = str(two.load_state_dict(one.state_dict()))
    return [result, two(T.ones(1, 4)), two.weight]


@pytest.mark.parametrize("name", sorted(program))
def test_parity(name):
    program.check(name, rtol=1e-6)
