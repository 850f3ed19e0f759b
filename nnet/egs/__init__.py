"""Examples: how they are laid out, stored, ordered and cut into minibatches."""
