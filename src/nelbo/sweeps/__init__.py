"""Planning, launching, resuming and searching of the cells of a sweep."""
