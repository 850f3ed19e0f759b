"""Examples: their form, their files, their order, and minibatches of them."""
