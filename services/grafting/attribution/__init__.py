"""Beyond single grafts: estimates of cells, all subsets of segments, sets that are enough, and means over cases.

::

    slopes -> previews (estimates, checked by grafts)
    trie -> shapley
    sufficient (greedy, by any of them)          -> works (pieces of a sweep) -> results
    intervals (over cases)
"""
