"""Language models: the embedded one, remote ones, and the one place that every call passes."""
