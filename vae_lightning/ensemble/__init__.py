"""Ensembles: jobs of a sweep that differ in numbers alone are trained as one batched network, in one process."""
