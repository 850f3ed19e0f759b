"""Natural gradient: rows times the inverse of a factor of the Fisher matrix, their norm kept.

``OnlinePreconditioner`` and ``SimplePreconditioner`` have one interface, arrays in, arrays out:
``precondition(X, row_products)`` for one side of a gradient, ``precondition_product(X, Y,
row_products)`` for the other; each returns a scale.
"""

from nnet.natural_gradient.online import OnlinePreconditioner
from nnet.natural_gradient.simple import SimplePreconditioner

__all__ = ["OnlinePreconditioner", "SimplePreconditioner"]
