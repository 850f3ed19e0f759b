"""Natural gradient: rows times the inverse of a factor of the Fisher matrix, their norm kept.

``OnlinePreconditioner`` and ``SimplePreconditioner`` have one interface, arrays in, arrays out:
``precondition(X, squared_norms)`` for one side of a gradient, ``precondition_product(X, Y,
squared_norms)`` for the other; each returns a scale.
"""

from nnet.natural_gradient.online import OnlinePreconditioner
from nnet.natural_gradient.simple import SimplePreconditioner

__all__ = ["OnlinePreconditioner", "SimplePreconditioner"]
