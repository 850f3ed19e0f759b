"""Natural gradient: rows times the inverse of a factor of the Fisher matrix, their norm kept.

``OnlinePreconditioner`` and ``SimplePreconditioner`` have one interface,
``precondition(X, row_products) -> scale``: arrays in, arrays out.
"""

from nnet.natural_gradient.online import OnlinePreconditioner
from nnet.natural_gradient.simple import SimplePreconditioner

__all__ = ["OnlinePreconditioner", "SimplePreconditioner"]
