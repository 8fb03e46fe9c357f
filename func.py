"""torch.func: see autograd/func.py; functional_call is a module's affair and comes from nn."""

from .autograd.func import functionalize as functionalize
from .autograd.func import grad as grad
from .autograd.func import grad_and_value as grad_and_value
from .autograd.func import hessian as hessian
from .autograd.func import jacfwd as jacfwd
from .autograd.func import jacrev as jacrev
from .autograd.func import jvp as jvp
from .autograd.func import linearize as linearize
from .autograd.func import value_and_grad as value_and_grad
from .autograd.func import vjp as vjp
from .autograd.vmap import vmap as vmap
from .nn.utils.module_state import functional_call as functional_call
from .nn.utils.module_state import replace_all_batch_norm_modules_ as replace_all_batch_norm_modules_
from .nn.utils.module_state import stack_module_state as stack_module_state
