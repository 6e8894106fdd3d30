"""Several processes that train one model: who starts them, where each of them is, and how they end together."""
