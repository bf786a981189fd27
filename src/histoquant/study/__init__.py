"""Within-person statistics: what the marker tables say about the treatment, and what not.

The unit of analysis is a person's site, its sections pooled; the comparison is between the
treated and the placebo site of the same person. Nuclei, bins and sections are never counted
as people. Nothing here is loaded by ``import histoquant``.
"""
